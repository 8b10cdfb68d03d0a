//! A running stack, and what tests do with it again and again.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use postern_api::LinkId;
use postern_loadtests::link_lb::{self, LinkLbOptions};
use postern_loadtests::stack::accounts;
use postern_loadtests::stack::client::{Connection, Protocol, STEP_TIMEOUT};
use postern_loadtests::stack::local::{LocalOptions, LocalStack};
pub use postern_loadtests::stack::web_socket::WebSocket;
use postern_loadtests::stack::{Deadline, StackError, web_socket};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Files are looked at often, so that no test waits for it.
const FAST: [(&str, &str); 4] = [
    ("POSTERN_ROUTES__RELOAD_INTERVAL", "100ms"),
    ("POSTERN_CREDENTIALS__CHECK_INTERVAL", "100ms"),
    ("POSTERN_DRAIN__NOTICE", "100ms"),
    ("POSTERN_DRAIN__IDLE_GRACE", "500ms"),
];

/// Options with these variables over [`FAST`].
pub fn with(variables: &[(&str, &str)]) -> LocalOptions {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    LocalOptions {
        environment: FAST.iter().chain(variables).map(own).collect(),
        ..LocalOptions::default()
    }
}

/// A stack in a folder of its own.
pub struct Scene {
    pub stack: LocalStack,
    pub folder: TempDir,
}

impl Scene {
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        Self::with(&with(variables)).await
    }

    pub async fn with(options: &LocalOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stack = LocalStack::start(folder.path(), options)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self { stack, folder }
    }

    pub async fn connect(&self, link_id: u32, host: &str, protocol: Protocol) -> Connection {
        self.stack.connect(link_id, host, protocol).await.unwrap()
    }

    /// The status of one request over a connection of its own.
    pub async fn status(&self, link_id: u32, host: &str, path: &str) -> u16 {
        let mut connection = self.connect(link_id, host, Protocol::Http1).await;
        connection.get(path).await.unwrap().status.as_u16()
    }

    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.stack
            .postern
            .metrics()
            .await
            .unwrap()
            .sum(name, labels)
    }

    /// Whether the metric is this number now.
    pub async fn metric_is(&self, name: &str, labels: &[(&str, &str)], number: f64) -> bool {
        (self.metric(name, labels).await - number).abs() < 0.5
    }

    /// Waits until the metric is `value` at least.
    pub async fn counted(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let counted = self.stack.postern.counted(name, labels, value).await;
        counted.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits for the access-log line of a request for `path`.
    pub async fn logged(&self, path: &str) -> Value {
        self.logged_as(path, |line| line["path"] == path).await
    }

    pub async fn logged_as(&self, awaited: &str, matches: impl Fn(&Value) -> bool) -> Value {
        found(self.stack.postern.logged(awaited, matches).await)
    }

    /// Waits for a line of the operational log.
    pub async fn said(&self, message: &str) -> Value {
        found(self.stack.postern.said(message).await)
    }

    /// Whether the ingress has seen a request for `path`.
    pub fn ingress_saw(&self, path: &str) -> bool {
        let seen = self.stack.ingress.seen().all();
        seen.iter().any(|line| line["uri"] == path)
    }

    /// A WebSocket to the echo back end, and the connection that carries it.
    pub async fn web_socket(
        &self,
        link_id: u32,
        host: &str,
        protocol: Protocol,
    ) -> (WebSocket, Connection) {
        let mut connection = self.connect(link_id, host, protocol).await;
        // An answer shows that the server's SETTINGS, which allow extended CONNECT, have arrived.
        let first = connection.get("/nonce/before").await.unwrap();
        assert_eq!(first.status, StatusCode::OK);
        let mut socket = web_socket::open(&mut connection, protocol, "/websocket")
            .await
            .unwrap();
        assert!(says_back(&mut socket, "hello").await);
        (socket, connection)
    }

    /// The Private Link Service stand-in in front of this Postern. Without a link id it sends LOCAL headers.
    pub async fn link_lb(&self, link_id: Option<u32>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let options = LinkLbOptions {
            listen,
            to: self.stack.postern.data(),
            link_id: link_id.map(LinkId::new),
            client_ip: None,
            local: link_id.is_none(),
            no_tlv: false,
            host: accounts::HOST_A.to_owned(),
        };
        tokio::spawn(link_lb::relay(listener, options));
        listen
    }
}

fn found(line: Result<Value, StackError>) -> Value {
    line.unwrap_or_else(|error| panic!("{error}"))
}

/// Whether a message comes back; `false` once the tunnel has ended.
pub async fn says_back(socket: &mut WebSocket, text: &str) -> bool {
    let said = web_socket::says_back(socket, text).await;
    said.expect("an echo or an end")
}

/// Waits until the condition holds.
pub async fn until(awaited: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async || condition().await.then_some(());
    let held = Deadline::after(STEP_TIMEOUT).poll(holds).await;
    held.unwrap_or_else(|| panic!("still waiting after {STEP_TIMEOUT:?} for: {awaited}"));
}

/// The usual accounts with the one link in another state, or without it.
pub fn routes_with(link_id: u32, state: Option<&str>) -> String {
    let link =
        |state: &str| format!("[[accounts.links]]\nlink_id = {link_id}\nstate = \"{state}\"\n");
    let changed =
        accounts::routes().replace(&link("Approved"), &state.map(link).unwrap_or_default());
    assert_ne!(changed, accounts::routes());
    changed
}

/// The usual accounts, and one more.
pub fn routes_and(account: &str) -> String {
    format!("{}{account}", accounts::routes())
}

/// Within this, what is to happen at once has happened, on busy cores too.
pub const SOON: Duration = Duration::from_secs(10);
