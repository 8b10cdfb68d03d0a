//! What an operator sees on the admin listener while real traffic flows: connections, drain, and the metrics that
//! only a whole stack can feed.

#![allow(
    clippy::unwrap_used,
    reason = "the set-up is part of each test, and a helper that fails fails the test"
)]

use std::time::Duration;

use http::{Method, StatusCode};
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::Deadline;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A, LINK_PENDING};
use postern_loadtests::stack::client::{Answer, Connection, Protocol, empty, open};
use postern_loadtests::stack::credentials::CLIENT_NAME;
use postern_loadtests::stack::local::{LocalOptions, LocalStack};
use postern_loadtests::stack::metrics::Metrics;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Stack {
    local: LocalStack,
    _folder: TempDir,
}

impl Stack {
    async fn start(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let variables = environment.iter();
        let options = LocalOptions {
            environment: variables
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..LocalOptions::default()
        };
        Self {
            local: LocalStack::start(folder.path(), &options).await.unwrap(),
            _folder: folder,
        }
    }

    async fn connect(&self, link_id: u32, protocol: Protocol) -> Connection {
        self.local.connect(link_id, HOST_A, protocol).await.unwrap()
    }

    async fn ask(&self, method: Method, path: &str) -> Answer {
        let mut admin = Connection::plain(self.local.postern.admin()).await.unwrap();
        let request = admin.request(method, path).unwrap().body(empty()).unwrap();
        admin.fetch(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path).await.json()
    }

    async fn metrics(&self) -> Metrics {
        self.local.postern.metrics().await.unwrap()
    }

    /// The connections that are listed, once there are so many.
    async fn listed(&self, count: usize) -> Vec<Value> {
        let rows = async || {
            let listing = self.get("/connections").await;
            let rows = listing["connections"].as_array().unwrap().clone();
            assert_eq!(listing["listed"], rows.len());
            (rows.len() == count).then_some(rows)
        };
        let found = Deadline::after(LIMIT).poll(rows).await;
        found.unwrap_or_else(|| panic!("never {count} connections"))
    }

    /// Connections to the ingress of the current and of previous generations, once they are so many.
    async fn upstream(&self, current: usize, previous: usize) {
        let expected = format!("{current} current, {previous} previous");
        let matches = async || {
            let metrics = self.metrics().await;
            let open = |generation| {
                metrics.sum(
                    "postern_upstream_connections",
                    &[("generation", generation)],
                )
            };
            let found = format!("{} current, {} previous", open("current"), open("previous"));
            (found == expected).then_some(())
        };
        assert!(
            Deadline::after(LIMIT).poll(matches).await.is_some(),
            "never {expected}"
        );
    }
}

/// How long the test waits for what takes a second or so.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn connections_are_listed_with_who_they_are_until_they_close() {
    let stack = Stack::start(&[]).await;
    assert!(stack.listed(0).await.is_empty());
    let mut approved = stack.connect(LINK_A, Protocol::Http2).await;
    for _ in 0..2 {
        assert_eq!(
            approved.get("/nonce/x").await.unwrap().status,
            StatusCode::OK
        );
    }
    let pending = stack.connect(LINK_PENDING, Protocol::Http1).await;
    let rows = stack.listed(2).await;
    let row = &rows[0];
    for (key, expected) in [
        ("link_id", json!(LINK_A.to_string())),
        ("sni", json!(HOST_A)),
        ("account", json!("hospital-a")),
        ("refusal", json!(null)),
        ("protocol", json!("HTTP/2.0")),
        ("tls", json!("TLSv1.3")),
        ("requests_served", json!(2)),
        ("requests_in_flight", json!(0)),
    ] {
        assert_eq!(row[key], expected, "{key}: {row}");
    }
    assert!(row["age_seconds"].as_f64().unwrap() > 0.0, "{row}");
    assert!(row["client"].as_str().unwrap().contains(':'), "{row}");
    assert_eq!(rows[1]["refusal"], "link_not_approved", "{}", rows[1]);
    assert_eq!(rows[1]["account"], json!(null));
    assert_eq!(rows[1]["protocol"], "HTTP/1.1");
    drop(pending);
    assert_eq!(stack.listed(1).await[0]["link_id"], LINK_A.to_string());
    drop(approved);
    stack.listed(0).await;
}

