use std::time::Duration;

use postern_certs::UnixTime;
use postern_certs::dev_ca::DevCa;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::access_log::AccessLog;
use crate::config::{Config, DrainOptions, Mode as ConfiguredMode};
use crate::connection::authorize::Mode;
use crate::credentials;
use crate::routing::{ClusterName, RouteCache, RouteCacheOptions, RouteFile};
use crate::server::Phase;
use crate::telemetry;
use crate::upstream::{Cluster, Protocol};

const ROUTES: &str = r#"
[[accounts]]
name = "hospital-a"
kind = "dicom"
hosts = ["a.dicom.example", "archive.dicom.example"]
cluster = "dicom"
links = [{ link_id = 7, state = "Approved" }, { link_id = 8, state = "Pending" }]
"#;

/// An admin listener, and what must live as long.
struct Fixture {
    admin: Admin,
    _log: Box<dyn Send>,
    _folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn credentials(folder: &std::path::Path, metrics: &Arc<Metrics>) -> Credentials {
    let ca = DevCa::new("Development CA").unwrap();
    let place = |name: &str| folder.join(name);
    ca.server(&["*.dicom.example"])
        .unwrap()
        .write_to(&place("private"))
        .unwrap();
    ca.client("postern.example")
        .unwrap()
        .write_to(&place("client"))
        .unwrap();
    std::fs::create_dir(place("trust")).unwrap();
    std::fs::write(place("trust").join("ca.crt"), ca.ca_pem()).unwrap();
    let options = credentials::Options {
        server: vec![(place("private"), vec![]), (place("nothing"), vec![])],
        identity: place("client"),
        trust: place("trust"),
        routing: None,
        ticket_keys: None,
    };
    let credentials = Credentials::new(options, Arc::clone(metrics)).unwrap();
    assert_eq!(credentials.refresh(UnixTime::now()).len(), 1);
    credentials
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new(ConfiguredMode::Enforce, AccessLog::off()).unwrap());
    let dicom = || ClusterName::new("dicom");
    let file = folder.path().join("routes.toml");
    std::fs::write(&file, ROUTES).unwrap();
    let routes = RouteFile::open(file, [dicom()]).unwrap();
    let cache = RouteCache::new(Arc::new(routes), RouteCacheOptions::default());
    let name = ServerName::try_from("z1.internal.example").unwrap();
    let endpoints = ["10.0.0.1:443", "10.0.0.2:443"].map(|text| text.parse().unwrap());
    let cluster = Cluster::new(dicom(), name, Protocol::Auto, endpoints);
    cluster.failed(endpoints[1], &crate::upstream::ConnectError::Alpn);
    let readiness = Arc::new(Readiness::default());
    readiness.condition("routes").set(true);
    let seats = Seats::new(10);
    let options = DrainOptions {
        notice: Duration::ZERO,
        timeout: Duration::from_secs(1),
        idle_grace: Duration::ZERO,
    };
    let (readiness_, seats_, metrics_) = (readiness.clone(), seats.clone(), metrics.clone());
    let (subscriber, telemetry) = telemetry::subscriber(LogLevel::Info, std::io::sink);
    let in_force = InForce::new(Config::default(), Arc::clone(&metrics));
    let sources = Sources {
        in_force: Arc::new(in_force),
        credentials: Arc::new(credentials(folder.path(), &metrics)),
        authorizer: Arc::new(Authorizer::new(Mode::Enforce, cache, Arc::clone(&metrics))),
        metrics,
        readiness,
        clusters: Arc::new([cluster].into_iter().collect()),
        registry: Arc::default(),
        seats,
        drain: Arc::new(Drain::new(options, readiness_, seats_, metrics_)),
        service: None,
        telemetry,
    };
    Fixture {
        admin: Admin::new(sources),
        _log: Box::new(subscriber),
        _folder: folder,
    }
}

