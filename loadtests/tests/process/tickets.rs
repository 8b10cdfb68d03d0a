//! Session tickets across a fleet: a client resumes on any instance by the keys that all of them share, for as long as
//! a key lives, and never gets more by a ticket than without it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_certs::{Store, TicketKey, TicketKeys};
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{HOST_A, HOST_B, LINK_A, LINK_B};
use postern_loadtests::stack::client::{Connection, Protocol, Tls, open};
use postern_loadtests::stack::postern::{Postern, PosternOptions};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;

use crate::scene::{Scene, with};

const DAY: i64 = 86_400;
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Two instances that read their ticket keys from one store.
struct Fleet {
    scene: Scene,
    other: Postern,
    keys: Store,
    _folder: tempfile::TempDir,
}

impl Fleet {
    async fn start(first: &TicketKeys) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = Store::open(folder.path().join("tickets")).unwrap();
        keys.publish(first, "first").unwrap();
        let path = folder.path().join("tickets");
        let variable = ("POSTERN_TLS__TICKET_KEYS", path.to_str().unwrap());
        let scene = Scene::start(&[variable]).await;
        let other = another(&scene, &[variable]).await;
        Self {
            scene,
            other,
            keys,
            _folder: folder,
        }
    }

    /// Publishes these and waits until both have them.
    async fn publish(&self, keys: &TicketKeys) {
        let generation = self.keys.publish(keys, "next").unwrap().get();
        let changes = f64::from(u32::try_from(generation).unwrap());
        for postern in [&self.scene.stack.postern, &self.other] {
            let name = "postern_credential_changes_total";
            let taken = postern.counted(name, &[("use", "tickets")], changes).await;
            taken.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    fn tls(&self, version: &'static SupportedProtocolVersion) -> Tls {
        Tls::new(&self.scene.stack.credentials.public_ca, None, &[version]).unwrap()
    }
}

/// One more instance in front of the same ingress.
async fn another(scene: &Scene, variables: &[(&str, &str)]) -> Postern {
    let options = PosternOptions {
        environment: with(variables).environment,
        ..PosternOptions::new(scene.stack.ingress.address())
    };
    let folder: PathBuf = scene.folder.path().join("another");
    Postern::start(&folder, &scene.stack.credentials, &options)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

fn key(secret: u8, from: i64, to: i64) -> TicketKey {
    TicketKey::new(&[secret; 32], now() + from, now() + to).unwrap()
}

fn keys<const N: usize>(keys: [TicketKey; N]) -> TicketKeys {
    TicketKeys::new(keys.into()).unwrap()
}

/// A whole visit, whose end has a ticket for the next. How the handshake went.
async fn visit(postern: &Postern, tls: &Tls, protocol: Protocol) -> HandshakeKind {
    let stream = open(postern.data(), None, &Header::link(LINK_A)).await;
    let stream = tls.handshake(stream.unwrap(), Some(HOST_A), protocol).await;
    let stream = stream.unwrap();
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let mut connection = Connection::new(stream, protocol, HOST_A).await.unwrap();
    // The ticket of TLS 1.3 comes with the first answer at the latest.
    assert_eq!(
        connection.get("/nonce/visit").await.unwrap().text(),
        "visit"
    );
    kind
}

#[tokio::test]
async fn a_client_resumes_on_another_instance_by_each_version_and_protocol() {
    let fleet = Fleet::start(&keys([key(1, -60, DAY)])).await;
    let one = &fleet.scene.stack.postern;
    for version in VERSIONS {
        for protocol in Protocol::ALL {
            let tls = fleet.tls(version);
            assert_eq!(visit(one, &tls, protocol).await, HandshakeKind::Full);
            for postern in [&fleet.other, one, &fleet.other] {
                let kind = visit(postern, &tls, protocol).await;
                assert_eq!(kind, HandshakeKind::Resumed, "{version:?} {protocol:?}");
            }
        }
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let labels = [("version", version), ("resumed", "true")];
        let resumed = fleet
            .other
            .counted("postern_handshakes_total", &labels, 4.0);
        resumed.await.unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(
        fleet
            .scene
            .metric_is("postern_tickets_shared", &[], 1.0)
            .await
    );
}

#[tokio::test]
async fn keys_rotate_by_an_overlap_and_one_that_ended_means_a_full_handshake() {
    let old = key(1, -60, DAY);
    let new = key(2, -30, DAY);
    let fleet = Fleet::start(&keys([old.clone()])).await;
    let one = &fleet.scene.stack.postern;
    for version in VERSIONS {
        let protocol = Protocol::Http2;
        // Each begins with the old key alone.
        let [kept, left] = [(); 2].map(|()| fleet.tls(version));
        for tls in [&kept, &left] {
            assert_eq!(visit(one, tls, protocol).await, HandshakeKind::Full);
        }
        // A key that is to come changes nothing, one that has begun encrypts, and the old one still decrypts.
        fleet
            .publish(&keys([old.clone(), key(3, DAY, 2 * DAY)]))
            .await;
        let kind = visit(&fleet.other, &kept, protocol).await;
        assert_eq!(kind, HandshakeKind::Resumed);
        fleet.publish(&keys([old.clone(), new.clone()])).await;
        let kind = visit(&fleet.other, &kept, protocol).await;
        assert_eq!(kind, HandshakeKind::Resumed);
        // The old key ends: who has come since has a ticket of the new one, who has not begins anew.
        let ended = key(1, -60, -1);
        fleet.publish(&keys([ended, new.clone()])).await;
        assert_eq!(visit(one, &kept, protocol).await, HandshakeKind::Resumed);
        assert_eq!(visit(one, &left, protocol).await, HandshakeKind::Full);
        assert_eq!(visit(one, &left, protocol).await, HandshakeKind::Resumed);
        fleet.publish(&keys([old.clone()])).await;
    }
    let failed = [("ending", "handshake_failed")];
    let name = "postern_connections_total";
    assert!(fleet.scene.metric_is(name, &failed, 0.0).await);
}

#[tokio::test]
async fn without_shared_keys_each_instance_has_its_own_and_takes_shared_ones_when_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tickets");
    let variable = ("POSTERN_TLS__TICKET_KEYS", path.to_str().unwrap());
    // Ready although there are none.
    let scene = Scene::start(&[variable]).await;
    let other = another(&scene, &[]).await;
    let one = &scene.stack.postern;
    assert!(scene.metric_is("postern_tickets_shared", &[], 0.0).await);
    let tls = scene.stack.tls().unwrap();
    assert_eq!(visit(one, &tls, Protocol::Http1).await, HandshakeKind::Full);
    let kind = visit(one, &tls, Protocol::Http1).await;
    assert_eq!(kind, HandshakeKind::Resumed);
    let kind = visit(&other, &tls, Protocol::Http1).await;
    assert_eq!(kind, HandshakeKind::Full);
    let refused = |line: &serde_json::Value| {
        line["message"] == "credentials refused" && line["used_as"] == "tickets"
    };
    let said = || {
        one.operational_log()
            .all()
            .into_iter()
            .filter(refused)
            .count()
    };
    assert_eq!(said(), 1, "in one line");

    let store = Store::open(&path).unwrap();
    store.publish(&keys([key(1, -60, DAY)]), "first").unwrap();
    scene.counted("postern_tickets_shared", &[], 1.0).await;
    let tls = scene.stack.tls().unwrap();
    assert_eq!(visit(one, &tls, Protocol::Http1).await, HandshakeKind::Full);
    // A damaged publication is refused, and what was good stays.
    std::fs::write(path.join("current/ticket_keys"), "postern-ticket-keys 1\n").unwrap();
    let labels = [("use", "tickets"), ("reason", "damaged")];
    scene
        .counted("postern_credential_refusals_total", &labels, 1.0)
        .await;
    let kind = visit(one, &tls, Protocol::Http1).await;
    assert_eq!(kind, HandshakeKind::Resumed);
    assert!(scene.metric_is("postern_tickets_shared", &[], 1.0).await);
}

#[tokio::test]
async fn a_ticket_of_one_link_gives_no_right_to_another() {
    let fleet = Fleet::start(&keys([key(1, -60, DAY)])).await;
    for version in VERSIONS {
        let tls = fleet.tls(version);
        visit(&fleet.scene.stack.postern, &tls, Protocol::Http1).await;
        // The handshake is the cheaper one; the answer is what this link gets without a ticket.
        let stream = open(fleet.other.data(), None, &Header::link(LINK_B)).await;
        let stream = tls.handshake(stream.unwrap(), Some(HOST_A), Protocol::Http1);
        let stream = stream.await.unwrap();
        let kind = stream.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed));
        let mut connection = Connection::new(stream, Protocol::Http1, HOST_A)
            .await
            .unwrap();
        assert_eq!(connection.get("/nonce/foreign").await.unwrap().status, 403);
        let line = fleet
            .other
            .logged("the refusal", |line| line["path"] == "/nonce/foreign")
            .await;
        let line = line.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(line["link_id"], LINK_B.to_string(), "{line}");
        assert_eq!(line["tls_resumed"], true, "{line}");
    }
    assert!(!fleet.scene.ingress_saw("/nonce/foreign"));
}

