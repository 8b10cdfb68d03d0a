//! From what is and what is wanted to the steps between: a pure function.
//!
//! Promises: what is as it should be is no step; what is deleted is so before what needs its place is created; a host
//! that moves from one account to another is given up before it is taken. What no step can bring about is refused as a
//! whole, before anything has been changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postern_api::HostName;
use serde::Serialize;

use super::{Present, PresentAccount, Wanted};
use crate::routes::books::{Expected, Version};
use crate::routing::model::{
    Account, AccountId, Connection, ConnectionId, ConnectionName, Transition, WorkspaceName,
    transition,
};
use crate::routing::store::{ConnectionEntry, Entry};

/// What an import has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::routes) struct Plan {
    /// The steps, in an order in which each is possible.
    pub(in crate::routes) steps: Vec<Step>,
    /// How many workspaces, accounts and connections are as they should be.
    pub(in crate::routes) unchanged: usize,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::routes) struct Step {
    /// What is done.
    pub(in crate::routes) action: Action,
    /// To what, and what it is to be.
    pub(in crate::routes) subject: Subject,
    /// Which fields differ, of what is changed.
    pub(in crate::routes) fields: Vec<String>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) enum Action {
    /// Something is created.
    Create,
    /// Something is changed.
    Change,
    /// Something is deleted.
    Delete,
}

/// What a step is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::routes) enum Subject {
    /// A workspace that is created.
    Workspace(WorkspaceName),
    /// An account that is created or changed.
    Account(AccountId, Box<Account>, Expected),
    /// A connection that is created or changed.
    Connection(ConnectionId, Box<Connection>, Expected),
    /// An account that is deleted.
    NoAccount(AccountId, Version),
    /// A connection that is deleted.
    NoConnection(ConnectionId, Version),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workspace(name) => write!(f, "workspace {name}"),
            Self::Account(id, ..) | Self::NoAccount(id, _) => write!(f, "account {id}"),
            Self::Connection(id, ..) | Self::NoConnection(id, _) => write!(f, "connection {id}"),
        }
    }
}

/// The steps from `present` to `wanted`, or why there are none, one reason an item. `prune`: what is in a wanted
/// workspace and not wanted is deleted.
pub(in crate::routes) fn plan(
    present: &Present,
    wanted: &Wanted,
    prune: bool,
) -> Result<Plan, Vec<String>> {
    let mut planner = Planner {
        plan: Plan::default(),
        refused: Vec::new(),
    };
    let entries: BTreeMap<_, _> = wanted.entries.iter().map(|it| (&it.account, it)).collect();
    if prune {
        planner.prune(present, &entries);
    }
    planner.workspaces(present, wanted);
    planner.accounts(present, &entries, prune);
    for entry in &wanted.entries {
        planner.connections(present.accounts.get(&entry.account), entry);
    }
    if planner.refused.is_empty() {
        Ok(planner.plan)
    } else {
        Err(planner.refused)
    }
}

struct Planner {
    plan: Plan,
    refused: Vec<String>,
}

impl Planner {
    fn step(&mut self, action: Action, subject: Subject, fields: Vec<String>) {
        self.plan.steps.push(Step {
            action,
            subject,
            fields,
        });
    }

    fn prune(&mut self, present: &Present, wanted: &BTreeMap<&AccountId, &Entry>) {
        for (id, account) in &present.accounts {
            let Some(entry) = wanted.get(id) else {
                let subject = Subject::NoAccount(id.clone(), account.kept.version.clone());
                self.step(Action::Delete, subject, Vec::new());
                continue;
            };
            let names: BTreeSet<_> = entry.connections.iter().map(|it| &it.name).collect();
            for (name, kept) in &account.connections {
                if !names.contains(name) {
                    let subject =
                        Subject::NoConnection(connection_id(id, name), kept.version.clone());
                    self.step(Action::Delete, subject, Vec::new());
                }
            }
        }
    }

    fn workspaces(&mut self, present: &Present, wanted: &Wanted) {
        for name in wanted.all_workspaces() {
            if present.workspaces.contains(&name) {
                self.plan.unchanged += 1;
            } else {
                self.step(Action::Create, Subject::Workspace(name), Vec::new());
            }
        }
    }

