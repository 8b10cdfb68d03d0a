//! The program of a running Postern is replaced again and again while customers work, and none of them notices.
//!
//! Each time another file takes the program's name by rename, as a package does, and SIGUSR2 has the process start it
//! and hand its listeners over. What must be refused is in between: a program that fails, one that never becomes
//! ready, a configuration that is no good. Nothing ends before its time: a WebSocket of the first process is open to
//! the end, and an upload ends in the process where it began.

mod process;
mod refused;

use std::time::Duration;

use super::latency::Latency;
use super::site::Site;
use super::traffic::{Targets, Traffic};
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::postern::Postern;
use process::{Process, Program};
use refused::Refused;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "upgrade",
    promise: "The program of a running process is replaced without one failed request or cut connection, and one that is no good is refused.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How often, and how long an upload lasts.
struct Length {
    upgrades: u32,
    /// What must be refused, and after how many upgrades each time.
    refused: &'static [Refused],
    refused_every: u32,
    upload: Duration,
    /// So many clients with an upload, and with a WebSocket, over each protocol.
    lasting: u32,
}

const FULL: Length = Length {
    upgrades: 20,
    refused: Refused::ALL,
    refused_every: 7,
    upload: Duration::from_mins(2),
    lasting: 6,
};
const QUICK: Length = Length {
    upgrades: 3,
    refused: Refused::QUICK,
    refused_every: 3,
    upload: Duration::from_secs(5),
    lasting: 2,
};

/// Customers work with each process for so long.
const PAUSE: Duration = Duration::from_secs(1);

// Limit: how long a new process may take to become ready; a debug build on busy cores is the slow case.
const READY_IN: &str = "8s";

// Limit: what an upgrade may leave open is as much as a process opens by itself: connections to the ingress.
const DESCRIPTORS_MORE_MAX: usize = 32;

async fn prove(run: Run) -> Result<Proof, Broken> {
    let length = if run.quick { QUICK } else { FULL };
    let site = Site::start(&run.folder).await?;
    let program = Program::copy_to(&site.place("bin"))?;
    let mut options = site.options(&[
        ("POSTERN_UPGRADE__TIMEOUT", READY_IN),
        // Nobody is cut: the first process lasts as long as its WebSockets.
        ("POSTERN_DRAIN__TIMEOUT", "1h"),
    ]);
    options.program = Some(program.path().to_owned());
    let mut postern = site.postern("postern", &options).await?;
    let first = Process::of(&postern);
    let fresh = first.descriptors()?;

    let mut proof = Proof::default();
    let traffic = Traffic::start(Targets {
        upload_time: length.upload,
        lasting: length.lasting,
        ..Targets::new(vec![postern.data()], site.tls.clone())
    });
    let mut took = Latency::default();
    for count in 1..=length.upgrades {
        tokio::time::sleep(PAUSE).await;
        if count % length.refused_every == 0 {
            for refused in length.refused {
                let outcome = refused.prove(&mut postern, &program).await;
                proof.row(refused.claim(), outcome);
            }
        }
        took.add(upgrade(&mut postern, &program).await?);
    }
    proof.row(
        "each upgrade has the program that lies there",
        Ok(format!("{} of them, each after {took}", took.count())),
    );
    let lives = first.is_running();
    let lives = expect(lives, || "it has ended, although it had WebSockets".into());
    let claim = "the first process lasts as long as its connections";
    proof.row(claim, lives.map(|()| "it is there to the end".into()));

    let tally = traffic.stop().await;
    let ended = postern.previous_ended(length.upload).await;
    let claim = "each process but the newest ends by itself";
    let text = || format!("{} of them", took.count());
    proof.row(claim, ended.map(|()| text()).map_err(Broken::from));
    let last = Process::of(&postern);
    proof.row("nothing is left open", left_open(last, fresh));
    proof.figure("upgrades", took.count());
    proof.figure("longest_upgrade_milliseconds", took.longest_milliseconds());
    proof.figure("last_descriptors", last.descriptors()?);
    proof.figure("last_resident_kilobytes", last.resident_kilobytes()?);
    proof.figure("requests", tally.done());
    tally.tell_lost(&mut proof);
    Ok(proof)
}

/// Puts another file in the program's place and has it taken. Tells how long that took.
async fn upgrade(postern: &mut Postern, program: &Program) -> Result<Duration, Broken> {
    let old = Process::of(postern);
    let inode = program.replace()?;
    let began = tokio::time::Instant::now();
    let new = postern.upgrade().await?;
    let took = began.elapsed();
    let new = Process::new(new);
    expect(new != old, || format!("{new:?} took over from itself"))?;
    let runs = new.program_inode()?;
    expect(runs == inode, || {
        format!("the new process runs another file: inode {runs}, not {inode}")
    })?;
    expect(postern.is_ready().await, || "it is not ready".into())?;
    Ok(took)
}

fn left_open(last: Process, fresh: usize) -> Result<String, Broken> {
    let descriptors = last.descriptors()?;
    let text = format!("{descriptors} descriptors, {fresh} in the first process when it had begun");
    expect(descriptors <= fresh + DESCRIPTORS_MORE_MAX, || text.clone())?;
    Ok(text)
}
