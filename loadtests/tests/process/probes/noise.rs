//! Probes come day and night: none leaves a line, an error or a descriptor behind.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use http::Method;
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::client::{Connection, Protocol, STEP_TIMEOUT, empty, open};
use postern_loadtests::stack::postern::{PROBE_SOURCE, TRUSTED_SOURCE};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ask, unspec};
use crate::scene::{Scene, until};

/// A stack, and what its Postern had said and opened before there was a probe.
struct Quiet {
    scene: Scene,
    lines: usize,
    descriptors: usize,
}

impl Quiet {
    async fn start() -> Self {
        let scene = Scene::start(&[]).await;
        let log = scene.stack.postern.operational_log();
        // The last thing that it says of its start.
        let ready = |line: &Value| line["message"] == "readiness" && line["ready"] == true;
        log.wait_for("readiness", ready).await.unwrap();
        // Each listener has been asked once: what is made then and kept is no leak.
        for address in listeners(&scene) {
            let header = Header::Local;
            drop(open(address, Some(PROBE_SOURCE), &header).await.unwrap());
        }
        ask(
            scene.stack.postern.probe(),
            TRUSTED_SOURCE,
            &Header::Absent,
            "/healthz",
        )
        .await;
        Self {
            lines: log.all().len(),
            descriptors: descriptors(&scene),
            scene,
        }
    }

    /// Nothing was said, nothing was refused, nothing is left open.
    async fn is_quiet(&self) {
        let postern = &self.scene.stack.postern;
        // One of them asks for the metrics.
        until("no descriptor more", async || {
            descriptors(&self.scene) <= self.descriptors + 1
        })
        .await;
        let open = "postern_connections_open";
        until("no connection", async || {
            self.scene.metric_is(open, &[], 0.0).await
        })
        .await;
        let refusals = "postern_refusals_total";
        assert!(self.scene.metric_is(refusals, &[], 0.0).await);
        let requests = "postern_requests_total";
        assert!(self.scene.metric_is(requests, &[], 0.0).await);
        assert!(postern.access_log().all().is_empty());
        let said = postern.operational_log().all();
        assert_eq!(said.len(), self.lines, "{said:?}");
        assert!(self.scene.stack.ingress.seen().all().is_empty());
    }
}

fn listeners(scene: &Scene) -> [SocketAddr; 3] {
    let postern = &scene.stack.postern;
    [postern.data(), postern.probe(), postern.admin()]
}

fn descriptors(scene: &Scene) -> usize {
    let folder = format!("/proc/{}/fd", scene.stack.postern.pid());
    std::fs::read_dir(folder).unwrap().count()
}

/// Connects, says this, and goes: by RST instead of FIN if `reset`, as a TCP probe does.
async fn touch(address: SocketAddr, source: IpAddr, says: &Header, reset: bool) {
    let stream = open(address, Some(source), says).await.unwrap();
    if reset {
        stream.set_zero_linger().unwrap();
    }
}

#[tokio::test]
async fn connections_without_a_request_leave_no_line_however_they_end() {
    let quiet = Quiet::start().await;
    let scene = &quiet.scene;
    let before = scene
        .metric("postern_connections_accepted_total", &[])
        .await;
    for reset in [false, true] {
        for address in listeners(scene) {
            touch(address, TRUSTED_SOURCE, &Header::Absent, reset).await;
            touch(address, PROBE_SOURCE, &Header::Absent, reset).await;
            touch(address, PROBE_SOURCE, &Header::Local, reset).await;
            touch(address, PROBE_SOURCE, &unspec(), reset).await;
        }
        // The Private Link Service has put its header first already.
        touch(
            scene.stack.postern.data(),
            TRUSTED_SOURCE,
            &Header::link(7),
            reset,
        )
        .await;
    }
    scene
        .counted("postern_connections_accepted_total", &[], before + 10.0)
        .await;
    quiet.is_quiet().await;
}

