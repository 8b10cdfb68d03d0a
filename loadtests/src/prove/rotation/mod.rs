//! Every credential is replaced again and again while customers work, and none of them notices.
//!
//! Of each kind (certificate for clients, identity towards the ingress, trust, ticket keys) there is something new in
//! the vault every so often. The sidecar publishes it, two Posterns read it, and each time it has to be seen in use at
//! both, from outside.

mod source;

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, interval};

use super::fleet::Fleet;
use super::latency::Latency;
use super::traffic::{Kind as Traffic, Sort, Tally, UPLOAD_TIME};
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::client::Protocol;
use crate::stack::credentials::Credentials;
use crate::stack::vault::Vault;
use source::{Kind, Seed, Source};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rotation",
    promise: "Certificates, trust and ticket keys rotate under load without one failed request or cut connection.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How long, and how many of each kind.
struct Length {
    time: Duration,
    rotations: u32,
}

const FULL: Length = Length {
    time: Duration::from_mins(5),
    rotations: 200,
};
const QUICK: Length = Length {
    time: Duration::from_secs(8),
    rotations: 5,
};

// Limit: a connection to the ingress of a former generation ends with what it carries; then it is swept each second.
const PREVIOUS_TIMEOUT: Duration = UPLOAD_TIME.saturating_add(Duration::from_secs(10));

// Limit: what a process may have grown by between a tenth of the time and its end. It does so while each worker sees
// each kind of traffic for the first time, and with nothing else.
const GROWTH_BYTES_MAX: f64 = 16.0 * 1024.0 * 1024.0;

const POSTERNS: usize = 2;
/// One over each protocol to each process: what they hold of a former generation they may keep.
const WEB_SOCKETS: usize = Protocol::ALL.len() * POSTERNS;

async fn prove(run: Run) -> Result<Proof, Broken> {
    let length = if run.quick { QUICK } else { FULL };
    let seed = |vault: &Vault, _: &Credentials| Seed::put_into(vault);
    let (fleet, seed) = Fleet::start(&run.folder, POSTERNS, seed).await?;
    // Until the first ticket key begins, each process uses one of its own.
    seed.first_ticket_key.shown_by_all(&fleet).await?;
    let stage = Stage {
        source: Source::new(&fleet, seed),
        fleet: &fleet,
    };

    let mut proof = Proof::default();
    let traffic = fleet.traffic();
    let (memory, latencies) =
        tokio::join!(stage.memory(length.time / 10), stage.rotate_all(&length));
    for (kind, outcome) in Kind::ALL.into_iter().zip(latencies) {
        let claim = format!("{} rotations of {}", length.rotations, kind.label());
        proof.row(
            &claim,
            outcome.map(|latency| format!("each in use after {latency}")),
        );
    }
    let grown = stage.resident().await? - memory?;
    proof.row("memory is flat", is_flat(grown));
    proof.row(
        "connections to the ingress of former generations end",
        stage
            .fleet
            .previous_have_ended(WEB_SOCKETS, PREVIOUS_TIMEOUT)
            .await,
    );
    let tally = traffic.stop().await;
    proof.row(
        "and those of the WebSockets, with them",
        fleet.previous_have_ended(0, PREVIOUS_TIMEOUT).await,
    );
    proof.row("sessions resume on the other process", resumed(&tally));
    proof.figure("rotations", length.rotations * 4);
    proof.figure("grown_kilobytes", (grown / 1024.0).round());
    tally.tell(&mut proof);
    Ok(proof)
}

/// What a rotation is seen on.
struct Stage<'a> {
    fleet: &'a Fleet,
    source: Source<'a>,
}

impl Stage<'_> {
    /// Rotates every kind at the same time.
    async fn rotate_all(&self, length: &Length) -> [Result<Latency, Broken>; 4] {
        let [server, client, trust, tickets] = Kind::ALL;
        let outcomes = tokio::join!(
            self.rotate(server, length),
            self.rotate(client, length),
            self.rotate(trust, length),
            self.rotate(tickets, length),
        );
        outcomes.into()
    }

    /// One rotation after the other, evenly over the time. Each is seen in use before the next, but for ticket keys:
    /// each is there some time before it is used.
    async fn rotate(&self, kind: Kind, length: &Length) -> Result<Latency, Broken> {
        let mut turns = interval(length.time / length.rotations);
        let mut checks = FuturesUnordered::new();
        let (mut latency, mut left) = (Latency::default(), length.rotations);
        loop {
            let may_rotate = left > 0 && (checks.is_empty() || kind == Kind::Tickets);
            tokio::select! {
                _ = turns.tick(), if may_rotate => {
                    left -= 1;
                    let (published, sign) = (Instant::now(), self.source.rotate(kind)?);
                    checks.push(async move {
                        let shown = sign.shown_by_all(self.fleet).await;
                        shown.map(|()| published.elapsed())
                    });
                }
                Some(took) = checks.next() => latency.add(took?),
                else => return Ok(latency),
            }
        }
    }

    /// The memory of all Posterns and the sidecar, in bytes.
    async fn resident(&self) -> Result<f64, Broken> {
        let name = "process_resident_memory_bytes";
        let sidecar = self.fleet.sidecar.metrics().await?.sum(name, &[]);
        Ok(self.fleet.sum(name, &[]).await? + sidecar)
    }

    /// The same, after a while.
    async fn memory(&self, after: Duration) -> Result<f64, Broken> {
        tokio::time::sleep(after).await;
        self.resident().await
    }
}

fn is_flat(grown: f64) -> Result<String, Broken> {
    #[expect(clippy::cast_precision_loss, reason = "two, and the sidecar")]
    let bound = GROWTH_BYTES_MAX * (POSTERNS + 1) as f64;
    let text = format!("{:.1} MiB more in all", grown / 1024.0 / 1024.0);
    expect(grown <= bound, || text.clone())?;
    Ok(text)
}

/// Each connection went to the other process than the one before, and only the first had no ticket.
fn resumed(tally: &Tally) -> Result<String, Broken> {
    let mut all = 0;
    for protocol in Protocol::ALL {
        let kind = Traffic {
            sort: Sort::Resumptions,
            protocol,
        };
        let count = tally.of(kind);
        let text = format!("{} of {} {kind}", count.resumed, count.done);
        expect(count.resumed > 0 && count.resumed + 1 >= count.done, || {
            text
        })?;
        all += count.resumed;
    }
    Ok(format!("{all}"))
}
