use std::path::Path;

use postern_certs::dev_ca::{DevCa, LeafOptions};
use postern_certs::{Purpose, Store, TicketKey};

use super::*;
use crate::access_log::AccessLog;
use crate::config::Mode;

const DAY: i64 = 86_400;

struct Fixture {
    folder: tempfile::TempDir,
    ca: DevCa,
    metrics: Arc<Metrics>,
    credentials: Credentials,
    now: i64,
}

fn options(folder: &Path) -> Options {
    let place = |name: &str| folder.join(name);
    Options {
        server: vec![(place("one"), vec![]), (place("two"), vec![])],
        identity: place("client"),
        trust: place("trust"),
        routing: None,
        ticket_keys: None,
    }
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevCa::new("Development CA").unwrap();
        let place = |name: &str| folder.path().join(name);
        ca.client("postern.example")
            .unwrap()
            .write_to(&place("client"))
            .unwrap();
        std::fs::create_dir(place("trust")).unwrap();
        std::fs::write(place("trust").join("ca.crt"), ca.ca_pem()).unwrap();
        let options = options(folder.path());
        let metrics = Arc::new(Metrics::new(Mode::Enforce, AccessLog::off()).unwrap());
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
        Self {
            credentials: Credentials::new(options, Arc::clone(&metrics)).unwrap(),
            folder,
            ca,
            metrics,
            now,
        }
    }

    /// Puts a server certificate there that ends in so many days.
    fn issue(&self, place: &str, days: i64) {
        let options = LeafOptions {
            not_after: Some(self.now + days * DAY),
            not_before: Some(self.now - 30 * DAY),
            ..LeafOptions::new(Purpose::Server, [format!("{place}.example")])
        };
        self.ca
            .leaf(&options)
            .unwrap()
            .write_to(&self.path(place))
            .unwrap();
    }

    fn path(&self, place: &str) -> PathBuf {
        Path::new(self.folder.path()).join(place)
    }

    /// Looks, so many seconds from now.
    fn look(&self, seconds: i64) -> Vec<Rejected> {
        self.credentials.refresh(self.at(seconds))
    }

    fn at(&self, seconds: i64) -> UnixTime {
        let now = u64::try_from(self.now + seconds).unwrap();
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(now))
    }

    /// The value of a metric, relative to now.
    fn metric(&self, name: &str, used_as: &str) -> i64 {
        let series = format!("postern_credential_{name}_seconds{{use=\"{used_as}\"}} ");
        let text = self.metrics.render().unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&series))
            .unwrap();
        match value.parse().unwrap() {
            0 => 0,
            seconds => seconds - self.now,
        }
    }
}

#[test]
fn of_several_server_certificates_the_earliest_end_is_told() {
    let fixture = Fixture::new();
    fixture.issue("one", 10);
    fixture.issue("two", 20);
    assert!(fixture.look(0).is_empty());
    assert_eq!(fixture.metric("not_after", "server"), 10 * DAY);
    fixture.issue("one", 30);
    assert!(fixture.look(10).is_empty());
    assert_eq!(fixture.metric("not_after", "server"), 20 * DAY);
    let host = |name| HostName::parse(name).unwrap();
    let server = fixture.credentials.server();
    assert!(server.select(&host("one.example")).is_some());
    assert!(server.select(&host("two.example")).is_some());
    assert!(server.select(&host("three.example")).is_none());
}

#[test]
fn a_look_is_a_success_only_while_nothing_is_amiss() {
    let fixture = Fixture::new();
    fixture.issue("one", 10);
    assert_eq!(fixture.look(0).len(), 1);
    assert_eq!(fixture.metric("last_success", "server"), 0);
    assert!(!fixture.credentials.complete(fixture.at(0)));
    fixture.issue("two", 20);
    fixture.look(10);
    assert_eq!(fixture.metric("last_success", "server"), 10);
    assert_eq!(fixture.metric("last_success", "client"), 10);
    fixture.look(20);
    assert_eq!(
        fixture.metric("last_success", "server"),
        20,
        "nothing new is a success, too"
    );
    std::fs::write(fixture.path("two").join("tls.crt"), "cut off").unwrap();
    assert_eq!(fixture.look(30).len(), 1);
    assert!(fixture.look(40).is_empty(), "said once");
    assert_eq!(fixture.metric("last_success", "server"), 20);
    assert_eq!(fixture.metric("last_success", "trust"), 40);
    assert!(
        fixture.credentials.complete(fixture.at(40)),
        "the previous one is still good"
    );
    fixture.issue("two", 20);
    fixture.look(11 * DAY);
    assert_eq!(
        fixture.metric("last_success", "server"),
        20,
        "one has expired"
    );
}

