//! `postern-load compare`: Postern and its peers at the same job, in one run, round by round.
//!
//! What counts is the CPU time of the proxy's own process for each request answered: it holds on a noisy
//! machine, where throughput does not, and it is what a scale set pays for.
//!
//! `peer` who is compared, and how each is configured · `pipe` the floor under all · `install` where the programs come from ·
//! `ingress` who answers · `case` what is asked · `generator` who asks · `process` what it cost ·
//! `rig` all of it together, round by round · `results` medians and ratios · `table`, `html` for people.
//!
//! Invariant: a peer that was asked for is measured, or named with the reason why not.

mod case;
mod cores;
mod generator;
mod html;
mod ingress;
mod install;
mod page_cache;
mod peer;
pub mod pipe;
mod process;
mod results;
mod rig;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use case::Case;
pub use peer::Peer;

use crate::bench::options::Seconds;
use crate::check::with_causes;
use crate::stack::StackError;
use crate::stack::client::ClientError;
use crate::{interrupted, say};
use cores::Cores;
use peer::Contender;
use results::Results;
use rig::{Effort, Rig};

/// What to compare.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareOptions {
    /// With whom; one that is not installed is installed, or named as missing
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "nginx,haproxy,envoy,pingora"
    )]
    pub peers: Vec<Peer>,
    /// Measure a byte pipe between the two TLS connections, too: what reads HTTP and decides can hardly cost less
    #[arg(long)]
    pub floor: bool,
    /// In which cases [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub cases: Vec<Case>,
    /// How often; the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    pub rounds: u16,
    /// How long everybody is measured in a round, in slices of a second
    #[arg(long, default_value = "4")]
    pub seconds: Seconds,
    /// One round of one second and few idle connections: a trial, not a measurement
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub quick: bool,
    /// The Postern to measure [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    pub postern: Option<PathBuf>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the results as a page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A process did not start or did not do its job.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The client of the first request.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file of `/proc`, or a report.
    #[error("cannot read what was measured")]
    Proc(#[source] std::io::Error),
    /// The load generator failed.
    #[error("the load generator failed: {0}")]
    Generator(String),
    /// Nothing was answered.
    #[error("no request was answered: {errors}\n{log}")]
    NoAnswer {
        /// Failed requests by kind.
        errors: String,
        /// The last lines of the proxy.
        log: String,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
}

/// Compares. The exit code is 0 if everything that is there was measured, whoever came first; 1 otherwise.
pub async fn run(options: CompareOptions) -> ExitCode {
    let results = tokio::select! {
        results = measure(&options) => results,
        () = interrupted() => return ExitCode::FAILURE,
    };
    let results = match results {
        Ok(results) => results,
        Err(error) => {
            say(&format!("compare: {}", with_causes(&error)));
            return ExitCode::FAILURE;
        }
    };
    let mut written = true;
    for (path, content) in [
        (&options.json, format!("{:#}\n", results.json())),
        (&options.html, html::page(&results)),
    ] {
        if let Some(path) = path
            && let Err(error) = std::fs::write(path, content)
        {
            say(&format!("cannot write {}: {error}", path.display()));
            written = false;
        }
    }
    say(&format!("\n{}", table::text(&results)));
    let judged = results.judged();
    let broken = judged.iter().any(|case| {
        case.rows
            .iter()
            .any(|(.., measured)| measured.broken().is_some())
    });
    if written && !broken && !judged.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn measure(options: &CompareOptions) -> Result<Results, CompareError> {
    let cores = Cores::find();
    let effort = effort(options);
    let mut results = Results::default();
    about(options, effort, cores, &mut results);
    if cfg!(debug_assertions) {
        say("THIS IS A DEBUG BUILD: the figures mean nothing; use cargo run --release");
    }
    let mut contenders = vec![Contender::Postern];
    contenders.extend(options.peers.iter().copied().map(Contender::Peer));
    contenders.extend(options.floor.then_some(Contender::Floor));
    contenders.sort();
    contenders.dedup();
    let mut programs = Vec::new();
    for contender in contenders {
        match peer::install(contender, options.postern.as_deref()).await {
            Ok(program) => {
                say(&format!("{:<11} {}", contender.name(), program.version));
                let version = program.version.clone();
                results
                    .versions
                    .insert(contender.name().to_owned(), version);
                programs.push(program);
            }
            Err(reason) => {
                say(&format!("{:<11} MISSING: {reason}", contender.name()));
                results.missing(contender.name(), &reason);
            }
        }
    }
    let folder = tempfile::tempdir().map_err(CompareError::Proc)?;
    let folder_path = folder.path().canonicalize().map_err(CompareError::Proc)?;
    let cases = if options.cases.is_empty() {
        Case::ALL.to_vec()
    } else {
        options.cases.clone()
    };
    let logging = cases.contains(&Case::AccessLog);
    let mut rig = Rig::start(&folder_path, programs, cores, effort, logging, &mut results).await?;
    if let Some(reason) = results.all_missing().get(Contender::Postern.name()) {
        return Err(CompareError::Options(format!("Postern: {reason}")));
    }
    rig.measure(&cases, &mut results).await?;
    drop(rig);
    Ok(results)
}

fn about(options: &CompareOptions, effort: Effort, cores: Cores, results: &mut Results) {
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let about = &mut results.about;
    about.insert("build".to_owned(), build.into());
    about.insert("quick".to_owned(), options.quick.into());
    about.insert("rounds".to_owned(), effort.rounds.into());
    about.insert("seconds".to_owned(), effort.seconds.into());
    about.insert("idle_connections".to_owned(), effort.idle.into());
    about.insert("cores".to_owned(), cores.text().into());
    about.insert("processor".to_owned(), processor.into());
    about.insert("key_exchange".to_owned(), KEY_EXCHANGE.into());
    about.insert("cipher_suite".to_owned(), CIPHER_SUITE.into());
    about.insert("kernel".to_owned(), kernel.trim().into());
}

fn effort(options: &CompareOptions) -> Effort {
    // A proxy that counts as HAProxy does needs two descriptors a client, and some for itself.
    let room = open_files().saturating_sub(DESCRIPTORS_BESIDE) / 2;
    let connections = room.min(CONNECTIONS_MAX);
    let idle = if options.quick { IDLE_QUICK } else { IDLE };
    let seconds = std::time::Duration::from(options.seconds).min(SECONDS_MAX);
    Effort {
        rounds: if options.quick {
            1
        } else {
            options.rounds.into()
        },
        seconds: if options.quick {
            1.0
        } else {
            seconds.as_secs_f64()
        },
        idle: idle.min(connections.saturating_sub(CONNECTIONS_BESIDE)),
        connections,
    }
}

/// How many files a process started from here may have open; first made as many as we may.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum;
    let raised = Rlimit {
        current: most,
        maximum: most,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => limit.current,
    };
    // No limit is none that matters here.
    current.unwrap_or(u64::MAX)
}

/// The cipher suites of TLS 1.3, in the order of whoever lets us choose: as `BoringSSL` and Postern have it by
/// themselves.
const CIPHER_SUITES: &str =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
// What a reader has to know of TLS.
const KEY_EXCHANGE: &str =
    "X25519 for all; only Postern, Envoy and pingora would speak X25519MLKEM768";
const CIPHER_SUITE: &str = "TLS_AES_128_GCM_SHA256 wherever a server may choose; pingora takes what the client \
                            offers first, TLS_AES_256_GCM_SHA384";
const IDLE: u64 = 10_000;
const IDLE_QUICK: u64 = 200;
// Limit: some more than are held idle.
const CONNECTIONS_MAX: u64 = IDLE + CONNECTIONS_BESIDE;
const CONNECTIONS_BESIDE: u64 = 100;
// Limit: listeners, log files, and connections to the ingress of an HTTP/1.1 pool.
const DESCRIPTORS_BESIDE: u64 = 200;
// Limit: ten minutes for one measurement.
const SECONDS_MAX: std::time::Duration = std::time::Duration::from_mins(10);
