//! What a virtual machine is told of Scheduled Events: the part of the instance metadata service that has them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metadata/scheduledevents?api-version=…` | what is planned |
//! | `POST /metadata/scheduledevents?api-version=…` with `StartRequests` | an acknowledgement: the events begin |
//! | `GET /metadata/instance/compute?api-version=…` | what the machine is called |
//!
//! All want the header `Metadata: true`. An event begins when its time has come, or when it is acknowledged; a test says
//! when it is over, or that it will not be.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ::http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::StandInError;
use super::clock::Clock;
use super::http::{Answer, Call, Handler, Server};

/// The API versions that know Terminate, which came with 2019-01-01.
const API_VERSIONS: [&str; 4] = ["2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"];

// Limit: larger than any document of a scale set.
const HUGE_BYTES: usize = 1 << 20;

/// An event to be planned.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `Terminate`, `Preempt`, `Reboot`, `Redeploy` or `Freeze`.
    pub kind: String,
    /// The machines that it is about.
    pub machines: Vec<String>,
    /// The time until it begins. Zero: it has begun.
    pub notice: Duration,
}

impl Plan {
    /// An event for one machine.
    pub fn new(kind: &str, machine: &str, notice: Duration) -> Self {
        Self {
            kind: kind.to_owned(),
            machines: vec![machine.to_owned()],
            notice,
        }
    }
}

/// An acknowledgement that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The event's id.
    pub event: String,
    /// When, by this machine's clock.
    pub at: SystemTime,
}

/// What goes wrong with each answer, until changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, such as 410 while the service is updated, 429 or 500.
    Status(u16),
    /// No answer at all.
    Hang,
    /// 200 and no document.
    Garbage,
    /// 200 and 1 MiB.
    Huge,
}

/// A running service, ended when the value is dropped.
#[derive(Debug)]
pub struct ScheduledEvents {
    service: Arc<Service>,
    server: Server,
}