    /// Accounts one after the other, each once none of its hosts is another's.
    fn accounts(&mut self, present: &Present, wanted: &BTreeMap<&AccountId, &Entry>, prune: bool) {
        let stays = |id: &AccountId| !prune || wanted.contains_key(id);
        let mut holders: HashMap<&HostName, &AccountId> = HashMap::new();
        for (id, account) in present.accounts.iter().filter(|(id, _)| stays(id)) {
            let hosts = account.kept.value.hosts.as_slice();
            holders.extend(hosts.iter().map(|host| (host, id)));
        }
        let mut left: Vec<&Entry> = Vec::new();
        for entry in wanted.values() {
            match present.accounts.get(&entry.account) {
                Some(account) if account.kept.value == entry.properties => {
                    self.plan.unchanged += 1;
                }
                _ => left.push(entry),
            }
        }
        loop {
            let before = left.len();
            left.retain(|entry| {
                let hosts = entry.properties.hosts.as_slice();
                let free = |host| holders.get(host).is_none_or(|it| **it == entry.account);
                if !hosts.iter().all(free) {
                    return true;
                }
                if let Some(account) = present.accounts.get(&entry.account) {
                    for host in account.kept.value.hosts.as_slice() {
                        holders.remove(host);
                    }
                }
                holders.extend(hosts.iter().map(|host| (host, &entry.account)));
                self.account(present.accounts.get(&entry.account), entry);
                false
            });
            if left.is_empty() {
                return;
            }
            if left.len() == before {
                break;
            }
        }
        for entry in left {
            for host in entry.properties.hosts.as_slice() {
                if let Some(holder) = holders.get(host).filter(|it| ***it != entry.account) {
                    self.refused.push(format!(
                        "account {}: host {host} is account {holder}'s, which does not give it up before",
                        entry.account
                    ));
                }
            }
        }
    }

    fn account(&mut self, present: Option<&PresentAccount>, entry: &Entry) {
        let (id, value) = (entry.account.clone(), Box::new(entry.properties.clone()));
        match present {
            None => {
                let subject = Subject::Account(id, value, Expected::Absent);
                self.step(Action::Create, subject, Vec::new());
            }
            Some(account) => {
                let fields = differing(&account.kept.value, &*value);
                let expected = Expected::Version(account.kept.version.clone());
                self.step(
                    Action::Change,
                    Subject::Account(id, value, expected),
                    fields,
                );
            }
        }
    }

    fn connections(&mut self, present: Option<&PresentAccount>, entry: &Entry) {
        for wanted in &entry.connections {
            let ConnectionEntry { name, properties } = wanted;
            let id = connection_id(&entry.account, name);
            let value = Box::new(properties.clone());
            let Some(kept) = present.and_then(|it| it.connections.get(name)) else {
                let subject = Subject::Connection(id, value, Expected::Absent);
                self.step(Action::Create, subject, Vec::new());
                continue;
            };
            if kept.value == *properties {
                self.plan.unchanged += 1;
                continue;
            }
            if let Some(why) = impossible(&kept.value, properties) {
                self.refused.push(format!("connection {id}: {why}"));
                continue;
            }
            let fields = differing(&kept.value, properties);
            let expected = Expected::Version(kept.version.clone());
            self.step(
                Action::Change,
                Subject::Connection(id, value, expected),
                fields,
            );
        }
    }
}

impl Wanted {
    /// The workspaces that are named, and those of the accounts.
    pub(in crate::routes) fn all_workspaces(&self) -> BTreeSet<WorkspaceName> {
        let accounts = self.entries.iter().map(|it| it.account.workspace.clone());
        self.workspaces.iter().cloned().chain(accounts).collect()
    }
}

/// Why a connection cannot become what is wanted.
fn impossible(is: &Connection, wanted: &Connection) -> Option<String> {
    if is.link_id != wanted.link_id {
        return Some(format!(
            "its link id is {} and never another one ({} is wanted): delete it and import again",
            is.link_id, wanted.link_id
        ));
    }
    (transition(is.state, wanted.state) == Transition::Refused).then(|| {
        format!(
            "it is {} and cannot become {}: delete it and import again",
            is.state, wanted.state
        )
    })
}

fn connection_id(account: &AccountId, name: &ConnectionName) -> ConnectionId {
    ConnectionId {
        account: account.clone(),
        name: name.clone(),
    }
}

/// The names of the fields in which the JSON of two values differs.
fn differing<T: Serialize>(is: &T, wanted: &T) -> Vec<String> {
    let fields = |value: &T| match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (is, wanted) = (fields(is), fields(wanted));
    let names: BTreeSet<_> = is.keys().chain(wanted.keys()).collect();
    let names = names
        .into_iter()
        .filter(|name| is.get(*name) != wanted.get(*name));
    names.cloned().collect()
}
