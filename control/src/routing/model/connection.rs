//! A private endpoint connection: a link of an account.

use std::num::NonZeroU32;

use postern_api::routing::Link;
use postern_api::{LinkId, LinkState};
use serde::{Deserialize, Serialize};

use super::{Description, RequestMessage};

/// A private endpoint connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// Its link id. Unique in its account, and never another one: it names the private endpoint. Other accounts may
    /// have the same one, since a private endpoint may be to a workspace.
    pub link_id: LinkId,
    /// Its state.
    pub state: LinkState,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "Description::is_empty")]
    pub description: Description,
    /// What who made the private endpoint asks.
    #[serde(default, skip_serializing_if = "RequestMessage::is_empty")]
    pub request_message: RequestMessage,
    /// Requests per second of this link, on one instance of the data plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<NonZeroU32>,
}

impl Connection {
    /// The connection as the data plane needs it.
    pub fn link(&self) -> Link {
        Link {
            link_id: self.link_id,
            state: self.state,
            requests_per_second: self.requests_per_second,
        }
    }
}
