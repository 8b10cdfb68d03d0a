//! The service is killed under load, stays away beyond the ceiling, and comes back with a change.

use std::time::Duration;

use futures_util::future::try_join_all;
use http::StatusCode;
use tokio::time::{Instant, sleep};

use super::FIRST_UNKNOWN;
use crate::check::{Broken, expect};
use crate::prove::Proof;
use crate::prove::routed::Routed;
use crate::stack::Deadline;
use crate::stack::accounts::{HOST_A, HOST_B, LINK_A, LINK_B};
use crate::stack::client::{Connection, Protocol};
use crate::stack::operator::connection_name;
use crate::stack::postern::Postern;

// Limit: from a moment that is known to what shows of it, on busy cores.
const SLACK: Duration = Duration::from_secs(5);

// Limit: two looks at everything.
const PAUSE: Duration = Duration::from_millis(250);

/// Works before the service has gone.
const WARM_UP: Duration = Duration::from_secs(1);

/// A refused request of an unknown link.
const UNKNOWN: &str = "/nonce/unknown";

pub(super) async fn prove(
    stage: &mut Routed,
    stale_max: Duration,
    proof: &mut Proof,
) -> Result<(), Broken> {
    let traffic = stage.traffic();
    let mut victims = Vec::new();
    for postern in &stage.posterns {
        let protocol = Protocol::Http2;
        let mut victim = stage.connect(postern, LINK_B, HOST_B, protocol).await?;
        let answer = victim.get("/nonce/before").await?;
        expect(answer.status == StatusCode::OK, || answer.summary())?;
        victims.push(victim);
    }
    sleep(WARM_UP).await;

    stage.routing.kill();
    let killed = Instant::now();
    // The rest of the time is for what is in flight.
    let looks = looks(stage, killed + stale_max * 6 / 10).await;
    let tally = traffic.stop().await;
    proof.row("known links are served, unknown ones refused", looks);
    proof.row("and the refusal is called so", called(stage).await);
    tally.tell(proof);

    let ended = try_join_all(
        stage
            .posterns
            .iter()
            .map(|postern| unready(postern, killed)),
    )
    .await;
    proof.row(
        "readiness turns at the ceiling",
        at_ceiling(&ended?, stale_max),
    );
    proof.row("then, known links are refused, too", refused(stage).await);

    reject_in_file(stage)?;
    stage.routing.restart().await?;
    let restarted = Instant::now();
    let back = try_join_all(
        stage
            .posterns
            .iter()
            .map(|postern| ready(postern, restarted)),
    )
    .await?;
    let back = back.into_iter().max().unwrap_or_default();
    let back = back.as_secs_f64();
    proof.row(
        "when the service is back, so are they",
        served(stage).await.map(|()| format!("after {back:.2} s")),
    );
    proof.figure("recovery_seconds", (back * 100.0).round() / 100.0);
    proof.row(
        "and a link is revoked that was rejected meanwhile",
        revoked(stage, victims).await,
    );
    Ok(stage.operator.approve("hospital-b", LINK_B).await?)
}

/// Looks at everything again and again.
async fn looks(stage: &Routed, until: Instant) -> Result<String, Broken> {
    let mut count = 0;
    while Instant::now() < until {
        for postern in &stage.posterns {
            count += 1;
            let known = stage
                .status(postern, LINK_B, HOST_B, "/nonce/known")
                .await?;
            let unknown = stage.status(postern, FIRST_UNKNOWN + count, HOST_A, UNKNOWN);
            let unknown = unknown.await?;
            expect((known, unknown) == (200, 503), || {
                format!("look {count}: a known link gets {known}, an unknown one {unknown}")
            })?;
            expect(postern.is_ready().await, || {
                format!("look {count}: not ready")
            })?;
        }
        sleep(PAUSE).await;
    }
    expect(count > 0, || "there was no time for it".to_owned())?;
    Ok(format!("{count} times each"))
}

/// The word is the same in log and metrics.
async fn called(stage: &Routed) -> Result<String, Broken> {
    let word = "lookup_failed";
    for postern in &stage.posterns {
        let line = postern
            .logged(UNKNOWN, |line| line["path"] == UNKNOWN)
            .await?;
        expect(line["refusal"] == word && line["status"] == 503, || {
            line.to_string()
        })?;
        let labels = [("reason", word)];
        postern
            .counted("postern_refusals_total", &labels, 1.0)
            .await?;
    }
    let seen = stage.ingress.seen().all();
    expect(!seen.iter().any(|line| line["uri"] == UNKNOWN), || {
        "the ingress saw it".to_owned()
    })?;
    Ok(format!("{word}; the ingress saw nothing"))
}

/// Waits until it is not ready because of its routes. Returns how long that was after `since`.
async fn unready(postern: &Postern, since: Instant) -> Result<Duration, Broken> {
    let unready = async || {
        let answer = postern.probe_answer("/readyz").await.ok()?;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then(|| (since.elapsed(), answer))
    };
    let (after, answer) = Deadline::after(SLACK * 10)
        .poll(unready)
        .await
        .ok_or_else(|| Broken::Unexpected("it stays ready".to_owned()))?;
    expect(answer.text().contains("routes"), || answer.summary())?;
    Ok(after)
}

fn at_ceiling(ended: &[Duration], stale_max: Duration) -> Result<String, Broken> {
    let text = format!("after {ended:.1?} of {stale_max:?}");
    // The last sign of life was some time before the service was killed.
    let range = stale_max.saturating_sub(Duration::from_secs(2))..stale_max + SLACK;
    expect(ended.iter().all(|after| range.contains(after)), || {
        text.clone()
    })?;
    Ok(text)
}

async fn refused(stage: &Routed) -> Result<String, Broken> {
    for postern in &stage.posterns {
        let status = stage.status(postern, LINK_A, HOST_A, "/nonce/late").await?;
        expect(status == 503, || format!("the answer is {status}"))?;
    }
    Ok("503".to_owned())
}

async fn ready(postern: &Postern, since: Instant) -> Result<Duration, Broken> {
    let ready = async || postern.is_ready().await.then(|| since.elapsed());
    let ready = Deadline::after(SLACK * 4).poll(ready).await;
    ready.ok_or_else(|| Broken::Unexpected("it does not become ready again".to_owned()))
}

async fn served(stage: &Routed) -> Result<(), Broken> {
    for postern in &stage.posterns {
        let status = stage.status(postern, LINK_A, HOST_A, "/nonce/back").await?;
        expect(status == 200, || format!("the answer is {status}"))?;
    }
    Ok(())
}

/// What an operator does while the service is down.
fn reject_in_file(stage: &Routed) -> Result<(), Broken> {
    let connection = format!("stack/hospital-b/{}", connection_name(LINK_B));
    let output = stage.routing.routes_in_file(&["reject", &connection])?;
    expect(output.status.success(), || format!("{output:?}"))
}

/// Open connections end, and new ones are refused.
async fn revoked(stage: &Routed, victims: Vec<Connection>) -> Result<String, Broken> {
    for (postern, victim) in stage.posterns.iter().zip(&victims) {
        let gone = async || victim.is_closed().then_some(());
        let gone = Deadline::after(SLACK).poll(gone).await;
        expect(gone.is_some(), || "its connection stays open".to_owned())?;
        let status = stage
            .status(postern, LINK_B, HOST_B, "/nonce/revoked")
            .await?;
        expect(status == 403, || format!("the answer is {status}"))?;
    }
    Ok("403, and its open connections are gone".to_owned())
}
