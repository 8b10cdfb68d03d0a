//! Requests that two parsers could read in two ways: none of them reaches the ingress.

use std::path::PathBuf;
use std::process::Command;

use postern_loadtests::stack::accounts::HOST_A;
use postern_loadtests::stack::client::{Connection, Protocol};
use serde_json::{Value, json};

use crate::common::{Direct, grown};

/// What became of bytes that a client sent.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Answered with this status; the first one, if there were several.
    Answered(u16),
    /// Closed without an answer.
    Closed,
}

/// Sends `bytes` on a connection of their own and waits for the first answer, or until it is closed.
async fn send(stack: &Direct, bytes: &[u8]) -> Outcome {
    let mut wire = stack.wire().await;
    wire.send(bytes).await.unwrap();
    let Ok(head) = wire.head().await else {
        return Outcome::Closed;
    };
    if head.status() == 400 {
        // Cut or ended: closed, but not left open.
        let end = wire.rest().await;
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
    }
    Outcome::Answered(head.status())
}

/// Checks that `bytes` are refused, that the connection is closed and that the ingress saw nothing of them.
async fn refused(stack: &Direct, name: &str, bytes: &[u8]) {
    let before = stack.echo.seen().len();
    let outcome = send(stack, bytes).await;
    let shown = String::from_utf8_lossy(bytes);
    assert!(
        matches!(outcome, Outcome::Answered(400) | Outcome::Closed),
        "{name}: {outcome:?} to {shown:?}"
    );
    let seen = stack.echo.seen();
    assert_eq!(
        seen.len(),
        before,
        "{name}: {:?} saw {shown:?}",
        seen.last()
    );
}

/// Checks that `bytes` reach the ingress and are answered.
async fn served(stack: &Direct, name: &str, bytes: &[u8]) {
    let before = stack.echo.seen().len();
    let outcome = send(stack, bytes).await;
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(outcome, Outcome::Answered(200), "{name}: {shown:?}");
    assert_eq!(stack.echo.seen().len(), before + 1, "{name}: {shown:?}");
}

/// A smuggled request behind a head with these fields.
fn smuggling(version: &str, fields: &str) -> String {
    format!(
        "POST /front {version}\r\nHost: {HOST_A}\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_message_with_two_lengths_is_refused_and_its_connection_closed() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "transfer-encoding: chunked\r\nX-Between: x\r\ncontent-length: 0",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: 0x5",
            "Content-Length: 5 ",
            "Content-Length: -5",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: chunked;x=y",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding:\x0bchunked",
            "Transfer-Encoding: chunked\x00",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            " Transfer-Encoding: chunked",
            "Transfer-Encoding\r\n : chunked",
            "X: y\r\n Transfer-Encoding: chunked",
            "Transfer-Encoding:\r\n chunked",
            "X: y\nTransfer-Encoding: chunked",
            "X: y\rTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\n",
        ] {
            if fields == "Content-Length: 5 " {
                // Blank space around a value is no part of it (RFC 9110 section 5.5).
                continue;
            }
            refused(
                &stack,
                "two lengths",
                smuggling("HTTP/1.1", fields).as_bytes(),
            )
            .await;
        }
        let old = smuggling("HTTP/1.0", "Transfer-Encoding: chunked");
        refused(&stack, "HTTP/1.0 knows no transfer coding", old.as_bytes()).await;
        let old = smuggling(
            "HTTP/1.0",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        );
        refused(&stack, "HTTP/1.0 with both", old.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_doubtful_message_is_told_as_the_clients_fault() {
    let stack = Direct::start(Protocol::Http2).await;
    let before = stack.metrics().await;
    let both = smuggling(
        "HTTP/1.1",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
    );
    assert_eq!(send(&stack, both.as_bytes()).await, Outcome::Answered(400));
    let expected = json!({ "status": 400, "refusal": "bad_request", "blame": "client" });
    stack.told("/front", &expected).await;
    let after = stack.metrics().await;
    let labels = [("reason", "bad_request"), ("blame", "client")];
    assert_eq!(grown(&before, &after, "postern_refusals_total", &labels), 1);
    assert_eq!(grown(&before, &after, "postern_requests_total", &[]), 1);
    assert!(stack.echo.seen().is_empty());
}

#[tokio::test]
async fn a_doubtful_message_behind_a_sound_one_is_refused_too() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        let sized =
            format!("POST /sound HTTP/1.1\r\nHost: {HOST_A}\r\nContent-Length: 3\r\n\r\nabc");
        let chunked = format!(
            "POST /sound HTTP/1.1\r\nHost: {HOST_A}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        for first in [sized, chunked] {
            for fields in [
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "Content-Length: 5\r\nContent-Length: 6",
            ] {
                let bytes = format!("{first}{}", smuggling("HTTP/1.1", fields));
                send(&stack, bytes.as_bytes()).await;
            }
        }
        let seen = stack.echo.seen();
        // Where hyper reads on by itself, behind a chunked body in the same read, it drops the length as
        // RFC 9112 section 6.3 says; what was smuggled in must not be a request in any case.
        assert!(
            seen.iter().all(|seen| seen.uri != "/smuggled"),
            "{upstream:?} {seen:#?}"
        );
        for front in seen.iter().filter(|seen| seen.uri == "/front") {
            assert!(front.header("content-length").is_empty(), "{front:?}");
        }
    }
}

