//! The account-routing service is killed again and again while its books are being written.
//!
//! Writers change accounts and their connections, each its own. After each kill, every writer finds what was acknowledged
//! to it; the change log, replayed, comes to what a snapshot shows; and in the end a Postern that has followed all the
//! time knows the same.

mod replay;
mod writer;

use std::time::Duration;

use futures_util::future::try_join_all;
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::sleep;

use super::routed::Routed;
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::Deadline;
use crate::stack::routing::RoutingOptions;
use replay::Replay;
use writer::{Random, Writer};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "routing-crash",
    promise: "The account-routing service may be killed at any moment: no change that it has acknowledged is lost, none is half there, and who follows it ends with the same.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

const KILLS: u32 = 50;
const KILLS_QUICK: u32 = 5;

/// Writers, with an account each.
const WRITERS: u32 = 6;

// Limit: how long the service is written to before it is killed, in milliseconds: least, and what is added at most.
const LIFE: (u32, u32) = (100, 400);

// Limit: a proxy has heard of everything by then.
const FOLLOWED: Duration = Duration::from_secs(20);

/// A number of one's own, so that each run kills at other moments.
fn seed() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

async fn prove(run: Run) -> Result<Proof, Broken> {
    let kills = if run.quick { KILLS_QUICK } else { KILLS };
    let short = [
        ("POSTERN_ROUTE_CACHE__NOT_FOUND_TTL", "1h"),
        ("POSTERN_ROUTE_CACHE__TTL", "1h"),
    ];
    let mut stage = Routed::start(&run.folder, 1, &short, &RoutingOptions::default()).await?;
    let seed = seed();
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let operator = stage.routing.operator()?;
        writers.push(Writer::create(operator, number, Random::new(seed ^ number)).await?);
    }

    // Remembered as unknown from now on: what becomes of them, only the change stream tells.
    let before = same(&stage, &writers).await?;
    let mut proof = Proof::default();
    let traffic = stage.traffic();
    let mut replay = Replay::default();
    let mut random = Random::new(seed);
    let mut outcome = Ok(());
    for kill in 1..=kills {
        let (stop, stopping) = watch::channel(false);
        let write = try_join_all(
            writers
                .iter_mut()
                .map(|writer| writer.write(stopping.clone())),
        );
        let life = Duration::from_millis(u64::from(LIFE.0 + random.below(LIFE.1)));
        let routing = &mut stage.routing;
        let kill_it = async {
            sleep(life).await;
            // Whoever has no answer by now gets none any more.
            stop.send_replace(true);
            routing.kill();
            Ok(())
        };
        outcome = tokio::try_join!(write, kill_it).map(drop);
        stage.routing.restart().await?;
        if outcome.is_ok() {
            outcome = recovered(&mut writers, &mut replay, &stage).await;
        }
        if let Err(error) = outcome {
            let text = crate::check::with_causes(&error);
            outcome = Err(Broken::Unexpected(format!("kill {kill}: {text}")));
            break;
        }
    }
    let tally = traffic.stop().await;
    let written: u64 = writers.iter().map(Writer::acknowledged).sum();
    let text = format!(
        "{written} acknowledged changes, {} in the log",
        replay.sequence()
    );
    proof.row(
        &format!("after each of {kills} kills, all is there, and whole"),
        outcome.map(|()| text),
    );
    let claim = format!("a proxy that knew {before} as unknown has followed");
    proof.row(&claim, same(&stage, &writers).await);
    proof.figure("kills", kills);
    proof.figure("acknowledged", written);
    proof.figure("seed", seed);
    tally.tell(&mut proof);
    Ok(proof)
}

/// Everybody finds what was acknowledged, and the log comes to what there is.
async fn recovered(
    writers: &mut [Writer],
    replay: &mut Replay,
    stage: &Routed,
) -> Result<(), Broken> {
    try_join_all(writers.iter_mut().map(Writer::compare)).await?;
    replay.catch_up(&stage.operator).await
}

/// Asks the proxy for each connection.
async fn same(stage: &Routed, writers: &[Writer]) -> Result<String, Broken> {
    let mut count = 0;
    for writer in writers {
        for (link_id, is_approved) in writer.links() {
            let expected = if is_approved {
                StatusCode::OK
            } else {
                StatusCode::FORBIDDEN
            };
            let host = writer.host();
            let postern = &stage.posterns[0];
            let status = async || {
                let status = stage.status(postern, link_id, host, "/nonce/crash").await;
                status.ok().filter(|status| expected == *status)
            };
            let status = Deadline::after(FOLLOWED).poll(status).await;
            expect(status.is_some(), || {
                format!("link {link_id} of {host} is not answered with {expected}")
            })?;
            count += 1;
        }
    }
    Ok(format!("{count} connections"))
}
