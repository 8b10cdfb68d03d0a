//! Real processes for the local stack and for end-to-end tests.
//!
//! Every part has a folder of its own with its generated configuration and its captured output, is waited
//! for until it is ready, and is ended when its value is dropped.
//!
//! * [`child`]: one process: start, wait for a condition, end; [`json_lines`]: a log that it writes;
//!   [`descendant`]: what it has started to take its place.
//! * [`credentials`]: the development certificates of one stack; [`accounts`]: who may reach what in it.
//! * [`echo`], [`orthanc`]: the back end: ours for tests, or a real DICOM server.
//! * [`nginx`], [`envoy`]: the AKS ingress that demands our client certificate; [`ingress`]: either of them.
//! * [`dns`]: a name server for the ingress's names.
//! * [`scripted`]: an ingress that a test plays itself; [`wire`]: HTTP/1.1 byte by byte.
//! * [`routing`]: the account-routing service; [`operator`]: who keeps its books; [`events`]: its change stream.
//! * [`postern`]: Postern; [`metrics`]: what a scraper reads there; [`load_balancer`]: what stands before several.
//! * [`vault`]: the Key Vault stand-in with the stack's credentials; [`sidecar`]: what publishes them.
//! * [`client`]: the test client; [`web_socket`]: what it can become; [`local`]: all of it in one value.
//! * [`python`]: pinned Python packages, and the scripts that use them.
//!
//! Invariant: nothing waits without a deadline, and a failure shows the end of the log of the process that
//! caused it.

pub mod accounts;
pub mod child;
pub mod client;
pub mod credentials;
pub mod descendant;
pub mod dns;
pub mod echo;
pub mod envoy;
pub mod events;
pub mod ingress;
pub mod json_lines;
pub mod load_balancer;
pub mod local;
pub mod metrics;
pub mod nginx;
pub mod operator;
pub mod orthanc;
pub mod postern;
pub mod python;
pub mod routing;
pub mod scripted;
pub mod sidecar;
pub mod vault;
pub mod web_socket;
pub mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub use child::{Child, Deadline, accepts};
pub use json_lines::JsonLines;

/// Why the stack, or a part of it, is not there.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A program could not be started, most often because it is not installed.
    #[error("{name}: cannot start `{program}` (deploy/local/install installs what is missing)")]
    Spawn {
        /// The part of the stack.
        name: String,
        /// The program that was to run.
        program: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A process ended although it should run.
    #[error("{name}: ended with {status} while waiting for: {awaited}\n{log}")]
    Ended {
        /// The part of the stack.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// What was waited for.
        awaited: String,
        /// The last lines it wrote.
        log: String,
    },
    /// A condition did not come true in time.
    #[error("{name}: still waiting after {limit:?} for: {awaited}\n{log}")]
    Late {
        /// The part of the stack.
        name: String,
        /// How long was waited.
        limit: Duration,
        /// What was waited for.
        awaited: String,
        /// The last lines it wrote.
        log: String,
    },
    /// A signal could not be sent.
    #[error("{name}: cannot be signalled")]
    Signal {
        /// The part of the stack.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// An upgrade came to something else than what was awaited.
    #[error("postern: of the upgrade it said {said}")]
    Upgrade {
        /// The line of its log.
        said: String,
    },
    /// A file of the stack could not be written or read.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `write`, `read`, …
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No free port, or a listener could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program of this workspace has not been built.
    #[error("{} is not there: run `cargo build --workspace --bins{}`", path.display(), release_hint(path))]
    NotBuilt {
        /// Where it should be.
        path: PathBuf,
    },
    /// A development certificate could not be made.
    #[error("cannot make a development certificate")]
    Certificate(#[from] postern_certs::dev_ca::DevCaError),
    /// A request to a part of the stack failed.
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// Account routing did not do what it was asked to.
    #[error(transparent)]
    Operator(#[from] operator::OperatorError),
    /// The Key Vault stand-in did not start.
    #[error(transparent)]
    Vault(#[from] postern_control::testing::StandInError),
    /// Something could not be put into the vault, or found there.
    #[error(transparent)]
    Seed(#[from] postern_control::testing::key_vault::SeedError),
}

/// A TCP address on the loopback interface that nothing listens on now.
///
/// Each call gives another one, below those that the kernel gives to connections, which could be open there by the
/// time the caller listens. Two processes begin to search at different ports; should they meet nevertheless, the
/// one that comes second says so in its log.
pub fn free_address() -> Result<SocketAddr, StackError> {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        let process = std::process::id().wrapping_mul(PORTS_APART) % u32::from(PORTS.1);
        AtomicU16::new(u16::try_from(process).unwrap_or_default())
    });
    let mut tries = 1;
    loop {
        let port = PORTS.0 + next.fetch_add(1, Ordering::Relaxed) % PORTS.1;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(_) if tries < PORTS.1 => tries += 1,
            Err(source) => return Err(StackError::Listen { address, source }),
        }
    }
}

// Limit: the first of the ports to try, and how many; Linux gives connections those from 32768.
const PORTS: (u16, u16) = (10_000, 22_000);
// A prime: processes that start one after the other search far from each other.
const PORTS_APART: u32 = 1_009;

/// Writes a file and says which one if that fails.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<(), StackError> {
    std::fs::write(path, content).map_err(|source| StackError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<(), StackError> {
    std::fs::create_dir_all(path).map_err(|source| StackError::File {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// A program of this workspace, next to the one that runs: so that a release build starts release builds.
pub fn binary(name: &str) -> Result<PathBuf, StackError> {
    let here = std::env::current_exe().map_err(|source| StackError::File {
        action: "find",
        path: PathBuf::from(name),
        source,
    })?;
    // Test binaries lie one folder deeper, in `deps`.
    let folders = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name));
    let mut candidates: Vec<PathBuf> = folders.collect();
    if let Some(found) = candidates.iter().position(|path| path.is_file()) {
        return Ok(candidates.swap_remove(found));
    }
    let in_deps = here.parent().is_some_and(|folder| folder.ends_with("deps"));
    Err(StackError::NotBuilt {
        path: candidates.swap_remove(usize::from(in_deps)),
    })
}

fn release_hint(path: &Path) -> &'static str {
    let release = path
        .parent()
        .is_some_and(|folder| folder.ends_with("release"));
    if release { " --release" } else { "" }
}