#[derive(Debug)]
struct Service {
    machine: String,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    incarnation: u64,
    events: Vec<Listed>,
    acknowledgements: Vec<Acknowledgement>,
    looks: usize,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Listed {
    id: String,
    plan: Plan,
    /// Unix seconds, whole as in the document.
    not_before: i64,
    has_begun: bool,
}

impl ScheduledEvents {
    /// Starts one on a free port of 127.0.0.1, for the machine of this name.
    pub async fn start(machine: &str) -> Result<Self, StandInError> {
        let service = Arc::new(Service {
            machine: machine.to_owned(),
            clock: Clock::default(),
            state: Mutex::default(),
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let up = watch::Sender::new(false).subscribe();
        let handler = Arc::clone(&service);
        let server = Server::start(address, None, up, handler).await?;
        Ok(Self { service, server })
    }

    /// `http://{address}`, in place of `http://169.254.169.254`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What time it is here.
    pub fn clock(&self) -> &Clock {
        &self.service.clock
    }

    /// Plans an event. Returns its id.
    pub fn plan(&self, plan: Plan) -> String {
        let id = Uuid::new_v4().to_string().to_uppercase();
        let notice = i64::try_from(plan.notice.as_secs()).unwrap_or(i64::MAX);
        let mut state = self.service.state();
        state.incarnation += 1;
        state.events.push(Listed {
            id: id.clone(),
            has_begun: plan.notice.is_zero(),
            not_before: self.service.clock.now().saturating_add(notice),
            plan,
        });
        id
    }

    /// When the event may begin at the earliest.
    pub fn not_before(&self, id: &str) -> Option<SystemTime> {
        let state = self.service.state();
        let listed = state.events.iter().find(|event| event.id == id)?;
        Some(Timestamp::from_second(listed.not_before).ok()?.into())
    }

    /// Lists the event no more: it is over, or is cancelled.
    pub fn remove(&self, id: &str) {
        let mut state = self.service.state();
        state.incarnation += 1;
        state.events.retain(|event| event.id != id);
    }

    /// What was acknowledged so far.
    pub fn acknowledgements(&self) -> Vec<Acknowledgement> {
        self.service.state().acknowledgements.clone()
    }

    /// How many times it was asked what is planned.
    pub fn looks(&self) -> usize {
        self.service.state().looks
    }

    /// Says what goes wrong from now on; `None` ends it.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.service.state().fault = fault;
    }
}

impl Handler for Service {
    async fn answer(&self, call: Call) -> Answer {
        let fault = {
            let mut state = self.state();
            state.looks += usize::from(call.method == Method::GET && is_events(&call));
            state.fault
        };
        match fault {
            None => self.respond(&call),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Garbage) => Answer::ok(json!("<html>This is not it.</html>")),
            Some(Fault::Huge) => Answer::ok(json!(" ".repeat(HUGE_BYTES))),
            Some(Fault::Status(status)) => {
                let status = StatusCode::from_u16(status);
                refused(
                    status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                    "unavailable",
                )
            }
        }
    }
}

fn is_events(call: &Call) -> bool {
    call.segments() == ["metadata", "scheduledevents"]
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn respond(&self, call: &Call) -> Answer {
        let bad = |why| refused(StatusCode::BAD_REQUEST, why);
        if !call
            .header("metadata")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return bad("Required metadata header not specified");
        }
        if call.headers.contains_key("x-forwarded-for") {
            return bad("A request that was forwarded is refused");
        }
        let Some(version) = call.query("api-version") else {
            return bad("api-version was not specified in the request");
        };
        match (&call.method, call.segments().as_slice()) {
            (&Method::GET, ["metadata", "instance", "compute"]) => {
                Answer::ok(json!({ "name": self.machine, "osType": "Linux" }))
            }
            (_, ["metadata", "scheduledevents"]) if !API_VERSIONS.contains(&version) => {
                bad("api-version is not known")
            }
            (&Method::GET, ["metadata", "scheduledevents"]) => Answer::ok(self.document()),
            (&Method::POST, ["metadata", "scheduledevents"]) => self.acknowledge(&call.json()),
            _ => refused(StatusCode::NOT_FOUND, "not found"),
        }
    }

    fn document(&self) -> Value {
        let now = self.clock.now();
        let mut state = self.state();
        let due = |event: &&mut Listed| !event.has_begun && event.not_before <= now;
        let begun = state.events.iter_mut().filter(due).map(Listed::begin);
        let begun = begun.count() as u64;
        state.incarnation += begun;
        let events: Vec<Value> = state.events.iter().map(Listed::show).collect();
        json!({ "DocumentIncarnation": state.incarnation, "Events": events })
    }

    /// 200 if each id is one that is listed, "even if another VM already approved the event".
    fn acknowledge(&self, body: &Value) -> Answer {
        let ids = |requests: &Vec<Value>| -> Option<Vec<String>> {
            let id = |request: &Value| Some(request["EventId"].as_str()?.to_owned());
            requests.iter().map(id).collect()
        };
        let Some(ids) = body["StartRequests"].as_array().and_then(ids) else {
            return refused(StatusCode::BAD_REQUEST, "StartRequests is missing");
        };
        let mut state = self.state();
        let listed = |id: &String| state.events.iter().any(|event| event.id == *id);
        if !ids.iter().all(listed) {
            return refused(StatusCode::BAD_REQUEST, "there is no such event");
        }
        for id in ids {
            let at = SystemTime::now();
            let mut events = state.events.iter_mut();
            events.find(|event| event.id == id).map(Listed::begin);
            state.incarnation += 1;
            let event = id;
            state.acknowledgements.push(Acknowledgement { event, at });
        }
        Answer::ok(Value::Null)
    }
}

impl Listed {
    fn begin(&mut self) {
        self.has_begun = true;
    }

