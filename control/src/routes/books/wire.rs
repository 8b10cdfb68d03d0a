//! Resources as the service writes and reads them: `{name, etag, properties, systemData}`, lists of
//! `{value, nextLink}`, errors of `{error: {code, message, target}}`, all in the shape of Azure Resource Manager's.
//!
//! Fields that are not known are passed over, so that a newer service can be asked.

use std::num::NonZeroU32;

use http::StatusCode;
use jiff::Timestamp;
use postern_api::{LinkId, LinkState, ServiceKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::client::Answer;
use super::{Kept, Version};
use crate::routes::error::{Failure, Refusal, RefusalKind};
use crate::routes::print::plain;
use crate::routing::model::{
    Account, ClusterName, Connection, ConnectionsMax, CustomerManagedKey, Description, Hosts,
    PublicNetworkAccess, RequestMessage, Workspace,
};

/// A resource that is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource<P> {
    pub(super) name: String,
    etag: String,
    properties: P,
    #[serde(default)]
    system_data: SystemData,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SystemData {
    created_at: Option<String>,
    last_modified_at: Option<String>,
}

/// A resource that is written.
#[derive(Serialize)]
pub(super) struct Content<P> {
    pub(super) properties: P,
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListOf<T> {
    pub(super) value: Vec<T>,
    pub(super) next_link: Option<String>,
}

/// The properties of a workspace.
#[derive(Serialize, Deserialize)]
pub(super) struct WorkspaceProperties {}

/// The properties of an account.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountProperties {
    kind: ServiceKind,
    hosts: Hosts,
    cluster: ClusterName,
    #[serde(default)]
    public_network_access: PublicNetworkAccess,
    #[serde(default)]
    customer_key: CustomerManagedKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections_max: Option<ConnectionsMax>,
}

/// The properties of a connection.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionProperties {
    link_identifier: LinkId,
    private_link_service_connection_state: ConnectionState,
    #[serde(default)]
    request_message: RequestMessage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<NonZeroU32>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionState {
    status: LinkState,
    #[serde(default)]
    description: Description,
}

/// The body of an approval or a rejection.
#[derive(Serialize)]
pub(super) struct DecisionContent {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Description>,
}

impl<P> Resource<P> {
    /// As the books have it.
    pub(super) fn kept<T: From<P>>(self) -> Kept<T> {
        Kept {
            value: self.properties.into(),
            version: Version(self.etag),
            created: time(self.system_data.created_at),
            changed: time(self.system_data.last_modified_at),
        }
    }
}

/// A time in the text of RFC 3339. One that cannot be read is not known.
fn time(text: Option<String>) -> Option<Timestamp> {
    text?.parse().ok()
}

impl From<WorkspaceProperties> for Workspace {
    fn from(_: WorkspaceProperties) -> Self {
        Self {}
    }
}

impl From<AccountProperties> for Account {
    fn from(properties: AccountProperties) -> Self {
        Self {
            kind: properties.kind,
            hosts: properties.hosts,
            cluster: properties.cluster,
            public_network_access: properties.public_network_access,
            customer_key: properties.customer_key,
            requests_per_second: properties.requests_per_second,
            connections_max: properties.connections_max,
        }
    }
}

impl From<&Account> for AccountProperties {
    fn from(account: &Account) -> Self {
        let account = account.clone();
        Self {
            kind: account.kind,
            hosts: account.hosts,
            cluster: account.cluster,
            public_network_access: account.public_network_access,
            customer_key: account.customer_key,
            requests_per_second: account.requests_per_second,
            connections_max: account.connections_max,
        }
    }
}

impl From<ConnectionProperties> for Connection {
    fn from(properties: ConnectionProperties) -> Self {
        let ConnectionState {
            status,
            description,
        } = properties.private_link_service_connection_state;
        Self {
            link_id: properties.link_identifier,
            state: status,
            description,
            request_message: properties.request_message,
            requests_per_second: properties.requests_per_second,
        }
    }
}

impl From<&Connection> for ConnectionProperties {
    fn from(connection: &Connection) -> Self {
        let connection = connection.clone();
        Self {
            link_identifier: connection.link_id,
            private_link_service_connection_state: ConnectionState {
                status: connection.state,
                description: connection.description,
            },
            request_message: connection.request_message,
            requests_per_second: connection.requests_per_second,
        }
    }
}

/// What the body of a success says.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    let unreadable =
        |error| Failure::NoAnswer(format!("the service's answer cannot be read: {error}"));
    serde_json::from_slice(&answer.body).map_err(unreadable)
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    code: String,
    message: String,
    target: Option<String>,
}

/// What an answer that is no success means: the books say no, or the service cannot say.
pub(super) fn failure(answer: &Answer) -> Failure {
    let status = answer.status;
    let Ok(ErrorBody { error }) = serde_json::from_slice(&answer.body) else {
        // Something in between answers, or it is no routing service.
        return Failure::NoAnswer(format!(
            "the service answers {status}, and does not say why"
        ));
    };
    let refusal = Refusal {
        kind: match status {
            StatusCode::NOT_FOUND => RefusalKind::NotFound,
            StatusCode::PRECONDITION_FAILED => RefusalKind::Changed,
            _ => RefusalKind::Other,
        },
        code: plain(&error.code),
        target: error.target.as_deref().map(plain),
        message: plain(&error.message),
    };
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !later.contains(&status) {
        Failure::Refused(refusal)
    } else {
        Failure::NoAnswer(refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn what_a_newer_service_says_is_passed_over() {
        let body = r#"{"id": "/v1/…", "name": "pe-1", "type": "…", "etag": "\"1f\"", "later": 1,
            "properties": {"linkIdentifier": "7", "requestMessage": "please", "provisioningState": "Succeeded",
                "privateLinkServiceConnectionState": {"status": "Pending", "actionsRequired": "None"}},
            "systemData": {"createdAt": "2026-11-21T08:00:00Z", "lastModifiedAt": "2026-11-21T09:00:00Z"}}"#;
        let resource: Resource<ConnectionProperties> = read(&answer(200, body)).unwrap();
        assert_eq!(resource.name, "pe-1");
        let kept: Kept<Connection> = resource.kept();
        assert_eq!(kept.version, Version("\"1f\"".to_owned()));
        assert_eq!(kept.value.link_id, LinkId::new(7));
        assert_eq!(kept.changed.unwrap().to_string(), "2026-11-21T09:00:00Z");
    }

    #[test]
    fn a_refusal_is_told_with_its_code_and_target() {
        let body = r#"{"error": {"code": "Conflict", "message": "the host is taken", "target": "properties.hosts"}}"#;
        let refused = failure(&answer(409, body));
        assert_eq!(
            refused.to_string(),
            "Conflict at properties.hosts: the host is taken"
        );
        assert_eq!(refused.exit_code(), 1);
        let hostile = body.replace("taken", "taken\\u001b[2J");
        assert!(
            failure(&answer(409, &hostile))
                .to_string()
                .ends_with("taken\\u{1b}[2J")
        );
        assert_eq!(failure(&answer(503, body)).exit_code(), 3);
        assert_eq!(failure(&answer(429, body)).exit_code(), 3);
    }

    #[test]
    fn who_answers_otherwise_is_not_the_service() {
        for (status, body) in [(502, "<html>Bad Gateway</html>"), (404, ""), (301, "")] {
            assert_eq!(failure(&answer(status, body)).exit_code(), 3, "{status}");
        }
    }
}
