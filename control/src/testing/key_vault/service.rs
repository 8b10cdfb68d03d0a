//! A request to a vault: what goes wrong on purpose, who may, which version, and then to its collection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use postern_certs::dev_ca::DevCa;
use serde_json::Value;
use tokio::sync::watch;

use super::RESOURCE;
use super::answers::{Refusal, bad};
use super::faults::{Fault, Faults};
use super::log::{Log, Request};
use super::object::Objects;
use super::{certificates, keys, secrets};
use crate::testing::clock::Clock;
use crate::testing::http::{self as server, Answer, Handler};
use crate::testing::tokens::Tokens;

/// What the SDKs send: the Rust crates 2025-07-01, those for Python 7.0 to 2026-04-01.
const API_VERSIONS: [&str; 9] = [
    "7.0",
    "7.1",
    "7.2",
    "7.3",
    "7.4",
    "7.5",
    "7.6",
    "2025-07-01",
    "2026-04-01",
];

/// A request whose sender may make it.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    /// `https://{host}`, as the sender knows this vault.
    pub(super) base: &'a str,
    pub(super) path: &'a str,
    /// The path after the name of the collection.
    pub(super) rest: &'a [&'a str],
    pub(super) api_version: &'a str,
    pub(super) body: Value,
    query: &'a BTreeMap<String, String>,
}

impl Call<'_> {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

/// A vault behind its listener.
#[derive(Debug)]
pub(super) struct Service {
    clock: Arc<Clock>,
    tokens: Arc<Tokens>,
    /// Where to ask for a token: told in the challenge.
    authority: String,
    objects: Mutex<Objects>,
    issuers: Mutex<Issuers>,
    faults: Mutex<Faults>,
    down: watch::Sender<bool>,
    pub(super) log: Log,
}

/// Development CAs by name, to issue new versions.
#[derive(Default)]
pub(super) struct Issuers(pub(super) BTreeMap<String, DevCa>);

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Service {
    pub(super) fn new(clock: Arc<Clock>, tokens: Arc<Tokens>, authority: String) -> Self {
        Self {
            clock,
            tokens,
            authority,
            objects: Mutex::default(),
            issuers: Mutex::default(),
            faults: Mutex::default(),
            down: watch::Sender::new(false),
            log: Log::default(),
        }
    }

    /// Unix time in seconds.
    pub(super) fn now(&self) -> i64 {
        self.clock.now()
    }

    pub(super) fn set_clock(&self, ahead: i64) {
        self.clock.set_ahead(ahead);
    }

    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn issuers(&self) -> MutexGuard<'_, Issuers> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.down.send_replace(faults.down);
        *self.faults() = faults;
    }

    /// Turns true when connections are to be closed.
    pub(super) fn down(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    async fn judge(&self, call: &server::Call) -> Result<Answer, Refusal> {
        let latency = Duration::from_millis(self.faults().latency_ms);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.authorize(call)?;
        match self.faults().take(&call.path) {
            Some(Fault::Deny) => return Err(Refusal::Denied),
            Some(Fault::Throttle(seconds)) => return Err(Refusal::Throttled(seconds)),
            Some(Fault::Error(status)) => return Err(Refusal::Broken(status)),
            None => {}
        }
        let version = call.query("api-version");
        let api_version = version
            .filter(|version| API_VERSIONS.contains(version))
            .ok_or_else(|| Refusal::ApiVersion(version.map(str::to_owned)))?;
        let body = call.json();
        if body.is_null() && !call.body.is_empty() {
            return Err(bad("The request body is not valid JSON."));
        }
        let host = call.header("host").ok_or_else(|| bad("Host is missing"))?;
        let segments = call.segments();
        let (collection, rest) = segments.split_first().ok_or(Refusal::NoSuchPath)?;
        if rest.iter().any(|segment| !is_name(segment)) {
            return Err(bad(format!("Invalid name in the path: {}", call.path)));
        }
        let call = Call {
            method: &call.method,
            base: &format!("https://{host}"),
            path: &call.path,
            rest,
            api_version,
            body,
            query: &call.query,
        };
        match *collection {
            "certificates" => certificates::answer(self, &call).await,
            "deletedcertificates" => certificates::answer_deleted(self, &call),
            "secrets" => secrets::answer(self, &call),
            "deletedsecrets" => secrets::answer_deleted(self, &call),
            "keys" => keys::answer(self, &call),
            _ => Err(Refusal::NoSuchPath),
        }
    }

    fn authorize(&self, call: &server::Call) -> Result<(), Refusal> {
        let refused = |unusable| Refusal::Unauthorized(self.authority.clone(), unusable);
        let token = call
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| refused(None))?;
        self.tokens
            .check(token, RESOURCE)
            .map_err(|unusable| refused(Some(unusable)))
    }
}

impl Handler for Service {
    async fn answer(&self, call: server::Call) -> Answer {
        let at = self.log.now();
        let answer = self.judge(&call).await.unwrap_or_else(Answer::from);
        self.log.add(Request {
            at,
            method: call.method.to_string(),
            path: call.path,
            status: answer.status.as_u16(),
        });
        answer
    }
}

/// "A string of 1 to 127 characters in length containing only 0-9, a-z, A-Z, and -."
fn is_name(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=127).contains(&segment.len()) && segment.bytes().all(allowed)
}
