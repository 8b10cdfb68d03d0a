//! A Postern starts while the service is down, with what one before it has left on the disk.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::SHORT;
use crate::check::{Broken, expect};
use crate::prove::Proof;
use crate::prove::routed::Routed;
use crate::stack::accounts::{HOST_A, HOST_B, LINK_A, LINK_B};
use crate::stack::child::READY_TIMEOUT;
use crate::stack::postern::{Postern, SNAPSHOT};
use crate::stack::{Deadline, StackError, write_file};

/// A snapshot is young for so long.
const YOUNG: Duration = Duration::from_secs(6);
const YOUNG_VARIABLE: (&str, &str) = ("POSTERN_ROUTE_CACHE__STALE_MAX", "6s");

// Limit: who is not ready then has had the time to become it; the others need a tenth of it.
const NOT_READY: Duration = Duration::from_secs(2);

pub(super) async fn prove(stage: &mut Routed, proof: &mut Proof) -> Result<(), Broken> {
    let first = launch(stage, "first")?;
    let snapshot = snapshot(stage, first).await?;
    stage.routing.kill();
    let killed = Instant::now();

    proof.row(
        "a start with a young snapshot serves without the service",
        young(stage, &snapshot).await,
    );
    let half = &snapshot[..snapshot.len() / 2];
    let damaged = unready(stage, "damaged", half).await;
    tokio::time::sleep_until(killed + YOUNG).await;
    let old = unready(stage, "old", &snapshot).await;
    let (restarted, mut waiting) = (stage.routing.restart().await?, Vec::new());
    for (claim, outcome) in [
        ("a start with a damaged snapshot is not ready", damaged),
        ("nor is one with an old one", old),
    ] {
        let outcome = outcome.map(|(postern, why)| {
            waiting.push(postern);
            why
        });
        proof.row(claim, outcome);
    }
    let mut ready = Ok(format!("the service was back after {restarted:.1?}"));
    for postern in &waiting {
        let is_ready = async || postern.is_ready().await.then_some(());
        if Deadline::after(READY_TIMEOUT)
            .poll(is_ready)
            .await
            .is_none()
        {
            ready = Err(Broken::Unexpected("it does not become ready".to_owned()));
        }
    }
    proof.row("until the service is back", ready);
    Ok(())
}

fn launch(stage: &Routed, name: &str) -> Result<Postern, Broken> {
    let mut variables = SHORT.to_vec();
    variables.push(YOUNG_VARIABLE);
    let options = stage.postern_options(&variables);
    let folder = place(stage, name);
    Ok(Postern::launch(&folder, &stage.credentials, &options)?)
}

fn place(stage: &Routed, name: &str) -> std::path::PathBuf {
    stage.place(&format!("postern-{name}"))
}

/// What a Postern leaves that has had the time to.
async fn snapshot(stage: &Routed, postern: Postern) -> Result<Vec<u8>, Broken> {
    let path = place(stage, "first").join(SNAPSHOT);
    let whole = async || read(&path).ok().filter(|bytes| contains(bytes, HOST_B));
    let whole = Deadline::after(READY_TIMEOUT).poll(whole).await;
    expect(whole.is_some(), || "there is no snapshot".to_owned())?;
    drop(postern);
    Ok(read(&path)?)
}

fn read(path: &Path) -> Result<Vec<u8>, StackError> {
    std::fs::read(path).map_err(|source| StackError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

fn contains(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

async fn young(stage: &Routed, snapshot: &[u8]) -> Result<String, Broken> {
    let began = Instant::now();
    let postern = launch_with(stage, "young", snapshot)?;
    let ready = async || postern.is_ready().await.then(|| began.elapsed());
    let ready = Deadline::after(YOUNG).poll(ready).await;
    let ready = ready.ok_or_else(|| Broken::Unexpected("it is not ready".to_owned()))?;
    for (link_id, host) in [(LINK_A, HOST_A), (LINK_B, HOST_B)] {
        let status = stage
            .status(&postern, link_id, host, "/nonce/young")
            .await?;
        expect(status == 200, || format!("link {link_id} gets {status}"))?;
    }
    Ok(format!("ready after {:.2} s", ready.as_secs_f64()))
}

fn launch_with(stage: &Routed, name: &str, snapshot: &[u8]) -> Result<Postern, Broken> {
    let folder = place(stage, name);
    crate::stack::make_folder(&folder)?;
    write_file(&folder.join(SNAPSHOT), snapshot)?;
    launch(stage, name)
}

/// Starts one that may not become ready, and asks it why.
async fn unready(stage: &Routed, name: &str, snapshot: &[u8]) -> Result<(Postern, String), Broken> {
    let postern = launch_with(stage, name, snapshot)?;
    let answers = async || postern.probe_answer("/readyz").await.ok();
    let answers = Deadline::after(READY_TIMEOUT).poll(answers).await;
    expect(answers.is_some(), || "it does not answer".to_owned())?;
    sleep(NOT_READY).await;
    let answer = postern.probe_answer("/readyz").await?;
    expect(
        answer.status == 503 && answer.text().contains("routes"),
        || answer.summary(),
    )?;
    Ok((postern, answer.summary()))
}
