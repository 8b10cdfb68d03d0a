//! What account routing keeps: a workspace has accounts, an account has private endpoint connections.
//!
//! A resource is an id ([`WorkspaceName`], [`AccountId`], [`ConnectionId`]: what its path says) and a value
//! ([`Workspace`], [`Account`], [`Connection`]: what its body says). As JSON, fields are in camel case, and one that is
//! not known is an error.
//!
//! Invariant: a value of one of these types has been validated; whoever holds it need not look again. What depends on
//! what else is kept (a host that another account has, a state that cannot follow) only the store can tell.

mod account;
mod connection;
mod id;
mod text;
mod transition;

pub use account::{
    Account, ConnectionsMax, CustomerManagedKey, HOSTS_MAX, Hosts, InvalidConnectionsMax,
    InvalidHosts, PublicNetworkAccess,
};
pub use connection::Connection;
pub use id::{AccountId, ConnectionId};
pub use text::{
    AccountName, ClusterName, ConnectionName, Description, InvalidText, KeyUrl, RequestMessage,
    WorkspaceName,
};
pub use transition::{Transition, transition};

use serde::{Deserialize, Serialize};

/// A workspace. It has nothing but its name and its accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {}
