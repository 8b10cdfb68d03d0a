//! The promises, each with a scenario that proves it: one file each, all in [`SCENARIOS`].
//!
//! A scenario starts the real processes it needs in a folder of its own, drives them, and says what it
//! counted. It ends with one line, `NAME: held: FIGURES` or `NAME: broken: FIGURES`.
//!
//! Invariant: a scenario that could not run is broken, never held.

mod ca_rotation;
mod decisions;
mod drain;
mod fleet;
mod latency;
mod nonces;
mod reload;
mod revocation;
mod rotation;
mod routed;
mod routing_crash;
mod routing_fan_out;
mod routing_outage;
mod sidecar_herd;
mod sign;
mod site;
mod terminate;
pub mod traffic;
mod upgrade;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::check::{Broken, with_causes};
use crate::{interrupted, say};

/// Every scenario, in the order of the README's table.
pub const SCENARIOS: &[Scenario] = &[
    decisions::SCENARIO,
    nonces::SCENARIO,
    rotation::SCENARIO,
    ca_rotation::SCENARIO,
    sidecar_herd::SCENARIO,
    revocation::SCENARIO,
    routing_outage::SCENARIO,
    routing_crash::SCENARIO,
    routing_fan_out::SCENARIO,
    reload::SCENARIO,
    upgrade::SCENARIO,
    drain::SCENARIO,
    terminate::SCENARIO,
];

// Limit: of what a scenario found broken, so many findings are printed; the rest is counted.
const FINDINGS_SHOWN: usize = 20;

// Limit: a finding is a line or a few, and the tail of a log at most.
const FINDING_CHARS_MAX: usize = 8192;

// Limit: a scenario that has not ended by then is broken.
const SCENARIO_TIMEOUT: Duration = Duration::from_mins(20);

/// A promise, and how it is proven.
#[derive(Debug)]
pub struct Scenario {
    /// What to type after `prove`.
    pub name: &'static str,
    /// The promise in one sentence.
    pub promise: &'static str,
    /// Proves it.
    pub run: fn(Run) -> Running,
}

/// A scenario on its way.
pub type Running = Pin<Box<dyn Future<Output = Result<Proof, Broken>>>>;

/// What a scenario gets to work with.
#[derive(Debug, Clone)]
pub struct Run {
    /// Fewer repetitions, for a test run; the figures say how many.
    pub quick: bool,
    /// An empty folder of its own.
    pub folder: PathBuf,
}

/// What a scenario found.
#[derive(Debug, Default)]
pub struct Proof {
    figures: Map<String, Value>,
    broken: Vec<String>,
}

impl Proof {
    /// Adds a figure for the last line and the JSON file.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Notes something that is not as promised, and prints it while there are few.
    pub fn broken(&mut self, finding: &str) {
        let finding: String = finding.chars().take(FINDING_CHARS_MAX).collect();
        if self.broken.len() < FINDINGS_SHOWN {
            say(&format!("  BROKEN  {}", finding.trim_end()));
        }
        self.broken.push(finding);
    }

    /// Prints and counts one row: what was looked at, and what came of it.
    pub fn row(&mut self, claim: &str, outcome: Result<String, Broken>) {
        match outcome {
            Ok(found) => say(&format!("  ok      {claim}: {found}")),
            Err(error) => self.broken(&format!("{claim}: {}", with_causes(&error))),
        }
    }

