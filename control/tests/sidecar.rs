//! The command as its user meets it: output, exit codes, signals, and certificates from a vault on the disk.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use postern_certs::Store;
use postern_certs::dev_ca::DevCa;
use postern_control::testing::key_vault::{Faults, KeyVault, NewVersion};
use serde_json::Value;
use tempfile::TempDir;

fn control(arguments: &[&str], env: &[(&'static str, String)]) -> Output {
    command(arguments, env).output().unwrap()
}

fn command(arguments: &[&str], env: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-control"));
    command
        .args(arguments)
        .env_clear()
        .envs(env.iter().cloned());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// A vault with a certificate, and a configuration that publishes it.
struct Scene {
    runtime: tokio::runtime::Runtime,
    vault: KeyVault,
    folder: TempDir,
    config: String,
}

impl Scene {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let vault = runtime.block_on(KeyVault::start()).unwrap();
        vault.know_ca("public", DevCa::new("Public CA").unwrap());
        let version = NewVersion::server("public", &["*.dicom.example"]);
        vault.add("private", &version).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), vault.ca_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        let config = format!(
            r#"
            [identities.machine]
            kind = "managed"
            [vaults.main]
            url = "{}"
            identity = "machine"
            ca = "ca.pem"
            verify_challenge = false
            pace = "0s"
            [certificates.private]
            kind = "server"
            vault = "main"
            name = "private"
            store = "private"
            names = ["*.dicom.example"]
            [rest]
            start_spread = "0s"
            [admin]
            listen = "{admin}"
            "#,
            vault.url()
        );
        let path = folder.path().join("control.toml");
        std::fs::write(&path, config).unwrap();
        Self {
            runtime,
            vault,
            config: path.to_str().unwrap().to_owned(),
            folder,
        }
    }

    fn generation(&self) -> u64 {
        let store = Store::open(self.folder.path().join("private")).unwrap();
        store.current().map_or(0, |manifest| manifest.generation)
    }

    fn once(&self) -> Output {
        let arguments = ["sidecar", "--config", &self.config, "--once"];
        control(&arguments, &self.vault.identity().environment())
    }
}

#[test]
fn the_checked_in_defaults_are_what_is_printed() {
    let output = control(&["defaults"], &[]);
    let checked_in = std::fs::read_to_string(deployed("postern-control.default.toml")).unwrap();
    assert_eq!(
        text(&output.stdout),
        checked_in,
        "run: postern-control defaults > deploy/postern-control.default.toml"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_checked_in_metrics_are_what_is_printed() {
    let output = control(&["metrics"], &[]);
    let checked_in = std::fs::read_to_string(deployed("METRICS-control.md")).unwrap();
    assert_eq!(
        text(&output.stdout),
        checked_in,
        "run: postern-control metrics > deploy/METRICS-control.md"
    );
}

#[test]
fn version_and_help() {
    let version = concat!("postern-control ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(text(&control(&["version"], &[]).stdout), version);
    for arguments in [
        &["--help"][..],
        &["sidecar", "--help"],
        &["check", "--help"],
    ] {
        let output = control(arguments, &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text(&output.stdout).contains("Exit codes:"),
            "{arguments:?}"
        );
    }
    assert_eq!(control(&["sidcar"], &[]).status.code(), Some(2));
}

#[test]
fn check_says_what_is_wrong_and_where_and_exits_2() {
    let scene = Scene::start();
    let check = || control(&["check", "--config", &scene.config], &[]);
    let good = check();
    assert_eq!(
        text(&good.stdout),
        format!("{}: ok\n", scene.config),
        "{}",
        text(&good.stderr)
    );
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(scene.vault.log().requests(), []);
    assert!(!scene.folder.path().join("private").exists());
    std::fs::remove_file(scene.folder.path().join("ca.pem")).unwrap();
    let bad = check();
    assert_eq!(bad.status.code(), Some(2));
    assert!(
        text(&bad.stderr).starts_with("vaults.main: cannot read the CA's file "),
        "{}",
        text(&bad.stderr)
    );
    let config = std::fs::read_to_string(&scene.config).unwrap();
    std::fs::write(&scene.config, config.replace("store =", "stor =")).unwrap();
    let bad = check();
    assert_eq!(bad.status.code(), Some(2));
    let says = format!(
        "{}:14:13: unknown key `stor`; did you mean `store`?\n",
        scene.config
    );
    assert_eq!(text(&bad.stderr), says);
}

#[test]
fn once_publishes_and_exits_0_or_says_what_is_not_published_and_exits_1() {
    let scene = Scene::start();
    scene.vault.set_faults(Faults {
        deny: true,
        ..Faults::default()
    });
    let output = scene.once();
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = text(&output.stderr).lines().collect();
    let (last, log) = lines.split_last().unwrap();
    assert_eq!(*last, "not all is published: private");
    let line: Value = serde_json::from_str(log.last().unwrap()).unwrap();
    assert_eq!(
        (&line["certificate"], &line["reason"]),
        (&"private".into(), &"forbidden".into())
    );
    scene.vault.set_faults(Faults::default());
    let output = scene.once();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(scene.generation(), 1);
    assert_eq!(scene.once().status.code(), Some(0));
    assert_eq!(scene.generation(), 1);
    assert!(
        scene.vault.identity().requests() >= 3,
        "the SDK's own managed identity was asked"
    );
}

#[test]
fn a_metadata_service_out_of_reach_is_no_reason_not_to_be_ready() {
    let scene = Scene::start();
    let config = std::fs::read_to_string(&scene.config).unwrap();
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = nowhere.local_addr().unwrap();
    drop(nowhere);
    let events = format!("[scheduled_events]\nendpoint = \"http://{endpoint}\"\n");
    std::fs::write(&scene.config, format!("{config}{events}")).unwrap();
    let mut child = command(
        &["sidecar", "--config", &scene.config],
        &scene.vault.identity().environment(),
    )
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut awaited = vec!["\"published\"", "does not say what is planned"];
    while !awaited.is_empty() {
        let line = lines.next().unwrap();
        awaited.retain(|text| !line.contains(text));
    }
    let admin = config.split("listen = \"").nth(1).unwrap();
    let admin = admin.split('"').next().unwrap();
    let get = reqwest::get(format!("http://{admin}/readyz"));
    let answer = scene.runtime.block_on(get).unwrap();
    assert_eq!(answer.status(), 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_signal_ends_it_with_exit_code_0() {
    let scene = Scene::start();
    for signal in ["TERM", "INT"] {
        let mut child = command(
            &["sidecar", "--config", &scene.config],
            &scene.vault.identity().environment(),
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        // Its first round's line says that it runs; the lines end when it does.
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let begun = |line: &String| line.contains("\"listening\"");
        assert!(lines.any(|line| begun(&line)));
        if signal == "TERM" {
            assert!(lines.any(|line| line.contains("\"published\"")));
        }
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert!(lines.any(|line| line.contains("\"stopped\"")));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
    drop(scene.runtime);
}
