//! The upgrade: a new process takes over, and no client notices; or it does not, and nobody notices either.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::channel::Channel;
use postern_loadtests::prove::traffic::{Targets, Traffic};
use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::{Connection, Protocol, empty, streaming};
use postern_loadtests::stack::local::LocalOptions;
use postern_loadtests::stack::{Deadline, binary, free_address};
use rustix::process::Signal;

use crate::scene::{SOON, Scene, says_back, until, with};

const PATIENT: [(&str, &str); 2] = [
    ("POSTERN_DRAIN__IDLE_GRACE", "1s"),
    ("POSTERN_DRAIN__TIMEOUT", "1m"),
];

/// Waits for the new process to have taken over.
async fn upgrade(scene: &mut Scene) -> u32 {
    let upgraded = scene.stack.postern.upgrade().await;
    upgraded.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for the upgrade to be refused, which has to leave no process and no client worse off.
async fn refused(scene: &mut Scene) -> String {
    let mut open = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let counted = ("postern_process_upgrades_total", [("outcome", "refused")]);
    let before = scene.metric(counted.0, &counted.1).await;
    let reason = scene.stack.postern.upgrade_refused().await;
    let reason = reason.unwrap_or_else(|error| panic!("{error}"));
    assert!(scene.metric_is(counted.0, &counted.1, before + 1.0).await);
    assert_eq!(open.get("/nonce/open").await.unwrap().status, 200);
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/new").await, 200);
    let health = scene.stack.postern.probe_answer("/healthz").await.unwrap();
    assert_eq!(health.status, 200);
    reason
}

/// A stack whose program is a link.
async fn linked(variables: &[(&str, &str)]) -> (Scene, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("postern");
    symlink(binary("postern").unwrap(), &link).unwrap();
    let options = LocalOptions {
        program: Some(link.clone()),
        ..with(variables)
    };
    (Scene::with(&options).await, link, folder)
}

/// Has the link point to a script from now on.
fn replace(link: &Path, script: &str) {
    let file = link.with_extension("script");
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(link).unwrap();
    symlink(file, link).unwrap();
}

/// Changes the configuration on disk.
fn configure(scene: &Scene, from: &str, to: &str) {
    let path = scene.stack.postern.config();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn is_running(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()
}

#[tokio::test]
async fn what_is_open_ends_at_the_old_process_and_what_is_new_begins_at_the_new_one() {
    let mut scene = Scene::start(&PATIENT).await;
    let mut idle = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    assert_eq!(idle.get("/nonce/first").await.unwrap().status, 200);
    let mut h2 = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let mut sharing = h2.share().unwrap();
    let upload = tokio::spawn(async move {
        let request = sharing.request(Method::POST, "/sink").unwrap();
        sharing.fetch(request.body(streaming(body)).unwrap()).await
    });
    sender
        .send_data(Bytes::from_static(b"first"))
        .await
        .unwrap();
    let (mut socket, _carrier) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    let mut probe = Connection::plain(scene.stack.postern.probe())
        .await
        .unwrap();
    assert_eq!(probe.get("/healthz").await.unwrap().status, 200);
    let first = scene.stack.postern.pid();

    let second = upgrade(&mut scene).await;
    assert_ne!(first, second);
    assert_eq!(
        scene.said("upgrade: starting the new process").await["pid"],
        second
    );
    let listening = |line: &serde_json::Value| line["message"] == "listening";
    let log = scene.stack.postern.operational_log();
    let listening: Vec<_> = log.all().into_iter().filter(listening).collect();
    assert_eq!(listening.len(), 2);
    assert_eq!(
        (&listening[0]["taken_over"], &listening[1]["taken_over"]),
        (&false.into(), &true.into())
    );

    // The new process answers, and says what the old one has left: upload, WebSocket, and who was about to ask.
    let outcome = [("outcome", "taken_over")];
    assert!(
        scene
            .metric_is("postern_process_upgrades_total", &outcome, 1.0)
            .await
    );
    scene
        .counted("postern_previous_process_connections", &[], 2.0)
        .await;
    assert!(
        scene
            .metric_is("postern_connections_accepted_total", &[], 0.0)
            .await
    );
    for protocol in Protocol::ALL {
        let mut new = scene.connect(LINK_A, HOST_A, protocol).await;
        assert_eq!(new.get("/nonce/new").await.unwrap().status, 200);
    }
    assert!(
        scene
            .metric_is("postern_connections_accepted_total", &[], 2.0)
            .await
    );
    let health = scene.stack.postern.probe_answer("/healthz").await.unwrap();
    assert_eq!(health.status, 200);
    until("the end of the old probe's connection", async || {
        probe.is_closed()
    })
    .await;

    let last = idle.get("/nonce/last").await.unwrap();
    assert_eq!(
        (last.status.as_u16(), last.header("connection")),
        (200, "close")
    );
    until("GOAWAY", async || h2.get("/nonce/late").await.is_err()).await;
    assert!(says_back(&mut socket, "still here").await);
    sender.send_data(Bytes::from_static(b"rest")).await.unwrap();
    drop(sender);
    assert_eq!(upload.await.unwrap().unwrap().json()["bytes"], 9);
    socket.close(None).await.unwrap();
    drop(socket);
    scene.stack.postern.previous_ended(SOON).await.unwrap();
    scene.said("upgrade: the previous process has ended").await;
    assert!(
        scene
            .metric_is("postern_previous_process_connections", &[], 0.0)
            .await
    );

    scene.stack.postern.signal(Signal::TERM).unwrap();
    let status = scene.stack.postern.ended(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{status:?}");
}

#[tokio::test]
async fn nothing_fails_under_traffic_of_every_kind() {
    let mut scene = Scene::start(&PATIENT).await;
    let tls = scene.stack.tls().unwrap();
    let traffic = Traffic::start(Targets::new(vec![scene.stack.postern.data()], tls));
    let done = |traffic: &Traffic| traffic.so_far().sum(|count| count.done);
    let mut pids = Vec::new();
    for _ in 0..3 {
        let before = done(&traffic);
        until("traffic", async || done(&traffic) > before + 50).await;
        // Right after the one before, which may drain still.
        pids.push(upgrade(&mut scene).await);
    }
    let before = done(&traffic);
    until("traffic", async || done(&traffic) > before + 50).await;
    let tally = traffic.stop().await;
    assert_eq!(tally.lost(), [""; 0]);
    pids.dedup();
    assert_eq!(pids.len(), 3);
    scene
        .stack
        .postern
        .previous_ended(Duration::from_secs(30))
        .await
        .unwrap();
}

#[tokio::test]
async fn more_and_fewer_workers_accept_on_every_socket() {
    let options = LocalOptions {
        top_level: "workers = 3".to_owned(),
        ..with(&PATIENT)
    };
    let mut scene = Scene::with(&options).await;
    for (from, to) in [("3", "1"), ("1", "40"), ("40", "2")] {
        configure(
            &scene,
            &format!("workers = {from}"),
            &format!("workers = {to}"),
        );
        upgrade(&mut scene).await;
        scene.stack.postern.previous_ended(SOON).await.unwrap();
        // The kernel chooses one of the sockets for each.
        for number in 0..80 {
            let path = format!("/nonce/{to}-{number}");
            assert_eq!(scene.status(LINK_A, HOST_A, &path).await, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_listener_that_moved_is_bound_anew_and_its_connections_are_kept_alive_as_configured() {
    let mut scene = Scene::start(&PATIENT).await;
    let mut open = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let (old, new) = (scene.stack.postern.data(), free_address().unwrap());
    let listen = |address| format!("listen = \"{address}\"");
    configure(
        &scene,
        &listen(old),
        &format!("{}\ntcp_keepalive = \"77s\"", listen(new)),
    );
    upgrade(&mut scene).await;
    let tls = scene.stack.tls().unwrap();
    let header = postern_loadtests::proxy_v2::Header::link(LINK_A);
    let mut moved = tls
        .connect(new, &header, HOST_A, Protocol::Http1)
        .await
        .unwrap();
    assert_eq!(moved.get("/nonce/moved").await.unwrap().status, 200);
    assert_eq!(open.get("/nonce/open").await.unwrap().status, 200);
    until("nobody at the old address", async || {
        !postern_loadtests::stack::accepts(old).await
    })
    .await;
}

#[tokio::test]
async fn a_program_that_ends_at_once_or_never_says_a_word_is_refused() {
    let (mut scene, link, _folder) = linked(&[("POSTERN_UPGRADE__TIMEOUT", "5s")]).await;
    replace(&link, "exit 7");
    assert_eq!(refused(&mut scene).await, "it ended with exit status: 7");
    replace(&link, "exec sleep 600");
    assert_eq!(refused(&mut scene).await, "it was not ready within 5s");
    std::fs::remove_file(&link).unwrap();
    let reason = refused(&mut scene).await;
    assert!(reason.contains("cannot be started"), "{reason}");
    let log = scene.stack.postern.operational_log().all();
    let started = log
        .iter()
        .filter(|line| line["message"] == "upgrade: starting the new process");
    let pids: Vec<_> = started.map(|line| line["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert!(!pids.iter().any(|pid| is_running(*pid)));
    // And then a good one.
    symlink(binary("postern").unwrap(), &link).unwrap();
    upgrade(&mut scene).await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/new").await, 200);
}

#[tokio::test]
async fn a_configuration_that_is_wrong_or_never_gets_ready_is_refused() {
    let mut scene = Scene::start(&[("POSTERN_UPGRADE__TIMEOUT", "4s")]).await;
    configure(&scene, "[probe]", "[probes]");
    assert_eq!(refused(&mut scene).await, "it ended with exit status: 2");
    configure(&scene, "[probes]", "[probe]");
    configure(&scene, "identity = \"", "identity = \"/nowhere");
    let reason = refused(&mut scene).await;
    assert!(
        reason.starts_with("it was not ready within 4s: waiting for"),
        "{reason}"
    );
    assert!(reason.contains("credentials"), "{reason}");
    configure(&scene, "identity = \"/nowhere", "identity = \"");
    upgrade(&mut scene).await;
}

#[tokio::test]
async fn one_upgrade_at_a_time_and_none_while_draining() {
    let (mut scene, link, _folder) = linked(&PATIENT).await;
    let (mut socket, _carrier) = scene.web_socket(LINK_A, HOST_A, Protocol::Http1).await;
    replace(&link, "exec sleep 600");
    scene.stack.postern.signal(Signal::USR2).unwrap();
    let new = scene.said("upgrade: starting the new process").await;
    assert_eq!(refused(&mut scene).await, "another upgrade is under way");
    let mut operator = Connection::plain(scene.stack.postern.admin())
        .await
        .unwrap();
    let request = operator.request(Method::POST, "/drain").unwrap();
    assert_eq!(
        operator
            .fetch(request.body(empty()).unwrap())
            .await
            .unwrap()
            .status,
        202
    );
    let pid = new["pid"].as_u64().unwrap();
    until("the end of the new process", async || !is_running(pid)).await;
    let refusals = || {
        let log = scene.stack.postern.operational_log().all().into_iter();
        let refusals =
            log.filter(|line| line["message"] == "upgrade: refused; this process goes on");
        refusals
            .filter_map(|line| line["reason"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    until("the refusal", async || refusals().len() == 2).await;
    assert_eq!(refusals()[1], "a drain has begun");
    assert_eq!(
        scene.stack.postern.upgrade_refused().await.unwrap(),
        "this process is draining"
    );
    assert!(says_back(&mut socket, "still here").await);
}

#[tokio::test]
async fn who_is_to_end_ends_with_the_process_that_was_to_take_over() {
    let (mut scene, link, _folder) = linked(&[]).await;
    replace(&link, "exec sleep 600");
    scene.stack.postern.signal(Signal::USR2).unwrap();
    let new = scene.said("upgrade: starting the new process").await;
    scene.stack.postern.signal(Signal::TERM).unwrap();
    let status = scene.stack.postern.ended(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{status:?}");
    let pid = new["pid"].as_u64().unwrap();
    let gone = async || (!is_running(pid)).then_some(());
    assert!(Deadline::after(SOON).poll(gone).await.is_some());
}
