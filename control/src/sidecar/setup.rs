//! From the configuration to the parts: every vault, certificate and cycle once, in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use postern_certs::Expectations;
use tokio::sync::Notify;

use super::certificate::Certificate;
use super::cycle::{Cycle, Shared, Subject};
use super::events::Watch;
use super::inspect::Demands;
use super::metrics::Metrics;
use super::notify::Topic;
use super::options::{CertificateOptions, Config, IdentityOptions, IssueOptions, Kind, TICKETS};
use super::place::Place;
use super::status::Status;
use super::tickets::{Schedule, Tickets};
use super::{Sidecar, SidecarError, Wakes};
use crate::issue::{Authority, Issuer};
use crate::vault::{Identity, SetupError, Vault};

/// Makes an identity of its options. `None`: they do not say which.
type Identify<'a> = &'a dyn Fn(&IdentityOptions) -> Result<Option<Identity>, SetupError>;

/// Everything that the configuration asks for.
pub(super) fn sidecar(config: &Config, identify: Identify<'_>) -> Result<Sidecar, SidecarError> {
    let vaults = vaults(config, identify)?;
    let mut subjects = Vec::new();
    // In the order of the first rounds: what is held against the trust comes after it.
    let mut certificates: Vec<_> = config.certificates.iter().collect();
    certificates.sort_by_key(|(_, options)| match options.kind {
        Some(Kind::Trust) => 0,
        Some(Kind::Client) => 1,
        Some(Kind::Server) | None => 2,
    });
    let names = certificates.iter().map(|(name, _)| name.as_str());
    let names: Vec<_> = names
        .chain(config.tickets.as_ref().map(|_| TICKETS))
        .collect();
    let metrics = Metrics::new(names.iter().copied(), vaults.values().map(Vault::host))?;
    let metrics = Arc::new(metrics);
    let publishing = Arc::new(Mutex::new(()));
    for (name, options) in certificates {
        subjects.push(Subject::Certificate(Arc::new(Certificate {
            name: name.clone(),
            kind: kind(name, options)?.label(),
            vault: vault(&vaults, &options.vault)?,
            objects: [&options.name]
                .into_iter()
                .chain(&options.also)
                .cloned()
                .collect(),
            place: Place::new(&options.store),
            demands: demands(config, name, options)?,
            issuer: options
                .issue
                .as_ref()
                .map(|issue| issuer(&vaults, name, options, issue))
                .transpose()?,
            publishing: Arc::clone(&publishing),
            metrics: Arc::clone(&metrics),
            fetched: tokio::sync::Mutex::default(),
            not_made: Mutex::default(),
            taken: Mutex::default(),
        })));
    }
    if let Some(options) = &config.tickets {
        subjects.push(Subject::Tickets(Arc::new(Tickets {
            name: TICKETS.to_owned(),
            vault: vault(&vaults, &options.vault)?,
            object: options.name.clone(),
            place: Place::new(&options.store),
            schedule: Schedule {
                period: options.period,
                lead: options.lead,
                lifetime: options.lifetime,
            },
            metrics: Arc::clone(&metrics),
            fetched: tokio::sync::Mutex::default(),
        })));
    }
    let parts = Arc::new(Shared {
        rest: config.rest.clone(),
        metrics,
        status: Status::new(names.into_iter().map(str::to_owned)),
    });
    let events = config.scheduled_events.as_ref().map(|options| {
        let watch = Watch::new(options, Arc::clone(&parts.metrics));
        watch.map_err(|error| SidecarError::Setup {
            section: "scheduled_events".to_owned(),
            source: SetupError::Http(error),
        })
    });
    let events = events.transpose()?;
    Ok(Sidecar {
        events,
        ..assemble(config, parts, subjects)
    })
}

fn assemble(config: &Config, parts: Arc<Shared>, subjects: Vec<Subject>) -> Sidecar {
    let one_each = || -> BTreeMap<_, _> {
        let names = subjects.iter().map(|subject| subject.name().to_owned());
        names.map(|name| (name, Arc::new(Notify::new()))).collect()
    };
    let (wakes, follows) = (one_each(), one_each());
    let of = |all: &BTreeMap<_, _>, name: &str| all.get(name).cloned().unwrap_or_default();
    let topics = subjects.iter().flat_map(|subject| {
        let (vault, objects) = match subject {
            Subject::Certificate(it) => (&it.vault, it.objects.clone()),
            Subject::Tickets(it) => (&it.vault, vec![it.object.clone()]),
        };
        let wake = of(&wakes, subject.name());
        let topic = move |object| Topic {
            vault: vault.host().to_owned(),
            object,
            wake: Arc::clone(&wake),
        };
        objects.into_iter().map(topic)
    });
    let topics = topics.collect();
    let cycles = subjects.into_iter().enumerate().map(|(index, subject)| {
        let followers = clients_of(config, subject.name());
        let followers = followers.map(|(name, _)| of(&follows, name)).collect();
        let own = Wakes {
            notified: of(&wakes, subject.name()),
            followed: of(&follows, subject.name()),
        };
        let parts = Arc::clone(&parts);
        (Cycle::new(subject, index, parts, followers), own)
    });
    Sidecar {
        cycles: cycles.collect(),
        config: config.clone(),
        parts,
        topics,
        events: None,
    }
}

