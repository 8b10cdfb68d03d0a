//! Two processes that have seen the same version.

use std::io::{BufRead as _, BufReader, Write as _};

use postern_control::routing::model::AccountId;
use postern_control::routing::store::Store as _;
use postern_control::routing::store::sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use super::other::{self, ACCOUNT, PUT, RACE};
use super::state::{self, Reopened};

pub fn one_of_two_processes_wins() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("routing.db");
    assert!(
        other::start(PUT, &path, "first.example")
            .wait()
            .unwrap()
            .success()
    );
    let id: AccountId = ACCOUNT.parse().unwrap();
    let account = || {
        state::block_on(async {
            let store = SqliteStore::open(&SqliteOptions::new(&path)).await.unwrap();
            store.account(&id).await.unwrap()
        })
    };
    let mut etag = account().etag.to_string();
    let mut racers = [0, 1].map(|_| {
        let mut child = other::start(RACE, &path, "-");
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, orders, answers)
    });
    let mut wins = [0; 2];
    for round in 0..ROUNDS {
        // Whose order comes first takes turns.
        for at in [round % 2, 1 - round % 2] {
            writeln!(racers[at].1, "{etag} h{round}-{at}.example").unwrap();
        }
        let answers = [0, 1].map(|at| racers[at].2.next().unwrap().unwrap());
        let winner = match [answers[0].as_str(), answers[1].as_str()] {
            [_, "lost"] => 0,
            ["lost", _] => 1,
            _ => panic!("round {round}: {answers:?}"),
        };
        let won = answers[winner]
            .strip_prefix("won ")
            .unwrap_or_else(|| panic!("{answers:?}"));
        won.clone_into(&mut etag);
        let account = account();
        assert_eq!(account.etag.to_string(), etag);
        assert_eq!(
            account.value.hosts.as_slice()[0].as_str(),
            format!("h{round}-{winner}.example")
        );
        wins[winner] += 1;
    }
    for (mut child, orders, _) in racers {
        drop(orders);
        assert!(child.wait().unwrap().success());
    }
    let log = Reopened::new(&path).log;
    assert_eq!(log.len(), 1 + ROUNDS);
    println!(
        "{ROUNDS} races of two processes: {} and {} won",
        wins[0], wins[1]
    );
}

const ROUNDS: usize = 200;
