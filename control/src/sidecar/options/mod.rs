//! The sidecar's configuration: one TOML file, overrides from the environment, typed options with defaults.
//!
//! Promises that a [`Config`] from [`Config::load`] is whole and makes sense: what refers to something exists, no two
//! write to the same store, and there is never a doubt which identity asks a vault. Never opens what a path names,
//! never holds a secret.
//!
//! Invariant: `postern-control defaults` prints every key there is, with the default that is in force.

mod certificates;
mod events;
mod schedule;
#[cfg(test)]
mod tests;
mod vaults;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use postern_chassis::{ConfigError, Root, Section, options};

pub use certificates::{CaOptions, CertificateOptions, IssueOptions, Kind, TicketOptions};
pub use events::ScheduledEventsOptions;
pub use schedule::{AdminOptions, LogOptions, NotificationOptions, RestOptions};
pub use vaults::{IdentityKind, IdentityOptions, VaultOptions};

options! {
    /// Everything that can be configured.
    pub struct Config {
        /// Who asks: the identities, one section each, under its name (a-z, 0-9, - and _).
        pub identities: BTreeMap<String, IdentityOptions> = BTreeMap::new() => "vm";
        /// Who is asked: the key vaults, one section each, under its name.
        pub vaults: BTreeMap<String, VaultOptions> = BTreeMap::new() => "main";
        /// What is published: the certificates, one section each, under its name, which is in logs and metrics.
        pub certificates: BTreeMap<String, CertificateOptions> = BTreeMap::new() => "client";
        /// The session-ticket keys of the fleet, so that a client resumes on any instance.
        pub tickets: Option<TicketOptions> = None;
        /// When to look.
        pub rest: RestOptions = RestOptions::default();
        /// The admin listener: /livez, /readyz, /metrics.
        pub admin: AdminOptions = AdminOptions::default();
        /// A listener for Event Grid's notifications. They only make the next look earlier.
        pub notifications: Option<NotificationOptions> = None;
        /// What Azure plans for this virtual machine: before it is taken away, Postern drains.
        pub scheduled_events: Option<ScheduledEventsOptions> = None;
        /// The operational log: JSON to standard error.
        pub log: LogOptions = LogOptions::default();
    }
}

// Limit: each certificate is a task, a store and some ten metrics.
const CERTIFICATES_MAX: usize = 64;
// Limit: each vault has its own connections and token.
const VAULTS_MAX: usize = 16;
// Limit: a name is a metric label and a log word.
const NAME_BYTES_MAX: usize = 63;
/// What the ticket keys are called in logs and metrics.
pub(crate) const TICKETS: &str = "tickets";

const INTRODUCTION: &str = "\
# Every option of `postern-control sidecar`, with its default. Written by `postern-control defaults`.
#
# A key without a default is shown as a comment, with an example. Lengths of time have a unit: \"250ms\", \"10s\",
# \"1h\". Relative paths are relative to the folder of the configuration file. An environment variable overrides a
# key: POSTERN_CONTROL_REST__INTERVAL=5m, with two underscores between levels and commas between the items of a list.
# `postern` ignores these variables, and `postern-control` ignores those of `postern`.

";

impl Root for Config {
    const PROGRAM: &'static str = "postern-control";
    const PREFIX: &'static str = "POSTERN_CONTROL_";
    const OTHERS: &'static [&'static str] = &["POSTERN_CONTROL_ROUTES_"];
    const INTRODUCTION: &'static str = INTRODUCTION;

    fn validate(&self, mut at: Section<'_>) {
        self.validate_counts(&mut at);
        for name in self.names() {
            let (section, name) = name;
            at.under(section).require(name, is_name(name), || {
                format!("a name has 1 to {NAME_BYTES_MAX} of a-z, 0-9, - and _")
            });
        }
        self.validate_identities(at.under("identities"));
        self.validate_vaults(at.under("vaults"));
        self.validate_certificates(at.under("certificates"));
        self.validate_stores(&mut at);
        self.rest.validate(at.under("rest"));
        if let Some(tickets) = &self.tickets {
            let mut at = at.under("tickets");
            self.require_vault(&mut at, &tickets.vault);
            tickets.validate(&self.rest, at);
        }
        self.admin.validate(at.under("admin"));
        if let Some(notifications) = &self.notifications {
            notifications.validate(&self.admin, at.under("notifications"));
        }
        if let Some(events) = &self.scheduled_events {
            events.validate(at.under("scheduled_events"));
        }
    }

    fn resolve(&mut self, folder: &Path) {
        self.vaults.values_mut().for_each(|it| it.resolve(folder));
        self.certificates
            .values_mut()
            .for_each(|it| it.resolve(folder));
        if let Some(tickets) = &mut self.tickets {
            tickets.store = folder.join(&tickets.store);
        }
        if let Some(notifications) = &mut self.notifications {
            notifications.token_file = folder.join(&notifications.token_file);
        }
    }
}

impl Config {
    /// Reads the file, puts `POSTERN_CONTROL_*` of `env` on top, and validates the whole.
    pub fn load(
        path: &Path,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        postern_chassis::load(path, env)
    }