#[tokio::test]
async fn a_scrape_tells_of_lookups_answers_and_credentials() {
    let stack = Stack::start(&[]).await;
    let mut connection = stack.connect(LINK_A, Protocol::Http1).await;
    assert_eq!(
        connection.get("/nonce/x").await.unwrap().status,
        StatusCode::OK
    );
    let metrics = stack.metrics().await;
    let sum = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels).to_string();
    assert_eq!(
        sum("postern_route_lookups_total", &[("outcome", "miss")]),
        "1"
    );
    assert_eq!(sum("postern_upstream_duration_seconds_count", &[]), "1");
    assert_eq!(sum("postern_accept_errors_total", &[]), "0");
    for used_as in ["server", "client", "trust"] {
        let seconds = |name| metrics.sum(name, &[("use", used_as)]);
        let end = seconds("postern_credential_not_after_seconds");
        let good = seconds("postern_credential_last_success_seconds");
        assert!(good > 0.0 && end > good, "{used_as}: {good} {end}");
    }
}

#[tokio::test]
async fn a_tunnel_over_an_old_certificate_is_counted_until_it_closes() {
    let stack = Stack::start(&[]).await;
    let mut connection = stack.connect(LINK_A, Protocol::Http1).await;
    let request = connection.request(Method::GET, "/websocket").unwrap();
    let request = request
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = connection
        .send(request.body(empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let tunnel = hyper::upgrade::on(response).await.unwrap();
    stack.upstream(1, 0).await;
    assert_eq!(stack.listed(1).await[0]["requests_in_flight"], 1);

    let credentials = &stack.local.credentials;
    let renewed = credentials.internal.client(CLIENT_NAME).unwrap();
    renewed.write_to(&credentials.client).unwrap();
    stack.upstream(0, 1).await;
    assert_eq!(stack.get("/certs").await["upstream_generation"], 2);
    let mut other = stack.connect(LINK_A, Protocol::Http1).await;
    assert_eq!(other.get("/nonce/x").await.unwrap().status, StatusCode::OK);
    stack.upstream(1, 1).await;
    drop(tunnel);
    stack.upstream(1, 0).await;
    drop((connection, other));
    stack.listed(0).await;
}

#[tokio::test]
async fn a_drain_by_post_ends_connections_and_leaves_the_process_to_be_asked() {
    let stack = Stack::start(&[
        ("POSTERN_DRAIN__NOTICE", "0s"),
        ("POSTERN_DRAIN__TIMEOUT", "20s"),
    ])
    .await;
    let mut connection = stack.connect(LINK_A, Protocol::Http2).await;
    assert_eq!(
        connection.get("/nonce/x").await.unwrap().status,
        StatusCode::OK
    );
    assert_eq!(stack.get("/drain").await["phase"], "serving");
    let begun = stack.ask(Method::POST, "/drain").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    let drained = async || {
        let progress = stack.get("/drain").await;
        (progress["phase"] == "drained").then_some(progress)
    };
    let progress = Deadline::after(LIMIT).poll(drained).await.unwrap();
    assert_eq!(progress["connections"], 0, "{progress}");
    assert!(connection.is_closed());
    let refused = stack.local.connect(LINK_A, HOST_A, Protocol::Http1).await;
    assert!(refused.is_err());
    let mut probe = Connection::plain(stack.local.postern.probe())
        .await
        .unwrap();
    let health = probe.get("/healthz").await.unwrap();
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        stack
            .metrics()
            .await
            .sum("postern_draining", &[])
            .to_string(),
        "1"
    );
    let page = stack.ask(Method::GET, "/").await.text();
    assert!(page.contains("<h1>Drained</h1>"), "{page}");
}

#[tokio::test]
async fn running_out_of_descriptors_is_counted_and_survived() {
    let mut stack = Stack::start(&[("POSTERN_LOG__LEVEL", "off")]).await;
    let pid = i32::try_from(stack.local.postern.child().pid()).unwrap();
    // The process has inherited ours.
    let before = getrlimit(Resource::Nofile);
    let limit = |current| {
        let limit = Rlimit { current, ..before };
        prlimit(Pid::from_raw(pid), Resource::Nofile, limit).unwrap();
    };
    // Open before there are none left.
    let mut admin = Connection::plain(stack.local.postern.admin())
        .await
        .unwrap();
    admin.get("/metrics").await.unwrap();
    limit(Some(1));
    let data = stack.local.postern.data();
    let waiting = open(data, None, &Header::link(LINK_A)).await.unwrap();
    let counted = async || {
        let scrape = Metrics::parse(&admin.get("/metrics").await.unwrap().text());
        (scrape.sum("postern_accept_errors_total", &[]) > 0.0).then_some(())
    };
    assert!(
        Deadline::after(LIMIT).poll(counted).await.is_some(),
        "never counted"
    );
    limit(before.current);
    drop(waiting);
    let mut connection = stack.connect(LINK_A, Protocol::Http1).await;
    assert_eq!(
        connection.get("/nonce/x").await.unwrap().status,
        StatusCode::OK
    );
}
