//! The command as its user meets it: output, errors, exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
fn file(text: &str) -> (tempfile::TempDir, String) {
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