    fn show(&self) -> Value {
        let time = Timestamp::from_second(self.not_before).unwrap_or_default();
        let time = DateTimePrinter::new().timestamp_to_rfc9110_string(&time);
        let (status, not_before) = if self.has_begun {
            ("Started", String::new())
        } else {
            ("Scheduled", time.unwrap_or_default())
        };
        json!({
            "EventId": self.id,
            "EventType": self.plan.kind,
            "ResourceType": "VirtualMachine",
            "Resources": self.plan.machines,
            "EventStatus": status,
            "NotBefore": not_before,
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        })
    }
}

fn refused(status: StatusCode, error: &str) -> Answer {
    Answer::new(status, json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";

    async fn ask(service: &ScheduledEvents, path: &str, header: &str, body: &str) -> (u16, Value) {
        let client = reqwest::Client::new();
        let url = format!("{}{path}", service.url());
        let request = match body {
            "" => client.get(url),
            body => client.post(url).body(body.to_owned()),
        };
        let answer = request.header(header, "true").send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn look(service: &ScheduledEvents) -> Value {
        let (status, document) = ask(service, EVENTS, "Metadata", "").await;
        assert_eq!(status, 200, "{document}");
        document
    }

    #[tokio::test]
    async fn it_wants_the_header_and_a_version_that_it_knows() {
        let service = ScheduledEvents::start("us").await.unwrap();
        for (path, header) in [
            (EVENTS, "Not-Metadata"),
            ("/metadata/scheduledevents", "Metadata"),
            ("/metadata/scheduledevents?api-version=latest", "Metadata"),
        ] {
            assert_eq!(ask(&service, path, header, "").await.0, 400, "{path}");
        }
        let compute = "/metadata/instance/compute?api-version=2021-02-01";
        let (_, compute) = ask(&service, compute, "Metadata", "").await;
        assert_eq!(compute["name"], "us");
    }

    #[tokio::test]
    async fn an_event_begins_when_its_time_has_come_or_when_it_is_acknowledged() {
        let service = ScheduledEvents::start("us").await.unwrap();
        let empty = look(&service).await;
        assert_eq!(empty["Events"], json!([]));
        let notice = Duration::from_mins(1);
        let first = service.plan(Plan::new("Terminate", "us", notice));
        let second = service.plan(Plan::new("Reboot", "us", notice * 2));
        let planned = look(&service).await;
        assert_eq!(planned["Events"][0]["EventStatus"], "Scheduled");
        let not_before = planned["Events"][0]["NotBefore"].as_str().unwrap();
        assert!(not_before.ends_with(" GMT"), "{not_before}");

        service.clock().set_ahead(61);
        let begun = look(&service).await;
        assert_eq!(begun["Events"][0]["EventStatus"], "Started");
        assert_eq!(begun["Events"][0]["NotBefore"], "");
        assert_eq!(begun["Events"][1]["EventStatus"], "Scheduled");

        let acknowledge = |id: &str| json!({ "StartRequests": [{ "EventId": id }] }).to_string();
        for (body, status) in [
            (acknowledge("nobody"), 400),
            ("{}".to_owned(), 400),
            (acknowledge(&second), 200),
        ] {
            assert_eq!(ask(&service, EVENTS, "Metadata", &body).await.0, status);
        }
        let acknowledged = look(&service).await;
        assert_eq!(acknowledged["Events"][1]["EventStatus"], "Started");
        assert_eq!(service.acknowledgements()[0].event, second);
        service.remove(&first);
        let rest = look(&service).await;
        assert_eq!(rest["Events"].as_array().unwrap().len(), 1);
        let incarnations = [empty, planned, begun, acknowledged, rest];
        let grows = |one: &Value| one["DocumentIncarnation"].as_u64();
        assert!(
            incarnations
                .windows(2)
                .all(|pair| grows(&pair[0]) < grows(&pair[1]))
        );
        assert_eq!(service.looks(), 5);
    }
}
