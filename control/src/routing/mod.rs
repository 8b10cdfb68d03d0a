//! The account-routing service: who may reach what, kept, looked up and told to the data plane.
//!
//! * [`model`]: workspaces, accounts and private endpoint connections, valid by construction.
//! * [`store`]: where they are kept; every change and its entry in the change log in one transaction.

pub mod model;
pub mod store;
