//! The load generator as a process of its own, pinned to its core; and what the proxy used meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::CompareError;
use super::case::{ANSWERS, CPU, FAILED, IDLE, P50, P99, RATE, RESIDENT, RESUMED};
use super::cores::{Cores, Role};
use super::peer::Proxy;
use super::process::{cpu_nanos, resident_kib};
use crate::bench::Report;
use crate::stack::accounts::{HOST_A, INGRESS_NAME, LINK_A};
use crate::stack::credentials::Credentials;
use crate::stack::{Child, binary};

/// What one measurement came to: metric and value.
pub(super) type Figures = BTreeMap<&'static str, f64>;

/// Starts load generators.
#[derive(Debug, Clone, Copy)]
pub(super) struct Generator<'a> {
    pub(super) folder: &'a Path,
    pub(super) credentials: &'a Credentials,
    pub(super) cores: Cores,
}

impl Generator<'_> {
    /// Sends load through a proxy, and says what it cost.
    pub(super) async fn through(
        self,
        proxy: &Proxy,
        load: &[String],
    ) -> Result<Figures, CompareError> {
        let target = self.target_proxy(proxy.address);
        let before = cpu_nanos(proxy.group()).map_err(CompareError::Proc)?;
        let report = self.finish(&target, load).await?;
        let after = cpu_nanos(proxy.group()).map_err(CompareError::Proc)?;
        let mut figures = figures(&report);
        if report.answers == 0 {
            return Err(CompareError::NoAnswer {
                errors: format!("{:?}", report.errors),
                log: proxy.tail(),
            });
        }
        let nanos = after.saturating_sub(before);
        figures.insert(CPU.key, number(nanos) / number(report.answers) / 1000.0);
        let resident = resident_kib(proxy.group()).map_err(CompareError::Proc)?;
        figures.insert(RESIDENT.key, number(resident));
        Ok(figures)
    }

    /// Sends load to the ingress without a proxy between.
    pub(super) async fn directly(
        self,
        ingress: SocketAddr,
        load: &[String],
    ) -> Result<Figures, CompareError> {
        let (ca, identity) = (
            self.credentials.trust.join("ca.crt"),
            &self.credentials.client,
        );
        let target = [
            "--no-proxy-header".to_owned(),
            "--to".to_owned(),
            ingress.to_string(),
            "--host".to_owned(),
            INGRESS_NAME.to_owned(),
            "--ca".to_owned(),
            ca.display().to_string(),
            "--identity".to_owned(),
            identity.display().to_string(),
        ];
        Ok(figures(&self.finish(&target, load).await?))
    }

    /// Has as many connections opened and held, and says what memory each takes once none has had anything to do
    /// for a while.
    pub(super) async fn idle(
        self,
        proxy: &Proxy,
        connections: u64,
        load: &[String],
    ) -> Result<Figures, CompareError> {
        let file = self.folder.join("idle.json");
        let _ = std::fs::remove_file(&file);
        let target = self.target_proxy(proxy.address);
        let before = resident_kib(proxy.group()).map_err(CompareError::Proc)?;
        let idle = ["--idle".to_owned(), connections.to_string()];
        let mut child = self.spawn(&[&target[..], load, &idle].concat(), &file)?;
        let awaited = format!("{connections} connections");
        child
            .wait_until(&awaited, IDLE_TIMEOUT, async || file.exists())
            .await?;
        tokio::time::sleep(IDLE_FOR).await;
        let after = resident_kib(proxy.group()).map_err(CompareError::Proc)?;
        let report = read(&file)?;
        drop(child);
        if report.answers == 0 {
            return Err(CompareError::NoAnswer {
                errors: format!("{:?}", report.errors),
                log: proxy.tail(),
            });
        }
        let mut figures = figures(&report);
        let grown = number(after.saturating_sub(before));
        figures.insert(IDLE.key, grown / number(report.answers));
        figures.insert(RESIDENT.key, number(after));
        Ok(figures)
    }

    fn target_proxy(&self, address: SocketAddr) -> [String; 9] {
        [
            // The one key exchange that all of them know; with ML-KEM, who knows it would do more work than the rest.
            "--x25519".to_owned(),
            "--to".to_owned(),
            address.to_string(),
            "--host".to_owned(),
            HOST_A.to_owned(),
            "--link-id".to_owned(),
            LINK_A.to_string(),
            "--ca".to_owned(),
            self.credentials.public_ca.display().to_string(),
        ]
    }

    async fn finish(self, target: &[String], load: &[String]) -> Result<Report, CompareError> {
        let file = self.folder.join("bench.json");
        let _ = std::fs::remove_file(&file);
        let mut child = self.spawn(&[target, load].concat(), &file)?;
        // How it ended is in the report: 1 if only one of a million requests failed.
        child.wait_for_exit(RUN_TIMEOUT).await?;
        if file.exists() {
            read(&file)
        } else {
            Err(CompareError::Generator(child.tail()))
        }
    }

    fn spawn(self, arguments: &[String], json: &Path) -> Result<Child, CompareError> {
        let program = binary("postern-load")?;
        let mut command = self.cores.command(Role::Load, program);
        command
            .arg("bench")
            .args(arguments)
            .arg("--json")
            .arg(json)
            .current_dir(self.folder);
        Ok(Child::spawn("generator", command, self.folder)?)
    }
}

fn figures(report: &Report) -> Figures {
    let resumed = number(report.handshakes_resumed) * 100.0 / number(report.handshakes.max(1));
    Figures::from([
        (RESUMED.key, resumed),
        (RATE.key, report.requests_per_second),
        (P50.key, report.latency_us.p50),
        (P99.key, report.latency_us.p99),
        (ANSWERS.key, number(report.answers)),
        (FAILED.key, number(report.failed())),
    ])
}

fn read(path: &Path) -> Result<Report, CompareError> {
    let text = std::fs::read_to_string(path).map_err(CompareError::Proc)?;
    serde_json::from_str(&text).map_err(|error| CompareError::Generator(error.to_string()))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and nanoseconds below 2^53"
)]
fn number(value: u64) -> f64 {
    value as f64
}

// Limit: `--seconds` is at most `SECONDS_MAX`, and what hangs is called off by the generator after 30 s.
const RUN_TIMEOUT: Duration = Duration::from_mins(12);
// Limit: 10,000 handshakes at one millisecond each, in a debug build ten times that.
const IDLE_TIMEOUT: Duration = Duration::from_mins(3);
// Whoever gives memory back when a connection pauses has done it by then.
const IDLE_FOR: Duration = Duration::from_secs(5);
