//! Connections to the ingress: kept, resumed, tried again when that is safe, and never trusted blindly.

use std::sync::Arc;

use http::Method;
use postern_certs::dev_ca::DevCa;
use postern_loadtests::stack::accounts::{HOST_A, INGRESS_NAME};
use postern_loadtests::stack::client::{Connection, Protocol, empty, full};
use postern_loadtests::stack::ingress::{Ingress, IngressKind};
use postern_loadtests::stack::nginx::{Nginx, NginxOptions};
use postern_loadtests::stack::postern::PosternOptions;
use postern_loadtests::stack::scripted::Scripted;
use serde_json::json;
use tokio::task::JoinSet;

use crate::common::{Direct, Front, Played, Stack, Way};
use crate::upstream_retry::OK;

const NGINX_1: Way = Way::new(IngressKind::Nginx, "http1");
pub const NGINX_2: Way = Way::new(IngressKind::Nginx, "auto");

pub fn nginx(ingress: &mut Ingress) -> &mut Nginx {
    match ingress {
        Ingress::Nginx(nginx) => nginx,
        Ingress::Envoy(_) => panic!("nginx was asked for"),
    }
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    for way in [NGINX_1, NGINX_2] {
        let stack = Stack::start(way).await;
        let mut connection = stack.connect(Protocol::Http1).await;
        for n in 0..10 {
            let path = format!("/bytes/65536?{n}");
            assert_eq!(connection.get(&path).await.unwrap().body.len(), 65_536);
            let request = connection
                .request(Method::POST, &format!("/sink/{n}"))
                .unwrap();
            let answer = connection
                .fetch(request.body(full("body")).unwrap())
                .await
                .unwrap();
            assert_eq!(answer.status.as_u16(), 200);
        }
        stack
            .ingress
            .saw("the last", |line| line["uri"] == "/sink/9")
            .await
            .unwrap();
        let lines = stack.ingress.seen().all();
        let mut connections: Vec<_> = lines
            .iter()
            .map(|line| line["connection"].as_str())
            .collect();
        connections.sort_unstable();
        connections.dedup();
        assert_eq!(connections.len(), 1, "{way:?} {connections:?}");
        assert!(
            lines.iter().any(|line| line["connection_requests"] == "20"),
            "{way:?}"
        );
        let after = stack.metrics().await;
        let reused = after.sum("postern_upstream_requests_total", &[("reused", "true")]);
        assert!(reused >= 19.0, "{way:?} {reused}");
    }
}

#[tokio::test]
async fn new_connections_resume_the_tls_session() {
    for way in [NGINX_1, NGINX_2] {
        let mut stack = Stack::start(way).await;
        restart(&mut stack, way, 1).await;
        let mut connection = stack.connect(Protocol::Http2).await;
        for n in 0..6 {
            let path = format!("/nonce/{n}");
            assert_eq!(connection.get(&path).await.unwrap().status.as_u16(), 200);
            stack
                .ingress
                .saw(&path, |line| line["uri"] == path)
                .await
                .unwrap();
        }
        let lines = stack.ingress.seen().all();
        assert!(lines.iter().all(|line| line["connection_requests"] == "1"));
        assert!(lines.iter().all(|line| line["client_verify"] == "SUCCESS"));
        let last = lines.last().unwrap();
        assert_eq!(last["tls_resumed"], "r", "{way:?} {lines:#?}");
    }
}

/// As many requests at once as `connections`, `each` times; what failed.
///
/// Over HTTP/2 to the ingress a third are POSTs: a GOAWAY says which requests were not processed. HTTP/1.1 has no
/// such word, and a POST that meets the end of its connection fails, as it must (RFC 9110 section 9.2.2).
async fn burst(stack: &Front, way: Way, connections: usize, each: usize) -> Vec<String> {
    let posts = way.protocol != "http1";
    let mut tasks = JoinSet::new();
    for n in 0..connections {
        let protocol = Protocol::ALL[n % 2];
        let mut connection = stack.connect(protocol).await;
        tasks.spawn(async move {
            let mut failures = Vec::new();
            for turn in 0..each {
                let post = posts && turn % 3 == 2;
                let outcome = fetch(&mut connection, post, format!("{n}-{turn}")).await;
                failures.extend(outcome.err().map(|error| format!("{protocol:?} {error}")));
            }
            failures
        });
    }
    tasks.join_all().await.concat()
}

async fn fetch(connection: &mut Connection, post: bool, nonce: String) -> Result<(), String> {
    let method = if post { Method::POST } else { Method::GET };
    let request = connection
        .request(method.clone(), &format!("/nonce/{nonce}"))
        .unwrap();
    let answer = connection.fetch(request.body(empty()).unwrap()).await;
    let answer = answer.map_err(|error| format!("{method} {nonce}: {error:?}"))?;
    if answer.status.as_u16() == 200 && answer.text() == nonce {
        return Ok(());
    }
    Err(format!(
        "{method} {nonce}: {} {}",
        answer.status,
        answer.text()
    ))
}

