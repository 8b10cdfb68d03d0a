//! `postern run` with a configuration that is wrong: refused in words before anything is bound.

use std::path::Path;
use std::process::{Command, Output};

use postern_loadtests::stack::{accepts, binary};

use crate::scene::Scene;

async fn run(config: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary("postern").unwrap());
    command
        .arg("run")
        .arg("-c")
        .arg(config)
        .envs(variables.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// The configuration of a running Postern, on another free port, with `from` replaced by `to`.
fn changed(scene: &Scene, from: &str, to: &str) -> std::path::PathBuf {
    let mut text = std::fs::read_to_string(scene.stack.postern.config()).unwrap();
    for address in [
        scene.stack.postern.data(),
        scene.stack.postern.probe(),
        scene.stack.postern.admin(),
    ] {
        let free = postern_loadtests::stack::free_address().unwrap();
        text = text.replace(&address.to_string(), &free.to_string());
    }
    assert!(text.contains(from), "{text}");
    let path = scene.folder.path().join("postern/changed.toml");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    path
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_place() {
    let scene = Scene::start(&[]).await;
    for (from, to, reasons) in [
        (
            "trusted_sources",
            "trusted_source",
            &["changed.toml:", "trusted_sources"][..],
        ),
        ("[probe]", "[probes]", &["changed.toml:", "probe"]),
        (
            "protocol = \"auto\"",
            "protocol = \"h3\"",
            &["changed.toml:", "h3"],
        ),
        ("[data]", "[data", &["changed.toml:"]),
        (
            "file = \"routes.toml\"",
            "file = \"elsewhere.toml\"",
            &["elsewhere.toml"],
        ),
        (
            "127.0.0.1/32\"]",
            "127.0.0.1/33\"]",
            &["changed.toml:", "invalid IP address"],
        ),
    ] {
        let output = run(&changed(&scene, from, to), &[]).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2), "{from}: {error}");
        for reason in reasons {
            assert!(error.contains(reason), "{from}: {error}");
        }
        assert!(!error.contains("listening"), "{from}: {error}");
    }
    let output = run(
        &changed(&scene, "[data]", "[data]"),
        &[("POSTERN_DATA__LISTENN", "1.2.3.4:1")],
    )
    .await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("POSTERN_DATA__LISTENN") && error.contains("POSTERN_DATA__LISTEN`"),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_in_use_is_named_and_nothing_else_is_left_bound() {
    let scene = Scene::start(&[]).await;
    for (key, variable, address) in [
        (
            "data.listen",
            "POSTERN_DATA__LISTEN",
            scene.stack.postern.data(),
        ),
        (
            "probe.listen",
            "POSTERN_PROBE__LISTEN",
            scene.stack.postern.probe(),
        ),
        (
            "admin.listen",
            "POSTERN_ADMIN__LISTEN",
            scene.stack.postern.admin(),
        ),
    ] {
        let config = changed(&scene, "[data]", "[data]");
        let output = run(&config, &[(variable, &address.to_string())]).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(
            error.contains(key) && error.contains(&address.to_string()),
            "{error}"
        );
    }
    // Whoever was there first still serves.
    assert!(accepts(scene.stack.postern.data()).await);
    assert_eq!(
        scene
            .stack
            .postern
            .probe_answer("/healthz")
            .await
            .unwrap()
            .status,
        200
    );
}
