//! A metadata service, a Postern that says what a test wants it to, and a watch between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use super::super::{EventKind, Outcome, Watch};
use crate::sidecar::metrics::Metrics;
use crate::sidecar::options::ScheduledEventsOptions;
use crate::sidecar::tests::Page;
use crate::testing::http::{Answer, Call, Handler, Server};
use crate::testing::scheduled_events::{Plan, ScheduledEvents};

/// What this machine is called.
pub(super) const US: &str = "postern-weu_3";
/// The notice that events have.
pub(super) const NOTICE: Duration = Duration::from_mins(5);

pub(super) struct Scene {
    pub(super) imds: ScheduledEvents,
    pub(super) postern: Played,
    pub(super) watch: Watch,
    pub(super) options: ScheduledEventsOptions,
    metrics: Arc<Metrics>,
    page: Page,
    started: Timestamp,
    /// Seconds since the scene began.
    pub(super) seconds: i64,
    _log: DefaultGuard,
}

/// A Postern that says what a test wants it to.
pub(super) struct Played {
    script: Arc<Script>,
    server: Option<Server>,
    address: SocketAddr,
}

#[derive(Default)]
struct Script {
    answer: Mutex<Play>,
    asked: Mutex<Vec<Duration>>,
}

#[derive(Clone, Default)]
pub(super) enum Play {
    /// It drains when it is asked to, and says this phase from then on, with so many connections that were cut.
    #[default]
    Serving,
    Says(&'static str, u32),
    Hangs,
    Garbage,
}

impl Handler for Script {
    async fn answer(&self, call: Call) -> Answer {
        let within = call.query("within").map(|text| {
            let milliseconds = text.strip_suffix("ms").unwrap();
            Duration::from_millis(milliseconds.parse().unwrap())
        });
        let play = self.answer.lock().unwrap().clone();
        let (phase, cut) = match play {
            Play::Hangs => std::future::pending().await,
            Play::Garbage => return Answer::ok(json!("<html>")),
            Play::Serving => ("serving", 0),
            Play::Says(phase, cut) => (phase, cut),
        };
        let is_asked = (&call.method, call.path.as_str()) == (&Method::POST, "/drain");
        if is_asked {
            self.asked.lock().unwrap().push(within.unwrap());
        }
        let phase = if is_asked && phase == "serving" {
            *self.answer.lock().unwrap() = Play::Says("noticing", 0);
            "noticing"
        } else {
            phase
        };
        Answer::new(
            StatusCode::ACCEPTED,
            json!({ "phase": phase, "connections": 3, "requests_in_flight": 1, "connections_cut": cut }),
        )
    }
}

impl Played {
    async fn start() -> Self {
        let script = Arc::<Script>::default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = listen(address, &script).await;
        Self {
            address: server.address(),
            server: Some(server),
            script,
        }
    }

    pub(super) fn plays(&self, play: Play) {
        *self.script.answer.lock().unwrap() = play;
    }

    /// The time it was given each time it was asked to drain.
    pub(super) fn asked(&self) -> Vec<Duration> {
        self.script.asked.lock().unwrap().clone()
    }

    /// Nobody listens any more.
    pub(super) async fn ends(&mut self) {
        self.server = None;
        while tokio::net::TcpStream::connect(self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

async fn listen(address: SocketAddr, script: &Arc<Script>) -> Server {
    let always = tokio::sync::watch::Sender::new(false).subscribe();
    let handler = Arc::clone(script);
    Server::start(address, None, always, handler).await.unwrap()
}

impl Scene {
    pub(super) async fn start() -> Self {
        let imds = ScheduledEvents::start(US).await.unwrap();
        imds.clock().stop_at(imds.clock().now());
        let postern = Played::start().await;
        let options = ScheduledEventsOptions {
            endpoint: imds.url(),
            postern_admin: postern.address,
            ..ScheduledEventsOptions::default()
        };
        let metrics = Arc::new(Metrics::new([], []).unwrap());
        let page = Page::default();
        Self {
            watch: Watch::new(&options, Arc::clone(&metrics)).unwrap(),
            started: Timestamp::from_second(imds.clock().now()).unwrap(),
            imds,
            postern,
            options,
            metrics,
            seconds: 0,
            _log: page.write(),
            page,
        }
    }

    /// Another process in place of the one before.
    pub(super) fn restart(&mut self) {
        self.watch = Watch::new(&self.options, Arc::clone(&self.metrics)).unwrap();
    }

    /// A step at this second. Returns how long to rest.
    pub(super) async fn at(&mut self, second: i64) -> Duration {
        self.seconds = second;
        let now = self.started.as_second() + second;
        self.imds.clock().stop_at(now);
        self.watch.step(Timestamp::from_second(now).unwrap()).await
    }

    /// A step at each second up to this one.
    pub(super) async fn until(&mut self, second: i64) {
        while self.seconds < second {
            self.at(self.seconds + 1).await;
        }
    }

    /// Plans an event for this machine alone.
    pub(super) fn plan(&self, kind: &str) -> String {
        self.imds.plan(Plan::new(kind, US, NOTICE))
    }

    /// The ids that were acknowledged.
    pub(super) fn acknowledged(&self) -> Vec<String> {
        let all = self.imds.acknowledgements().into_iter();
        all.map(|it| it.event).collect()
    }

    /// How many events of a kind came to this.
    pub(super) fn counted(&self, kind: EventKind, outcome: Outcome) -> f64 {
        let (kind, outcome) = (kind.label(), outcome.label());
        self.metric(&format!(
            "postern_control_scheduled_events_total{{outcome=\"{outcome}\",type=\"{kind}\"}}"
        ))
    }

    pub(super) fn metric(&self, name_and_labels: &str) -> f64 {
        let text = self.metrics.text(true);
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name_and_labels));
        values.next().unwrap().trim().parse().unwrap()
    }

    /// The lines of the log, and forgets them.
    pub(super) fn said(&self) -> Vec<Value> {
        self.page.take()
    }

    /// How many lines say this, and forgets them all.
    pub(super) fn said_that(&self, text: &str) -> usize {
        let says = |line: &&Value| line["message"].as_str().unwrap().contains(text);
        self.said().iter().filter(says).count()
    }
}
