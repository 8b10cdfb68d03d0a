//! No request ever gets another one's answer: each carries a nonce, and its answer must carry the same.
//!
//! A proxy that pools connections to the ingress mixes answers up when it loses count of what is in flight:
//! after a cancelled request, an early answer, a connection closed by the ingress (nginx ends each one after
//! 1000 requests). So this runs over both protocols on both sides, one after the other and all at once.

use std::path::Path;

use http::{Method, StatusCode};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect, with_causes};
use crate::say;
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::client::{Connection, Protocol, full};
use crate::stack::local::{LocalOptions, LocalStack};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "nonces",
    promise: "Every answer belongs to its own request, over HTTP/1.1 and HTTP/2 on either side.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

const SEQUENTIAL: usize = 10_000;
const SEQUENTIAL_QUICK: usize = 500;
const CONCURRENT: usize = 200;
// Limit: concurrent streams on one HTTP/2 connection, below the 128 that Postern allows.
const STREAMS: usize = 100;

async fn prove(run: Run) -> Result<Proof, Broken> {
    let mut proof = Proof::default();
    let sequential = if run.quick {
        SEQUENTIAL_QUICK
    } else {
        SEQUENTIAL
    };
    let mut requests = 0;
    for (ingress, label) in [("http1", "h1"), ("h2", "h2")] {
        let stack = start(&run.folder.join(label), ingress).await?;
        for protocol in Protocol::ALL {
            let way = format!("client {}, ingress {label}", protocol.label());
            let outcome = in_sequence(&stack, protocol, sequential).await;
            requests += sequential;
            proof.row(&format!("{way}, {sequential} one after the other"), outcome);
            let findings = at_once(&stack, protocol).await?;
            requests += CONCURRENT;
            say(&format!(
                "  {way}, {CONCURRENT} at once: {} broken",
                findings.len()
            ));
            for finding in findings {
                proof.broken(&format!("{way}: {finding}"));
            }
        }
        let protocol = if label == "h2" {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        };
        let lines = stack.ingress.seen().all();
        let other = lines
            .iter()
            .filter(|line| line["protocol"] != protocol)
            .count();
        if other > 0 || lines.is_empty() {
            proof.broken(&format!(
                "{other} of {} requests came over another protocol than {label}",
                lines.len()
            ));
        }
    }
    proof.figure("requests", requests);
    Ok(proof)
}

async fn start(folder: &Path, ingress_protocol: &'static str) -> Result<LocalStack, Broken> {
    let options = LocalOptions {
        ingress_http2: ingress_protocol == "h2",
        ingress_protocol,
        ..LocalOptions::default()
    };
    Ok(LocalStack::start(folder, &options).await?)
}

/// The ingress answers these itself. Ends at the first answer that is not as it should be.
async fn in_sequence(
    stack: &LocalStack,
    protocol: Protocol,
    count: usize,
) -> Result<String, Broken> {
    let mut connection = stack.connect(LINK_A, HOST_A, protocol).await?;
    for index in 0..count {
        let nonce = Uuid::new_v4().to_string();
        let answer = connection.get(&format!("/nonce/{nonce}")).await?;
        expect(
            answer.status == StatusCode::OK && answer.text() == nonce,
            || format!("request {index}: sent {nonce}, got {}", answer.summary()),
        )?;
    }
    Ok("each answer with its own nonce".to_owned())
}

/// The back end answers these, with the path and the body it got. Returns what was wrong.
async fn at_once(stack: &LocalStack, protocol: Protocol) -> Result<Vec<String>, Broken> {
    let mut connections = Vec::with_capacity(CONCURRENT);
    while connections.len() < CONCURRENT {
        let first = stack.connect(LINK_A, HOST_A, protocol).await?;
        for _ in 1..STREAMS {
            connections.extend(first.share());
        }
        connections.push(first);
    }
    connections.truncate(CONCURRENT);
    let mut tasks: JoinSet<_> = connections.into_iter().map(exchange).collect();
    let mut findings = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => findings.push(with_causes(&error)),
            Err(error) => findings.push(error.to_string()),
        }
    }
    Ok(findings)
}

async fn exchange(mut connection: Connection) -> Result<(), Broken> {
    let nonce = Uuid::new_v4().to_string();
    let path = format!("/concurrent/{nonce}");
    let request = connection
        .request(Method::POST, &path)?
        .body(full(nonce.clone()))?;
    let answer = connection.fetch(request).await?;
    let content = answer.json();
    expect(content["uri"] == path && content["body"] == nonce, || {
        format!("sent {nonce}, got {}", answer.summary())
    })
}