    /// Whether the promise held.
    pub fn held(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Which scenario, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct ProveOptions {
    /// The scenario
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub name: Option<String>,
    /// Print each scenario's name and promise
    #[arg(long)]
    pub list: bool,
    /// Fewer repetitions
    #[arg(long)]
    pub quick: bool,
    /// Write the outcome as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Runs a scenario. The exit code is 0 if its promise held, 1 if not, 2 if there is no such scenario.
pub async fn run(options: ProveOptions) -> ExitCode {
    let Some(name) = options.name.filter(|_| !options.list) else {
        say(&list());
        return ExitCode::SUCCESS;
    };
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
        say(&format!(
            "there is no scenario `{name}`; there are:\n{}",
            list()
        ));
        return ExitCode::from(2);
    };
    say(&format!("{}: {}", scenario.name, scenario.promise));
    let started = Instant::now();
    let proof = prove(scenario, options.quick).await;
    let seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    let (text, report) = conclude(scenario, &proof, seconds);
    if let Some(path) = options.json
        && let Err(error) = std::fs::write(&path, format!("{report:#}\n"))
    {
        say(&format!("cannot write {}: {error}", path.display()));
        return ExitCode::FAILURE;
    }
    say(&text);
    if proof.held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn prove(scenario: &Scenario, quick: bool) -> Proof {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return failed(&Broken::Socket(error)),
    };
    let run = Run {
        quick,
        folder: folder.path().to_owned(),
    };
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(SCENARIO_TIMEOUT, (scenario.run)(run)) => outcome,
        () = interrupted() => return failed(&unexpected("interrupted")),
    };
    let proof = match outcome {
        Ok(Ok(proof)) => proof,
        Ok(Err(error)) => failed(&error),
        Err(_) => failed(&unexpected("it did not end in time")),
    };
    if !proof.held() {
        keep(folder, scenario.name);
    }
    proof
}

fn unexpected(text: &str) -> Broken {
    Broken::Unexpected(text.to_owned())
}

fn failed(error: &Broken) -> Proof {
    let mut proof = Proof::default();
    proof.broken(&with_causes(error));
    proof
}

/// Configuration and logs of a scenario that broke are worth a look.
fn keep(folder: tempfile::TempDir, name: &str) {
    let path: &Path = &folder.keep();
    say(&format!(
        "{name}: configuration and logs are kept in {}",
        path.display()
    ));
}

fn conclude(scenario: &Scenario, proof: &Proof, seconds: f64) -> (String, Value) {
    let word = if proof.held() { "held" } else { "broken" };
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let hidden = proof.broken.len().saturating_sub(FINDINGS_SHOWN);
    if hidden > 0 {
        let _ = writeln!(text, "  … and {hidden} more");
    }
    let _ = write!(text, "{}: {word}: ", scenario.name);
    for (name, value) in &proof.figures {
        let _ = write!(text, "{name} {value}, ");
    }
    let _ = write!(text, "broken {}, seconds {seconds:.1}", proof.broken.len());
    let report = json!({
        "name": scenario.name,
        "promise": scenario.promise,
        "held": proof.held(),
        "figures": proof.figures,
        "broken": proof.broken,
        "seconds": seconds,
    });
    (text, report)
}

fn list() -> String {
    let width = SCENARIOS
        .iter()
        .map(|scenario| scenario.name.len())
        .max()
        .unwrap_or_default();
    let lines = SCENARIOS
        .iter()
        .map(|scenario| format!("{:<width$}  {}", scenario.name, scenario.promise));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_every_promise_with_the_command_that_proves_it() {
        let readme = include_str!("../../../README.md");
        for scenario in SCENARIOS {
            let row = format!("| {} | `prove {}`", scenario.promise, scenario.name);
            assert!(readme.contains(&row), "README.md has no row `{row}…`");
        }
    }

    #[test]
    fn a_finding_breaks_the_promise_and_is_in_the_text_and_the_report() {
        let scenario = &SCENARIOS[0];
        let mut proof = Proof::default();
        proof.figure("rows", 2);
        let (text, report) = conclude(scenario, &proof, 1.0);
        assert_eq!(
            text,
            format!("{}: held: rows 2, broken 0, seconds 1.0", scenario.name)
        );
        assert_eq!(report["held"], true);
        proof.broken("the first row");
        let (text, report) = conclude(scenario, &proof, 1.0);
        assert!(
            text.ends_with(": broken: rows 2, broken 1, seconds 1.0"),
            "{text}"
        );
        assert_eq!(report["broken"], json!(["the first row"]));
    }
}
