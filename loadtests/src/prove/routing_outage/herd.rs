//! As many connections as there can be, with one question that nobody has asked before.
//!
//! The service is halted until all of them wait, so that no answer comes between.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::process::Signal;
use rustls::AlertDescription;
use tokio::sync::Semaphore;

use super::FIRST_UNKNOWN;
use crate::check::{Broken, expect};
use crate::prove::routed::Routed;
use crate::proxy_v2::Header;
use crate::stack::Deadline;
use crate::stack::accounts::HOST_A;
use crate::stack::client::{Protocol, open};
use crate::stack::postern::Postern;

/// Nothing is given up before all of them are there; each is told by an alert, which costs neither side a handshake.
const PATIENT: [(&str, &str); 6] = [
    ("POSTERN_TLS__REFUSE", "alert"),
    ("POSTERN_TLS__TIMEOUT", "1m"),
    ("POSTERN_ROUTE_CACHE__LOOKUP_TIMEOUT", "1m"),
    ("POSTERN_ROUTE_CACHE__NOT_FOUND_TTL", "1m"),
    ("POSTERN_ROUTES__SERVICE__HEDGE_AFTER", "59s"),
    ("POSTERN_LOG__LEVEL", "warn"),
];

// Limit: connections that are being made at the same time; the rest of them wait for their answer.
const CONNECTING_MAX: usize = 256;

// Limit: all of them are there by then; what each step of a client may take.
const GATHERING: Duration = Duration::from_secs(25);

pub(super) async fn prove(stage: &Routed, connections: usize) -> Result<String, Broken> {
    let options = stage.postern_options(&PATIENT);
    let folder = stage.place("postern-herd");
    let postern = Postern::start(&folder, &stage.credentials, &options).await?;
    let before = lookups(stage).await?;

    stage.routing.signal(Signal::STOP)?;
    let connecting = Semaphore::new(CONNECTING_MAX);
    let all = (0..connections).map(|_| connect(stage, &postern, &connecting));
    let mut all: FuturesUnordered<_> = all.collect();
    let gathered = gathered(&postern, connections);
    let asked = async {
        let mut refused = 0;
        while let Some(alert) = all.next().await {
            let alert = alert?;
            expect(alert == Some(AlertDescription::AccessDenied), || {
                format!("after {refused} refusals, {alert:?}")
            })?;
            refused += 1;
        }
        Ok(refused)
    };
    let release = async {
        let gathered = gathered.await;
        stage.routing.signal(Signal::CONT)?;
        gathered
    };
    let (refused, ()) = tokio::try_join!(asked, release)?;
    let made = lookups(stage).await? - before;
    expect(refused == connections && (made - 1.0).abs() < 0.5, || {
        format!("{refused} refused, {made} lookups")
    })?;
    Ok(format!("{refused} refused"))
}

/// What a connection is told.
async fn connect(
    stage: &Routed,
    postern: &Postern,
    connecting: &Semaphore,
) -> Result<Option<AlertDescription>, Broken> {
    let permit = connecting.acquire().await;
    let stream = open(postern.data(), None, &Header::link(FIRST_UNKNOWN)).await?;
    drop(permit);
    let shaken = stage
        .tls
        .handshake(stream, Some(HOST_A), Protocol::Http2)
        .await;
    Ok(shaken.err().and_then(|error| error.alert()))
}

/// Waits until all connections are open at the same time.
async fn gathered(postern: &Postern, connections: usize) -> Result<(), Broken> {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let all = connections as f64;
    let open = async || {
        let metrics = postern.metrics().await.ok()?;
        (metrics.sum("postern_connections_open", &[]) >= all).then_some(())
    };
    let open = Deadline::after(GATHERING).poll(open).await;
    open.ok_or_else(|| Broken::Unexpected(format!("they were not open within {GATHERING:?}")))
}

async fn lookups(stage: &Routed) -> Result<f64, Broken> {
    let metrics = stage.routing.metrics().await?;
    Ok(metrics.sum("postern_routing_lookups_total", &[]))
}
