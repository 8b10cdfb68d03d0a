//! A fleet of sidecars starts at the same moment against one vault, as after an update of the whole scale set.
//!
//! Each is a process with stores of its own and the usual schedule. What the vault was asked, its own log tells.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postern_certs::Store;
use postern_certs::dev_ca::DevCaError;
use postern_control::testing::key_vault::Contents;

use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::credentials::Credentials;
use crate::stack::sidecar::{Sidecar, SidecarOptions};
use crate::stack::vault::{SERVER, Vault};
use crate::stack::{Deadline, StackError};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sidecar-herd",
    promise: "A fleet of sidecars that starts at once is no burden on its vault, and ends with the same versions.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How many, and their schedule.
struct Herd {
    sidecars: usize,
    start_spread: Duration,
    interval: Duration,
}

const FULL: Herd = Herd {
    sidecars: 100,
    start_spread: Duration::from_secs(30),
    interval: Duration::from_mins(1),
};
const QUICK: Herd = Herd {
    sidecars: 20,
    start_spread: Duration::from_secs(6),
    interval: Duration::from_secs(10),
};

// Limit: Key Vault takes far more; but others use it, too.
const REQUESTS_MAX: usize = 20;

// Limit: server, client and trust, and the ticket keys, one after the other.
const KINDS: [&str; 4] = ["server", "client", "trust", "tickets"];

// Limit: on top of what the schedule takes, for busy cores.
const SLACK: Duration = Duration::from_secs(30);

impl Herd {
    /// Until everything has been published once.
    fn start_timeout(&self) -> Duration {
        KINDS.map(|_| self.start_spread).iter().sum::<Duration>() + SLACK
    }

    fn options(&self, vault: &Vault, stores: &Path) -> SidecarOptions {
        SidecarOptions {
            rest: format!(
                "start_spread = \"{}s\"\ninterval = \"{}s\"\ninterval_min = \"1s\"\n",
                self.start_spread.as_secs(),
                self.interval.as_secs(),
            ),
            ready_timeout: self.start_timeout(),
            ..SidecarOptions::new(vault.access(), stores)
        }
    }
}

async fn prove(run: Run) -> Result<Proof, Broken> {
    let herd = if run.quick { QUICK } else { FULL };
    let place = run.folder.join("certs");
    let credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
    let vault = Vault::start(&run.folder.join("vault"), &credentials).await?;
    let folders = (1..=herd.sidecars).map(|number| run.folder.join(number.to_string()));
    let folders: Vec<PathBuf> = folders.collect();

    let mut proof = Proof::default();
    let started = Instant::now();
    let starts = folders.iter().map(async |folder| {
        let options = herd.options(&vault, &folder.join("stores"));
        Sidecar::start(folder, &options).await
    });
    let sidecars: Result<Vec<Sidecar>, StackError> = join_all(starts).await.into_iter().collect();
    let sidecars = sidecars?;
    let took = started.elapsed().as_secs_f64();
    proof.figure("ready_seconds", took.round());
    proof.row(
        "nothing the vault is asked at the start is too much",
        calm(&vault),
    );

    let issued = credentials.public.server(&[CERTIFICATE_NAME]);
    let issued = issued.map_err(StackError::from)?;
    let added = vault
        .stand_in()
        .add_issued(SERVER, &issued, Contents::default());
    let version = added.map_err(StackError::from)?;
    let alike = async || alike(&folders, &version).ok();
    // One look finds the version; ticket keys that two made at once are found by the next.
    let alike = Deadline::after(herd.interval * 2 + SLACK).poll(alike).await;
    let missing = || Broken::Unexpected("the stores differ".to_owned());
    proof.row("all end with the same versions", alike.ok_or_else(missing));
    proof.row("nor is what it is asked from then on", calm(&vault));
    proof.figure("sidecars", sidecars.len());
    proof.figure("requests", vault.stand_in().log().requests().len());
    proof.figure("busiest_second", vault.stand_in().log().busiest_second());
    Ok(proof)
}

fn calm(vault: &Vault) -> Result<String, Broken> {
    let busiest = vault.stand_in().log().busiest_second();
    let text = format!("at most {busiest} requests within a second");
    expect(busiest < REQUESTS_MAX, || text.clone())?;
    Ok(text)
}

/// Whether all stores of a kind have the same version, and the certificate for clients this one.
fn alike(folders: &[PathBuf], version: &str) -> Result<String, Broken> {
    for kind in KINDS {
        let labels: Result<BTreeSet<String>, Broken> = folders
            .iter()
            .map(|folder| label(&folder.join("stores").join(kind)))
            .collect();
        let labels = labels?;
        expect(labels.len() == 1, || format!("{kind}: {labels:?}"))?;
        let has_it = kind != "server" || labels.iter().all(|label| label.ends_with(version));
        expect(has_it, || format!("{kind}: {labels:?} is not {version}"))?;
    }
    Ok(version.to_owned())
}

/// What the publisher of a store's current generation says it is.
fn label(store: &Path) -> Result<String, Broken> {
    let store = Store::open(store).map_err(DevCaError::from);
    let current = store.map_err(StackError::from)?.current();
    Ok(current.map(|manifest| manifest.label).unwrap_or_default())
}
