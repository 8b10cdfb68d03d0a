//! What holds the code base together, checked on its own text: the dependency law, who may know which crate,
//! how long a file may be, and that every refusal is proven from outside.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use postern::outcome::Refusal;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every Rust file below a folder of the workspace, with its path relative to the root.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no Rust files below {folder}");
    found
}

fn dependencies(package: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&text).unwrap();
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    dependencies
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn dependencies_point_one_way() {
    let ours = |package: &str| -> Vec<String> {
        let all = dependencies(package).into_iter();
        all.filter(|name| name.starts_with("postern")).collect()
    };
    assert_eq!(ours("control/api"), [""; 0]);
    assert_eq!(ours("certs"), [""; 0]);
    assert_eq!(ours("control/chassis"), ["postern-api"]);
    let shared = ["postern-api", "postern-certs", "postern-chassis"];
    assert_eq!(ours("proxy"), shared);
    for name in ours("control") {
        assert!(shared.contains(&name.as_str()), "control depends on {name}");
    }
    for name in ours("benches") {
        assert_ne!(
            name, "postern-control",
            "control is met over HTTP and on disk, not linked"
        );
    }
}

#[test]
fn each_engine_is_known_to_its_own_rooms_alone() {
    let rooms: [(&str, &[&str]); 12] = [
        ("hickory_resolver::", &["proxy/src/upstream/dns.rs"]),
        ("hashbrown::", &["proxy/src/routing/cache/table.rs"]),
        ("rusqlite::", &["control/src/routing/store/sqlite/"]),
        (
            "pingora_core::",
            &[
                "proxy/src/server/",
                "proxy/src/connection/accept.rs",
                "proxy/src/upstream/",
            ],
        ),
        (
            "prometheus::",
            &[
                "proxy/src/metrics",
                "control/src/metrics/",
                "control/src/sidecar/metrics",
                "control/src/routing/metrics",
            ],
        ),
        ("governor::", &["proxy/src/request/limits.rs"]),
        ("sd_notify::", &["proxy/src/server/supervision.rs"]),
        (
            "sse_stream::",
            &["proxy/src/routing/remote/stream.rs", "control/src/routing/"],
        ),
        (
            "azure_core::",
            &["control/src/vault/", "control/src/testing/"],
        ),
        ("azure_identity::", &["control/src/vault/"]),
        ("azure_security_keyvault", &["control/src/vault/"]),
        (
            "axum::",
            &[
                "control/src/listen.rs",
                "control/src/routing/",
                "control/src/sidecar/",
                "control/src/testing/",
            ],
        ),
    ];
    let files = rust_files("proxy/src").into_iter();
    for (name, text) in files.chain(rust_files("control/src")) {
        for (engine, allowed) in rooms {
            // The name of a log target in quotes is no dependency.
            let code = |line: &&str| !line.trim_start().starts_with("//") && !line.contains('"');
            let known = text.lines().filter(code).any(|line| line.contains(engine));
            let may = allowed.iter().any(|room| name.starts_with(room));
            assert!(!known || may, "{name} knows {engine}");
        }
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    for folder in ["proxy", "control", "certs", "loadtests", "benches"] {
        for (name, text) in rust_files(folder) {
            let lines = text.lines().count();
            assert!(lines <= 500, "{name} has {lines} lines: is it two rooms?");
        }
    }
}

#[test]
fn each_refusal_is_proven_from_outside() {
    let proofs: String = ["loadtests/src/prove", "loadtests/tests"]
        .into_iter()
        .flat_map(rust_files)
        .map(|(_, text)| text)
        .collect();
    let unproven: Vec<_> = Refusal::all()
        .map(Refusal::label)
        .filter(|word| !proofs.contains(&format!("\"{word}\"")))
        .collect();
    assert!(
        unproven.is_empty(),
        "no scenario or end-to-end test names {unproven:?}"
    );
}
