//! A fleet of proxies follows one account-routing service.
//!
//! Each has a connection and a change stream of its own. One change is made after the other; how late the last one
//! hears of each is told, not judged: everything runs on one machine.

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::latency::Latency;
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::credentials::Credentials;
use crate::stack::events::Events;
use crate::stack::routing::{Routing, RoutingOptions};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "routing-fan-out",
    promise: "One account-routing service tells hundreds of proxies of each change, in order and without a gap.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How many follow, and how many changes there are.
struct Length {
    subscribers: usize,
    changes: usize,
}

const FULL: Length = Length {
    subscribers: 200,
    changes: 500,
};
const QUICK: Length = Length {
    subscribers: 50,
    changes: 50,
};

/// The account and the link that change.
const ACCOUNT: &str = "hospital-a";
const LINK: u32 = 60_000;

async fn prove(run: Run) -> Result<Proof, Broken> {
    let length = if run.quick { QUICK } else { FULL };
    let place = run.folder.join("certs");
    let credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
    let options = RoutingOptions::default();
    let routing = Routing::start(&run.folder.join("routing"), &credentials, &options).await?;
    let operator = routing.operator()?;
    operator.seed().await?;
    operator.put_link(ACCOUNT, LINK, "Pending").await?;
    let before = operator.head().await?;
    let subscribe = (0..length.subscribers).map(|_| operator.subscribe(before));
    let subscribers = try_join_all(subscribe).await?;

    let followers = subscribers
        .into_iter()
        .map(|events| tokio::spawn(follow(events, before, length.changes)));
    let followers: Vec<_> = followers.collect();
    let mut made = Vec::with_capacity(length.changes);
    for number in 0..length.changes {
        if number % 2 == 0 {
            operator.approve(ACCOUNT, LINK).await?;
        } else {
            operator.reject(ACCOUNT, LINK).await?;
        }
        made.push(Instant::now());
    }
    let mut last = made.clone();
    let mut proof = Proof::default();
    let mut outcome = Ok(());
    for follower in followers {
        let heard = follower.await.map_err(std::io::Error::from)?;
        match heard {
            Ok(heard) => {
                for (last, heard) in last.iter_mut().zip(heard) {
                    *last = heard.max(*last);
                }
            }
            Err(error) => outcome = Err(error),
        }
    }
    let mut latency = Latency::default();
    for (made, last) in made.iter().zip(&last) {
        latency.add(last.saturating_duration_since(*made));
    }
    let Length {
        subscribers,
        changes,
    } = length;
    proof.row(
        &format!("{subscribers} followers hear of {changes} changes, in order"),
        outcome.map(|()| format!("the last one after {latency}")),
    );
    proof.figure("subscribers", subscribers);
    proof.figure("changes", changes);
    proof.figure("last_heard_ms_max", latency.longest_milliseconds());
    Ok(proof)
}

/// When each of so many changes was heard of.
async fn follow(mut events: Events, after: u64, changes: usize) -> Result<Vec<Instant>, Broken> {
    let mut heard = Vec::with_capacity(changes);
    for expected in after + 1..=after + changes as u64 {
        let event = events.next_called("change").await?;
        let id = event.and_then(|event| event.id);
        expect(id == Some(expected), || {
            format!("change {id:?} came in place of {expected}")
        })?;
        heard.push(Instant::now());
    }
    Ok(heard)
}
