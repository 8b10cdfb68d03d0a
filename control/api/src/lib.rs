//! The types that the data plane and the control plane exchange, and nothing else.
//!
//! * [`LinkId`]: the 32-bit number of a private endpoint connection.
//! * [`HostName`]: a DNS name in the one spelling we compare.
//! * [`ServiceKind`], [`CustomerKey`], [`LinkState`]: the words that describe an account and its links.
//! * [`routing`]: what the account-routing service tells the data plane over HTTP.
//!
//! Invariant: a value of one of these types has been validated; whoever holds it need not look again.

mod account;
mod host_name;
mod link_id;
pub mod routing;

pub use account::{CustomerKey, LinkState, ServiceKind};
pub use host_name::{HostName, InvalidHostName};
pub use link_id::{InvalidLinkId, LinkId};
