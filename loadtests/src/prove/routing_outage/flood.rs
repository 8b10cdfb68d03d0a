//! Connections with random link ids, as many and as fast as a stranger could make them, beside customers.

use futures_util::stream::{self, StreamExt as _};

use super::{FIRST_UNKNOWN, Length, SHORT};
use crate::check::{Broken, expect};
use crate::prove::routed::Routed;
use crate::prove::traffic::{Targets, Traffic};
use crate::proxy_v2::Header;
use crate::stack::accounts::{HOST_A, HOST_B, LINK_B};
use crate::stack::client::{Protocol, open};
use crate::stack::postern::Postern;

// Limit: connections of the flood at a time.
const AT_ONCE: usize = 64;

/// How much of the flood comes before memory is first looked at: all that is kept is full by then.
const WARM_UP: usize = 5;

// Limit: what a process may have grown by from a fifth of the flood to its end: allocations of connections that
// happen to be there.
const GROWTH_BYTES_MAX: f64 = 16.0 * 1024.0 * 1024.0;

pub(super) async fn prove(stage: &Routed, length: &Length) -> Result<String, Broken> {
    let kept = length.kept.to_string();
    let mut variables = SHORT.to_vec();
    variables.push(("POSTERN_TLS__REFUSE", "alert"));
    variables.push(("POSTERN_ROUTE_CACHE__ENTRIES_MAX", &kept));
    // What is refused is worth a line, and this is not about the disk.
    variables.push(("POSTERN_ACCESS_LOG__OUTPUT", "off"));
    let options = stage.postern_options(&variables);
    let folder = stage.place("postern-flood");
    let postern = Postern::start(&folder, &stage.credentials, &options).await?;
    let traffic = Traffic::start(Targets::new(vec![postern.data()], stage.tls.clone()));

    let warm_up = length.flood / WARM_UP;
    flood(stage, &postern, 0..warm_up).await?;
    let before = resident(stage, &postern).await?;
    flood(stage, &postern, warm_up..length.flood).await?;
    let grown = resident(stage, &postern).await? - before;
    let status = stage
        .status(&postern, LINK_B, HOST_B, "/nonce/known")
        .await?;
    expect(status == 200, || {
        format!("another link gets {status} afterwards")
    })?;
    let tally = traffic.stop().await;
    let broken = tally.broken();
    expect(broken.is_empty(), || broken.join("; "))?;
    let text = format!(
        "{:.1} MiB more; {} exchanges of customers beside them",
        grown / 1024.0 / 1024.0,
        tally.done()
    );
    expect(grown <= GROWTH_BYTES_MAX, || text.clone())?;
    Ok(text)
}

/// Connections with these numbers. None of them may be welcome.
async fn flood(
    stage: &Routed,
    postern: &Postern,
    numbers: std::ops::Range<usize>,
) -> Result<(), Broken> {
    let refused = stream::iter(numbers).map(|number| async move {
        let link_id = FIRST_UNKNOWN + scattered(number);
        let stream = open(postern.data(), None, &Header::link(link_id)).await?;
        let protocol = Protocol::Http2;
        let shaken = stage.tls.handshake(stream, Some(HOST_A), protocol).await;
        expect(shaken.is_err(), || format!("link {link_id} is let in"))
    });
    let mut refused = refused.buffer_unordered(AT_ONCE);
    while let Some(refused) = refused.next().await {
        refused?;
    }
    Ok(())
}

/// A number below 2^24 for each number below that, in no order (an odd factor is invertible).
fn scattered(number: usize) -> u32 {
    const FACTOR: u32 = 0x9E37_79B1;
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    number.wrapping_mul(FACTOR) & (FIRST_UNKNOWN - 1)
}

/// The memory of Postern and the service, in bytes.
async fn resident(stage: &Routed, postern: &Postern) -> Result<f64, Broken> {
    let name = "process_resident_memory_bytes";
    let service = stage.routing.metrics().await?.sum(name, &[]);
    Ok(postern.metrics().await?.sum(name, &[]) + service)
}
