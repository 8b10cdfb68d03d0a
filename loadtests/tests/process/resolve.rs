//! The ingress by name: addresses that change, names that are gone, a zone that fails, and a start without a name
//! server. The ingresses listen on the same port of different loopback addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::StatusCode;
use postern_loadtests::prove::traffic::{Kind, Targets, Traffic};
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{CERTIFICATE_NAME, HOST_A, INGRESS_NAME, LINK_A};
use postern_loadtests::stack::client::{Connection, Protocol, Tls};
use postern_loadtests::stack::credentials::Credentials;
use postern_loadtests::stack::dns::{Behaviour, Dns};
use postern_loadtests::stack::echo::Echo;
use postern_loadtests::stack::free_address;
use postern_loadtests::stack::nginx::{Nginx, NginxOptions};
use postern_loadtests::stack::postern::{Postern, PosternOptions};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::scene::{until, with};

const NAME: &str = "z1-weu-aks.internal.example";
const OTHER: &str = "z2-weu-aks.internal.example";
const PROFILE: &str = "profile.trafficmanager.example";

/// A name server and some ingresses; Postern comes later.
struct Scene {
    dns: Dns,
    ingress: Vec<Nginx>,
    port: u16,
    credentials: Credentials,
    _echo: Echo,
    folder: TempDir,
}

const fn ip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, n))
}

impl Scene {
    /// As many ingresses, at [`ip`] 0, 1, …
    async fn new(ingresses: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let credentials = Credentials::create(&certs, &[CERTIFICATE_NAME], INGRESS_NAME).unwrap();
        let echo = Echo::start(None).await.unwrap();
        let port = free_address().unwrap().port();
        let mut ingress = Vec::new();
        for n in 0..ingresses {
            let options = NginxOptions {
                name: INGRESS_NAME.to_owned(),
                backend: Some(echo.address()),
                listen: Some(SocketAddr::new(ip(n), port)),
                ..NginxOptions::default()
            };
            let folder = folder.path().join(format!("nginx{n}"));
            ingress.push(Nginx::start(&folder, &credentials, &options).await.unwrap());
        }
        Self {
            dns: Dns::start().await.unwrap(),
            ingress,
            port,
            credentials,
            _echo: echo,
            folder,
        }
    }

    fn options(&self, endpoints: &[String], variables: &[(&str, &str)]) -> PosternOptions {
        let servers = self.dns.address().to_string();
        let own = [("POSTERN_UPSTREAM__DNS_SERVERS", servers.as_str())];
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        PosternOptions {
            ingress: Vec::new(),
            more_endpoints: endpoints.to_vec(),
            environment: with(&[&own[..], variables].concat()).environment,
            ..PosternOptions::new(nowhere)
        }
    }

    /// A Postern whose ingress is [`NAME`].
    async fn postern(&self, variables: &[(&str, &str)]) -> Postern {
        let endpoint = format!("\"{NAME}:{}\"", self.port);
        self.postern_for(&[endpoint], variables).await
    }

    async fn postern_for(&self, endpoints: &[String], variables: &[(&str, &str)]) -> Postern {
        let options = self.options(endpoints, variables);
        let folder = self.folder.path().join("postern");
        let started = Postern::start(&folder, &self.credentials, &options).await;
        started.unwrap_or_else(|error| panic!("{error}"))
    }

    fn tls(&self) -> Tls {
        Tls::trusting(&self.credentials.public_ca).unwrap()
    }

    async fn connect(&self, postern: &Postern) -> Connection {
        let header = Header::link(LINK_A);
        let (data, http) = (postern.data(), Protocol::Http1);
        let connected = self.tls().connect(data, &header, HOST_A, http).await;
        connected.unwrap()
    }

    async fn status(&self, postern: &Postern, path: &str) -> StatusCode {
        let mut connection = self.connect(postern).await;
        connection.get(path).await.unwrap().status
    }

    /// Which ingress a new request goes to.
    async fn serving(&self, postern: &Postern, path: &str) -> IpAddr {
        assert_eq!(self.status(postern, path).await, StatusCode::OK);
        let line = postern.logged(path, |line| line["path"] == path).await;
        let endpoint = line.unwrap()["endpoint"].as_str().unwrap().to_owned();
        endpoint.parse::<SocketAddr>().unwrap().ip()
    }