#[tokio::test]
async fn no_request_fails_when_the_ingress_ends_its_connections_all_the_time() {
    for way in [NGINX_1, NGINX_2] {
        let mut stack = Stack::start(way).await;
        restart(&mut stack, way, 20).await;
        let failures = burst(&stack, way, 200, 30).await;
        assert!(
            failures.is_empty(),
            "{way:?}: {} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        let lines = stack.ingress.seen().all();
        let last = lines
            .iter()
            .filter(|line| line["connection_requests"] == "20")
            .count();
        assert!(last > 50, "{way:?}: only {last} connections were ended");
    }
}

/// Kills nginx and starts it on the same address, with this many requests to a connection.
pub async fn restart(stack: &mut Stack, way: Way, keepalive_requests: usize) {
    stack.ingress.child().stop();
    let options = NginxOptions {
        http2: way.protocol != "http1",
        backend: Some(stack.echo.address()),
        listen: Some(stack.ingress.address()),
        keepalive_requests,
        ..NginxOptions::default()
    };
    let folder = stack.folder().join(format!("nginx-{keepalive_requests}"));
    let again = Nginx::start(&folder, &stack.credentials, &options)
        .await
        .unwrap();
    stack.ingress = Ingress::Nginx(again);
    // The health check has to find it.
    let up =
        postern_loadtests::stack::Deadline::after(postern_loadtests::stack::client::STEP_TIMEOUT);
    let answered = up.poll(async || {
        let answer = stack.connect(Protocol::Http2).await.get("/nonce/up").await;
        answer.ok().filter(|answer| answer.status.as_u16() == 200)
    });
    answered.await.unwrap();
}

#[tokio::test]
async fn connections_that_went_stale_in_the_pool_cost_no_request() {
    for way in [NGINX_1, NGINX_2] {
        let mut stack = Stack::start(way).await;
        let failures = burst(&stack, way, 40, 3).await;
        assert!(failures.is_empty(), "{way:?} {failures:?}");
        for _ in 0..5 {
            nginx(&mut stack.ingress).reload().unwrap();
            let failures = burst(&stack, way, 40, 3).await;
            assert!(failures.is_empty(), "{way:?} {failures:?}");
        }
        restart(&mut stack, way, 1000).await;
        let failures = burst(&stack, way, 40, 3).await;
        assert!(failures.is_empty(), "{way:?} {failures:?}");
    }
}

/// Puts another ingress where the first was, and gives what a request then gets.
async fn impostor(identity: impl FnOnce(&Front) -> std::path::PathBuf) -> (Played, u16, String) {
    let mut stack = Played::start().await;
    let folder = identity(&stack);
    let address = stack.ingress.address();
    let free = Scripted::listen(&stack.credentials, &stack.credentials.ingress, &[])
        .await
        .unwrap();
    std::mem::replace(&mut stack.ingress, free).stop().await;
    stack.ingress = Scripted::listen_on(address, &stack.credentials, &folder, &["http/1.1"])
        .await
        .unwrap();
    let mut connection = stack.connect(Protocol::Http2).await;
    let request = connection.request(Method::POST, "/secret").unwrap();
    let answer = connection
        .fetch(request.body(full("secret")).unwrap())
        .await
        .unwrap();
    (
        stack,
        answer.status.as_u16(),
        answer.json()["code"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn an_ingress_with_a_certificate_of_another_authority_or_name_gets_no_byte() {
    let other_authority = |front: &Front| {
        let folder = front.folder().join("other-authority");
        let ca = DevCa::new("another authority").unwrap();
        ca.server(&[INGRESS_NAME])
            .unwrap()
            .write_to(&folder)
            .unwrap();
        folder
    };
    let other_name = |front: &Front| {
        let folder = front.folder().join("other-name");
        let leaf = front
            .credentials
            .internal
            .server(&["z2-weu-aks.internal.example"])
            .unwrap();
        leaf.write_to(&folder).unwrap();
        folder
    };
    let public_authority = |front: &Front| {
        let folder = front.folder().join("public-authority");
        let leaf = front.credentials.public.server(&[INGRESS_NAME]).unwrap();
        leaf.write_to(&folder).unwrap();
        folder
    };
    for (stack, status, code) in [
        impostor(other_authority).await,
        impostor(other_name).await,
        impostor(public_authority).await,
    ] {
        assert_eq!((status, code.as_str()), (502, "upstream_connect"));
        assert_eq!(stack.ingress.spoken_to(), 0);
        let expected = json!({ "status": 502, "refusal": "upstream_connect", "blame": "upstream" });
        stack.told("/secret", &expected).await;
        let refusals = stack
            .metrics()
            .await
            .sum("postern_refusals_total", &[("reason", "upstream_connect")]);
        assert!(refusals >= 1.0);
    }
}

#[tokio::test]
async fn an_ingress_that_is_not_there_is_a_502() {
    let mut stack = Played::start().await;
    let free = Scripted::listen(&stack.credentials, &stack.credentials.ingress, &[])
        .await
        .unwrap();
    std::mem::replace(&mut stack.ingress, free).stop().await;
    for protocol in Protocol::ALL {
        let path = format!("/absent/{}", protocol.label());
        let answer = stack.connect(protocol).await.get(&path).await.unwrap();
        assert_eq!(answer.status.as_u16(), 502);
        assert_eq!(answer.json()["code"], "upstream_connect");
        stack
            .told(
                &path,
                &json!({ "status": 502, "refusal": "upstream_connect" }),
            )
            .await;
    }
}

fn impatient(options: PosternOptions) -> PosternOptions {
    options
        .with("POSTERN_UPSTREAM__RESPONSE_TIMEOUT", "500ms")
        .with("POSTERN_UPSTREAM__CONNECT_TIMEOUT", "400ms")
}

#[tokio::test]
async fn an_ingress_that_stays_silent_is_a_504_and_loses_the_connection() {
    let mut stack = Played::with(Protocol::Http1, impatient).await;
    for protocol in Protocol::ALL {
        let path = format!("/silent/{}", protocol.label());
        let mut connection = stack.connect(protocol).await;
        let asked = path.clone();
        let answer = tokio::spawn(async move { connection.get(&asked).await.unwrap() });
        let mut ingress = stack.ingress.next().await.unwrap();
        ingress.head().await.unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status.as_u16(), 504);
        assert_eq!(answer.json()["code"], "upstream_timeout");
        let expected = json!({ "status": 504, "refusal": "upstream_timeout", "blame": "upstream" });
        stack.told(&path, &expected).await;
        // An answer that comes too late must not meet the next request.
        assert!(ingress.rest().await.is_ok_and(|rest| rest.is_empty()));
    }
    // Silent even before TLS.
    let free = Scripted::listen(&stack.credentials, &stack.credentials.ingress, &[])
        .await
        .unwrap();
    let address = std::mem::replace(&mut stack.ingress, free).stop().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let answer = stack
        .connect(Protocol::Http2)
        .await
        .get("/deaf")
        .await
        .unwrap();
    assert_eq!(answer.status.as_u16(), 504);
    drop(listener);
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_contradicts_itself_is_a_502() {
    let mut stack = Played::start().await;
    for (n, bytes) in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/garbage/{n}");
        let mut connection = stack.connect(Protocol::Http1).await;
        let asked = path.clone();
        let answer = tokio::spawn(async move { connection.get(&asked).await.unwrap() });
        let mut ingress = stack.ingress.next().await.unwrap();
        ingress.head().await.unwrap();
        ingress.send(bytes).await.unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status.as_u16(), 502, "{bytes:?}");
        stack
            .told(
                &path,
                &json!({ "status": 502, "refusal": "upstream_broke" }),
            )
            .await;
    }
}

#[tokio::test]
async fn an_answer_in_chunks_that_also_has_a_length_passes_without_the_length() {
    let mut stack = Played::start().await;
    for protocol in Protocol::ALL {
        let mut connection = stack.connect(protocol).await;
        let answer = tokio::spawn(async move {
            let first = connection.get("/both").await;
            (first, connection.is_closed())
        });
        let mut ingress = stack.ingress.next().await.unwrap();
        ingress.head().await.unwrap();
        ingress
            .send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
            .await
            .unwrap();
        match answer.await.unwrap() {
            (Ok(answer), _) => match answer.status.as_u16() {
                200 => assert_eq!(answer.text(), "abcde", "{protocol:?}"),
                status => assert_eq!(status, 502, "{protocol:?}"),
            },
            (Err(error), _) => panic!("{protocol:?} {error:?}"),
        }
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_become_the_answer_to_somebody_else() {
    let mut stack = Played::start().await;
    let mut connection = stack.connect(Protocol::Http1).await;
    let client = tokio::spawn(async move {
        let first = connection.get("/first").await.unwrap();
        let second = connection.get("/second").await.unwrap();
        (first.text(), second.text())
    });
    let mut ingress = stack.ingress.next().await.unwrap();
    ingress.head().await.unwrap();
    ingress
        .send(format!(
            "{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        ))
        .await
        .unwrap();
    let mut ingress = stack.ingress.next().await.unwrap();
    assert_eq!(ingress.head().await.unwrap().target(), "/second");
    ingress.send(OK).await.unwrap();
    assert_eq!(client.await.unwrap(), ("ok".into(), "ok".into()));
}

#[tokio::test]
async fn a_connection_with_an_unfinished_upload_serves_nobody_else() {
    let stack = Arc::new(Direct::start(Protocol::Http1).await);
    let mut wire = stack.wire().await;
    // An early answer, and a body whose end never comes (pingora's CVE-2025-4366).
    wire.send(format!("POST /status/413 HTTP/1.1\r\nHost: {HOST_A}\r\nContent-Length: 1000\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await
        .unwrap();
    assert_eq!(wire.answer().await.unwrap().head.status(), 413);
    for n in 0..10 {
        let mut connection = stack.connect(Protocol::ALL[n % 2]).await;
        let path = format!("/after/{n}");
        let answer = connection.get(&path).await.unwrap();
        assert_eq!(answer.json()["uri"], path, "{}", answer.text());
    }
    assert!(
        !stack
            .echo
            .seen()
            .iter()
            .any(|seen| seen.uri.contains("smuggled"))
    );
}
