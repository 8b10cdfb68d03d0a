//! What watches Postern is held against what Postern says of itself: each rule, each panel and each page of the
//! runbook names only metrics, labels, values, commands and log lines that exist.
//!
//! The tables of metrics are the pages below `deploy/`, which the programs print from their types; each program's own
//! tests compare them. Whether rules fire is for `promtool test rules`, which `deploy/local/test` runs.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so does what it is made of"
)]

mod dashboards;
mod expressions;
mod metrics;
mod rules;
mod runbook;

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder with that extension, in order, with their names.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(repository(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, read(&path))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no .{extension} in {folder}");
    found
}
