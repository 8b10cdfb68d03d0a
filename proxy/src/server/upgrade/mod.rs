//! Upgrade: a new process takes the listeners over while this one serves (SIGUSR2).
//!
//! ```text
//!   old: serves                                    new
//!     makes a private folder, listens there
//!     starts the program again          ─────────▶ proves its configuration
//!                                       ◀───────── connects
//!     listeners N                       ─────────▶
//!     the sockets, in N messages        ─────────▶ runs everything, accepts nothing
//!                                       ◀───────── ready               (or: not ready: WHY)
//!     go                                ─────────▶ accepts
//!                                       ◀───────── serving
//!     accepts no more, drains
//!     connections N, once a second      ─────────▶ shows them
//! ```
//!
//! Until `serving`, the old process goes on as if nothing were: whatever goes wrong ends the new one. Both have the
//! same sockets, so that a connection that the kernel has completed is accepted by one of them.
//!
//! Invariant: a socket that others share is closed by nobody before somebody accepts on it.

mod incoming;
mod launch;
mod outgoing;

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

pub use incoming::{Incoming, Previous, take};
pub use launch::Launch;
pub use outgoing::{Successor, Upgrade};

/// Lines between the two processes.
struct Conversation(BufReader<UnixStream>);

impl Conversation {
    async fn say(&mut self, line: &str) -> std::io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes()).await
    }

    /// The next line; none if the other process says no more.
    async fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let mut limited = (&mut self.0).take(LINE_BYTES_MAX);
        limited.read_line(&mut line).await.ok()?;
        line.strip_suffix('\n').map(str::to_owned)
    }
}

/// In the private folder: where both talk.
const TALK: &str = "talk";

/// In the private folder: where a message with sockets goes.
fn message(number: usize) -> String {
    format!("listeners-{number}")
}

/// The argument of `postern run` that says where the process is that is to be replaced.
pub const TAKE_OVER: &str = "--take-over";

const READY: &str = "ready";
const NOT_READY: &str = "not ready: ";
const GO: &str = "go";
const SERVING: &str = "serving";
const LISTENERS: &str = "listeners ";
const CONNECTIONS: &str = "connections ";

// Limit: the longest line lists the five things that a process may wait for.
const LINE_BYTES_MAX: u64 = 512;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
