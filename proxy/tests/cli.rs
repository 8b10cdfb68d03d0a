//! The command as its user meets it: output, errors, exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use postern_certs::dev_ca::{DevCa, Issued, LeafOptions};
use postern_certs::{Purpose, UnixTime};
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = r#"
[data]
trusted_sources = ["10.0.0.0/24"]
[tls]
certificates = ["certs/private"]
[routes]
file = "routes.toml"
[upstream]
identity = "certs/client"
trust = "certs/trust"
[upstream.clusters.dicom]
name = "z1-weu-aks.internal.example"
endpoints = ["10.1.0.5:443"]
"#;

fn postern(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied());
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// Writes a configuration; the folder goes when the first value is dropped.
fn file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn the_checked_in_defaults_are_what_postern_prints() {
    let output = postern(&["defaults"], &[]);
    let checked_in = std::fs::read_to_string(deployed("postern.default.toml")).unwrap();
    assert_eq!(
        stdout(&output),
        checked_in,
        "run: postern defaults > deploy/postern.default.toml"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_checked_in_metrics_are_what_postern_prints() {
    let output = postern(&["metrics"], &[]);
    let checked_in = std::fs::read_to_string(deployed("METRICS.md")).unwrap();
    assert_eq!(
        stdout(&output),
        checked_in,
        "run: postern metrics > deploy/METRICS.md"
    );
}

#[test]
fn version_prints_name_and_number() {
    assert_eq!(
        stdout(&postern(&["version"], &[])),
        concat!("postern ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn a_typing_error_in_the_file_exits_2_and_says_where() {
    let (_folder, path) = file(&CONFIG.replace("trusted_sources", "trusted_source"));
    for command in ["check", "-t", "run"] {
        let output = postern(&[command, "-c", &path], &[]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let error = stderr(&output);
        assert!(error.starts_with(&format!("{path}:3:1: ")), "{error}");
        assert!(error.contains("trusted_source`"), "{error}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_value_that_makes_no_sense_exits_2_and_names_its_key_and_line() {
    let (_folder, path) = file(&format!("workers = 5000{CONFIG}"));
    let output = postern(&["check", "-c", &path], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        format!("{path}:1: workers: must be from 0 to 1024, and is 5000\n")
    );
}

#[test]
fn an_unknown_variable_exits_2_with_a_suggestion() {
    let (_folder, path) = file(CONFIG);
    let output = postern(
        &["check", "-c", &path],
        &[("POSTERN_DATA__LISTN", "127.0.0.1:1")],
    );
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "POSTERN_DATA__LISTN: names no option; did you mean `POSTERN_DATA__LISTEN`?\n"
    );
}

#[test]
fn a_missing_file_exits_2_and_says_why() {
    let output = postern(&["check", "-c", "/nowhere/postern.toml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("No such file or directory"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_arguments_exit_2() {
    for arguments in [
        &["chek"][..],
        &[],
        &["explain", "--link-id", "-1", "--sni", "a.example"],
        &["explain", "--link-id", "7", "--sni", "10.0.0.4"],
        &["explain", "--sni", "a.example"],
    ] {
        let output = postern(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn help_documents_the_exit_codes() {
    for arguments in [
        &["--help"][..],
        &["check", "--help"],
        &["run", "--help"],
        &["explain", "--help"],
    ] {
        let output = postern(arguments, &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            stdout(&output).contains("Exit codes:"),
            "{arguments:?}: {}",
            stdout(&output)
        );
    }
}

const ROUTES: &str = r#"
[[accounts]]
name = "hospital-a"
kind = "dicom"
hosts = ["a.dicom.example", "archive.dicom.example"]
cluster = "dicom"
links = [{ link_id = 7, state = "Approved" }, { link_id = 8, state = "Pending" }]
"#;

/// A configuration whose every file is there and good, until a test spoils one.
struct Good {
    folder: TempDir,
    ca: DevCa,
    config: String,
}

impl Good {
    fn new() -> Self {
        let (folder, config) = file(CONFIG);
        let good = Self {
            folder,
            ca: DevCa::new("Development CA").unwrap(),
            config,
        };
        good.serve(&good.ca.server(&["*.dicom.example"]).unwrap());
        let client = good.ca.client("postern.example").unwrap();
        client.write_to(&good.path("certs/client")).unwrap();
        std::fs::create_dir(good.path("certs/trust")).unwrap();
        good.write("certs/trust/ca.crt", good.ca.ca_pem());
        good.write("routes.toml", ROUTES);
        good
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Puts a certificate where the one for clients is read.
    fn serve(&self, issued: &Issued) {
        issued.write_to(&self.path("certs/private")).unwrap();
    }

    fn check(&self) -> Output {
        postern(&["check", "-c", &self.config], &[])
    }

    /// Asserts that `check` refuses, and that its reason has these words.
    fn refused(&self, words: &[&str]) {
        let output = self.check();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert_eq!(stdout(&output), "");
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
        assert!(!error.contains("PRIVATE KEY-----"), "{error}");
    }

    fn explain(&self, arguments: &[&str]) -> String {
        let fixed = ["explain", "-c", &self.config];
        let output = postern(&[&fixed, arguments].concat(), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output).to_owned()
    }
}

#[test]
fn what_is_good_checks_with_exit_code_0() {
    let good = Good::new();
    for command in ["check", "-t"] {
        let output = postern(&[command, "-c", &good.config], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), format!("{}: ok\n", good.config));
    }
}

#[test]
fn an_expired_certificate_is_refused_with_its_date() {
    let good = Good::new();
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    let options = LeafOptions {
        not_before: Some(now - 2 * 86_400),
        not_after: Some(now - 86_400),
        ..LeafOptions::new(Purpose::Server, ["*.dicom.example"])
    };
    good.serve(&good.ca.leaf(&options).unwrap());
    good.refused(&[
        "certs/private: ",
        "CN=*.dicom.example",
        "expired on 20",
        "renew it",
    ]);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let good = Good::new();
    let other = good.ca.server(&["other.dicom.example"]).unwrap();
    good.write("certs/private/tls.key", &other.key_pem);
    good.refused(&["certs/private: the private key belongs to another certificate than"]);
}

#[test]
fn a_certificate_without_a_dns_name_is_refused() {
    let good = Good::new();
    good.serve(&good.ca.server(&["10.0.0.4"]).unwrap());
    good.refused(&["certs/private: ", "does not cover"]);
}

#[test]
fn a_certificate_for_other_names_than_are_demanded_is_refused() {
    let good = Good::new();
    let places =
        r#"POSTERN_TLS__CERTIFICATES=[{ path = "certs/private", names = ["*.dicom.example"] }]"#;
    let (name, value) = places.split_once('=').unwrap();
    let check = || postern(&["check", "-c", &good.config], &[(name, value)]);
    assert_eq!(check().status.code(), Some(0), "{}", stderr(&check()));
    good.serve(&good.ca.server(&["*.fhir.example"]).unwrap());
    let output = check();
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(
        error.contains("certs/private: ") && error.contains("*.dicom.example"),
        "{error}"
    );
}

#[test]
fn a_truncated_certificate_is_refused_and_so_is_a_missing_one() {
    let good = Good::new();
    let chain = std::fs::read_to_string(good.path("certs/private/tls.crt")).unwrap();
    good.write("certs/private/tls.crt", &chain[..chain.len() / 2]);
    good.refused(&["certs/private: the PEM text of the certificate chain is cut off"]);
    std::fs::remove_dir_all(good.path("certs/client")).unwrap();
    good.refused(&["certs/private: ", "certs/client"]);
}

#[test]
fn a_client_certificate_that_is_for_servers_is_refused() {
    let good = Good::new();
    let server = good.ca.server(&["postern.example"]).unwrap();
    server.write_to(&good.path("certs/client")).unwrap();
    good.refused(&["certs/client: ", "may not be used for"]);
}

#[test]
fn a_route_to_an_unknown_cluster_is_refused_with_its_place() {
    let good = Good::new();
    good.write(
        "routes.toml",
        &ROUTES.replace("cluster = \"dicom\"", "cluster = \"fhir\""),
    );
    good.refused(&["routes.toml:6:11: ", "`fhir`"]);
}

#[test]
fn two_routes_for_one_host_are_refused_with_both_places() {
    let good = Good::new();
    good.write(
        "routes.toml",
        &format!("{ROUTES}{}", ROUTES.replace("hospital-a", "hospital-b")),
    );
    good.refused(&["routes.toml:12:10: ", "`a.dicom.example`", "line 5"]);
}

#[test]
fn explain_says_step_by_step_what_would_happen() {
    let good = Good::new();
    let text = good.explain(&["--link-id", "7", "--sni", "a.dicom.example"]);
    assert_eq!(
        text,
        "ok  client_hello  a certificate covers a.dicom.example\n\
         ok  authorize     link 7 may reach a.dicom.example\n\
         ok  admit         a.dicom.example is the host of this connection\n\
         decision: allowed\n\
         answer:   the ingress's answer\n\
         reason:   The request is forwarded to the cluster.\n\
         account:  hospital-a\n\
         cluster:  dicom\n"
    );
    let text = good.explain(&["--link-id", "9", "--sni", "a.dicom.example"]);
    assert!(
        text.contains("no  authorize     link 9 for a.dicom.example: link_unknown\n"),
        "{text}"
    );
    assert!(text.contains("answer:   HTTP status 403\n"), "{text}");
}

/// The same, with routes from a service that nobody runs.
fn from_service(more: &str) -> Good {
    let good = Good::new();
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr();
    let section = format!(
        "[routes.service]\nendpoints = [\"{}\"]\nname = \"routing.example\"\n{more}",
        nobody.unwrap()
    );
    let config = CONFIG.replace("[routes]\nfile = \"routes.toml\"\n", &section);
    assert_ne!(config, CONFIG);
    good.write("postern.toml", &config);
    good
}

#[test]
fn a_service_of_routes_is_checked_without_asking_it() {
    let good = from_service("snapshot = \"routes.snapshot\"\n");
    let output = good.check();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let nowhere = from_service("snapshot = \"nowhere/routes.snapshot\"\n");
    nowhere.refused(&["routes.service.snapshot: ", "in no folder that is there"]);
    let other = from_service("identity = \"certs/other\"\n");
    other.refused(&["certs/other: "]);
}

#[test]
fn explain_says_that_the_service_does_not_answer() {
    let text = from_service("").explain(&["--link-id", "7", "--sni", "a.dicom.example"]);
    assert!(
        text.contains("decision: lookup_failed\nanswer:   HTTP status 503\n"),
        "{text}"
    );
    assert!(text.ends_with("service:  never heard of\n"), "{text}");
}

#[test]
fn explain_answers_scripts_in_json() {
    let good = Good::new();
    let explained = |link_id: &str, sni: &str, host: &str| -> Value {
        let text = good.explain(&["--link-id", link_id, "--sni", sni, "--host", host, "--json"]);
        serde_json::from_str(&text).unwrap()
    };
    let (a, archive, other) = (
        "a.dicom.example",
        "archive.dicom.example",
        "b.dicom.example",
    );
    for (link_id, sni, host, decision, answer) in [
        ("7", a, a, "allowed", json!("forwarded")),
        ("7", a, "A.DICOM.example:443", "allowed", json!("forwarded")),
        ("9", a, a, "link_unknown", json!({"status": 403})),
        ("8", a, a, "link_not_approved", json!({"status": 403})),
        ("7", a, archive, "misdirected", json!({"status": 421})),
        ("7", a, other, "host_not_permitted", json!({"status": 403})),
        (
            "7",
            "a.elsewhere.example",
            a,
            "sni_unknown",
            json!({"alert": 112}),
        ),
    ] {
        let found = explained(link_id, sni, host);
        assert_eq!(
            (&found["decision"], &found["answer"]),
            (&json!(decision), &answer),
            "{found}"
        );
        let steps = found["steps"].as_array().unwrap();
        let (last, before) = steps.split_last().unwrap();
        assert_eq!(last["passed"], decision == "allowed", "{found}");
        assert!(before.iter().all(|step| step["passed"] == true), "{found}");
    }
    std::fs::remove_dir_all(good.path("certs/private")).unwrap();
    assert_eq!(explained("7", a, a)["decision"], "sni_unknown");
}