#[test]
fn each_place_tells_what_is_in_use_and_what_was_refused() {
    let fixture = Fixture::new();
    fixture.issue("one", 10);
    fixture.look(0);
    fixture.issue("one", 20);
    fixture.look(10);
    let places = fixture.credentials.places();
    let uses: Vec<_> = places.iter().map(|place| place.used_as.label()).collect();
    assert_eq!(uses, ["server", "server", "client", "trust"]);
    assert_eq!(
        (places[0].generation, places[0].refused.is_none()),
        (2, true)
    );
    let refused = places[1].refused.as_ref().map(|why| why.label());
    assert_eq!(
        (places[1].content.is_none(), refused),
        (true, Some("absent"))
    );
}

#[test]
fn a_certificate_that_loses_a_demanded_name_is_refused_and_the_one_in_use_stays() {
    let fixture = Fixture::new();
    let place = fixture.path("demanding");
    let issue = |name: &str| {
        fixture
            .ca
            .server(&[name])
            .unwrap()
            .write_to(&place)
            .unwrap();
    };
    let options = Options {
        server: vec![(place.clone(), vec!["*.dicom.example".to_owned()])],
        identity: fixture.path("client"),
        trust: fixture.path("trust"),
        routing: None,
        ticket_keys: None,
    };
    let credentials = Credentials::new(options, Arc::clone(&fixture.metrics)).unwrap();
    issue("*.dicom.example");
    assert!(credentials.refresh(fixture.at(0)).is_empty());
    issue("*.fhir.example");
    let rejected = credentials.refresh(fixture.at(10));
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].why.label(), "names_missing");
    let host = HostName::parse("a.dicom.example").unwrap();
    assert!(credentials.server().select(&host).is_some());
    let refusals = "postern_credential_refusals_total{reason=\"names_missing\",use=\"server\"} 1";
    assert!(fixture.metrics.render().unwrap().contains(refusals));
}

#[test]
fn shared_ticket_keys_come_and_go_and_nothing_waits_for_them() {
    let fixture = Fixture::new();
    let place = fixture.path("tickets");
    let options = Options {
        server: Vec::new(),
        identity: fixture.path("client"),
        trust: fixture.path("trust"),
        routing: None,
        ticket_keys: Some(place.clone()),
    };
    let credentials = Credentials::new(options, Arc::clone(&fixture.metrics)).unwrap();
    let shown = |series: &str| fixture.metrics.render().unwrap().contains(series);
    let rejected = credentials.refresh(fixture.at(0));
    assert_eq!(rejected[0].why.label(), "absent");
    assert!(credentials.refresh(fixture.at(1)).is_empty(), "said once");
    assert!(credentials.complete(fixture.at(1)));
    assert!(shown("postern_tickets_shared 0"));
    let refusals = "postern_credential_refusals_total{reason=\"absent\",use=\"tickets\"} 1";
    assert!(shown(refusals));

    let store = Store::open(&place).unwrap();
    let keys = |secret: u8, to: i64| {
        let key = TicketKey::new(&[secret; 32], fixture.now, fixture.now + to).unwrap();
        TicketKeys::new(vec![key]).unwrap()
    };
    store.publish(&keys(1, 100), "tickets/1").unwrap();
    assert!(credentials.refresh(fixture.at(2)).is_empty());
    let info = |version: &str| {
        let path = place.display();
        shown(&format!(
            "postern_credential_info{{path=\"{path}\",use=\"tickets\",version=\"{version}\"}} 1"
        ))
    };
    assert!(shown("postern_tickets_shared 1") && info("tickets/1"));
    store.publish(&keys(2, 200), "tickets/2").unwrap();
    assert!(credentials.refresh(fixture.at(3)).is_empty());
    assert!(info("tickets/2") && !info("tickets/1"));
    assert!(shown("postern_credential_changes_total{use=\"tickets\"} 2"));
    assert_eq!(fixture.metric("not_after", "tickets"), 200);
    assert_eq!(fixture.metric("last_success", "tickets"), 3);
    let keys = credentials.ticket_keys().unwrap();
    assert_eq!(
        (keys.generation, keys.label.as_deref()),
        (2, Some("tickets/2"))
    );

    // The last key ends: one more reason, and tickets of our own again.
    let rejected = credentials.refresh(fixture.at(201));
    assert_eq!(rejected[0].why.label(), "expired");
    assert!(credentials.refresh(fixture.at(202)).is_empty());
    assert!(shown("postern_tickets_shared 0"));
    assert!(credentials.complete(fixture.at(202)));
}

