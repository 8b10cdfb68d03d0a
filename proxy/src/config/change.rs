//! What differs between two configurations, and which of it a running process takes up.
//!
//! One table says it for every key. What is not in it needs another process: deny by default.

use serde_json::Value;

use super::Config;

/// How a running process takes a changed key up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// By a reload.
    Live,
    /// By another process: an upgrade or a restart.
    ByUpgrade,
}

use Taken::{ByUpgrade, Live};

/// Every key, or the section that it is in.
const KEYS: &[(&str, Taken)] = &[
    // What is decided, and by whom, is asked once for each connection: two answers at a time would be none.
    ("mode", ByUpgrade),
    ("forward_cluster", ByUpgrade),
    // Threads and sockets are made once. Keepalive is the listening socket's.
    ("workers", ByUpgrade),
    ("data.listen", ByUpgrade),
    ("data.tcp_keepalive", ByUpgrade),
    ("data.trusted_sources", Live),
    ("data.probe_sources", Live),
    ("data.connections_max", Live),
    ("probe.listen", ByUpgrade),
    ("admin.listen", ByUpgrade),
    ("proxy_header", Live),
    ("tls", Live),
    ("http", Live),
    // What is remembered of one source must not be taken for another's.
    ("routes.file", ByUpgrade),
    ("routes.service", ByUpgrade),
    ("routes.reload_interval", Live),
    ("routes.revoked_timeout", Live),
    // The cache is laid out for them.
    ("route_cache", ByUpgrade),
    ("upstream", Live),
    ("credentials.check_interval", Live),
    // Lines that wait belong to the file they were written for.
    ("access_log", ByUpgrade),
    ("log.level", Live),
    ("drain", Live),
    ("upgrade", Live),
];

/// The keys in which two configurations differ, such as `upstream.clusters.dicom.endpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a running process takes up.
    pub live: Vec<String>,
    /// Those that it cannot.
    pub needs_upgrade: Vec<String>,
}

/// The configurations cannot be compared: a path in one of them is not UTF-8.
#[derive(Debug, thiserror::Error)]
#[error("cannot be compared with the configuration in force")]
pub struct Incomparable(#[from] serde_json::Error);

impl Changes {
    /// From one configuration to another. Names keys, never values.
    pub fn between(old: &Config, new: &Config) -> Result<Self, Incomparable> {
        let mut keys = Vec::new();
        differences(
            "",
            &serde_json::to_value(old)?,
            &serde_json::to_value(new)?,
            &mut keys,
        );
        let (live, needs_upgrade) = keys.into_iter().partition(|key| taken(key) == Live);
        Ok(Self {
            live,
            needs_upgrade,
        })
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.live.is_empty() && self.needs_upgrade.is_empty()
    }

    /// Whether one of the keys, or one below it, has changed and is taken up.
    pub fn touch(&self, keys: &[&str]) -> bool {
        let is_one = |changed: &String| keys.iter().any(|key| is_under(changed, key));
        self.live.iter().any(is_one)
    }
}

fn taken(key: &str) -> Taken {
    let rule = KEYS.iter().find(|(prefix, _)| is_under(key, prefix));
    rule.map_or(ByUpgrade, |(_, taken)| *taken)
}

/// Whether `key` is `section` or in it.
fn is_under(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn differences(at: &str, old: &Value, new: &Value, keys: &mut Vec<String>) {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        if old != new {
            keys.push(at.to_owned());
        }
        return;
    };
    let added = after.keys().filter(|key| !before.contains_key(*key));
    for key in before.keys().chain(added) {
        let path = if at.is_empty() {
            key.clone()
        } else {
            format!("{at}.{key}")
        };
        match (before.get(key), after.get(key)) {
            (Some(old), Some(new)) => differences(&path, old, new, keys),
            _ => keys.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClusterOptions;

    /// Every key that has a value, and every section that has none.
    fn leaves(at: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(section) if !section.is_empty() => {
                for (key, value) in section {
                    let path = if at.is_empty() {
                        key.clone()
                    } else {
                        format!("{at}.{key}")
                    };
                    leaves(&path, value, found);
                }
            }
            _ => found.push(at.to_owned()),
        }
    }

    #[test]
    fn every_key_is_in_the_table_once_and_the_table_has_no_other() {
        let mut keys = Vec::new();
        let whole = serde_json::to_value(Config::default()).unwrap();
        leaves("", &whole, &mut keys);
        assert!(keys.len() > 40, "{keys:?}");
        for key in &keys {
            let rules = KEYS.iter().filter(|(section, _)| is_under(key, section));
            assert_eq!(rules.count(), 1, "{key}");
        }
        for (section, _) in KEYS {
            assert!(keys.iter().any(|key| is_under(key, section)), "{section}");
        }
    }

    #[test]
    fn the_introduction_names_what_needs_another_process() {
        let introduction = <Config as postern_chassis::Root>::INTRODUCTION;
        let (_, list) = introduction.split_once("takes them up:\n").unwrap();
        let listed = list.replace(['#', '\n', ' '], "");
        let listed: Vec<_> = listed.trim_end_matches('.').split(',').collect();
        let needed = KEYS.iter().filter(|(_, taken)| *taken == ByUpgrade);
        assert_eq!(listed, needed.map(|(key, _)| *key).collect::<Vec<_>>());
    }

    #[test]
    fn a_key_of_no_rule_needs_another_process() {
        assert_eq!(taken("data.listener"), ByUpgrade);
        assert_eq!(taken("httpx"), ByUpgrade);
        assert_eq!(taken("http.idle_timeout"), Live);
    }

    #[test]
    fn what_differs_is_told_by_key_and_by_who_takes_it_up() {
        let old = Config::default();
        let nothing = Changes::between(&old, &old).unwrap();
        assert!(nothing.is_empty());

        let mut new = old.clone();
        new.workers = 3;
        new.routes.file = Some("routes.toml".into());
        new.http.headers_max = 50;
        let cluster = ClusterOptions::default();
        new.upstream.clusters.insert("dicom".into(), cluster);
        let changes = Changes::between(&old, &new).unwrap();
        assert_eq!(changes.needs_upgrade, ["routes.file", "workers"]);
        assert_eq!(
            changes.live,
            ["http.headers_max", "upstream.clusters.dicom"]
        );
        assert!(changes.touch(&["upstream.clusters"]) && changes.touch(&["upstream.x", "http"]));
        assert!(!changes.touch(&["upstream.clusters.dicom.name", "workers"]));

        let mut newer = new.clone();
        newer.upstream.clusters.clear();
        let gone = Changes::between(&new, &newer).unwrap();
        assert_eq!(gone.live, ["upstream.clusters.dicom"]);
    }
}
