//! What other processes commit.

use std::time::Duration;

use postern_api::routing::Head;
use postern_chassis::whole;
use rusqlite::Connection as Database;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::log;

/// Looks, for as long as it lives, whether anybody has committed.
#[derive(Debug)]
pub(super) struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    /// Begins to look. `database` is for nothing else: it is by its own commits that a connection is not told.
    pub(super) fn start(database: Database, head: watch::Sender<Head>) -> Self {
        Self(tokio::spawn(follow(database, head)))
    }
}

async fn follow(mut database: Database, head: watch::Sender<Head>) {
    let mut look = interval(INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut fails) = (None, false);
    loop {
        look.tick().await;
        let looked = spawn_blocking(move || {
            let outcome = newer(&database, seen);
            (database, outcome)
        });
        let Ok((back, outcome)) = looked.await else {
            return;
        };
        database = back;
        match outcome {
            Ok((version, newer)) => {
                seen = Some(version);
                fails = false;
                if let Some(newer) = newer {
                    advance(&head, newer);
                }
            }
            Err(error) if !fails => {
                fails = true;
                tracing::warn!(error = %whole(&error), "the store cannot be watched for changes");
            }
            Err(_) => {}
        }
    }
}

/// The version of the file's contents, and where the log stands if they are not those of version `seen`.
fn newer(database: &Database, seen: Option<i64>) -> rusqlite::Result<(i64, Option<Head>)> {
    let version = database.pragma_query_value(None, "data_version", |row| row.get(0))?;
    let newer = (Some(version) != seen)
        .then(|| log::head(database))
        .transpose()?;
    Ok((version, newer))
}

/// Says where the log stands, unless something newer has been said: two connections tell of one commit.
pub(super) fn advance(head: &watch::Sender<Head>, now: Head) {
    head.send_if_modified(|last| {
        let newer = (now.sequence, now.oldest) > (last.sequence, last.oldest);
        if newer {
            *last = now;
        }
        newer
    });
}

// Limit: a change by another process is known a tenth of a second later; a look reads one page.
const INTERVAL: Duration = Duration::from_millis(100);