#[tokio::test]
async fn a_ticket_is_good_for_its_own_server_name_alone() {
    let fleet = Fleet::start(&keys([key(1, -60, DAY)])).await;
    for version in VERSIONS {
        let mut config: ClientConfig = fleet.tls(version).config();
        config.resumption = Resumption::store(Arc::new(AnyName::new()));
        let config = Arc::new(config);
        for (link_id, host, expected) in [
            (LINK_A, HOST_A, HandshakeKind::Full),
            (LINK_B, HOST_B, HandshakeKind::Full),
            (LINK_B, HOST_B, HandshakeKind::Resumed),
        ] {
            let stream = open(fleet.other.data(), None, &Header::link(link_id)).await;
            let name = ServerName::try_from(host).unwrap();
            let connector = TlsConnector::from(Arc::clone(&config));
            let stream = connector.connect(name, stream.unwrap()).await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(expected), "{version:?} {host}");
            let connection = Connection::new(stream, Protocol::Http1, host).await;
            let answer = connection.unwrap().get("/nonce/name").await.unwrap();
            assert_eq!(answer.text(), "name");
        }
    }
}

/// Offers whatever ticket it has to whatever server.
#[derive(Debug)]
struct AnyName {
    tickets: ClientSessionMemoryCache,
    name: ServerName<'static>,
}

impl AnyName {
    fn new() -> Self {
        Self {
            tickets: ClientSessionMemoryCache::new(8),
            name: ServerName::try_from("any.example").unwrap(),
        }
    }
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.tickets.set_kx_hint(self.name.clone(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.tickets.kx_hint(&self.name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.tickets.set_tls12_session(self.name.clone(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tickets.tls12_session(&self.name)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.tickets.remove_tls12_session(&self.name);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.insert_tls13_ticket(self.name.clone(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets.take_tls13_ticket(&self.name)
    }
}
