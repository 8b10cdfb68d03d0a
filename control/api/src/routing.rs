//! What the account-routing service tells the data plane, as JSON over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/lookup?linkId=N&host=NAME` | 200 with a [`LookupAnswer`]: a route, or a definite "no" |
//! | `GET /v1/lookup?host=NAME` | the same, whoever asks, for enforcement mode `audit` |
//! | `GET /v1/changes?after=N`, `Accept: text/event-stream` | server-sent events: `change` with a [`Change`], `head` with a [`Head`], `gap` with a [`Head`] |
//! | `GET /v1/changes?after=N`, `Accept: application/json` | 200 with a [`ChangePage`]; 410 if changes after N are no longer kept |
//! | `GET /v1/snapshot` | one JSON text a line: a [`SnapshotHead`], then as many [`AccountLinks`] as it says |
//!
//! Any other status is no answer: whoever asked must take it as a failure, never as a "no".

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::{CustomerKey, HostName, LinkId, LinkState, ServiceKind};

/// An account as the data plane needs it: what its approved links reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AccountRoute {
    /// `workspace/account`. For logs and limits, never for an answer to a client.
    pub account: String,
    /// What kind of service it is.
    pub kind: ServiceKind,
    /// Every host name of the account. No other account has any of them.
    pub hosts: Vec<HostName>,
    /// The ingress cluster it lives on, as the data plane's `upstream.clusters` names it.
    pub cluster: String,
    /// Whether the customer's own key can be used.
    #[serde(default)]
    pub customer_key: CustomerKey,
    /// Requests per second of all the account's links together, on one instance of the data plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>, minimum = 1))]
    pub requests_per_second: Option<NonZeroU32>,
}

/// One private endpoint connection of an account, as the data plane needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Its link id.
    pub link_id: LinkId,
    /// Its state; a connection that no longer exists is `Disconnected`.
    pub state: LinkState,
    /// Requests per second of this link, on one instance of the data plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>, minimum = 1))]
    pub requests_per_second: Option<NonZeroU32>,
}

/// An account with its links, or with some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountLinks {
    /// The account.
    pub account: AccountRoute,
    /// The links.
    pub links: Vec<Link>,
}

/// A definite answer about one link id and one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    /// The link is approved for the host.
    Found {
        /// What it reaches.
        account: AccountRoute,
        /// The link; none if it was asked for whoever asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<Link>,
    },
    /// The link is known for the host's account, in a state that is not `Approved`.
    NotApproved {
        /// The state.
        state: LinkState,
    },
    /// No account knows this link for this host.
    Unknown,
}

/// The body of a lookup's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LookupAnswer {
    /// The newest change that the answer knows of.
    pub sequence: u64,
    /// How long the answer may be used without asking again, in seconds; also in `Cache-Control`.
    pub max_age: u32,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// One entry of the change log: an account as it is after the change.
///
/// It holds all that the data plane needs to bring what it remembers up to date without asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// 1 for the first, then one more each. Also the `id` of the server-sent event.
    pub sequence: u64,
    /// When, in seconds since 1970-01-01T00:00:00Z.
    pub at: i64,
    /// What happened, for people: `account.created`, `connection.approved`, ….
    pub what: String,
    /// `workspace/account`.
    pub account: String,
    /// The account, if it still exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<AccountRoute>,
    /// Hosts that the account had before and has no more. All of them if it no longer exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_hosts: Vec<HostName>,
    /// The links whose answers may differ now: all of the account if the account itself changed.
    pub links: Vec<Link>,
}

/// Where the change log stands. A stream sends it once everything before is sent, and then every few seconds, so that
/// who hears nothing knows that the stream is broken. It never names a change that the stream has not sent before.
///
/// As a `gap`: changes that followed what was asked for are no longer kept, and the stream goes on after `sequence`.
/// What was before, only a snapshot tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The newest change.
    pub sequence: u64,
    /// The oldest change that is still kept.
    pub oldest: u64,
}

/// Some changes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChangePage {
    /// Where the log stands.
    pub head: Head,
    /// The changes.
    pub changes: Vec<Change>,
}

/// The first line of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SnapshotHead {
    /// The version of the format: [`SNAPSHOT_FORMAT`].
    pub format: u32,
    /// The newest change that the snapshot knows of.
    pub sequence: u64,
    /// When it was known to hold, in seconds since 1970-01-01T00:00:00Z.
    pub at: i64,
    /// How many accounts follow, a line each. Who counts less has been given a piece.
    pub accounts: u64,
}

/// The version of the snapshot's format.
pub const SNAPSHOT_FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> AccountRoute {
        AccountRoute {
            account: "clinic/images".into(),
            kind: ServiceKind::Dicom,
            hosts: vec![HostName::parse("images.example").unwrap()],
            cluster: "dicom".into(),
            customer_key: CustomerKey::Accessible,
            requests_per_second: None,
        }
    }

    #[test]
    fn an_answer_is_flat_and_says_what_it_is() {
        let answer = LookupAnswer {
            sequence: 7,
            max_age: 60,
            answer: Answer::NotApproved {
                state: LinkState::Pending,
            },
        };
        let text = r#"{"sequence":7,"maxAge":60,"answer":"notApproved","state":"Pending"}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        assert_eq!(serde_json::from_str::<LookupAnswer>(text).unwrap(), answer);
    }

    #[test]
    fn a_change_says_what_is_gone() {
        let change = Change {
            sequence: 8,
            at: 0,
            what: "account.updated".into(),
            account: "clinic/images".into(),
            route: Some(route()),
            removed_hosts: vec![HostName::parse("old.example").unwrap()],
            links: vec![Link {
                link_id: LinkId::new(7),
                state: LinkState::Approved,
                requests_per_second: None,
            }],
        };
        let text = serde_json::to_string(&change).unwrap();
        assert!(
            text.contains(r#""removedHosts":["old.example"]"#)
                && text.contains(r#""linkId":"7""#)
                && !text.contains("requestsPerSecond"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change);
    }

    #[test]
    fn what_is_new_in_a_later_version_is_no_mistake() {
        let text = r#"{"sequence":1,"oldest":1,"later":true}"#;
        assert_eq!(serde_json::from_str::<Head>(text).unwrap().sequence, 1);
    }
}
