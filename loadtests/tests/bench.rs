//! `postern-load bench` against the real Postern: what it reports is what the ingress saw.

#![allow(
    clippy::unwrap_used,
    reason = "the stack's set-up is part of each test"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use postern_loadtests::bench::Report;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A, LINK_UNKNOWN};
use postern_loadtests::stack::child::READY_TIMEOUT;
use postern_loadtests::stack::local::{LocalOptions, LocalStack};
use postern_loadtests::stack::{Child, binary};
use tempfile::TempDir;

struct Scene {
    stack: LocalStack,
    folder: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stack = LocalStack::start(&folder.path().join("stack"), &LocalOptions::default())
            .await
            .unwrap();
        Self { stack, folder }
    }

    fn json(&self) -> PathBuf {
        self.folder.path().join("report.json")
    }

    fn spawn(&self, link_id: u32, arguments: &str) -> Child {
        let mut command = Command::new(binary("postern-load").unwrap());
        command
            .args(["bench", "--host", HOST_A, "--to"])
            .arg(self.stack.postern.data().to_string())
            .args(["--link-id", &link_id.to_string(), "--ca"])
            .arg(&self.stack.credentials.public_ca)
            .arg("--json")
            .arg(self.json())
            .args(arguments.split_whitespace());
        Child::spawn("bench", command, self.folder.path()).unwrap()
    }

    fn report(&self) -> Report {
        serde_json::from_str(&std::fs::read_to_string(self.json()).unwrap()).unwrap()
    }

    /// Exit code and report.
    async fn bench(&self, link_id: u32, arguments: &str) -> (Option<i32>, Report) {
        let mut child = self.spawn(link_id, arguments);
        let status = child.wait_for_exit(READY_TIMEOUT).await.unwrap();
        (status.code(), self.report())
    }

    /// How often the ingress was asked for `path`, waiting until it was often enough.
    async fn seen(&self, path: &str, at_least: usize) -> usize {
        let count = || {
            let lines = self.stack.ingress.seen().all();
            lines.iter().filter(|line| line["uri"] == path).count()
        };
        self.stack
            .ingress
            .saw(path, |_| count() >= at_least)
            .await
            .unwrap();
        count()
    }
}

#[tokio::test]
async fn every_answer_that_is_reported_was_asked_of_the_ingress_over_both_protocols() {
    let scene = Scene::start().await;
    for (path, more) in [
        ("/nonce/h1", "--protocol h1 --connections 3"),
        ("/nonce/h2", "--protocol h2 --connections 2 --streams 4"),
    ] {
        let arguments = format!("{more} --requests 100 --path {path}");
        let (code, report) = scene.bench(LINK_A, &arguments).await;
        assert_eq!((code, report.answers), (Some(0), 100), "{report:?}");
        assert_eq!(report.bytes_received, 200, "{report:?}");
        assert_eq!(scene.seen(path, 100).await, 100);
        let latency = report.latency_us;
        assert!(
            0.0 < latency.min && latency.min <= latency.p50,
            "{report:?}"
        );
        assert!(
            latency.p50 <= latency.p99 && latency.p99 <= latency.max,
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_for_each_request_has_a_full_or_a_resumed_handshake_as_asked() {
    let scene = Scene::start().await;
    let common = "--connections 2 --requests 20 --path /nonce/x --handshake";
    let (_, full) = scene.bench(LINK_A, &format!("{common} full")).await;
    assert_eq!(
        (full.answers, full.handshakes, full.handshakes_resumed),
        (20, 20, 0)
    );
    let (_, resumed) = scene.bench(LINK_A, &format!("{common} resumed")).await;
    assert_eq!((resumed.answers, resumed.handshakes), (20, 20));
    // All but the first of each worker.
    assert_eq!(resumed.handshakes_resumed, 18, "{resumed:?}");
}

#[tokio::test]
async fn bodies_are_sent_and_counted() {
    let scene = Scene::start().await;
    let arguments = "--method POST --upload 200000 --requests 4 --connections 2 --path /sink";
    let (code, report) = scene.bench(LINK_A, arguments).await;
    assert_eq!((code, report.bytes_sent), (Some(0), 800_000), "{report:?}");
    let (code, report) = scene
        .bench(LINK_A, "--requests 2 --connections 1 --path /bytes/1048576")
        .await;
    assert_eq!(
        (code, report.bytes_received),
        (Some(0), 2 * 1_048_576),
        "{report:?}"
    );
}

#[tokio::test]
async fn refusals_are_counted_by_status_and_fail_the_run() {
    let scene = Scene::start().await;
    let (code, report) = scene
        .bench(LINK_UNKNOWN, "--requests 5 --connections 1")
        .await;
    assert_eq!((code, report.answers), (Some(1), 0), "{report:?}");
    assert_eq!(report.errors.get("status_403"), Some(&5), "{report:?}");
}

#[tokio::test]
async fn with_a_rate_as_many_requests_are_sent_as_fall_due() {
    let scene = Scene::start().await;
    let arguments = "--rate 100 --seconds 0.5 --connections 4 --path /nonce/rate";
    let (code, report) = scene.bench(LINK_A, arguments).await;
    assert_eq!((code, report.answers), (Some(0), 50), "{report:?}");
    assert_eq!(scene.seen("/nonce/rate", 50).await, 50);
}

#[tokio::test]
async fn idle_connections_are_held_until_the_end() {
    let scene = Scene::start().await;
    let mut child = scene.spawn(LINK_A, "--idle 30 --path /nonce/idle");
    let file = scene.json();
    child
        .wait_until("30 connections", READY_TIMEOUT, async || file.exists())
        .await
        .unwrap();
    let report = scene.report();
    assert_eq!((report.answers, report.handshakes), (30, 30), "{report:?}");
    let open = async || {
        let metrics = scene.stack.postern.metrics().await.unwrap();
        metrics.sum("postern_connections_open", &[])
    };
    assert!(open().await >= 30.0);
    drop(child);
    let closed = postern_loadtests::stack::Deadline::after(Duration::from_secs(30))
        .poll(async || (open().await < 1.0).then_some(()))
        .await;
    assert!(closed.is_some());
}

#[tokio::test]
async fn options_that_make_no_sense_end_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("postern-load").unwrap());
    command.args("bench --to 127.0.0.1:1 --ca none.crt --host a --streams 2".split(' '));
    let mut child = Child::spawn("bench", command, folder.path()).unwrap();
    let status = child.wait_for_exit(READY_TIMEOUT).await.unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(
        child.tail().contains("HTTP/1.1 has no streams"),
        "{}",
        child.tail()
    );
}
