//! A publisher that is killed before any of its system calls, and one for which any call that needs space finds none:
//! a reader has the old generation or the new one, whole, and the next publisher publishes.
//!
//! This program is both: called with `publish STORE PAIR` it is a publisher, which `strace` watches and disturbs. It has
//! no test harness, whose threads would make system calls of their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what fails here fails the test; the publisher says why it failed"
)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use postern_certs::dev_ca::DevCa;
use postern_certs::{Bundle, Expectations, Fingerprint, Location, ReadError, Store, UnixTime};
use tempfile::TempDir;

/// What happens instead of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    DiskFull,
}

impl Fault {
    fn injected(self) -> &'static str {
        match self {
            Self::Killed => "signal=KILL",
            Self::DiskFull => "error=ENOSPC",
        }
    }

    /// Whether the call that `strace` writes like this can meet it. Who only reads needs no space.
    fn befalls(self, call: &str) -> bool {
        let needs_space = ["mkdir", "write", "fsync", "symlink", "rename"];
        self == Self::Killed
            || call.contains("O_CREAT")
            || needs_space.iter().any(|name| call.starts_with(name))
    }
}

/// A store, with a generation in it or new; the pair that is to follow, and the one after that.
struct Scene {
    folder: TempDir,
    store: Store,
    pairs: [(PathBuf, Fingerprint); 3],
}

impl Scene {
    fn new(is_empty: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let ca = DevCa::new("Test CA").unwrap();
        let pairs = ["old", "new", "next"].map(|name| {
            let path = folder.path().join(name);
            let issued = ca.server(&["a.example"]).unwrap();
            issued.write_to(&path).unwrap();
            (path, issued.bundle().unwrap().fingerprint())
        });
        let store = Store::open(folder.path().join("store")).unwrap();
        if !is_empty {
            let old = read(&pairs[0].0).unwrap();
            store.roll_back(&old, "").unwrap();
        }
        Self {
            folder,
            store,
            pairs,
        }
    }

    /// Publishes the new pair, watched by `strace` with these options.
    fn publish(&self, options: &[&str]) -> Output {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("strace");
        command.args(["-qq", "-o"]).arg(self.log()).args(options);
        command.arg(program).arg("publish").arg(self.place());
        let output = command.arg(&self.pairs[1].0).output();
        output.expect("strace, which deploy/local/install installs")
    }

    /// The calls of a publisher that is left in peace that can meet this, from the first that touches the store: the name
    /// of each, and which of that name it is.
    fn calls(&self, fault: Fault) -> Vec<(String, usize)> {
        let output = self.publish(&["-e", "trace=%file,%desc"]);
        assert!(output.status.success(), "{output:?}");
        let log = fs::read_to_string(self.log()).unwrap();
        let place = self.place().display().to_string();
        let (mut counts, mut touched) = (HashMap::new(), false);
        let mut calls = Vec::new();
        for line in log.lines() {
            let Some((name, _)) = line.split_once('(') else {
                continue;
            };
            let count: &mut usize = counts.entry(name.to_owned()).or_default();
            *count += 1;
            // The arguments of the program name it first.
            touched |= name != "execve" && line.contains(&place);
            if touched && fault.befalls(line) {
                calls.push((name.to_owned(), *count));
            }
        }
        calls
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("strace.log")
    }

    /// What a reader gets, which is whole or nothing yet.
    fn current(&self) -> Option<Fingerprint> {
        read(&self.place()).map(|bundle| bundle.fingerprint())
    }
}

/// What is there, unless there is nothing.
fn read(place: &Path) -> Option<Bundle> {
    match Location::new(place).read() {
        Ok((parts, _)) => {
            Some(Bundle::prove(parts, &Expectations::server(), UnixTime::now()).unwrap())
        }
        Err(ReadError::Absent { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// One fault before one call. What the reader has then: the new generation, or the old one.
fn disturbed(fault: Fault, is_empty: bool, call: &str, number: usize) -> &'static str {
    let scene = Scene::new(is_empty);
    let [old, new, next] = &scene.pairs;
    let (old, new) = ((!is_empty).then_some(old.1), Some(new.1));
    let inject = format!("inject={call}:{}:when={number}", fault.injected());
    let output = scene.publish(&["-e", &format!("trace={call}"), "-e", &inject]);
    let said = format!("{inject}: {output:?}");
    let current = scene.current();
    assert!([old, new].contains(&current), "{said}");
    match fault {
        Fault::Killed => assert_eq!(output.status.signal(), Some(9), "{said}"),
        Fault::DiskFull => {
            // A success is one, and a failure says what it was.
            let is_new = current == new;
            let reason = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() || is_new, "{said}");
            assert!(output.status.success() || !reason.is_empty(), "{said}");
            assert_eq!(reason.contains("still are"), !is_new, "{said}");
        }
    }
    let outcome = if current == new { "new" } else { "old" };

    let published = scene.store.roll_back(&read(&next.0).unwrap(), "");
    let published = published.unwrap();
    assert_eq!(scene.current(), Some(next.1), "after {said}");
    let mut kept: Vec<_> = fs::read_dir(scene.place())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("g-"))
        .collect();
    kept.sort();
    // The current one, and the one before if there was any.
    let before = usize::from(!is_empty || outcome == "new");
    assert_eq!(kept.len(), 1 + before, "{kept:?} after {said}");
    let last = kept.last().unwrap();
    assert!(last.ends_with(&published.to_string()), "{kept:?}");
    outcome
}

fn every_call_is_disturbed(fault: Fault, is_empty: bool) {
    let calls = Scene::new(is_empty).calls(fault);
    // Limit: a publication makes about seventy calls; a thousand would be another program.
    assert!((10..1000).contains(&calls.len()), "{calls:?}");
    let outcomes: Vec<_> = calls
        .iter()
        .map(|(call, number)| disturbed(fault, is_empty, call, *number))
        .collect();
    for expected in ["old", "new"] {
        assert!(outcomes.contains(&expected), "{fault:?}: never {expected}");
    }
    let first_new = outcomes.iter().position(|outcome| *outcome == "new");
    let switched = first_new.map(|at| &outcomes[at..]);
    assert!(
        switched.is_some_and(|rest| rest.iter().all(|outcome| *outcome == "new")),
        "{fault:?}: {outcomes:?}"
    );
    let store = if is_empty { "a new store" } else { "a store" };
    println!("{fault:?} at each of {} calls on {store}", calls.len());
}

/// The publisher.
fn publish(store: &OsStr, pair: &OsStr) -> ExitCode {
    let Some(bundle) = read(Path::new(pair)) else {
        return ExitCode::FAILURE;
    };
    let published = Store::open(store).and_then(|store| store.roll_back(&bundle, "new"));
    match published {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [word, store, pair] = arguments.as_slice()
        && word == "publish"
    {
        return publish(store, pair);
    }
    for fault in [Fault::Killed, Fault::DiskFull] {
        for is_empty in [true, false] {
            every_call_is_disturbed(fault, is_empty);
        }
    }
    ExitCode::SUCCESS
}
