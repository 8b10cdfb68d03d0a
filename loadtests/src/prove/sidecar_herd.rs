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
use postern_certs::dev_ca::DevCaError;
use postern_certs::{Store, UnixTime};
use postern_control::sidecar::{NotificationOptions, RestOptions};
use postern_control::testing::key_vault::{Contents, Request};
use serde_json::json;
use uuid::Uuid;

use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect, with_causes};
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

const SIDECARS: u32 = 100;
const SIDECARS_QUICK: u32 = 20;
/// The size of fleet that the defaults are for; a smaller one needs less time.
const SIDECARS_OF_DEFAULTS: u32 = 100;

// Limit: Key Vault takes far more; but others use it, too.
const REQUESTS_MAX: usize = 20;

// Limit: server, client and trust, and the ticket keys, one after the other.
const KINDS: [&str; 4] = ["server", "client", "trust", "tickets"];

// Limit: on top of what the schedule takes, for busy cores.
const SLACK: Duration = Duration::from_mins(1);

const TICKET_KEY_SECONDS: i64 = 36 * 3600;

// Limit: the path and status of so many requests are shown of a second that had too many.
const REQUESTS_SHOWN: usize = 10;

/// One process, and where it is reached.
struct Member {
    sidecar: Sidecar,
    notifications: SocketAddr,
}

/// Over how long a time the herd spreads its start, and the answer to a notification.
#[derive(Clone, Copy)]
struct Spread {
    start: Duration,
    notified: Duration,
}

impl Spread {
    /// What the defaults come to for a fleet of this size.
    fn of(sidecars: u32) -> Self {
        let share = |default: Duration| default * sidecars / SIDECARS_OF_DEFAULTS;
        Self {
            start: share(RestOptions::default().start_spread),
            notified: share(NotificationOptions::default().spread),
        }
    }

    /// Until everything has been published once.
    fn start_timeout(self) -> Duration {
        KINDS.map(|_| self.start).iter().sum::<Duration>() + SLACK
    }
}

impl Member {
    async fn start(
        folder: &Path,
        vault: &Vault,
        token: &Path,
        spread: Spread,
    ) -> Result<Self, Broken> {
        let notifications = free_address()?;
        let options = SidecarOptions {
            rest: format!("start_spread = \"{}ms\"\n", spread.start.as_millis()),
            more: format!(
                "[notifications]\nlisten = \"{notifications}\"\ntoken_file = \"{}\"\nspread = \"{}ms\"\n",
                token.display(),
                spread.notified.as_millis(),
            ),
            ready_timeout: spread.start_timeout(),
            ..SidecarOptions::new(vault.access(), &folder.join("stores"))
        };
        Ok(Self {
            sidecar: Sidecar::start(folder, &options).await?,
            notifications,
        })
    }

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
    let sidecars = if run.quick { SIDECARS_QUICK } else { SIDECARS };
    let spread = Spread::of(sidecars);
    let place = run.folder.join("certs");
    let credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
    let vault = Vault::start(&run.folder.join("vault"), &credentials).await?;
    // As the fleet before it has left it; else several make the first one, and each knows those before its own.
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let key = vault.add_ticket_key(now, now.saturating_add(TICKET_KEY_SECONDS));
    key.map_err(|error| Broken::Unexpected(with_causes(&error)))?;
    let (token, token_file) = (Uuid::new_v4().to_string(), run.folder.join("token"));
    write_file(&token_file, &token)?;
    let folders = (1..=sidecars).map(|number| run.folder.join(number.to_string()));
    let folders: Vec<PathBuf> = folders.collect();

    let mut proof = Proof::default();
    let started = Instant::now();
    let start = |folder| Member::start(folder, &vault, &token_file, spread);
    let starts = folders.iter().map(|folder: &PathBuf| start(folder));
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
    let alike = Deadline::after(spread.notified + SLACK).poll(alike).await;
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