    /// Every option with its default and what it does, as a TOML file.
    pub fn print_defaults() -> String {
        postern_chassis::print_defaults::<Self>()
    }

    /// The certificate of kind `trust` that a client certificate is held against: the one it names, or the only one.
    pub fn trust_of(&self, client: &CertificateOptions) -> Option<(&str, &CertificateOptions)> {
        let mut trusts = self
            .certificates
            .iter()
            .filter(|(_, it)| it.kind == Some(Kind::Trust));
        let found = match &client.trust {
            Some(name) => trusts.find(|(trust, _)| *trust == name),
            None => trusts.next().filter(|_| trusts.next().is_none()),
        };
        found.map(|(name, options)| (name.as_str(), options))
    }

    fn names(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let identities = self.identities.keys().map(|name| ("identities", name));
        let vaults = self.vaults.keys().map(|name| ("vaults", name));
        let certificates = self.certificates.keys().map(|name| ("certificates", name));
        identities.chain(vaults).chain(certificates)
    }

    fn validate_counts(&self, at: &mut Section<'_>) {
        let some = !self.certificates.is_empty() || self.tickets.is_some();
        at.require("certificates", some, || {
            "at least one is required, as in [certificates.private], or [tickets]".into()
        });
        for (key, count, max) in [
            ("identities", self.identities.len(), VAULTS_MAX),
            ("vaults", self.vaults.len(), VAULTS_MAX),
            ("certificates", self.certificates.len(), CERTIFICATES_MAX),
        ] {
            at.require(key, count <= max, || format!("{count} are more than {max}"));
        }
        at.under("certificates")
            .require(TICKETS, !self.certificates.contains_key(TICKETS), || {
                "is what the ticket keys are called; choose another name".into()
            });
    }

    fn validate_identities(&self, mut at: Section<'_>) {
        let managed = |it: &&IdentityOptions| it.kind == Some(IdentityKind::Managed);
        let several = self.identities.values().filter(managed).count() > 1;
        for (name, identity) in &self.identities {
            identity.validate(several, at.under(name));
        }
    }

    fn validate_vaults(&self, mut at: Section<'_>) {
        let mut identities = BTreeMap::new();
        for (name, vault) in &self.vaults {
            let mut at = at.under(name);
            vault.validate(&mut at);
            at.require(
                "identity",
                self.identities.contains_key(&vault.identity),
                || unknown("identities", &vault.identity, self.identities.keys()),
            );
            let url = vault.url.trim_end_matches('/').to_ascii_lowercase();
            let (other, identity) = identities.entry(url).or_insert((name, &vault.identity));
            at.require("identity", *identity == &vault.identity, || {
                format!(
                    "`{}` and vaults.{other}'s `{identity}` are two identities for one vault; a vault is asked as one",
                    vault.identity
                )
            });
        }
    }

    fn validate_certificates(&self, mut at: Section<'_>) {
        for (name, certificate) in &self.certificates {
            let mut at = at.under(name);
            self.require_vault(&mut at, &certificate.vault);
            certificate.validate(&mut at);
            if certificate.kind == Some(Kind::Client) {
                at.require("trust", self.trust_of(certificate).is_some(), || {
                    match &certificate.trust {
                        Some(trust) => format!("there is no [certificates.{trust}] of kind \"trust\""),
                        None => "is required: which certificate of kind \"trust\" it must verify to, as there is not exactly one"
                            .into(),
                    }
                });
            }
            if let Some(vault) = certificate
                .issue
                .as_ref()
                .and_then(|it| it.ca.vault.as_ref())
            {
                self.require_vault(&mut at.under("issue").under("ca"), vault);
            }
        }
    }

    fn validate_stores(&self, at: &mut Section<'_>) {
        let certificates = self.certificates.iter();
        let mut stores: Vec<(Option<&str>, &PathBuf)> = certificates
            .map(|(name, it)| (Some(name.as_str()), &it.store))
            .collect();
        stores.extend(self.tickets.iter().map(|it| (None, &it.store)));
        let mut seen = BTreeSet::new();
        for (name, store) in stores {
            let is_new = store.as_os_str().is_empty() || seen.insert(store);
            let shared = || format!("`{}` is another's store already", store.display());
            match name {
                Some(name) => at
                    .under("certificates")
                    .under(name)
                    .require("store", is_new, shared),
                None => at.under("tickets").require("store", is_new, shared),
            }
        }
    }

    fn require_vault(&self, at: &mut Section<'_>, vault: &str) {
        at.require("vault", self.vaults.contains_key(vault), || {
            unknown("vaults", vault, self.vaults.keys())
        });
    }
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// What to say about a reference to nothing.
fn unknown<'a>(section: &str, given: &str, known: impl Iterator<Item = &'a String>) -> String {
    if given.is_empty() {
        return format!("is required: the name of a section, as in [{section}.main]");
    }
    match postern_chassis::toml_error::nearest(given, known.map(String::as_str)) {
        Some(near) => format!("there is no [{section}.{given}]; did you mean `{near}`?"),
        None => format!("there is no [{section}.{given}]"),
    }
}
