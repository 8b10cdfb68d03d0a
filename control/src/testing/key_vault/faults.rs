//! What can be made to go wrong with a vault.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Faults of one vault; the default is none. The same as JSON, each field optional, over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Connections are closed as soon as they are accepted, and open ones at once.
    pub down: bool,
    /// Milliseconds before each answer.
    pub latency_ms: u64,
    /// `deny`, `throttle` and `error` concern paths that begin like this, say `/secrets/`; empty: all.
    pub path: String,
    /// How many requests they concern; then they are over. `None`: until changed.
    pub times: Option<u32>,
    /// 403, as with a missing role assignment.
    pub deny: bool,
    /// 429 with this many seconds in `Retry-After`.
    pub throttle: Option<u32>,
    /// This status, say 503.
    pub error: Option<u16>,
    /// Names of certificates whose secret has a value that is neither PKCS#12 nor PEM.
    pub garbage: BTreeSet<String>,
    /// By name of a certificate: another one, whose key its secret has instead of its own.
    pub key_of: BTreeMap<String, String>,
}

/// A fault that answers instead of the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Deny,
    Throttle(u32),
    Error(u16),
}

impl Faults {
    /// The fault for a request to `path`, which is thereby counted.
    pub(super) fn take(&mut self, path: &str) -> Option<Fault> {
        let fault = if self.deny {
            Fault::Deny
        } else if let Some(seconds) = self.throttle {
            Fault::Throttle(seconds)
        } else {
            Fault::Error(self.error?)
        };
        if !path.starts_with(&self.path) {
            return None;
        }
        if let Some(times) = &mut self.times {
            *times = times.checked_sub(1)?;
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_concerns_its_paths_as_often_as_said() {
        let mut faults = Faults {
            path: "/secrets/".to_owned(),
            times: Some(1),
            throttle: Some(3),
            ..Faults::default()
        };
        assert_eq!(faults.take("/certificates/a"), None);
        assert_eq!(faults.take("/secrets/a"), Some(Fault::Throttle(3)));
        assert_eq!(faults.take("/secrets/a"), None);
    }
}
