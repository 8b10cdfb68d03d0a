//! One change, disturbed at each system call that writes: killed before it, or told that there is no space.
//!
//! And left in peace: what is acknowledged has been waited for.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use postern_api::HostName;
use tempfile::TempDir;

use super::other::{self, ACCOUNT, PUT};
use super::state::Reopened;

pub fn each_call_is_disturbed() {
    for is_new in [true, false] {
        let calls = calls(is_new);
        for fault in [Fault::Killed, Fault::DiskFull] {
            let outcomes: Vec<_> = calls
                .iter()
                .map(|call| disturbed(fault, is_new, call))
                .collect();
            for expected in [Outcome::Old, Outcome::New] {
                assert!(
                    outcomes.contains(&expected),
                    "{fault:?}: never {expected:?}"
                );
            }
            let file = if is_new { "a new file" } else { "a file" };
            println!("{fault:?} at each of {} calls on {file}", calls.len());
        }
    }
}

/// What happens instead of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    DiskFull,
}

/// What the next one finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Old,
    New,
}

/// A system call: its name, and which of that name it is.
type Call = (String, usize);

/// A store with an old host of the account, or none yet.
struct Scene {
    folder: TempDir,
    old: Option<HostName>,
}

impl Scene {
    fn new(is_new: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("routing.db");
        let old = (!is_new).then(|| HostName::parse("old.example").unwrap());
        if let Some(old) = &old {
            assert!(
                other::start(PUT, &path, old.as_str())
                    .wait()
                    .unwrap()
                    .success()
            );
        }
        Self { folder, old }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("routing.db")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("strace.log")
    }

    /// Puts the new host, watched by `strace` with these options.
    fn put(&self, options: &[&str]) -> Output {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-y", "-qq", "-o"])
            .arg(self.log())
            .args(options);
        command.arg(std::env::current_exe().unwrap());
        command.args([
            PUT.as_ref(),
            self.path().as_os_str(),
            "new.example".as_ref(),
        ]);
        let output = command.output();
        output
            .unwrap_or_else(|error| panic!("strace, which deploy/local/install installs: {error}"))
    }
}

/// The calls that write, of a process that is left in peace. None of the change is after the word that it is done.
fn calls(is_new: bool) -> Vec<Call> {
    let scene = Scene::new(is_new);
    let output = scene.put(&["-e", &format!("trace=write,{}", WRITING.join(","))]);
    assert_eq!(output.stdout, b"done\n", "{output:?}");
    let log = fs::read_to_string(scene.log()).unwrap();
    let (mut counts, mut calls) = (HashMap::<_, usize>::new(), Vec::new());
    let mut unsynced = false;
    for line in log.lines() {
        // The number of the thread, then the call.
        let (thread, call) = line.split_once(' ').unwrap();
        let Some((name, arguments)) = call.trim_start().split_once('(') else {
            continue;
        };
        if WRITING.contains(&name) {
            let count = counts
                .entry((thread.to_owned(), name.to_owned()))
                .or_default();
            *count += 1;
            calls.push((name.to_owned(), *count));
        }
        if arguments.contains("routing.db-wal>") {
            unsynced = name.starts_with("pwrite");
        } else if arguments.contains("\"done\\n\"") {
            assert!(!unsynced, "acknowledged before it was on the disk:\n{log}");
        }
    }
    // Limit: a new file takes about a hundred; a thousand would be another program.
    assert!((5..1000).contains(&calls.len()), "{log}");
    calls
}

/// One fault at one call.
fn disturbed(fault: Fault, is_new: bool, (call, number): &Call) -> Outcome {
    let scene = Scene::new(is_new);
    let effect = match fault {
        Fault::Killed => "signal=KILL",
        Fault::DiskFull => "error=ENOSPC",
    };
    let inject = format!("inject={call}:{effect}:when={number}");
    let output = scene.put(&["-e", &format!("trace={call}"), "-e", &inject]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let what = format!("{inject}, is_new {is_new}: {output:?}");
    match fault {
        Fault::Killed => assert_eq!(output.status.signal(), Some(9), "{what}"),
        Fault::DiskFull => assert!(said == "done\n" || said.starts_with("failed "), "{what}"),
    }
    let host = || {
        let reopened = Reopened::new(&scene.path());
        let account = reopened.state.get(ACCOUNT);
        account.map(|(account, _)| account.hosts[0].clone())
    };
    let found = host();
    let new = HostName::parse("new.example").unwrap();
    let outcome = if found.as_ref() == Some(&new) {
        Outcome::New
    } else {
        Outcome::Old
    };
    assert!(
        outcome == Outcome::New || found == scene.old,
        "{found:?} after {what}"
    );
    assert!(
        outcome == Outcome::New || said != "done\n",
        "an acknowledged change is gone: {what}"
    );
    // And it goes on.
    assert!(
        other::start(PUT, &scene.path(), "next.example")
            .wait()
            .unwrap()
            .success()
    );
    assert_eq!(host().unwrap().as_str(), "next.example", "after {what}");
    outcome
}

/// What changes a file of the store. Its index is memory that is shared.
const WRITING: [&str; 6] = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "ftruncate",
    "unlink",
    "fallocate",
];