/// What a client and we agree on, if it offers these suites in this order.
fn agreed(fixture: &Fixture, offered: &[CipherSuite]) -> CipherSuite {
    let mut provider = aws_lc_rs::default_provider();
    let place = |suite| offered.iter().position(|other| *other == suite);
    let suites = &mut provider.cipher_suites;
    suites.retain(|suite| place(suite.suite()).is_some());
    suites.sort_by_key(|suite| place(suite.suite()));
    let mut trusted = rustls::RootCertStore::empty();
    let anchor = rustls::pki_types::pem::PemObject::from_pem_slice(fixture.ca.ca_pem().as_bytes());
    trusted.add(anchor.unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let name = "one.example".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let server = fixture.credentials.server();
    let certificate = server.select(&HostName::parse("one.example").unwrap());
    let tls = certificate.unwrap().tls(offered);
    let mut server = rustls::ServerConnection::new(tls).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    server.negotiated_cipher_suite().unwrap().suite()
}

#[test]
fn of_the_suites_that_a_client_offers_the_cheapest_is_taken_unless_it_has_no_aes() {
    use CipherSuite as Suite;
    let fixture = Fixture::new();
    fixture.issue("one", 10);
    fixture.issue("two", 10);
    assert!(fixture.look(0).is_empty());
    let (large, small) = (
        Suite::TLS13_AES_256_GCM_SHA384,
        Suite::TLS13_AES_128_GCM_SHA256,
    );
    let chacha = Suite::TLS13_CHACHA20_POLY1305_SHA256;
    assert_eq!(agreed(&fixture, &[large, small, chacha]), small);
    assert_eq!(agreed(&fixture, &[large, chacha, small]), small);
    assert_eq!(agreed(&fixture, &[large, chacha]), large);
    assert_eq!(agreed(&fixture, &[chacha, small, large]), chacha);
    let (large, small) = (
        Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    );
    assert_eq!(agreed(&fixture, &[large, small]), small);
    assert_eq!(agreed(&fixture, &[large]), large);
}

#[test]
fn other_places_are_taken_whole_or_not_at_all() {
    let fixture = Fixture::new();
    for place in ["one", "two", "three"] {
        fixture.issue(place, 30);
    }
    assert!(fixture.look(0).is_empty());
    let credentials = &fixture.credentials;
    let names = |places: &[&str]| -> Vec<_> {
        let paths = places.iter().map(|place| (fixture.path(place), vec![]));
        paths.collect()
    };
    let shown = |host: &str| {
        let host = HostName::parse(host).unwrap();
        credentials.server().select(&host).is_some()
    };
    let before = credentials.client().unwrap();
    let now = fixture.at(0);

    // One good place beside one that is not there.
    let bad = Options {
        server: names(&["one", "three", "four"]),
        identity: fixture.path("nowhere"),
        ..options(fixture.folder.path())
    };
    assert_eq!(credentials.replace(bad, now).unwrap_err().len(), 2);
    assert!(shown("two.example") && !shown("three.example"));
    assert!(Arc::ptr_eq(&before, &credentials.client().unwrap()));
    let refused = fixture.metrics.render().unwrap();
    assert!(!refused.contains("credential_refusals_total{"), "{refused}");

    // Who we are stays the same, and with it every connection to the ingress.
    let good = Options {
        server: names(&["one", "three"]),
        ..options(fixture.folder.path())
    };
    credentials.replace(good, now).unwrap();
    assert!(shown("one.example") && shown("three.example") && !shown("two.example"));
    assert!(Arc::ptr_eq(&before, &credentials.client().unwrap()));
    assert!(credentials.complete(now));
    let generations: Vec<_> = credentials
        .places()
        .iter()
        .map(|it| it.generation)
        .collect();
    assert_eq!(generations, [1; 4]);

    // Another identity is another generation, and the generations go on from there.
    let issued = fixture.ca.client("other.example").unwrap();
    issued.write_to(&fixture.path("other")).unwrap();
    let other = Options {
        identity: fixture.path("other"),
        ..options(fixture.folder.path())
    };
    credentials.replace(other, now).unwrap();
    assert_eq!(
        credentials.client().unwrap().generation,
        before.generation + 1
    );
    credentials
        .replace(options(fixture.folder.path()), now)
        .unwrap();
    assert_eq!(
        credentials.client().unwrap().generation,
        before.generation + 2
    );
    assert!(fixture.look(1).is_empty());
    assert_eq!(
        credentials.client().unwrap().generation,
        before.generation + 2
    );
}

#[test]
fn keys_of_tickets_are_shared_and_no_longer_shared() {
    let fixture = Fixture::new();
    fixture.issue("one", 30);
    fixture.issue("two", 30);
    assert!(fixture.look(0).is_empty());
    let now = fixture.at(0);
    let key = TicketKey::new(&[7; 32], fixture.now - DAY, fixture.now + DAY).unwrap();
    let store = Store::open(fixture.path("tickets")).unwrap();
    let keys = TicketKeys::new(vec![key]).unwrap();
    store.publish(&keys, "first").unwrap();
    let with = Options {
        ticket_keys: Some(fixture.path("tickets")),
        ..options(fixture.folder.path())
    };
    let shared = || fixture.credentials.tickets.are_shared(fixture.now);
    fixture.credentials.replace(with.clone(), now).unwrap();
    assert!(shared());
    fixture.credentials.replace(with, now).unwrap();
    assert!(shared());
    fixture
        .credentials
        .replace(options(fixture.folder.path()), now)
        .unwrap();
    assert!(!shared());
    assert!(fixture.look(1).is_empty() && !shared());
}
