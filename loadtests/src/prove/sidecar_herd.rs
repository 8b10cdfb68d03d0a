//! A fleet of sidecars starts at the same moment against one vault, as after an update of the whole scale set.
//!
//! Each is a process with stores of its own. When all have published everything, a new version is announced to all of
//! them at once. What the vault was asked, its own log tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use postern_certs::Store;
use postern_certs::dev_ca::DevCaError;
use postern_control::testing::key_vault::{Contents, Request};
use serde_json::json;
use uuid::Uuid;

use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::client::{Connection, full};
use crate::stack::credentials::Credentials;
use crate::stack::sidecar::{Sidecar, SidecarOptions};
use crate::stack::vault::{SERVER, Vault};
use crate::stack::{Deadline, StackError, free_address, write_file};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sidecar-herd",
    promise: "A fleet of sidecars that starts at once is no burden on its vault, and ends with the same versions.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How many, and over how long a time they spread what each of them does.
struct Herd {
    sidecars: usize,
    spread: Duration,
}

/// The spread is the default.
const FULL: Herd = Herd {
    sidecars: 100,
    spread: Duration::from_secs(30),
};
const QUICK: Herd = Herd {
    sidecars: 20,
    spread: Duration::from_secs(6),
};

// Limit: Key Vault takes far more; but others use it, too.
const REQUESTS_MAX: usize = 20;

// Limit: server, client and trust, and the ticket keys, one after the other.
const KINDS: [&str; 4] = ["server", "client", "trust", "tickets"];

// Limit: on top of what the schedule takes, for busy cores.
const SLACK: Duration = Duration::from_secs(30);

// Limit: the path and status of so many requests are shown of a second that had too many.
const REQUESTS_SHOWN: usize = 10;

/// One process, and where it is reached.
struct Member {
    sidecar: Sidecar,
    notifications: SocketAddr,
}

impl Herd {
    async fn member(&self, folder: &Path, vault: &Vault, token: &Path) -> Result<Member, Broken> {
        let (notifications, spread) = (free_address()?, self.spread.as_secs());
        let options = SidecarOptions {
            rest: format!("start_spread = \"{spread}s\"\n"),
            more: format!(
                "[notifications]\nlisten = \"{notifications}\"\ntoken_file = \"{}\"\nspread = \"{spread}s\"\n",
                token.display()
            ),
            ready_timeout: KINDS.map(|_| self.spread).iter().sum::<Duration>() + SLACK,
            ..SidecarOptions::new(vault.access(), &folder.join("stores"))
        };
        Ok(Member {
            sidecar: Sidecar::start(folder, &options).await?,
            notifications,
        })
    }
}

impl Member {
    /// Delivers what Event Grid does when a certificate has a new version.
    async fn notify(&self, token: &str) -> Result<(), Broken> {
        let event = json!([{
            "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
            "data": { "VaultName": "127.0.0.1", "ObjectType": "Certificate", "ObjectName": SERVER },
        }]);
        let mut connection = Connection::plain(self.notifications).await?;
        let path = format!("/events?token={token}");
        let request = connection.request(Method::POST, &path)?;
        let request = request.header(CONTENT_TYPE, "application/json");
        let answer = connection
            .fetch(request.body(full(event.to_string()))?)
            .await?;
        let name = self.sidecar.admin();
        expect(answer.status == StatusCode::OK, || {
            format!("{name} answers a notification with {}", answer.summary())
        })
    }
}

async fn prove(run: Run) -> Result<Proof, Broken> {
    let herd = if run.quick { QUICK } else { FULL };
    let place = run.folder.join("certs");
    let credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
    let vault = Vault::start(&run.folder.join("vault"), &credentials).await?;
    let (token, token_file) = (Uuid::new_v4().to_string(), run.folder.join("token"));
    write_file(&token_file, &token)?;
    let folders = (1..=herd.sidecars).map(|number| run.folder.join(number.to_string()));
    let folders: Vec<PathBuf> = folders.collect();

    let mut proof = Proof::default();
    let started = Instant::now();
    let starts = folders
        .iter()
        .map(|folder| herd.member(folder, &vault, &token_file));
    let members = try_join_all(starts).await?;
    let took = started.elapsed().as_secs_f64();
    proof.figure("sidecars", members.len());
    proof.figure("ready_seconds", took.round());
    proof.row("they start without a rush", calm(&vault));

    let issued = credentials.public.server(&[CERTIFICATE_NAME]);
    let issued = issued.map_err(StackError::from)?;
    let added = vault
        .stand_in()
        .add_issued(SERVER, &issued, Contents::default());
    let version = added.map_err(StackError::from)?;
    try_join_all(members.iter().map(|member| member.notify(&token))).await?;
    let alike = async || alike(&folders, &version).ok();
    let alike = Deadline::after(herd.spread + SLACK).poll(alike).await;
    let missing = || Broken::Unexpected("the stores differ".to_owned());
    proof.row("all end with the same versions", alike.ok_or_else(missing));
    proof.row("they take a new one without a rush", calm(&vault));
    proof.figure("requests", vault.stand_in().log().requests().len());
    proof.figure("busiest_second", vault.stand_in().log().busiest_second());
    Ok(proof)
}

fn calm(vault: &Vault) -> Result<String, Broken> {
    let busiest = vault.stand_in().log().busiest_second();
    expect(busiest < REQUESTS_MAX, || {
        let requests = vault.stand_in().log().requests();
        format!("{busiest} requests within a second; {}", rush(&requests))
    })?;
    Ok(format!("at most {busiest} requests within a second"))
}

/// When the first second with too many requests began, and what they were.
fn rush(requests: &[Request]) -> String {
    let is_one = |window: &&[Request]| {
        let (first, last) = (&window[0], &window[REQUESTS_MAX - 1]);
        last.at < first.at + Duration::from_secs(1)
    };
    let Some(window) = requests.windows(REQUESTS_MAX).find(is_one) else {
        return String::new();
    };
    let mut counts = BTreeMap::<_, usize>::new();
    for Request {
        method,
        path,
        status,
        ..
    } in window
    {
        *counts
            .entry(format!("{method} {path} {status}"))
            .or_default() += 1;
    }
    let shown: Vec<_> = counts.iter().take(REQUESTS_SHOWN).collect();
    format!("after {:?}: {shown:?}", window[0].at)
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
