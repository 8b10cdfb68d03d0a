//! Instances are drained and replaced behind a load balancer while customers work, and none of them notices.
//!
//! Two Posterns, and `HAProxy` before them, which probes. One of the two is told to drain, by SIGTERM or by
//! `POST /drain` first; the load balancer notices while it still accepts; then connections are asked to end and come
//! back to the other. As soon as its data listener is closed another instance takes its address, although the old one
//! still carries what takes long (an upload, a WebSocket), and the other one of the two is next.

mod deadline;
mod pair;

use std::time::Duration;

use tokio::task::LocalSet;

use super::site::Site;
use super::traffic::{Targets, Traffic};
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use pair::{Asked, Pair};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "drain",
    promise: "Instances behind a load balancer are drained and replaced without one failed request, and no connection is cut before its deadline.",
    // What drains is watched beside the next drain, on this thread.
    run: |run| -> Running {
        Box::pin(async { LocalSet::new().run_until(Box::pin(prove(run))).await })
    },
};

/// How often, and how long what is to outlive a drain lasts.
struct Length {
    drains: u32,
    upload: Duration,
    talk: Duration,
    /// So many of each, over each protocol: enough to be at both instances at any time.
    lasting: u32,
}

const FULL: Length = Length {
    drains: 20,
    upload: Duration::from_mins(2),
    talk: Duration::from_secs(45),
    lasting: 12,
};
const QUICK: Length = Length {
    drains: 3,
    upload: Duration::from_secs(4),
    talk: Duration::from_secs(3),
    lasting: 4,
};

// Limit: what was begun just before the end of the notice lasts as long as it does, on busy cores a little longer.
const DEADLINE_MARGIN: Duration = Duration::from_mins(1);

async fn prove(run: Run) -> Result<Proof, Broken> {
    let length = if run.quick { QUICK } else { FULL };
    let site = Site::start(&run.folder).await?;
    let mut proof = Proof::default();
    let deadline = length.upload.max(length.talk) + DEADLINE_MARGIN;
    let mut pair = Pair::start(&site, deadline).await?;
    let traffic = Traffic::start(Targets {
        upload_time: length.upload,
        talk_time: Some(length.talk),
        lasting: length.lasting,
        ..Targets::new(vec![pair.address()], site.tls.clone())
    });
    let turns = [(0, Asked::BySignal), (1, Asked::ByPost)];
    let turns = turns
        .into_iter()
        .chain([(0, Asked::ByPost), (1, Asked::BySignal)]);
    for (number, asked) in turns.cycle().zip(0..length.drains).map(|(turn, _)| turn) {
        // Customers work with both for a while.
        tokio::time::sleep(PAUSE).await;
        pair.drain(number, asked).await?;
    }
    let tally = traffic.stop().await;
    let left_behind = pair.left_behind;
    let (refused, drains) = pair.end().await;
    let claim = "each ends by itself before its deadline, with 0";
    match drains {
        Ok(drains) => {
            let text = format!("{} drains took {drains}", drains.count());
            proof.figure("drains", drains.count());
            proof.figure("longest_drain_milliseconds", drains.longest_milliseconds());
            proof.row(claim, Ok(text));
        }
        Err(error) => proof.row(claim, Err(error)),
    }
    let outlived = expect(left_behind > 0, || "nothing was open any more".into());
    let text = format!("{left_behind} connections went on in an instance that was replaced");
    proof.row("a drain waits for what takes long", outlived.map(|()| text));
    let taken = expect(refused == 0, || format!("{refused} were refused"));
    let claim = "no connection comes to an instance that does not accept";
    proof.row(claim, taken.map(|()| "none refused".into()));
    let claim = "what is left at the deadline is cut then, counted and logged";
    proof.row(claim, deadline::prove(&site).await);
    proof.figure("requests", tally.done());
    proof.figure("left_behind", left_behind);
    tally.tell_lost(&mut proof);
    Ok(proof)
}

const PAUSE: Duration = Duration::from_secs(1);
