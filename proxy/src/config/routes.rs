//! Account routing: where routes come from, and how long an answer is good.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_chassis::{Section, options, period};

options! {
    /// Where routes come from.
    pub struct RouteOptions {
        /// Required unless mode = "forward". The route file.
        pub file: Option<PathBuf> = None => r#""routes.toml""#;
        /// Time between looks at the file for a change.
        #[serde(with = "period")]
        pub reload_interval: Duration = Duration::from_secs(1);
        /// Time a revoked link's open connections get to end before they are cut.
        #[serde(with = "period")]
        pub revoked_timeout: Duration = Duration::from_secs(30);
    }
}

options! {
    /// The cache of routing answers.
    pub struct RouteCacheOptions {
        /// Time an answer "allowed" is fresh.
        #[serde(with = "period")]
        pub ttl: Duration = Duration::from_mins(1);
        /// Time after that in which it is still used while a fresh one is fetched. "0s" turns this off.
        #[serde(with = "period")]
        pub stale_while_revalidate: Duration = Duration::from_mins(1);
        /// Time an answer "not found" is kept. "0s" turns this off.
        #[serde(with = "period")]
        pub not_found_ttl: Duration = Duration::from_secs(5);
        /// Age up to which the last good answer is used when the source fails; then 503. Not under ttl.
        #[serde(with = "period")]
        pub stale_max: Duration = Duration::from_hours(1);
        /// Answers "allowed" kept, at about 175 bytes each; a sixteenth of it more for "not found".
        pub entries_max: u64 = 1_000_000;
        /// Time a lookup may take.
        #[serde(with = "period")]
        pub lookup_timeout: Duration = Duration::from_secs(2);
    }
}

// Limit: an entry is about 175 bytes beside its route, so ten million are 2 GB.
const ENTRIES: std::ops::RangeInclusive<u64> = 1..=10_000_000;

impl RouteOptions {
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(file) = &mut self.file {
            *file = folder.join(&file);
        }
    }

    pub(super) fn validate(&self, required: bool, mut at: Section<'_>) {
        at.require("file", self.file.is_some() || !required, || {
            "is required unless mode = \"forward\": where the route file is, as in \"routes.toml\""
                .into()
        });
        at.wait("reload_interval", self.reload_interval);
        at.wait("revoked_timeout", self.revoked_timeout);
    }
}

impl RouteCacheOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.wait("ttl", self.ttl);
        at.require("stale_max", self.stale_max >= self.ttl, || {
            format!(
                "must not be shorter than route_cache.ttl, which is {}",
                period::show(self.ttl)
            )
        });
        at.within("entries_max", self.entries_max, ENTRIES);
        at.wait("lookup_timeout", self.lookup_timeout);
    }
}
