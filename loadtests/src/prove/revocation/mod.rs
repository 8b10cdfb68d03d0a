//! Links are approved and revoked again and again, while others of the same account work.
//!
//! Each lane is a private endpoint connection of hospital A. In each turn it is approved, opens connections of every
//! kind, and is revoked in one of three ways. Beside them customers work over another link of the same account.

mod lane;
mod open;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::latency::Latency;
use super::routed::Routed;
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::routing::RoutingOptions;
use lane::{Lane, Turns, Way};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "revocation",
    promise: "A link that is approved works with its next connection; one that is revoked is refused within a second on the connections that it has open, and no other link notices.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How many links, and how often each is revoked.
struct Length {
    lanes: u32,
    turns: usize,
}

const FULL: Length = Length {
    lanes: 20,
    turns: 50,
};
const QUICK: Length = Length {
    lanes: 17,
    turns: Way::ALL.len(),
};

/// The first link id of the lanes.
const FIRST_LINK: u32 = 50_000;

/// How long what a revoked link has open may go on.
const BOUND: Duration = Duration::from_secs(2);
const BOUND_VARIABLE: (&str, &str) = ("POSTERN_ROUTES__REVOKED_TIMEOUT", "2s");

/// The account of all lanes.
const ACCOUNT: &str = "hospital-a";

// Limit: what is promised, from the acknowledged change until it is seen.
const PROMISED: Duration = Duration::from_secs(1);

// Limit: what is late by so much is not waited for.
const GIVE_UP: Duration = Duration::from_secs(20);

async fn prove(run: Run) -> Result<Proof, Broken> {
    let length = if run.quick { QUICK } else { FULL };
    let variables = [BOUND_VARIABLE];
    let stage = Routed::start(&run.folder, 1, &variables, &RoutingOptions::default()).await?;

    let mut proof = Proof::default();
    let traffic = stage.traffic();
    let lanes = (0..length.lanes).map(|number| {
        let lane = Lane::new(&stage, FIRST_LINK + number);
        lane.run(length.turns, number as usize)
    });
    let outcome = try_join_all(lanes).await;
    let tally = traffic.stop().await;
    let mut all = Turns::default();
    for turns in outcome? {
        all.merge(turns);
    }

    proof.row(
        "after its approval, the next connection works",
        within(all.granted, PROMISED),
    );
    for (way, latency) in Way::ALL.into_iter().zip(all.refused) {
        let claim = format!("{}, new requests are refused", way.label());
        proof.row(&claim, within(latency, PROMISED));
    }
    proof.row(
        "WebSockets, gRPC calls and downloads are gone",
        within(all.gone, PROMISED + BOUND),
    );
    proof.row(
        "the ingress saw nothing of what was refused",
        unseen(&stage, &all.refused_paths),
    );
    let mut refused = Latency::default();
    for latency in all.refused {
        refused.merge(latency);
    }
    proof.figure("revocations", all.revocations);
    proof.figure("granted_ms_max", all.granted.longest_milliseconds());
    proof.figure("refused_ms_max", refused.longest_milliseconds());
    proof.figure("gone_ms_max", all.gone.longest_milliseconds());
    tally.tell(&mut proof);
    Ok(proof)
}

fn within(latency: Latency, bound: Duration) -> Result<String, Broken> {
    let text = format!("{} times, after {latency}", latency.count());
    expect(latency.count() > 0 && latency.longest() <= bound, || {
        text.clone()
    })?;
    Ok(text)
}

fn unseen(stage: &Routed, refused: &HashSet<String>) -> Result<String, Broken> {
    let lines = stage.ingress.seen().all();
    let mut seen = lines.iter().filter_map(|line| line["uri"].as_str());
    let wrong = seen.find(|uri| refused.contains(*uri));
    expect(wrong.is_none() && !refused.is_empty(), || {
        format!("of {} requests, it saw {wrong:?}", refused.len())
    })?;
    Ok(format!("{} requests", refused.len()))
}