#[tokio::test]
async fn chunks_that_are_no_chunks_end_the_exchange_at_the_ingress() {
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for (n, body) in [
            "5\r\nabc\r\n0\r\n\r\n",
            "-1\r\nabc\r\n0\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "3\nabc\n0\n\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
            "\r\nabc\r\n0\r\n\r\n",
            "3;a\nb\r\nabc\r\n0\r\n\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("/sink/chunks-{n}");
            let bytes = format!(
                "POST {path} HTTP/1.1\r\nHost: {HOST_A}\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nHost: {HOST_A}\r\n\r\n"
            );
            let outcome = send(&stack, bytes.as_bytes()).await;
            assert_ne!(outcome, Outcome::Answered(200), "{body:?}");
            let line = stack.told(&path, &json!({})).await;
            assert_ne!(line["blame"], "upstream", "{body:?} {line}");
            let seen = stack.echo.seen();
            assert!(seen.iter().all(|seen| seen.uri != "/smuggled"), "{body:?}");
            assert!(
                seen.iter().all(|seen| !(seen.uri == path && seen.complete)),
                "{body:?}"
            );
        }
    }
}

#[tokio::test]
async fn http2_fields_that_http_1_would_read_as_framing_are_refused() {
    // Each is a connection-specific field or holds what would be a line end (RFC 9113 section 8.2).
    for upstream in Protocol::ALL {
        let stack = Direct::start(upstream).await;
        for (name, value) in [
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("upgrade", "h2c"),
        ] {
            let outcome = http2_with(&stack, name, value).await;
            assert!(matches!(outcome, Err(_) | Ok(400)), "{name}: {outcome:?}");
        }
        assert!(stack.echo.seen().is_empty(), "{:?}", stack.echo.seen());
        // A length that the DATA frames contradict.
        let outcome = http2_with(&stack, "content-length", "5").await;
        assert!(outcome.is_err() || outcome == Ok(400), "{outcome:?}");
        let seen = stack.echo.seen();
        assert!(seen.iter().all(|seen| !seen.complete), "{seen:?}");
    }
}

/// A GET over HTTP/2 with this field, which the library would not let through on a request.
async fn http2_with(
    stack: &Direct,
    name: &'static str,
    value: &'static str,
) -> Result<u16, String> {
    let (client, driver) = h2::client::handshake(stack.secure(Protocol::Http2).await)
        .await
        .unwrap();
    let driver = tokio::spawn(driver);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get(format!("https://{HOST_A}/front"))
        .header(name, value)
        .body(())
        .unwrap();
    let outcome = match client.send_request(request, true) {
        Ok((response, _)) => response.await.map(|head| head.status().as_u16()),
        Err(error) => Err(error),
    };
    driver.abort();
    outcome.map_err(|error| error.to_string())
}

/// The cases of the package `http_desync_guardian`, wherever cargo keeps it.
fn cases() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|package| package["name"] == "http_desync_guardian")
        .unwrap();
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
    let folder = manifest.parent().unwrap().join("tests");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    let cases = files.iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        serde_yaml::from_str::<Vec<Value>>(&text).unwrap()
    });
    cases.collect()
}

/// The case as bytes; its texts hold one byte in each character.
fn bytes(case: &Value) -> Vec<u8> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let headers = case["headers"].as_array().cloned().unwrap_or_default();
    let mut lines = vec![format!(
        "{} {} {}",
        text(&case["method"]),
        text(&case["uri"]),
        text(&case["version"])
    )];
    let has_host = headers
        .iter()
        .any(|field| text(&field["name"]).eq_ignore_ascii_case("host"));
    if !has_host {
        lines.push(format!("Host: {HOST_A}"));
    }
    lines.extend(headers.iter().map(|field| match &field["value"] {
        Value::Null => format!("{}: ", text(&field["name"])),
        value => format!("{}: {}", text(&field["name"]), text(value)),
    }));
    let head = lines.join("\r\n") + "\r\n\r\n";
    head.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
        .collect()
}

#[tokio::test]
async fn no_severe_case_of_the_desync_guardian_reaches_the_ingress() {
    let stack = Direct::start(Protocol::Http1).await;
    let cases = cases();
    let severe: Vec<_> = cases
        .iter()
        .filter(|case| case["expected"]["tier"] == "Severe")
        .collect();
    assert!(severe.len() >= 58, "{} of {}", severe.len(), cases.len());
    for case in severe {
        refused(&stack, &case["name"].to_string(), &bytes(case)).await;
    }
}

#[tokio::test]
async fn compliant_cases_of_the_desync_guardian_are_served() {
    let stack = Direct::start(Protocol::Http1).await;
    for case in cases()
        .iter()
        .filter(|case| case["expected"]["tier"] == "Compliant")
    {
        let mut bytes = bytes(case);
        let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let coding = head
            .split_once("transfer-encoding:")
            .map(|(_, rest)| rest.lines().next());
        if let Some((_, rest)) = head.split_once("content-length:") {
            let length = rest
                .lines()
                .next()
                .and_then(|line| line.trim().parse().ok())
                .unwrap_or(0);
            bytes.extend(vec![b'x'; length]);
        } else if coding.is_some() {
            bytes.extend(b"0\r\n\r\n");
        }
        let name = case["name"].to_string();
        match coding.flatten().map(str::trim) {
            // A target may not be empty (RFC 9112 section 3.2).
            _ if case["uri"] == "" => refused(&stack, &name, &bytes).await,
            None | Some("chunked") => served(&stack, &name, &bytes).await,
            // Compliant, but a coding that we could not pass on.
            Some(_) => refused(&stack, &name, &bytes).await,
        }
    }
}

#[tokio::test]
async fn after_a_refused_message_another_client_is_served_as_before() {
    let stack = Direct::start(Protocol::Http1).await;
    let mut other: Connection = stack.connect(Protocol::Http1).await;
    other.get("/before").await.unwrap();
    let both = smuggling(
        "HTTP/1.1",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
    );
    send(&stack, both.as_bytes()).await;
    let answer = other.get("/after").await.unwrap();
    assert_eq!(answer.json()["uri"], "/after");
}