    /// SIGKILL.
    fn kill(&mut self, n: usize) {
        let child = self.ingress[n].child();
        child.set_stop_signal(Signal::KILL);
        child.stop();
    }

    fn address(&self, n: u8) -> String {
        SocketAddr::new(ip(n), self.port).to_string()
    }
}

async fn looked_up(postern: &Postern, outcome: &str, times: f64) {
    let labels = [("cluster", "dicom"), ("outcome", outcome)];
    let counted = postern.counted("postern_dns_lookups_total", &labels, times);
    counted.await.unwrap_or_else(|error| panic!("{error}"));
}

async fn said(postern: &Postern, message: &str) -> Value {
    let line = postern.said(message).await;
    line.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for the line that tells of a change, and looks at what it tells.
async fn changed(postern: &Postern, added: &str, removed: &str) {
    let tells = |line: &Value| {
        line["message"] == "ingress addresses changed"
            && line["added"] == added
            && line["removed"] == removed
    };
    let log = postern.operational_log();
    let line = log.wait_for("the change", tells).await;
    line.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn an_address_that_changes_under_traffic_is_taken_up_by_the_least_ttl_and_no_request_fails() {
    let scene = Scene::new(2).await;
    // The least is that of the first alias: what the others say would be five minutes.
    scene.dns.alias(NAME, 1, PROFILE);
    scene.dns.alias(PROFILE, 300, "ingress.example");
    scene.dns.set("ingress.example", 300, &[ip(0)]);
    let postern = scene.postern(&[]).await;
    let traffic = Traffic::start(Targets::new(vec![postern.data()], scene.tls()));
    let all = async || Kind::all().all(|kind| traffic.so_far().of(kind).done > 1);
    until("traffic of all kinds", all).await;
    assert_eq!(scene.serving(&postern, "/nonce/before").await, ip(0));

    scene.dns.set("ingress.example", 300, &[ip(1)]);
    changed(&postern, &scene.address(1), &scene.address(0)).await;
    assert_eq!(scene.serving(&postern, "/nonce/after").await, ip(1));
    scene.dns.alias(PROFILE, 300, "both.example");
    scene.dns.set("both.example", 300, &[ip(1), ip(0)]);
    changed(&postern, &scene.address(0), "").await;
    let more = traffic.so_far().sum(|count| count.done) + 200;
    let all = async || traffic.so_far().sum(|count| count.done) > more;
    until("more traffic", all).await;

    assert_eq!(traffic.stop().await.broken(), [""; 0]);
    let asked = scene.dns.asked(NAME);
    assert!(asked > 2, "asked {asked} times");
}

#[tokio::test]
async fn idle_connections_to_an_address_that_is_gone_are_closed() {
    let scene = Scene::new(2).await;
    scene.dns.set(NAME, 1, &[ip(0)]);
    let idle = [("POSTERN_UPSTREAM__IDLE_TIMEOUT", "10m")];
    let postern = scene.postern(&idle).await;
    assert_eq!(scene.serving(&postern, "/nonce/before").await, ip(0));
    let open = async |count: f64| {
        let metrics = postern.metrics().await.unwrap();
        (metrics.sum("postern_upstream_connections", &[]) - count).abs() < 0.5
    };
    until("the pooled connection alone", async || open(1.0).await).await;
    scene.dns.set(NAME, 1, &[ip(1)]);
    until("no connection", async || open(0.0).await).await;
    assert_eq!(scene.serving(&postern, "/nonce/after").await, ip(1));
}

#[tokio::test]
async fn a_name_that_is_gone_keeps_its_addresses_until_they_are_too_old() {
    let scene = Scene::new(1).await;
    scene.dns.set(NAME, 1, &[ip(0)]);
    let postern = scene
        .postern(&[("POSTERN_UPSTREAM__DNS_STALE_MAX", "6s")])
        .await;
    // Traffic Manager says so of a profile that is disabled.
    scene.dns.remove(NAME);
    let line = said(&postern, "ingress name is not resolved").await;
    assert_eq!(line["error"], "there is no such name");
    assert_eq!(scene.status(&postern, "/nonce/kept").await, StatusCode::OK);
    assert!(postern.is_ready().await);

    said(&postern, "ingress name is not resolved for too long").await;
    until("an end of readiness", async || !postern.is_ready().await).await;
    let body = postern.probe_answer("/readyz").await.unwrap().text();
    assert!(body.contains("ingress"), "{body}");
    let mut connection = scene.connect(&postern).await;
    let answer = connection.get("/nonce/none").await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let line = postern.logged("/nonce/none", |line| line["path"] == "/nonce/none");
    assert_eq!(line.await.unwrap()["refusal"], "upstream_connect");

    scene.dns.set(NAME, 1, &[ip(0)]);
    until("readiness", async || postern.is_ready().await).await;
    said(&postern, "ingress name is resolved again").await;
    assert_eq!(scene.status(&postern, "/nonce/back").await, StatusCode::OK);
    let told = postern.operational_log().all();
    let warnings = told.iter().filter(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("ingress name is not resolved;")
    });
    assert_eq!(warnings.count(), 1, "it is told once");
}

#[tokio::test]
async fn a_start_without_a_name_server_is_not_ready_until_there_is_one() {
    for behaviour in [Behaviour::Failing, Behaviour::Silent] {
        let scene = Scene::new(1).await;
        scene.dns.set(NAME, 60, &[ip(0)]);
        scene.dns.behave(behaviour);
        let endpoint = format!("\"{NAME}:{}\"", scene.port);
        let options = scene.options(&[endpoint], &[]);
        let folder = scene.folder.path().join("postern");
        let postern = Postern::launch(&folder, &scene.credentials, &options).unwrap();
        looked_up(&postern, "failed", 1.0).await;
        assert!(!postern.is_ready().await);
        let body = postern.probe_answer("/readyz").await.unwrap().text();
        assert!(body.contains("ingress"), "{body}");
        scene.dns.behave(Behaviour::Answering);
        until("readiness", async || postern.is_ready().await).await;
        assert_eq!(scene.serving(&postern, "/nonce/first").await, ip(0));
    }
}

#[tokio::test]
async fn the_same_zone_goes_first_and_another_when_it_is_down() {
    let mut scene = Scene::new(2).await;
    scene.dns.set(NAME, 1, &[ip(0)]);
    scene.dns.set(OTHER, 1, &[ip(1)]);
    let zoned = |name: &str, zone: &str| {
        format!(
            "{{ address = \"{name}:{}\", zone = \"{zone}\" }}",
            scene.port
        )
    };
    let endpoints = [zoned(NAME, "1"), zoned(OTHER, "2")];
    let zone = [("POSTERN_UPSTREAM__ZONE", "2")];
    let postern = scene.postern_for(&endpoints, &zone).await;
    looked_up(&postern, "answered", 2.0).await;
    for n in 0..5 {
        let path = format!("/nonce/same-{n}");
        assert_eq!(scene.serving(&postern, &path).await, ip(1));
    }
    scene.kill(1);
    for n in 0..5 {
        let path = format!("/nonce/other-{n}");
        assert_eq!(scene.serving(&postern, &path).await, ip(0));
    }
    assert!(postern.is_ready().await);
}

#[tokio::test]
async fn an_ingress_that_dies_is_passed_over_and_forgotten_with_its_address() {
    let mut scene = Scene::new(2).await;
    scene.dns.set(NAME, 1, &[ip(0), ip(1)]);
    let postern = scene.postern(&[]).await;
    let shown = async || {
        let mut admin = Connection::plain(postern.admin()).await.unwrap();
        admin.get("/").await.unwrap().text()
    };
    let both = [
        scene.serving(&postern, "/nonce/a").await,
        scene.serving(&postern, "/nonce/b").await,
    ];
    assert_ne!(both[0], both[1]);
    scene.kill(1);
    for n in 0..6 {
        let path = format!("/nonce/dead-{n}");
        assert_eq!(scene.serving(&postern, &path).await, ip(0));
    }
    assert!(shown().await.contains(&scene.address(1)));
    scene.dns.set(NAME, 1, &[ip(0)]);
    changed(&postern, "", &scene.address(1)).await;
    let page = shown().await;
    assert!(page.contains(&scene.address(0)) && !page.contains(&scene.address(1)));
    assert_eq!(scene.serving(&postern, "/nonce/left").await, ip(0));
}
