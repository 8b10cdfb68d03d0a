//! The account-routing service's configuration: one TOML file, overrides from the environment, typed options.
//!
//! Promises that a [`Config`] from [`Config::load`] is whole and makes sense: every client has a name of its own and at
//! least one role. Never opens what a path names, never holds a secret.
//!
//! Invariant: `postern-control defaults routing` prints every key there is, with the default that is in force.

mod clients;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use postern_chassis::{ConfigError, Root, Section, options};

pub use clients::{ClientOptions, Role};
pub use parts::{
    AdminOptions, ChangesOptions, LimitOptions, ListenOptions, LogOptions, LookupOptions,
    StoreKind, StoreOptions, TlsOptions,
};

options! {
    /// Everything that can be configured.
    pub struct Config {
        /// Where it listens: HTTP/2 and HTTP/1.1 over mutual TLS.
        pub listen: ListenOptions = ListenOptions::default();
        /// The certificates of both sides.
        pub tls: TlsOptions = TlsOptions::default();
        /// Who may ask for what: the clients, one section each, under its name (a-z, 0-9, - and _). Whoever is not
        /// among them is answered 403.
        pub clients: BTreeMap<String, ClientOptions> = BTreeMap::new() => "proxies";
        /// Where it keeps the books.
        pub store: StoreOptions = StoreOptions::default();
        /// The data plane's lookups.
        pub lookup: LookupOptions = LookupOptions::default();
        /// The log of changes, and the streams that tell the data plane of them.
        pub changes: ChangesOptions = ChangesOptions::default();
        /// How much it takes on.
        pub limits: LimitOptions = LimitOptions::default();
        /// The admin listener: /livez, /readyz, /metrics.
        pub admin: AdminOptions = AdminOptions::default();
        /// The operational log: JSON to standard error. Each change to the books is a line.
        pub log: LogOptions = LogOptions::default();
    }
}

const INTRODUCTION: &str = "\
# Every option of `postern-control routing`, with its default. Written by `postern-control defaults routing`.
#
# A key without a default is shown as a comment, with an example. Lengths of time have a unit: \"250ms\", \"10s\",
# \"1h\". Relative paths are relative to the folder of the configuration file. An environment variable overrides a
# key: POSTERN_ROUTING_LOOKUP__MAX_AGE=30s, with two underscores between levels and commas between the items of a
# list. No other program of Postern heeds these variables.

";

impl Root for Config {
    const PROGRAM: &'static str = "postern-control";
    const PREFIX: &'static str = "POSTERN_ROUTING_";
    const OTHERS: &'static [&'static str] = &[];
    const INTRODUCTION: &'static str = INTRODUCTION;

    fn validate(&self, mut at: Section<'_>) {
        self.listen.validate(at.under("listen"));
        self.tls.validate(at.under("tls"));
        clients::validate(&self.clients, &mut at);
        self.store.validate(at.under("store"));
        self.lookup.validate(at.under("lookup"));
        self.changes.validate(at.under("changes"));
        self.limits.validate(at.under("limits"));
        self.admin.validate(&self.listen, at.under("admin"));
    }

    fn resolve(&mut self, folder: &Path) {
        for path in [
            &mut self.tls.identity,
            &mut self.tls.trust,
            &mut self.store.path,
        ] {
            *path = folder.join(&path);
        }
    }
}

impl Config {
    /// Reads the file, puts `POSTERN_ROUTING_*` of `env` on top, and validates the whole.
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
}
