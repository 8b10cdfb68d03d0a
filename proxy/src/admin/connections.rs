//! `/connections`: the open connections, the oldest first.

use postern_api::LinkId;
use serde::Serialize;

use crate::connection::http::Connection;
use crate::outcome::Refusal;
use crate::server::Phase;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    /// Phase of the drain, and counts of the whole process.
    pub(super) phase: Phase,
    pub(super) connections_open: usize,
    pub(super) requests_in_flight: i64,
    pub(super) draining: bool,
    /// How many are listed: at most [`LISTED_MAX`], and none that has not finished its handshake.
    pub(super) listed: usize,
    pub(super) connections: Vec<Row>,
}

/// One connection.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    link_id: LinkId,
    client: String,
    source: String,
    sni: String,
    account: Option<String>,
    /// Why each of its requests is refused, if it is.
    refusal: Option<&'static str>,
    protocol: &'static str,
    tls: &'static str,
    tls_resumed: bool,
    age_seconds: f64,
    requests_served: u64,
    requests_in_flight: u32,
    /// Whether nothing is held for requests, since none has come for a while.
    parked: bool,
}

impl Row {
    pub(super) fn of(connection: &Connection) -> Self {
        let standing = connection.standing.load();
        let permit = standing.as_ref().as_ref().ok();
        Self {
            link_id: connection.link_id,
            client: connection.client.to_string(),
            source: connection.source.to_string(),
            sni: connection.sni.to_string(),
            account: permit
                .and_then(|permit| permit.account())
                .map(str::to_owned),
            refusal: standing
                .as_ref()
                .as_ref()
                .err()
                .copied()
                .map(Refusal::label),
            protocol: if connection.http2 {
                "HTTP/2.0"
            } else {
                "HTTP/1.1"
            },
            tls: connection.tls_version,
            tls_resumed: connection.resumed,
            age_seconds: connection.opened.elapsed().as_secs_f64(),
            requests_served: connection.activity.served(),
            requests_in_flight: connection.activity.in_flight(),
            parked: connection.activity.parked(),
        }
    }
}

// Limit: about 400 bytes each, so that the page stays under half a megabyte.
pub(super) const LISTED_MAX: usize = 1000;
