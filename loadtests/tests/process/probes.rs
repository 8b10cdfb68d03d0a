//! Probes: each prober of Azure gets the answer it understands, by either port, and sees nothing else.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::client::{Answer, Connection, Protocol, open};
use postern_loadtests::stack::postern::{PROBE_SOURCE, TRUSTED_SOURCE};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::scene::{Scene, until};

mod noise;
mod states;

/// `GET`, as the load balancer asks: `Host` is the address of the virtual machine.
async fn ask(address: SocketAddr, source: IpAddr, header: &Header, path: &str) -> Answer {
    let stream = open(address, Some(source), header).await.unwrap();
    let mut connection = Connection::new(stream, Protocol::Http1, "10.1.0.5:8080")
        .await
        .unwrap();
    connection.get(path).await.unwrap()
}

/// A PROXY header that says nothing of the client: family UNSPEC, and 4 bytes to skip.
fn unspec() -> Header {
    let bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x04\x04\x00\x01\x00";
    Header::Raw(bytes[..].into())
}

#[tokio::test]
async fn the_probe_listener_answers_with_and_without_a_proxy_header() {
    let scene = Scene::start(&[]).await;
    let probe = scene.stack.postern.probe();
    for header in [
        Header::Absent,
        Header::Local,
        Header::without_link(),
        Header::link(7),
        unspec(),
    ] {
        let answer = ask(probe, TRUSTED_SOURCE, &header, "/healthz").await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "ok\n"),
            "{header:?}"
        );
        let answer = ask(probe, TRUSTED_SOURCE, &header, "/health/vmss").await;
        assert_eq!(
            answer.json(),
            json!({"ApplicationHealthState": "Healthy"}),
            "{header:?}"
        );
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let ready = ask(probe, TRUSTED_SOURCE, &Header::Absent, "/readyz")
        .await
        .json();
    assert_eq!(
        ready,
        json!({"ready": true, "draining": false, "mode": "enforce", "waiting_for": []})
    );
    assert_eq!(
        ask(probe, TRUSTED_SOURCE, &Header::Absent, "/livez")
            .await
            .status,
        200
    );
    assert_eq!(
        ask(probe, TRUSTED_SOURCE, &Header::Absent, "/nonce/x")
            .await
            .status,
        404
    );
    assert!(!scene.ingress_saw("/nonce/x"));
}

#[tokio::test]
async fn a_probe_on_the_data_port_sees_health_alone() {
    let scene = Scene::start(&[]).await;
    let data = scene.stack.postern.data();
    for (source, header) in [
        (TRUSTED_SOURCE, Header::Local),
        (TRUSTED_SOURCE, unspec()),
        (PROBE_SOURCE, Header::Local),
        (PROBE_SOURCE, Header::without_link()),
        (PROBE_SOURCE, unspec()),
    ] {
        assert_eq!(
            ask(data, source, &header, "/healthz").await.status,
            200,
            "{source} {header:?}"
        );
        for path in ["/nonce/x", "/readyz", "/metrics"] {
            assert_eq!(
                ask(data, source, &header, path).await.status,
                404,
                "{source} {header:?} {path}"
            );
        }
    }
    scene
        .counted("postern_connections_total", &[("ending", "probe")], 20.0)
        .await;
    assert!(scene.stack.ingress.seen().all().is_empty());
    assert!(scene.stack.postern.access_log().all().is_empty());
}

#[tokio::test]
async fn an_https_probe_without_a_server_name_gets_its_answer_over_tls_1_2() {
    let scene = Scene::start(&[]).await;
    let address = scene.link_lb(None).await;
    // An address is no server name, so curl sends none.
    for version in ["--tls-max=1.2", "--tlsv1.3"] {
        let fetch = |path: &str| {
            let mut command = Command::new("curl");
            command.args(["--silent", "--insecure", "--http1.1", "--max-time", "20"]);
            command
                .args(version.split('='))
                .args(["--write-out", " %{http_code}"]);
            command.arg(format!("https://{address}{path}"));
            tokio::task::spawn_blocking(move || command.output().unwrap())
        };
        let output = fetch("/healthz").await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "ok\n 200",
            "{version}: {output:?}"
        );
        let output = fetch("/nonce/x").await.unwrap();
        assert!(output.stdout.ends_with(b" 404"), "{version}: {output:?}");
    }
    assert!(scene.stack.postern.access_log().all().is_empty());
    assert!(scene.metric_is("postern_refusals_total", &[], 0.0).await);
    assert!(!scene.ingress_saw("/nonce/x"));
}

#[tokio::test]
async fn the_probe_listener_ends_what_is_no_probe() {
    let scene = Scene::start(&[]).await;
    let garbage = Header::Raw(b"\r\nQUIT GET / HTTP/1.1\r\n\r\n"[..].into());
    let mut stream = open(scene.stack.postern.probe(), None, &garbage)
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    until("the next probe", async || {
        scene
            .stack
            .postern
            .probe_answer("/healthz")
            .await
            .is_ok_and(|answer| answer.status == 200)
    })
    .await;
}
