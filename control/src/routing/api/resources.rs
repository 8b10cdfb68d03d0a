//! Resources as HTTP shows and takes them, in the shape of Azure Resource Manager's:
//! `{id, name, type, etag, properties, systemData}`.
//!
//! A put takes what a get has shown: what cannot be changed may be there, must be right where it names the resource,
//! and is not heeded otherwise. Everything else that is not known is an error.

use std::num::NonZeroU32;

use jiff::Timestamp;
use postern_api::{LinkId, LinkState, ServiceKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::object::{maybe_object, object};
use crate::routing::model::{
    Account, AccountId, ClusterName, Connection, ConnectionId, ConnectionsMax, CustomerManagedKey,
    Description, Hosts, PublicNetworkAccess, RequestMessage, Workspace, WorkspaceName,
};
use crate::routing::store::Versioned;

/// A resource.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    bound(deserialize = "P: Deserialize<'de>")
)]
pub(super) struct Resource<P> {
    /// Its path. May be left out of a put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// Its name in that path. May be left out of a put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What kind of resource it is. May be left out of a put.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    /// Its version, for `If-Match`. Not heeded in a put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// What it is.
    #[serde(deserialize_with = "object")]
    pub(super) properties: P,
    /// When it was made and changed. Not heeded in a put.
    #[serde(
        default,
        deserialize_with = "maybe_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) system_data: Option<SystemData>,
}

/// When a resource was made and changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SystemData {
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC.
    last_modified_at: String,
}

/// Some resources, and where the others are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListOf<T> {
    pub(super) value: Vec<T>,
    /// Where the list goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_link: Option<String>,
}

/// What every put has come to: there is nothing that goes on in the background.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub(super) enum ProvisioningState {
    Succeeded,
}

/// A workspace has nothing but its accounts.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WorkspaceProperties {
    /// Not heeded in a put.
    #[serde(default)]
    pub(super) provisioning_state: Option<ProvisioningState>,
}

/// What an account is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AccountProperties {
    /// What kind of service it is.
    kind: ServiceKind,
    /// 1 to 16 host names. No other account may have any of them.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 16, example = json!(["images.clinic.example"]))]
    hosts: Hosts,
    /// The ingress cluster it lives on, as the data plane's `upstream.clusters` names it.
    #[schema(value_type = String, example = "dicom")]
    cluster: ClusterName,
    /// Whether it can be reached otherwise than by a private endpoint.
    #[serde(default)]
    public_network_access: PublicNetworkAccess,
    /// The key with which the customer encrypts its contents.
    #[serde(default, deserialize_with = "object")]
    customer_key: CustomerManagedKey,
    /// Requests per second of all its links together, on one instance of the data plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    requests_per_second: Option<NonZeroU32>,
    /// How many private endpoint connections it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    connections_max: Option<ConnectionsMax>,
    /// Not heeded in a put.
    #[serde(default)]
    provisioning_state: Option<ProvisioningState>,
}

/// What a private endpoint connection is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConnectionProperties {
    /// The link id. Unique in the account, and never another one.
    link_identifier: LinkId,
    /// The owner's decision. Left out, it stays as it is; a new connection is then Pending.
    #[serde(default, deserialize_with = "maybe_object")]
    pub(super) private_link_service_connection_state: Option<ConnectionState>,
    /// What who made the private endpoint asks of the owner.
    #[serde(default, skip_serializing_if = "RequestMessage::is_empty")]
    #[schema(value_type = String, max_length = 140)]
    request_message: RequestMessage,
    /// Requests per second of this link, on one instance of the data plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    requests_per_second: Option<NonZeroU32>,
    /// Not heeded in a put.
    #[serde(default)]
    provisioning_state: Option<ProvisioningState>,
}

/// The owner's decision on a connection.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConnectionState {
    /// Which.
    pub(super) status: LinkState,
    /// Why.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1024)]
    pub(super) description: Description,
    /// What the consumer has to do: nothing. Not heeded in a put.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "None")]
    actions_required: Option<ActionsRequired>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum ActionsRequired {
    None,
}

/// The body of an approval or a rejection.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DecisionBody {
    /// Why. Left out, what was said before stays.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024)]
    pub(super) description: Option<Description>,
}

/// What a private endpoint can be made to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LinkResourceProperties {
    /// The kind of service.
    group_id: ServiceKind,
    /// The names that the private endpoint stands for.
    #[schema(value_type = Vec<String>)]
    required_members: Hosts,
}

pub(super) type WorkspaceResource = Resource<WorkspaceProperties>;
pub(super) type AccountResource = Resource<AccountProperties>;
pub(super) type ConnectionResource = Resource<ConnectionProperties>;
pub(super) type LinkResource = Resource<LinkResourceProperties>;

pub(super) fn workspace_path(name: &WorkspaceName) -> String {
    format!("/v1/workspaces/{name}")
}

pub(super) fn account_path(id: &AccountId) -> String {
    format!("{}/accounts/{}", workspace_path(&id.workspace), id.name)
}

