//! Killed at any moment, again and again, over the same file.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use postern_api::routing::Change;
use postern_control::routing::store::sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use super::other::{self, WRITE};
use super::state::{self, Chance, Reopened};

pub fn whatever_was_acknowledged_outlasts_a_kill() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("routing.db");
    let mut chance = Chance(1);
    let mut kept = Vec::new();
    let mut unseen = 0;
    for round in 0..ROUNDS {
        // Alone, it leaves its own files to be recovered; beside another, one that knows how far it was.
        let acknowledged = if round.is_multiple_of(2) {
            killed(&path, round, &mut chance)
        } else {
            state::block_on(async {
                let _witness = SqliteStore::open(&SqliteOptions::new(&path)).await.unwrap();
                killed(&path, round, &mut chance)
            })
        };
        kept.extend(acknowledged);
        let log = Reopened::new(&path).log;
        assert_eq!(
            log[..kept.len()],
            kept,
            "round {round}: an acknowledged change is gone"
        );
        // Of what was under way, one may have come to be: an import is two changes.
        let more = &log[kept.len()..];
        assert!(more.len() <= 2, "round {round}: {more:?}");
        unseen += more.len();
        kept.extend_from_slice(more);
    }
    assert!(kept.len() > ROUNDS, "{}", kept.len());
    println!(
        "killed {ROUNDS} times: all of {} changes are there, and {unseen} that had not been acknowledged",
        kept.len() - unseen
    );
}

/// Kills a process that writes, and gives what was acknowledged to it.
fn killed(path: &Path, round: usize, chance: &mut Chance) -> Vec<Change> {
    let mut writer = other::start(WRITE, path, &round.to_string());
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    // Now and then before it has said anything, when it may not have opened the file yet.
    let count = chance.below(if round.is_multiple_of(8) { 1 } else { 60 });
    let mut acknowledged: Vec<_> = lines
        .by_ref()
        .take(count)
        .map(|line| change(&line.unwrap()))
        .collect();
    // The moment is not always the same part of a change, which takes a few milliseconds.
    let until = Instant::now() + Duration::from_micros(chance.below(8000) as u64);
    while Instant::now() < until {
        std::thread::yield_now();
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    // What it had said by then; the last line may be a piece.
    acknowledged.extend(lines.map_while(|line| serde_json::from_str(&line.unwrap()).ok()));
    acknowledged
}

fn change(line: &str) -> Change {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))
}

const ROUNDS: usize = 40;
