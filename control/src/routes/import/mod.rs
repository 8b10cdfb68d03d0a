//! Import: what the books are to hold, from a file, made so with as few changes as are needed.
//!
//! ```text
//!   FILE ──▶ format or route_file ──▶ Wanted ──┐
//!                                              ├─▶ plan ──▶ Plan ──▶ carry_out, or only shown
//!   Books ──▶ present ──▶ Present ─────────────┘
//! ```
//!
//! Promises that nothing is deleted unless that is asked for, and that who imports the same again changes nothing.

mod carry_out;
mod format;
mod plan;
mod present;
mod route_file;
#[cfg(test)]
mod tests;

pub(super) use carry_out::carry_out;
pub(super) use format::{export, parse};
pub(super) use plan::{Action, Plan, Step, Subject, plan};
pub(super) use present::present;

use std::collections::{BTreeMap, BTreeSet};

use super::books::Kept;
use crate::routing::model::{Account, AccountId, Connection, ConnectionName, WorkspaceName};
use crate::routing::store::Entry;

/// What the books are to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Workspaces, whether they have accounts or not. Those of the accounts need not be named.
    pub(super) workspaces: BTreeSet<WorkspaceName>,
    /// The accounts with their connections, each once.
    pub(super) entries: Vec<Entry>,
}

/// What the books hold, as far as it matters to what is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// The workspaces that are there.
    pub(super) workspaces: BTreeSet<WorkspaceName>,
    /// The accounts of the wanted workspaces.
    pub(super) accounts: BTreeMap<AccountId, PresentAccount>,
}

/// An account as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PresentAccount {
    /// The account.
    pub(super) kept: Kept<Account>,
    /// Its connections.
    pub(super) connections: BTreeMap<ConnectionName, Kept<Connection>>,
}