pub(super) fn connection_path(id: &ConnectionId) -> String {
    let account = account_path(&id.account);
    format!("{account}/privateEndpointConnections/{}", id.name)
}

impl<P> Resource<P> {
    fn of<T>(
        path: String,
        name: &str,
        kind: &str,
        versioned: &Versioned<T>,
        properties: P,
    ) -> Self {
        Self {
            id: Some(path),
            name: Some(name.to_owned()),
            kind: Some(kind.to_owned()),
            etag: Some(versioned.etag.to_string()),
            properties,
            system_data: Some(SystemData {
                created_at: to_the_second(versioned.created),
                last_modified_at: to_the_second(versioned.changed),
            }),
        }
    }

    /// What is put, if it is of the resource that the path names.
    fn put(self, path: &str, name: &str, kind: &str) -> Result<P, ApiError> {
        for (target, given, right) in [
            ("id", &self.id, path),
            ("name", &self.name, name),
            ("type", &self.kind, kind),
        ] {
            // Names of resources are compared without regard to case.
            if let Some(given) = given.as_ref().filter(|it| !it.eq_ignore_ascii_case(right)) {
                let message = format!("`{given}` is not what the path says, which is `{right}`");
                return Err(ApiError::content(message).about(target));
            }
        }
        Ok(self.properties)
    }
}

impl WorkspaceResource {
    pub(super) fn show(name: &WorkspaceName, versioned: &Versioned<Workspace>) -> Self {
        let properties = WorkspaceProperties {
            provisioning_state: Some(ProvisioningState::Succeeded),
        };
        let path = workspace_path(name);
        Self::of(path, name.as_str(), WORKSPACE, versioned, properties)
    }

    pub(super) fn take(self, name: &WorkspaceName) -> Result<Workspace, ApiError> {
        self.put(&workspace_path(name), name.as_str(), WORKSPACE)?;
        Ok(Workspace {})
    }
}

impl AccountResource {
    pub(super) fn show(id: &AccountId, versioned: &Versioned<Account>) -> Self {
        let Account {
            kind,
            hosts,
            cluster,
            public_network_access,
            customer_key,
            requests_per_second,
            connections_max,
        } = versioned.value.clone();
        let properties = AccountProperties {
            kind,
            hosts,
            cluster,
            public_network_access,
            customer_key,
            requests_per_second,
            connections_max,
            provisioning_state: Some(ProvisioningState::Succeeded),
        };
        let path = account_path(id);
        Self::of(path, id.name.as_str(), ACCOUNT, versioned, properties)
    }

    pub(super) fn take(self, id: &AccountId) -> Result<Account, ApiError> {
        let properties = self.put(&account_path(id), id.name.as_str(), ACCOUNT)?;
        Ok(Account {
            kind: properties.kind,
            hosts: properties.hosts,
            cluster: properties.cluster,
            public_network_access: properties.public_network_access,
            customer_key: properties.customer_key,
            requests_per_second: properties.requests_per_second,
            connections_max: properties.connections_max,
        })
    }
}

impl ConnectionResource {
    pub(super) fn show(id: &ConnectionId, versioned: &Versioned<Connection>) -> Self {
        let value = versioned.value.clone();
        let properties = ConnectionProperties {
            link_identifier: value.link_id,
            private_link_service_connection_state: Some(ConnectionState {
                status: value.state,
                description: value.description,
                actions_required: Some(ActionsRequired::None),
            }),
            request_message: value.request_message,
            requests_per_second: value.requests_per_second,
            provisioning_state: Some(ProvisioningState::Succeeded),
        };
        let path = connection_path(id);
        Self::of(path, id.name.as_str(), CONNECTION, versioned, properties)
    }

    /// The connection, in the state that the body says or, where it says none, in this one.
    pub(super) fn take(
        self,
        id: &ConnectionId,
    ) -> Result<impl Fn((LinkState, Description)) -> Connection, ApiError> {
        let properties = self.put(&connection_path(id), id.name.as_str(), CONNECTION)?;
        Ok(move |(state, description)| Connection {
            link_id: properties.link_identifier,
            state,
            description,
            request_message: properties.request_message.clone(),
            requests_per_second: properties.requests_per_second,
        })
    }
}

impl LinkResource {
    pub(super) fn of_account(id: &AccountId, versioned: &Versioned<Account>) -> Self {
        let Account { kind, hosts, .. } = &versioned.value;
        let path = format!("{}/privateLinkResources/{kind}", account_path(id));
        Self {
            id: Some(path),
            name: Some(kind.to_string()),
            kind: Some(LINK_RESOURCE.to_owned()),
            etag: None,
            properties: LinkResourceProperties {
                group_id: *kind,
                required_members: hosts.clone(),
            },
            system_data: None,
        }
    }
}

fn to_the_second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

const WORKSPACE: &str = "Postern/workspaces";
const ACCOUNT: &str = "Postern/workspaces/accounts";
const CONNECTION: &str = "Postern/workspaces/accounts/privateEndpointConnections";
const LINK_RESOURCE: &str = "Postern/workspaces/accounts/privateLinkResources";
