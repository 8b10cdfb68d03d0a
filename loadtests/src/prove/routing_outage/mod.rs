//! The account-routing service goes away, or is asked by too many at once.
//!
//! Killed under load, with shortened limits: what is known works up to the ceiling, what is not known is refused, and
//! it all comes back by itself. Then crowds: many connections with one question, and a flood of questions. Then starts
//! without the service, from what a Postern has kept on its disk.

mod cold_start;
mod flood;
mod herd;
mod outage;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::routed::Routed;
use super::{Proof, Run, Running, Scenario};
use crate::check::Broken;
use crate::stack::routing::RoutingOptions;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "routing-outage",
    promise: "Without the account-routing service, known links are served up to a ceiling and unknown ones refused with 503; crowds of unknown links neither overwhelm it nor hurt known ones.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How much of everything.
struct Length {
    /// Age up to which an answer is used that the service cannot confirm.
    stale_max: Duration,
    /// Connections at once with one unknown link.
    herd: usize,
    /// Connections with a random link each.
    flood: usize,
    /// Answers that a Postern keeps during the flood.
    kept: usize,
}

const FULL: Length = Length {
    stale_max: Duration::from_secs(20),
    herd: 10_000,
    flood: 200_000,
    kept: 20_000,
};
const QUICK: Length = Length {
    stale_max: Duration::from_secs(8),
    herd: 500,
    flood: 10_000,
    kept: 1_000,
};

/// Answers are asked for again and again, so that all of them are stale soon after the service has gone.
const SHORT: [(&str, &str); 4] = [
    ("POSTERN_ROUTE_CACHE__TTL", "1s"),
    ("POSTERN_ROUTE_CACHE__STALE_WHILE_REVALIDATE", "1s"),
    ("POSTERN_ROUTE_CACHE__NOT_FOUND_TTL", "1s"),
    ("POSTERN_ROUTES__SERVICE__SNAPSHOT_INTERVAL", "500ms"),
];

/// A host is asked for by a link that nobody knows.
const FIRST_UNKNOWN: u32 = 1 << 24;

const POSTERNS: usize = 2;

async fn prove(run: Run) -> Result<Proof, Broken> {
    let length = if run.quick { QUICK } else { FULL };
    let stale_max = format!("{}s", length.stale_max.as_secs());
    let mut variables = SHORT.to_vec();
    variables.push(("POSTERN_ROUTE_CACHE__STALE_MAX", &stale_max));
    let descriptors = allow_descriptors(length.herd)?;
    let options = RoutingOptions::default();
    let mut stage = Routed::start(&run.folder, POSTERNS, &variables, &options).await?;

    let mut proof = Proof::default();
    outage::prove(&mut stage, length.stale_max, &mut proof).await?;
    // Two fewer beside the rest.
    stage.posterns.clear();
    let connections = length.herd.min(descriptors);
    let claim = format!("{connections} connections with one unknown link make one lookup");
    proof.row(&claim, herd::prove(&stage, connections).await);
    proof.figure("herd", connections);
    let claim = format!("{} connections with random links", length.flood);
    proof.row(&claim, flood::prove(&stage, &length).await);
    proof.figure("flood", length.flood);
    cold_start::prove(&mut stage, &mut proof).await?;
    Ok(proof)
}

/// Raises the limit of open files as far as it may be, here and in what is started. Returns how many connections it
/// leaves room for.
fn allow_descriptors(wanted: usize) -> Result<usize, Broken> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(std::io::Error::from)?;
    let all = limit
        .maximum
        .map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
    Ok(wanted.min(all.saturating_sub(OTHER_DESCRIPTORS)))
}

// Limit: what a process here has open besides the connections of a crowd.
const OTHER_DESCRIPTORS: usize = 500;
