//! What is not good changes nothing, and a drain is not disturbed.

use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::Protocol;
use postern_loadtests::stack::postern::Reloaded;
use rustix::process::Signal;

use super::{admin, comes_to, edit, in_force, other_ingress, reload, reloads, saw, takes_up};
use crate::scene::{SOON, Scene, until};

#[tokio::test]
async fn a_drain_keeps_to_what_was_reloaded_and_refuses_to_reload() {
    let mut scene = Scene::start(&[]).await;
    let mut busy = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    let cut = tokio::spawn(async move { busy.get("/slow/60000").await });
    scene.counted("postern_requests_in_flight", &[], 1.0).await;
    let drain = [("[access_log]", "[drain]\ntimeout = \"2s\"\n\n[access_log]")];
    takes_up(&mut scene, &drain, "drain.timeout").await;
    scene.stack.postern.signal(Signal::TERM).unwrap();
    let line = scene.said("drain: not accepting").await;
    let left = line["timeout_seconds"].as_f64();
    assert!(left.is_some_and(|left| left <= 2.0), "{line}");
    let refused = reload(&mut scene, &[("timeout = \"2s\"", "timeout = \"3s\"")]).await;
    assert_eq!(
        refused,
        Reloaded::Refused("this process is draining".into())
    );
    assert!(cut.await.unwrap().is_err());
    scene.stack.postern.ended(SOON).await.unwrap();
}

/// Edits beside a good one, what says why they are refused, and whether the file has a line that is at fault.
const REFUSED: &[(&str, &str, &[&str])] = &[
    (
        "[tls]\n",
        "[tls]\ntimeoutt = \"9s\"\n",
        &["postern.toml:", "unknown", "`timeout`"],
    ),
    ("[tls]\n", "[tls\n", &["postern.toml:"]),
    (
        "[tls]\n",
        "[tls]\ntimeout = \"0s\"\n",
        &["postern.toml:", "tls.timeout: must not be zero"],
    ),
    (
        "[data]\n",
        "workers = 7\n[data]\n",
        &["workers cannot change in a running process: SIGUSR2"],
    ),
    (
        "file = \"routes.toml\"",
        "file = \"other.toml\"",
        &["routes.file cannot change"],
    ),
    (
        "output = \"access.jsonl\"",
        "output = \"off\"",
        &["access_log.output cannot change"],
    ),
    ("/client\"", "/nowhere\"", &["nowhere"]),
    (
        "names = [\"*.dicom.example\"]",
        "names = [\"*.other.example\"]",
        &["*.other.example"],
    ),
    (
        "[tls]\n",
        "[tls]\nticket_keys = \"nowhere\"\n",
        &["nowhere"],
    ),
    (
        "clusters.dicom]",
        "clusters.dicomm]",
        &["there is no cluster `dicom`", "did you mean `dicomm`"],
    ),
];

#[tokio::test]
async fn what_is_not_good_changes_nothing_and_says_why() {
    let mut scene = Scene::start(&[]).await;
    let other = other_ingress(&scene).await;
    let [first, second] = [scene.stack.ingress.address(), other.address()]
        .map(|address| format!("endpoints = [\"{address}\"]"));
    let before = in_force(&scene).await;
    let loaded = scene.metric("postern_config_loaded_seconds", &[]).await;
    let good = scene.stack.postern.configuration().unwrap();
    for (number, (from, to, says)) in (1_u32..).zip(REFUSED) {
        // The good half beside it is not taken up either.
        let edits = [(&*first, &*second), (from, to)];
        let refused = reload(&mut scene, &edits).await;
        let Reloaded::Refused(why) = refused else {
            panic!("{to}: {refused:?}");
        };
        assert!(says.iter().all(|text| why.contains(text)), "{to}: {why}");
        assert_eq!(in_force(&scene).await, before);
        let path = format!("/nonce/{number}");
        assert_eq!(scene.status(LINK_A, HOST_A, &path).await, 200);
        comes_to(&scene.stack.ingress, &path).await;
        assert!(!saw(&other, &path), "{to}");
        assert!((reloads(&scene, "refused").await - f64::from(number)).abs() < 0.5);
        assert!(scene.metric_is("postern_reload_refused", &[], 1.0).await);
        let told = admin(&scene, "/config").await;
        let last = why.lines().last().unwrap();
        assert!(
            told.contains("was refused:") && told.contains(last),
            "{told}"
        );
        assert!(admin(&scene, "/").await.contains("The reload at"));
        scene.stack.postern.configure(&good).unwrap();
    }
    assert!(
        scene
            .metric_is("postern_config_loaded_seconds", &[], loaded)
            .await
    );
    assert_eq!(reload(&mut scene, &[]).await, Reloaded::Unchanged);
    assert!(scene.metric_is("postern_reload_refused", &[], 0.0).await);
    assert!(!admin(&scene, "/").await.contains("The reload at"));
    takes_up(
        &mut scene,
        &[(&first, &second)],
        "upstream.clusters.dicom.endpoints",
    )
    .await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/last").await, 200);
    comes_to(&other, "/nonce/last").await;
}

#[tokio::test]
async fn many_signals_at_once_end_with_the_last_file() {
    let scene = Scene::start(&[]).await;
    let mut last = "[tls]\n".to_owned();
    for seconds in 11..=40 {
        let next = format!("[tls]\ntimeout = \"{seconds}s\"\n");
        edit(&scene, &[(&last, &next)]);
        scene.stack.postern.signal(Signal::HUP).unwrap();
        last = next;
    }
    until("the last file", async || {
        in_force(&scene).await.contains("timeout = \"40s\"")
    })
    .await;
    assert!(scene.metric_is("postern_reload_refused", &[], 0.0).await);
}
