//! A vault, a folder of stores, and the cycles of a sidecar, to be stepped through.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_certs::dev_ca::DevCa;
use postern_certs::{Manifest, Store};
use postern_chassis::log::{LogLevel, subscriber};
use serde_json::Value;
use tempfile::TempDir;
use tracing::subscriber::DefaultGuard;

use super::super::admin::now;
use super::super::{Config, Sidecar};
use crate::testing::credential;
use crate::testing::key_vault::{Faults, KeyVault, NewVersion};

/// What every test has; more sections can be added.
const CONFIG: &str = r#"
[identities.machine]
kind = "managed"
[vaults.main]
url = "URL"
identity = "machine"
ca = "ca.pem"
verify_challenge = false
pace = "0s"
[certificates.private]
kind = "server"
vault = "main"
name = "private"
store = "stores/private"
names = ["*.dicom.example"]
[certificates.client]
kind = "client"
vault = "main"
name = "client"
store = "stores/client"
[certificates.trust]
kind = "trust"
vault = "main"
name = "internal-ca"
store = "stores/trust"
[tickets]
vault = "main"
name = "tickets"
store = "stores/tickets"
"#;

pub(super) struct Scene {
    pub(super) vault: KeyVault,
    pub(super) sidecar: Sidecar,
    pub(super) config: Config,
    /// Unix seconds. Moves when a test says so.
    pub(super) now: i64,
    folder: TempDir,
    page: Page,
    _log: DefaultGuard,
}

impl Scene {
    /// A vault with a version of everything.
    pub(super) async fn start() -> Self {
        Self::with("").await
    }

    /// The same, with more configuration.
    pub(super) async fn with(more: &str) -> Self {
        Self::configured(&format!("{CONFIG}{more}")).await
    }

    /// The same, with `old` in the configuration replaced.
    pub(super) async fn replacing(old: &str, new: &str) -> Self {
        assert!(CONFIG.contains(old), "{old}");
        Self::configured(&CONFIG.replace(old, new)).await
    }

    async fn configured(config: &str) -> Self {
        let vault = KeyVault::start().await.unwrap();
        vault.know_ca("public", DevCa::new("Public CA").unwrap());
        let ca = DevCa::new("Internal CA").unwrap();
        vault.add_ca("internal-ca", ca).unwrap();
        vault.add("private", &server()).unwrap();
        vault.add("client", &client()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), vault.ca_pem()).unwrap();
        std::fs::create_dir(folder.path().join("stores")).unwrap();
        let path = folder.path().join("postern-control.toml");
        std::fs::write(&path, config.replace("URL", &vault.url())).unwrap();
        let config = Config::load(&path, std::iter::empty()).unwrap();
        let page = Page::default();
        let log = page.write();
        Self {
            sidecar: sidecar(&vault, &config),
            vault,
            config,
            now: now(),
            folder,
            page,
            _log: log,
        }
    }

    /// The same vault and stores, met by a sidecar that has just been started.
    pub(super) fn restart(&mut self) {
        self.sidecar = self.another();
    }

    /// Another sidecar with the same configuration.
    pub(super) fn another(&self) -> Sidecar {
        sidecar(&self.vault, &self.config)
    }

    /// One round of one certificate now. Returns its longest rest.
    pub(super) async fn step(&mut self, name: &str) -> Duration {
        let mut cycles = self.sidecar.cycles.iter_mut();
        let (cycle, _) = cycles
            .find(|(cycle, _)| cycle.subject().name() == name)
            .unwrap();
        cycle.step(self.now, 1.0).await
    }

    /// One round of everything, in order.
    pub(super) async fn step_all(&mut self) {
        for (cycle, _) in &mut self.sidecar.cycles {
            cycle.step(self.now, 1.0).await;
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn store(&self, name: &str) -> PathBuf {
        self.path("stores").join(name)
    }

    /// What is published.
    pub(super) fn manifest(&self, name: &str) -> Option<Manifest> {
        manifest(&self.store(name))
    }

    /// The generation that is published; 0 for none.
    pub(super) fn generation(&self, name: &str) -> u64 {
        self.manifest(name)
            .map_or(0, |manifest| manifest.generation)
    }

    /// The version of the vault that is published.
    pub(super) fn published(&self, name: &str) -> String {
        let label = self.manifest(name).unwrap().label;
        label.rsplit('/').next().unwrap().to_owned()
    }

    /// The value of a metric with these labels, as it is served; 0 for none.
    pub(super) fn metric(&self, name_and_labels: &str) -> i64 {
        let text = self.sidecar.metrics().text(true);
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name_and_labels));
        values
            .next()
            .map_or(0, |value| value.trim().parse().unwrap())
    }

    /// How often a round of this certificate ended so.
    pub(super) fn rounds(&self, name: &str, outcome: &str) -> i64 {
        self.metric(&format!(
            "postern_control_rounds_total{{certificate=\"{name}\",outcome=\"{outcome}\"}}"
        ))
    }

    /// How often a round of this certificate did not end well for this reason.
    pub(super) fn refusals(&self, name: &str, reason: &str) -> i64 {
        self.metric(&format!(
            "postern_control_refusals_total{{certificate=\"{name}\",reason=\"{reason}\"}}"
        ))
    }

    /// The lines of the log about this certificate, and forgets them.
    pub(super) fn said(&self, name: &str) -> Vec<Value> {
        let mut lines = self.page.take();
        lines.retain(|line| line["certificate"] == name);
        lines
    }

    pub(super) fn fault(&self, faults: Faults) {
        self.vault.set_faults(faults);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sidecar.parts.status.report(self.now).0
    }
}

fn sidecar(vault: &KeyVault, config: &Config) -> Sidecar {
    let identity = credential::identity(vault.identity()).unwrap();
    Sidecar::with_identity(config, &identity).unwrap()
}

pub(super) fn manifest(store: &Path) -> Option<Manifest> {
    store
        .join("current")
        .exists()
        .then(|| Store::open(store).unwrap().current())?
}

/// What `private` is like.
pub(super) fn server() -> NewVersion {
    NewVersion::server("public", &["*.dicom.example"])
}

/// What `client` is like.
pub(super) fn client() -> NewVersion {
    NewVersion::client("internal-ca", "postern.example")
}

/// Where a test's log is written.
#[derive(Clone, Default)]
pub(in crate::sidecar) struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    /// The log of this thread is written here, as long as the guard lives.
    pub(in crate::sidecar) fn write(&self) -> DefaultGuard {
        let writer = self.clone();
        let (subscriber, _) = subscriber(LogLevel::Info, &[], move || writer.clone());
        tracing::subscriber::set_default(subscriber)
    }

    /// The lines so far, and forgets them.
    pub(in crate::sidecar) fn take(&self) -> Vec<Value> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap());
        let lines = String::from_utf8(lines).unwrap();
        let lines = lines.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
