//! `postern-control routing` as its user meets it: output, exit codes, signals, and the trail of changes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use postern_certs::dev_ca::DevCa;
use serde_json::{Value, json};
use tempfile::TempDir;

fn control(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-control"));
    command.args(arguments).env_clear();
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_checked_in_is_what_is_printed() {
    for (arguments, file) in [
        (&["defaults", "routing"][..], "postern-routing.default.toml"),
        (&["metrics", "routing"], "METRICS-routing.md"),
        (&["openapi"], "routing.openapi.json"),
    ] {
        let output = control(arguments);
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../deploy")
            .join(file);
        let checked_in = std::fs::read_to_string(path).unwrap();
        let run = format!(
            "run: postern-control {} > deploy/{file}",
            arguments.join(" ")
        );
        assert!(text(&output.stdout) == checked_in, "{run}");
    }
}

#[test]
fn the_document_names_each_operation_once_and_refers_to_nothing_that_is_not_there() {
    let document: Value = serde_json::from_slice(&control(&["openapi"]).stdout).unwrap();
    let mut names = Vec::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            names.push(operation["operationId"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(names.len(), 20);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
    let whole = document.to_string();
    for reference in whole.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

/// A configuration with certificates, in a folder of its own.
struct Scene {
    ca: DevCa,
    folder: TempDir,
    config: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let ca = DevCa::new("Test CA").unwrap();
        let server = ca.server(&["routing.example"]).unwrap();
        server.write_to(&folder.path().join("server")).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.ca_pem()).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [free(), free()];
        let [address, admin] = listeners.map(|it| it.local_addr().unwrap());
        let config = folder.path().join("routing.toml");
        let lines = format!(
            "[listen]\naddress = \"{address}\"\n[tls]\nidentity = \"server\"\ntrust = \"ca.pem\"\n\
             [clients.people]\nsan = \"people.example\"\nroles = [\"read\", \"write\", \"authorize\"]\n\
             [store]\npath = \"routing.sqlite\"\n[admin]\nlisten = \"{admin}\"\n"
        );
        std::fs::write(&config, lines).unwrap();
        Self {
            ca,
            folder,
            config,
            address,
            admin,
        }
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://routing.example:{}{path}", self.address.port())
    }

    fn run(&self) -> (Child, impl Iterator<Item = String>) {
        let mut child = command(&["routing", "--config", self.config()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        (child, lines.map(Result::unwrap))
    }

    fn client(&self) -> reqwest::Client {
        let identity = self.ca.client("people.example").unwrap();
        let pem = format!("{}{}", identity.chain_pem, identity.key_pem.as_str());
        reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(self.ca.ca_pem().as_bytes()).unwrap()])
            .identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
            .resolve("routing.example", self.address)
            .build()
            .unwrap()
    }
}

#[test]
fn check_says_what_is_wrong_and_exits_2() {
    let scene = Scene::new();
    let check = || control(&["check", "routing", "--config", scene.config()]);
    let good = check();
    assert_eq!(
        text(&good.stdout),
        format!("{}: ok\n", scene.config()),
        "{}",
        text(&good.stderr)
    );
    assert_eq!(good.status.code(), Some(0));
    assert!(!scene.folder.path().join("routing.sqlite").exists());
    let text_of = std::fs::read_to_string(&scene.config).unwrap();
    for (old, new, says) in [
        ("ca.pem", "missing.pem", "tls.trust: "),
        (
            "\"routing.sqlite\"",
            "\"missing/routing.sqlite\"",
            "store.path: ",
        ),
        ("\"write\"", "\"wriet\"", "routing.toml:8:"),
        ("[store]\npath", "[store]\npaht", "did you mean `path`?"),
    ] {
        std::fs::write(&scene.config, text_of.replace(old, new)).unwrap();
        let bad = check();
        assert_eq!(bad.status.code(), Some(2), "{new}");
        assert!(text(&bad.stderr).contains(says), "{}", text(&bad.stderr));
    }
}

#[test]
fn each_change_is_a_line_of_the_trail_and_a_signal_ends_it_with_exit_code_0() {
    let scene = Scene::new();
    let (mut child, mut lines) = scene.run();
    assert!(lines.any(|line| line.contains("\"listening\"")));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = scene.client();
    let workspace = scene.url("/v1/workspaces/clinic");
    let lookup = scene.url("/v1/lookup?host=a.example");
    runtime.block_on(async {
        for _ in 0..2 {
            let body = json!({"properties": {}});
            let answer = client
                .put(&workspace)
                .header("content-type", "application/json");
            let answer = answer.body(body.to_string()).send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
            assert_eq!(client.get(&lookup).send().await.unwrap().status(), 200);
        }
        for status in [200, 204] {
            assert_eq!(
                client.delete(&workspace).send().await.unwrap().status(),
                status
            );
        }
    });
    drop(client);
    terminate(&child);
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let trail: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "changed")
        .collect();
    let what: Vec<_> = trail
        .iter()
        .map(|line| line["what"].as_str().unwrap())
        .collect();
    assert_eq!(what, ["put_workspace", "delete_workspace"], "{lines:?}");
    for line in trail {
        assert_eq!(
            (&line["client"], &line["resource"]),
            (&json!("people.example"), &json!("clinic"))
        );
        assert!(
            line["sequence"].is_u64() && line["request_id"].is_string(),
            "{line}"
        );
    }
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    let mut kill = Command::new("kill");
    assert!(kill.args(["-s", "TERM", &pid]).status().unwrap().success());
}

#[test]
fn a_store_that_fails_is_a_failure_and_no_answer_and_is_said_once() {
    let scene = Scene::new();
    let (mut child, mut lines) = scene.run();
    assert!(lines.any(|line| line.contains("\"listening\"")));
    let database = rusqlite::Connection::open(scene.folder.path().join("routing.sqlite")).unwrap();
    let rename = |from: &str, to: &str| {
        let rename = format!("ALTER TABLE {from} RENAME TO {to}");
        database.execute_batch(&rename).unwrap();
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = scene.client();
        let lookup = || client.get(scene.url("/v1/lookup?host=a.example")).send();
        let authorize = || {
            let request = client.get(scene.url("/v1/authorize"));
            let request = request.header("x-ms-private-link-id", "7");
            request.header("x-original-host", "a.example").send()
        };
        let ready = || reqwest::get(format!("http://{}/readyz", scene.admin));
        assert_eq!(lookup().await.unwrap().status(), 200);
        assert_eq!(ready().await.unwrap().status(), 200);
        rename("hosts", "away");
        for _ in 0..3 {
            for answer in [lookup().await.unwrap(), authorize().await.unwrap()] {
                assert_eq!(answer.status(), 503);
                assert_eq!(answer.headers()["x-ms-error-code"], "ServiceUnavailable");
                assert_eq!(answer.headers()["retry-after"], "1");
                assert_eq!(answer.headers()["cache-control"], "no-store");
                let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                assert_eq!(body["error"]["message"], "the store does not answer");
            }
        }
        rename("away", "hosts");
        assert_eq!(lookup().await.unwrap().status(), 200);
        assert_eq!(authorize().await.unwrap().status(), 403);
        rename("changes", "away");
        let answer = ready().await.unwrap();
        assert_eq!(answer.status(), 503);
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("store: does not answer\n"), "{text}");
        rename("away", "changes");
        assert_eq!(ready().await.unwrap().status(), 200);
    });
    terminate(&child);
    let lines: Vec<_> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let said = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert!(
        said("the store does not do what it should") >= 2,
        "{lines:?}"
    );
    assert!(
        said("the store does not do what it should") <= 3,
        "{lines:?}"
    );
}