fn vaults<'a>(
    config: &'a Config,
    identify: Identify<'_>,
) -> Result<BTreeMap<&'a str, Vault>, SidecarError> {
    let mut identities = BTreeMap::new();
    let mut vaults = BTreeMap::new();
    for (name, options) in &config.vaults {
        let failed = |section: &str, name: &str| {
            let section = format!("{section}.{name}");
            move |source| SidecarError::Setup { section, source }
        };
        let known = identities.get(&options.identity);
        let identity = if let Some(identity) = known {
            Identity::clone(identity)
        } else {
            let missing = || missing("identities", &options.identity);
            let options_of_it = config.identities.get(&options.identity);
            let made = identify(options_of_it.ok_or_else(missing)?);
            let made = made.map_err(failed("identities", &options.identity))?;
            made.ok_or_else(missing)?
        };
        let vault = Vault::new(&options.client(), &identity).map_err(failed("vaults", name))?;
        identities.insert(&options.identity, identity);
        vaults.insert(name.as_str(), vault);
    }
    Ok(vaults)
}

fn vault(vaults: &BTreeMap<&str, Vault>, name: &str) -> Result<Vault, SidecarError> {
    let vault = vaults.get(name).cloned();
    vault.ok_or_else(|| missing("vaults", name))
}

fn kind(name: &str, options: &CertificateOptions) -> Result<Kind, SidecarError> {
    options
        .kind
        .ok_or_else(|| missing("certificates", &format!("{name}.kind")))
}

fn demands(
    config: &Config,
    name: &str,
    options: &CertificateOptions,
) -> Result<Demands, SidecarError> {
    let kind = kind(name, options)?;
    let location = |options: &CertificateOptions| Place::new(&options.store).location().clone();
    let trust = match (kind, config.trust_of(options)) {
        (Kind::Client, Some((trust, options))) => Some((trust.to_owned(), location(options))),
        (Kind::Client, None) => return Err(missing("certificates", &format!("{name}.trust"))),
        _ => None,
    };
    let expectations = match kind {
        Kind::Server => Expectations::server(),
        Kind::Client => Expectations::client(),
        Kind::Trust => Expectations::trust(),
    };
    let clients = clients_of(config, name);
    Ok(Demands {
        expectations: expectations.covering(options.names.iter().cloned()),
        trust,
        clients: clients
            .map(|(name, options)| (name.to_owned(), location(options)))
            .collect(),
    })
}

/// The client certificates that are held against the trust of this name.
fn clients_of<'a>(
    config: &'a Config,
    trust: &str,
) -> impl Iterator<Item = (&'a str, &'a CertificateOptions)> {
    config
        .certificates
        .iter()
        .filter_map(move |(name, options)| {
            let is_client = options.kind == Some(Kind::Client);
            let held = is_client.then(|| config.trust_of(options))??.0;
            (held == trust).then_some((name.as_str(), options))
        })
}

fn issuer(
    vaults: &BTreeMap<&str, Vault>,
    name: &str,
    options: &CertificateOptions,
    issue: &IssueOptions,
) -> Result<Issuer, SidecarError> {
    let refused =
        |what: &str| SidecarError::Configuration(format!("certificates.{name}.issue: {what}"));
    let policy = issue
        .policy()
        .map_err(|error| refused(&error.to_string()))?;
    let ca = &issue.ca;
    let authority = match (&ca.certificate, &ca.file, &ca.key) {
        (Some(certificate), None, None) => Authority::Vault {
            vault: vault(vaults, ca.vault.as_ref().unwrap_or(&options.vault))?,
            certificate: certificate.clone(),
            trusted_for: ca.trusted_for,
        },
        (None, Some(file), Some(key)) => Authority::Files {
            certificate: file.clone(),
            key: key.clone(),
        },
        _ => return Err(refused("ca is either `certificate`, or `file` and `key`")),
    };
    let vault = vault(vaults, &options.vault)?;
    Ok(Issuer::new(vault, &options.name, policy, authority))
}

fn missing(section: &str, name: &str) -> SidecarError {
    SidecarError::Configuration(format!("{section}.{name} is required"))
}
