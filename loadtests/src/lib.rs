//! The local stack, the Private Link Service stand-in, and the scenarios that prove what Postern promises.
//!
//! ```text
//!            link_lb            postern           stack::nginx      stack::echo
//!  client ── PROXY v2 header ── (the binary) ──── the ingress ───── the back end
//!            proxy_v2                  mutual TLS
//! ```
//!
//! * [`stack`]: real processes with generated configuration: ingress, back end, vault, sidecar, Postern, and a test
//!   client.
//! * [`proxy_v2`]: the header a Private Link Service puts before each connection.
//! * [`link_lb`]: a stand-in for the Private Link Service; [`key_vault`]: one for Key Vault and its identity.
//! * [`up`]: the whole stack, verified and left running.
//! * [`prove`]: one file for each promise, with the scenario that proves it; [`prove::traffic`] runs beside them.
//! * [`bench`](mod@bench): a load generator that speaks PROXY v2; [`compare`]: Postern beside its peers.
//! * [`check`]: what a check found.

pub mod bench;
pub mod check;
pub mod compare;
pub mod key_vault;
pub mod link_lb;
pub mod prove;
pub mod proxy_v2;
pub mod stack;
pub mod up;

/// Writes a line to standard output. Nothing is lost that matters when nobody reads it any more.
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Waits for Ctrl-C, SIGTERM or the end of the terminal, so that what was started can be ended first.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let received = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        // Then the signal ends this process in its usual way.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = received(SignalKind::interrupt()) => {}
        () = received(SignalKind::terminate()) => {}
        () = received(SignalKind::hangup()) => {}
    }
}