#[tokio::test]
async fn a_thousand_tcp_probes_that_reset_leave_nothing_behind() {
    const AT_ONCE: usize = 50;
    const ROUNDS: usize = 20;
    let quiet = Quiet::start().await;
    for address in listeners(&quiet.scene) {
        for _ in 0..ROUNDS {
            let probes = (0..AT_ONCE).map(|_| touch(address, PROBE_SOURCE, &Header::Absent, true));
            join_all(probes).await;
        }
    }
    quiet.is_quiet().await;
    let answer = quiet.scene.stack.postern.probe_answer("/healthz").await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn no_prober_that_is_content_leaves_a_line() {
    let quiet = Quiet::start().await;
    let scene = &quiet.scene;
    let [data, probe, _] = listeners(scene);
    for header in [Header::Local, Header::without_link(), unspec()] {
        for address in [data, probe] {
            let answer = ask(address, PROBE_SOURCE, &header, "/healthz").await;
            assert_eq!(answer.status, 200, "{address} {header:?}");
        }
    }
    for path in ["/health/vmss", "/healthz", "/livez", "/readyz"] {
        let answer = ask(probe, TRUSTED_SOURCE, &Header::Absent, path).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    https(scene).await;
    quiet.is_quiet().await;
}

/// An HTTPS probe of the data port by who verifies nothing and shows no certificate.
async fn https(scene: &Scene) {
    let tls = scene.stack.tls().unwrap();
    let mut config = tls.config();
    config.enable_sni = false;
    let address = scene.link_lb(None).await;
    let stream = open(address, None, &Header::Absent).await.unwrap();
    // Without a server name, the certificate is checked for one that it has not: the probe goes away in the middle.
    let refused = tls.handshake(stream, None, Protocol::Http1).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn traffic_managers_probers_come_several_at_once_and_with_a_host_of_their_own() {
    const PROBERS: usize = 48;
    let quiet = Quiet::start().await;
    let probe = quiet.scene.stack.postern.probe();
    let probes = (0..PROBERS).map(async |number| {
        let stream = open(probe, Some(TRUSTED_SOURCE), &Header::Absent)
            .await
            .unwrap();
        let mut connection = Connection::new(stream, Protocol::Http1, "x").await.unwrap();
        // Any Host, and whatever other headers the profile has.
        let host = format!("z{number}-weu-aks.internal.example");
        let request = connection
            .request_for(&host, Method::GET, "/healthz")
            .unwrap();
        let request = request.header("x-probe", "Traffic Manager").body(empty());
        let answer = connection.fetch(request.unwrap()).await.unwrap();
        assert_eq!(answer.status, 200);
    });
    join_all(probes).await;
    quiet.is_quiet().await;
}

#[tokio::test]
async fn half_open_and_slow_probers_take_nothing_from_the_others() {
    const HALF_OPEN: usize = 100;
    let quiet = Quiet::start().await;
    let [data, probe, _] = listeners(&quiet.scene);
    let mut half_open = Vec::new();
    for _ in 0..HALF_OPEN {
        for address in [data, probe] {
            let stream = open(address, Some(PROBE_SOURCE), &Header::Local)
                .await
                .unwrap();
            half_open.push(stream);
        }
        let part = Header::Raw(b"GET /healthz HT"[..].into());
        half_open.push(open(probe, Some(TRUSTED_SOURCE), &part).await.unwrap());
    }
    let slow = slow(probe);
    for address in [data, probe] {
        let answer = ask(address, PROBE_SOURCE, &Header::Local, "/healthz").await;
        assert_eq!(answer.status, 200, "{address}");
    }
    let answer = slow.await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(half_open);
    quiet.is_quiet().await;
}

/// A probe whose request comes byte by byte, each in a packet of its own.
async fn slow(probe: SocketAddr) -> String {
    let stream = open(probe, Some(TRUSTED_SOURCE), &Header::Absent);
    let mut stream = stream.await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: 10.1.0.5:8080\r\nConnection: close\r\n\r\n";
    for byte in request {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(STEP_TIMEOUT, read)
        .await
        .unwrap()
        .unwrap();
    answer
}