impl Fixture {
    async fn send(&self, request: &str) -> Answered {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        near.write_all(request.as_bytes()).await.unwrap();
        self.admin.serve(far, std::future::pending()).await;
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answered {
            status: head["HTTP/1.1 ".len()..][..3].parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    async fn ask(&self, method: &str, path: &str) -> Answered {
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn get(&self, path: &str) -> Answered {
        self.ask("GET", path).await
    }

    async fn put_level(&self, level: &str, header: &str) -> Answered {
        let length = level.len();
        self.send(&format!(
            "PUT /log-level HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n{level}"
        ))
        .await
    }
}

const PAGES: [(&str, &str, &str); 8] = [
    ("/", "get, head", "text/html; charset=utf-8"),
    ("/metrics", "get, head", "text/plain; version=0.0.4"),
    ("/certs", "get, head", "application/json"),
    ("/config", "get, head", "text/plain; charset=utf-8"),
    (
        "/routes/explain?link_id=7&sni=a.dicom.example",
        "get, head",
        "application/json",
    ),
    ("/connections", "get, head", "application/json"),
    ("/drain", "get, head, post", "application/json"),
    ("/log-level", "get, head, put", "text/plain; charset=utf-8"),
];

#[tokio::test]
async fn each_page_answers_get_and_head_and_says_which_other_methods_it_takes() {
    let fixture = fixture();
    for (path, allow, media_type) in PAGES {
        let answer = fixture.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer.head.contains(&format!("content-type: {media_type}")),
            "{path}: {answer:?}"
        );
        assert!(answer.head.contains("cache-control: no-store"), "{path}");
        assert!(
            !answer.body.is_empty() && !answer.body.contains("PRIVATE KEY"),
            "{path}"
        );
        let head = fixture.ask("HEAD", path).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        let refused = fixture.ask("DELETE", path).await;
        assert_eq!(refused.status, 405, "{path}");
        assert!(
            refused.head.contains(&format!("allow: {allow}\r\n")),
            "{path}: {refused:?}"
        );
    }
    assert_eq!(fixture.get("/nothing").await.status, 404);
    assert_eq!(fixture.ask("POST", "/metrics").await.status, 405);
}

#[tokio::test]
async fn every_certificate_is_listed_and_so_is_what_was_refused() {
    let fixture = fixture();
    let listing = fixture.get("/certs").await.json();
    assert_eq!(listing["upstream_generation"], 1);
    let rows = listing["certificates"].as_array().unwrap();
    let uses: Vec<_> = rows
        .iter()
        .map(|row| (row["use"].as_str(), row["role"].as_str()))
        .collect();
    assert_eq!(
        uses,
        [("server", "leaf"), ("client", "leaf"), ("trust", "anchor")]
            .map(|(used_as, role)| (Some(used_as), Some(role)))
    );
    let server = &rows[0];
    assert_eq!(server["names"], json!(["*.dicom.example"]));
    assert_eq!(server["subject"], "CN=*.dicom.example");
    assert_eq!(server["issuer"], "CN=Development CA");
    assert_eq!(server["generation"], 1);
    assert_eq!(server["fingerprint"].as_str().unwrap().len(), 64);
    for moment in ["not_before", "not_after"] {
        let text = server[moment].as_str().unwrap();
        assert!(
            text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
            "{text}"
        );
    }
    assert_eq!(listing["refused"][0]["use"], "server");
    assert!(
        listing["refused"][0]["path"]
            .as_str()
            .unwrap()
            .ends_with("/nothing")
    );
    assert!(!listing["refused"][0]["error"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_decision_is_explained_as_it_would_be_made() {
    let fixture = fixture();
    for (query, decision, answer) in [
        (
            "link_id=7&sni=a.dicom.example",
            "allowed",
            json!("forwarded"),
        ),
        (
            "link_id=7&sni=a.dicom.example&host=A.dicom.example%3A443",
            "allowed",
            json!("forwarded"),
        ),
        (
            "link_id=9&sni=a.dicom.example",
            "link_unknown",
            json!({"status": 403}),
        ),
        (
            "link_id=8&sni=a.dicom.example",
            "link_not_approved",
            json!({"status": 403}),
        ),
        (
            "link_id=7&sni=a.dicom.example&host=archive.dicom.example",
            "misdirected",
            json!({"status": 421}),
        ),
        (
            "link_id=7&sni=a.dicom.example&host=b.dicom.example",
            "host_not_permitted",
            json!({"status": 403}),
        ),
        (
            "link_id=7&sni=a.elsewhere.example",
            "sni_unknown",
            json!({"alert": 112}),
        ),
    ] {
        let explained = fixture
            .get(&format!("/routes/explain?{query}"))
            .await
            .json();
        assert_eq!(
            (&explained["decision"], &explained["answer"]),
            (&json!(decision), &answer),
            "{query}"
        );
        assert!(!explained["steps"].as_array().unwrap().is_empty());
    }
    let refused = fixture
        .get("/routes/explain?link_id=seven&sni=a.dicom.example")
        .await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.starts_with("link_id: "), "{}", refused.body);
    let metrics = fixture.get("/metrics").await.body;
    for series in [
        "postern_route_lookups_total{outcome=\"miss\"} 5\n",
        "postern_route_lookups_total{outcome=\"hit\"} 0\n",
        "postern_route_lookups_total{outcome=\"negative\"} 0\n",
    ] {
        assert!(metrics.contains(series), "{metrics}");
    }
}

#[tokio::test]
async fn what_the_cache_held_is_shown_with_its_age() {
    let fixture = fixture();
    for (link, answer) in [(7, "approved"), (8, "Pending"), (9, "unknown")] {
        let path = format!("/routes/explain?link_id={link}&sni=a.dicom.example");
        assert!(fixture.get(&path).await.json().get("cache").is_none());
        let cache = fixture.get(&path).await.json()["cache"].take();
        assert_eq!(cache["answer"], answer);
        assert_eq!(cache["judgement"], "fresh");
        assert!(cache["age_seconds"].as_u64() < Some(60), "{cache}");
        assert_eq!(cache["age_seconds"], cache["confirmed_seconds"]);
    }
}

#[tokio::test]
async fn connections_are_listed_with_the_counts_of_the_process() {
    let listing = fixture().get("/connections").await.json();
    let expected = json!({
        "phase": "serving", "draining": false, "connections_open": 0, "requests_in_flight": 0,
        "listed": 0, "connections": [],
    });
    assert_eq!(listing, expected);
}

#[tokio::test]
async fn a_drain_is_begun_by_post_and_seen_by_get() {
    let fixture = fixture();
    let sources = &fixture.admin.sources;
    let post = "POST /drain HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let refused = fixture
        .send(&format!("{post}origin: http://evil.example\r\n\r\n"))
        .await;
    assert_eq!(
        (refused.status, sources.drain.phase()),
        (403, Phase::Serving)
    );
    assert_eq!(fixture.get("/drain").await.json()["phase"], "serving");
    assert!(sources.readiness.is_ready());
    let begun = fixture.send(&format!("{post}\r\n")).await;
    assert_eq!(
        (begun.status, &begun.json()["phase"]),
        (202, &json!("noticing"))
    );
    timeout(Duration::from_secs(10), sources.drain.done())
        .await
        .unwrap();
    assert!(!sources.readiness.is_ready());
    let mut done = fixture.get("/drain").await.json();
    let began = done["began"].take();
    assert!(began.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(
        done,
        json!({
            "phase": "drained", "connections": 0, "requests_in_flight": 0, "connections_cut": 0,
            "began": null, "deadline_seconds": null,
        })
    );
    let post = "POST /drain?within=soon HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    assert_eq!(fixture.send(&format!("{post}\r\n")).await.status, 400);
    let post = "POST /drain?within=1s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let again = fixture.send(&format!("{post}\r\n")).await;
    assert_eq!(
        (again.status, &again.json()["phase"]),
        (202, &json!("drained"))
    );
}

#[tokio::test]
async fn the_log_level_is_one_of_the_list_or_stays_what_it_was() {
    let fixture = fixture();
    assert_eq!(fixture.get("/log-level").await.body, "info\n");
    let changed = fixture.put_level("debug\n", "").await;
    assert_eq!((changed.status, changed.body.as_str()), (200, "debug\n"));
    for (level, header, status) in [
        ("loud", "", 400),
        ("", "", 400),
        (&"x".repeat(100_000), "", 400),
        ("off", "origin: null\r\n", 403),
    ] {
        let refused = fixture.put_level(level, header).await;
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(
            status != 400
                || refused
                    .body
                    .contains("off, error, warn, info, debug, trace")
        );
    }
    assert_eq!(fixture.get("/log-level").await.body, "debug\n");
}

#[tokio::test]
async fn the_page_for_people_shows_state_certificates_and_endpoints() {
    let page = fixture().get("/").await;
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    for part in [
        concat!(
            "<small>Postern ",
            env!("CARGO_PKG_VERSION"),
            " · mode enforce"
        ),
        "<h1>Ready</h1>",
        "<dt>Routes<dd><span class=plain>version 1</span>",
        "<span class=plain>*.dicom.example</span>",
        "/nothing<p>",
        "<span class=good>up</span>",
        "<span class=bad>down</span>",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_unanswered() {
    let fixture = fixture();
    let all = fixture.admin.seats.acquire_many(64).await.unwrap();
    let (mut near, far) = tokio::io::duplex(4096);
    near.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    fixture.admin.serve(far, std::future::pending()).await;
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
    drop(all);
    assert_eq!(fixture.get("/metrics").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_loses_its_place() {
    let fixture = fixture();
    let (near, far) = tokio::io::duplex(4096);
    fixture.admin.serve(far, std::future::pending()).await;
    assert_eq!(fixture.admin.seats.available_permits(), 64);
    drop(near);
}
