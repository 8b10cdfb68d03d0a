//! Why a store does not do what it is asked.

use std::error::Error;
use std::fmt;

use postern_api::routing::Head;

use crate::routing::model::{AccountId, ConnectionId, WorkspaceName};

/// Why a store does not do what it is asked. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not there, or what it would be in is not.
    #[error("{0} does not exist")]
    NotFound(Resource),
    /// The condition of the change does not hold.
    #[error("the resource is not in the version that the condition names")]
    PreconditionFailed,
    /// It cannot be so beside what else is there.
    #[error("{message}")]
    Conflict {
        /// What is to blame.
        field: Field,
        /// Why, for who asked.
        message: String,
    },
    /// It cannot be so at all.
    #[error("{message}")]
    Invalid {
        /// What is to blame.
        field: Field,
        /// Why, for who asked.
        message: String,
    },
    /// Changes that followed are no longer kept, or have not been yet: only a snapshot helps.
    #[error("of the changes asked for, {} to {} are kept", .0.oldest, .0.sequence)]
    Gone(Head),
    /// Too much waits already. Later it may work.
    #[error("too much work is waiting")]
    Busy,
    /// The store does not work.
    #[error("the store does not work")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// A resource by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A workspace.
    Workspace(WorkspaceName),
    /// An account.
    Account(AccountId),
    /// A private endpoint connection.
    Connection(ConnectionId),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workspace(name) => write!(f, "workspace {name}"),
            Self::Account(id) => write!(f, "account {id}"),
            Self::Connection(id) => write!(f, "connection {id}"),
        }
    }
}

/// Part of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Its name.
    Name,
    /// The hosts of an account.
    Hosts,
    /// How many connections an account may have.
    ConnectionsMax,
    /// The link id of a connection.
    LinkId,
    /// The state of a connection.
    State,
}

impl Field {
    /// Where it is in the resource, as the `target` of Azure Resource Manager's errors has it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Hosts => "properties.hosts",
            Self::ConnectionsMax => "properties.connectionsMax",
            Self::LinkId => "properties.linkIdentifier",
            Self::State => "properties.privateLinkServiceConnectionState.status",
        }
    }
}

/// Why an import has not taken place.
#[derive(Debug, thiserror::Error)]
#[error("{item}")]
pub struct ImportError {
    /// Which item, by its place and name; "the import" if none is to blame.
    pub item: String,
    /// Why.
    pub source: StoreError,
}
