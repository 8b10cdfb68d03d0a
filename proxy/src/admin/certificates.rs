//! `/certs`: every certificate in use, and what was refused. Never a key.

use jiff::Timestamp;
use postern_certs::{Facts, Purpose, TicketKey, TicketKeys};
use serde::Serialize;

use crate::credentials::{Credentials, Place};

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    /// Counts the pairs of client certificate and trust that were taken into use towards the ingress.
    upstream_generation: Option<u64>,
    /// One row for each certificate, the leaf of each chain first.
    certificates: Vec<Row>,
    /// The session-ticket keys that the fleet shares, if it does.
    ticket_keys: Option<Tickets>,
    /// What is there now and not in use.
    refused: Vec<RefusedRow>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// `server`, `client` or `trust`.
    #[serde(rename = "use")]
    pub(super) used_as: &'static str,
    pub(super) path: String,
    /// How many sets were taken into use from this path since the process started.
    generation: u64,
    /// The Key Vault version, or whatever else the store's publisher calls it.
    version: Option<String>,
    /// `leaf`, `issuer` or `anchor`.
    pub(super) role: &'static str,
    pub(super) names: Vec<String>,
    pub(super) subject: String,
    issuer: String,
    serial: String,
    key: String,
    not_before: String,
    pub(super) not_after: String,
    #[serde(skip)]
    pub(super) not_after_seconds: i64,
    /// SHA-256 of the DER.
    fingerprint: String,
}

/// The ticket keys in use.
#[derive(Debug, Serialize)]
pub(super) struct Tickets {
    path: String,
    /// How many sets were taken into use from this path since the process started.
    generation: u64,
    /// The Key Vault version, or whatever else the store's publisher calls it.
    version: Option<String>,
    /// The one that begins last first.
    keys: Vec<Key>,
}

/// A ticket key, without its secret.
#[derive(Debug, Serialize)]
struct Key {
    /// What tickets call it, in hex.
    name: String,
    not_before: String,
    not_after: String,
}

/// A set that is not in use.
#[derive(Debug, Serialize)]
pub(super) struct RefusedRow {
    #[serde(rename = "use")]
    pub(super) used_as: &'static str,
    pub(super) path: String,
    /// The word of the metric.
    reason: &'static str,
    /// What an operator can act on.
    pub(super) error: String,
}

/// What is in use, and what is not.
pub(super) fn list(credentials: &Credentials) -> Listing {
    let places = credentials.places();
    Listing {
        upstream_generation: credentials.client().map(|client| client.generation),
        certificates: certificates(&places),
        ticket_keys: credentials.ticket_keys().as_ref().map(Tickets::of),
        refused: refused(credentials),
    }
}

/// One row for each certificate in use.
pub(super) fn certificates(places: &[Place]) -> Vec<Row> {
    let rows = |place: &Place| -> Vec<Row> {
        let Some(bundle) = &place.content else {
            return Vec::new();
        };
        let role = |position| match (bundle.purpose(), position) {
            (Purpose::Trust, _) => "anchor",
            (_, 0) => "leaf",
            _ => "issuer",
        };
        let facts = bundle.all_facts().iter().enumerate();
        facts
            .map(|(position, facts)| Row::new(place, role(position), facts))
            .collect()
    };
    places.iter().flat_map(rows).collect()
}

/// What is there now and not in use.
pub(super) fn refused(credentials: &Credentials) -> Vec<RefusedRow> {
    let (places, ticket_keys) = (credentials.places(), credentials.ticket_keys());
    let certificates = places.iter().filter_map(RefusedRow::of);
    certificates
        .chain(ticket_keys.iter().filter_map(RefusedRow::of))
        .collect()
}

impl RefusedRow {
    fn of<C>(place: &Place<C>) -> Option<Self> {
        let why = place.refused.as_ref()?;
        Some(Self {
            used_as: place.used_as.label(),
            path: place.path.display().to_string(),
            reason: why.label(),
            error: why.to_string(),
        })
    }
}

impl Tickets {
    fn of(place: &Place<TicketKeys>) -> Self {
        let keys = place.content.iter().flat_map(|keys| keys.all());
        let key = |key: &TicketKey| Key {
            name: format!("{:032x}", u128::from_be_bytes(key.name())),
            not_before: rfc_3339(key.not_before()),
            not_after: rfc_3339(key.not_after()),
        };
        Self {
            path: place.path.display().to_string(),
            generation: place.generation,
            version: place.label.clone(),
            keys: keys.map(key).collect(),
        }
    }
}

#[cfg(test)]
impl RefusedRow {
    pub(super) fn new(
        used_as: &'static str,
        path: &str,
        reason: &'static str,
        error: &str,
    ) -> Self {
        Self {
            used_as,
            path: path.to_owned(),
            reason,
            error: error.to_owned(),
        }
    }
}

impl Row {
    fn new(place: &Place, role: &'static str, facts: &Facts) -> Self {
        Self {
            used_as: place.used_as.label(),
            path: place.path.display().to_string(),
            generation: place.generation,
            version: place.label.clone(),
            role,
            names: facts.dns_names.clone(),
            subject: facts.subject.clone(),
            issuer: facts.issuer.clone(),
            serial: facts.serial.clone(),
            key: facts.key.to_string(),
            not_before: rfc_3339(facts.not_before),
            not_after: rfc_3339(facts.not_after),
            not_after_seconds: facts.not_after,
            fingerprint: facts.fingerprint.to_string(),
        }
    }
}

/// A moment beyond the year 9999 is left as its number.
fn rfc_3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}
