//! A scale set shrinks: the machine that is to go drains, and says when it may be taken.
//!
//! Everything is real but what Azure says. First another machine is to go, then this one while customers work; at last
//! one with a customer who never ends, whose sidecar is killed meanwhile.

mod clients;
mod machine;

use std::path::Path;
use std::time::{Duration, SystemTime};

use postern_control::testing::scheduled_events::Plan;

use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::client::Protocol;
use crate::stack::web_socket;
use clients::{Clients, Told};
use machine::{MARGIN, Machine, NAME, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "terminate",
    promise: "A machine that its scale set is to lose drains before it is taken, and says so as soon as nothing can be lost.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How many machines go while customers work.
const ROUNDS: u32 = 5;
const ROUNDS_QUICK: u32 = 1;

/// The notice of a machine that can drain in time, and of one that cannot.
const LONG: Duration = Duration::from_mins(2);
const SHORT: Duration = Duration::from_secs(25);

/// So many looks are waited for, to see that nothing is done.
const LOOKS: usize = 12;

/// So long before the deadline Postern is told to cut.
const CUT_TIME: Duration = Duration::from_secs(1);
// Limit: how far a look of the sidecar and its clock of whole seconds may be off.
const SLACK: Duration = Duration::from_millis(1500);

async fn prove(run: Run) -> Result<Proof, Broken> {
    let rounds = if run.quick { ROUNDS_QUICK } else { ROUNDS };
    let mut proof = Proof::default();
    let (mut requests, mut uploads, mut crossed, mut failed) = (0, 0, 0, 0);
    for round in 1..=rounds {
        let machine = Machine::start(&run.folder.join(round.to_string())).await?;
        let eye = machine.eye();
        let clients = Clients::start(&machine, &eye.seen)?;
        proof.row(
            "what is planned for other machines, or freezes this one, does nothing",
            not_concerned(&machine).await,
        );
        let planned = SystemTime::now();
        let event = machine.events.plan(Plan::new("Terminate", NAME, LONG));
        let acknowledged = machine.acknowledged(&event, LONG).await?;
        let told = clients.done().await;
        let seen = *eye.seen.borrow();
        for failure in &told.failures {
            proof.broken(failure);
        }
        let times = Times::of(planned, seen, &told, acknowledged);
        let in_order = times.and_then(|times| times.in_order(&mut proof));
        proof.row(
            "not ready, not accepting, uploads done, acknowledged: in this order",
            in_order,
        );
        proof.row(
            "the sidecar counts it",
            counted(&machine, "acknowledged").await,
        );
        requests += told.requests;
        uploads += told.uploads;
        let lost = processed(&machine, &told);
        for path in &lost {
            proof.broken(&format!(
                "{path} crossed GOAWAY and was processed nevertheless"
            ));
        }
        failed += told.failures.len() + lost.len();
        crossed += told.crossed.len();
    }
    let outcome = Box::pin(never_ends(&run.folder.join("never-ends"), &mut proof)).await;
    proof.row(
        "what never ends is cut at the deadline, whoever of two sidecars is there",
        outcome,
    );
    proof.figure("rounds", rounds);
    proof.figure("requests", requests);
    proof.figure("uploads", uploads);
    proof.figure("crossed_goaway", crossed);
    proof.figure("failed", failed);
    Ok(proof)
}

/// Events of other machines, and of a kind that connections outlive.
async fn not_concerned(machine: &Machine) -> Result<String, Broken> {
    machine
        .events
        .plan(Plan::new("Terminate", "postern-weu_4", LONG));
    machine.events.plan(Plan::new("Freeze", NAME, LONG));
    machine.looked(LOOKS).await?;
    let phase = machine.phase().await?;
    let is_ready = machine.stack.postern.is_ready().await;
    expect(phase == "serving" && is_ready, || {
        format!("Postern is {phase}, ready: {is_ready}")
    })?;
    let acknowledged = machine.events.acknowledgements();
    expect(acknowledged.is_empty(), || format!("{acknowledged:?}"))?;
    counted(machine, "ignored").await?;
    Ok(format!("{LOOKS} looks later Postern is {phase}"))
}

/// Of the requests that crossed GOAWAY, those that the ingress saw.
fn processed(machine: &Machine, told: &Told) -> Vec<String> {
    let lines = machine.stack.ingress.seen().all();
    let seen = |path: &&String| lines.iter().any(|line| line["uri"] == path.as_str());
    told.crossed.iter().filter(seen).cloned().collect()
}

async fn counted(machine: &Machine, outcome: &str) -> Result<String, Broken> {
    let count = machine.counted(outcome).await?;
    expect((count - 1.0).abs() < 0.1, || format!("{count} {outcome}"))?;
    Ok(format!("{count} {outcome}"))
}

/// When things happened, after the event was planned.
struct Times {
    not_ready: Duration,
    not_accepting: Duration,
    uploaded: Duration,
    acknowledged: Duration,
}

impl Times {
    fn of(
        planned: SystemTime,
        seen: Seen,
        told: &Told,
        acknowledged: SystemTime,
    ) -> Result<Self, Broken> {
        let after = |what: &str, at: Option<SystemTime>| {
            let after = at.and_then(|at| at.duration_since(planned).ok());
            after.ok_or_else(|| Broken::Unexpected(format!("{what} was not seen after the event")))
        };
        Ok(Self {
            not_ready: after("not ready", seen.not_ready)?,
            not_accepting: after("not accepting", seen.not_accepting)?,
            uploaded: after("the end of an upload", told.uploaded)?,
            acknowledged: after("the acknowledgement", Some(acknowledged))?,
        })
    }

    fn in_order(&self, proof: &mut Proof) -> Result<String, Broken> {
        let all = [
            ("not_ready_ms", self.not_ready),
            ("not_accepting_ms", self.not_accepting),
            ("uploaded_ms", self.uploaded),
            ("acknowledged_ms", self.acknowledged),
        ];
        let texts = all.map(|(name, time)| {
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            proof.figure(name, milliseconds);
            format!("{milliseconds} ms")
        });
        let text = texts.join(", ");
        expect(all.is_sorted_by_key(|(_, time)| *time), || text.clone())?;
        Ok(text)
    }
}

/// A WebSocket that nobody ends, and a sidecar that is killed when the drain has begun.
async fn never_ends(folder: &Path, proof: &mut Proof) -> Result<String, Broken> {
    let mut machine = Machine::start(folder).await?;
    let stack = &machine.stack;
    let mut connection = stack.connect(LINK_A, HOST_A, Protocol::Http1).await?;
    let mut socket = web_socket::open(&mut connection, Protocol::Http1, "/websocket").await?;
    let event = machine.events.plan(Plan::new("Terminate", NAME, SHORT));
    let begins = machine.events.not_before(&event);
    let begins = begins.ok_or_else(|| Broken::Unexpected("the event is not planned".into()))?;
    machine.is_in("ending").await?;
    machine.replace_sidecar().await?;
    while web_socket::says_back(&mut socket, "still here").await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cut = SystemTime::now();
    let acknowledged = machine.acknowledged(&event, SHORT).await?;
    let before = |at: SystemTime| begins.duration_since(at).unwrap_or_default();
    let (cut, acknowledged) = (before(cut), before(acknowledged));
    proof.figure(
        "cut_ms_before",
        u64::try_from(cut.as_millis()).unwrap_or(u64::MAX),
    );
    proof.figure(
        "deadline_ms_before",
        u64::try_from(acknowledged.as_millis()).unwrap_or(u64::MAX),
    );
    let text = format!("cut {cut:.1?}, acknowledged {acknowledged:.1?} before it begins");
    // Neither early nor late.
    let in_time = cut <= MARGIN + CUT_TIME + SLACK && acknowledged <= cut;
    expect(in_time && !acknowledged.is_zero(), || text.clone())?;
    counted(&machine, "deadline").await?;
    Ok(text)
}
