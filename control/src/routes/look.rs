//! Looking: `list`, `show` and `lookup`. Changes nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use postern_api::routing::Answer;
use postern_api::{CustomerKey, HostName, LinkId};
use serde::Serialize;

use super::arguments::{List, Which};
use super::books::{Books, Kept};
use super::error::Failure;
use super::import::present;
use super::print;
use crate::routing::model::{
    Account, AccountId, Connection, ConnectionId, CustomerManagedKey, Workspace, WorkspaceName,
};

/// A resource, as JSON has it: its name, its fields, and what the books know about it.
#[derive(Serialize)]
pub(super) struct Shown<'a, N: Serialize, T: Serialize> {
    name: N,
    #[serde(flatten)]
    value: &'a T,
    etag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<String>,
}

impl<'a, N: Serialize, T: Serialize> Shown<'a, N, T> {
    pub(super) fn new(name: N, kept: &'a Kept<T>) -> Self {
        Self {
            name,
            value: &kept.value,
            etag: &kept.version.0,
            created: kept.created.map(|it| it.to_string()),
            changed: kept.changed.map(|it| it.to_string()),
        }
    }
}

/// A connection that is listed.
pub(super) type Found = (ConnectionId, Kept<Connection>);

/// Lists accounts or connections.
pub(super) async fn list(books: &dyn Books, list: &List, json: bool) -> Result<(), Failure> {
    if list.connections || list.state.is_some() || list.link_id.is_some() {
        let mut found = connections(books, list.workspace.as_ref()).await?;
        found.retain(|(_, kept)| {
            list.state.is_none_or(|state| kept.value.state == state)
                && list.link_id.is_none_or(|link| kept.value.link_id == link)
        });
        if json {
            let shown = found
                .iter()
                .map(|(id, kept)| Shown::new(id.to_string(), kept));
            return print::json(&shown.collect::<Vec<_>>());
        }
        return print::out(&connection_table(&found, Timestamp::now(), print::width()));
    }
    let within = list.workspace.clone().map(|name| BTreeSet::from([name]));
    let found = present(books, within.as_ref(), |_| false).await?;
    there(list.workspace.as_ref(), &found.workspaces)?;
    let accounts: Vec<_> = found
        .accounts
        .iter()
        .map(|(id, it)| (id, &it.kept))
        .collect();
    if json {
        let shown = accounts.iter().map(|(id, kept)| Shown::new(id, kept));
        return print::json(&shown.collect::<Vec<_>>());
    }
    print::out(&account_table(&accounts, print::width()))
}

/// All connections, of one workspace or of all, by account and name.
pub(super) async fn connections(
    books: &dyn Books,
    workspace: Option<&WorkspaceName>,
) -> Result<Vec<Found>, Failure> {
    let within = workspace.cloned().map(|name| BTreeSet::from([name]));
    let found = present(books, within.as_ref(), |_| true).await?;
    there(workspace, &found.workspaces)?;
    let all = found.accounts.into_iter().flat_map(|(account, it)| {
        it.connections.into_iter().map(move |(name, kept)| {
            let account = account.clone();
            (ConnectionId { account, name }, kept)
        })
    });
    Ok(all.collect())
}

/// A list of what is in a workspace that does not exist would look like one of an empty workspace.
fn there(
    workspace: Option<&WorkspaceName>,
    workspaces: &BTreeSet<WorkspaceName>,
) -> Result<(), Failure> {
    match workspace {
        Some(name) if !workspaces.contains(name) => {
            let message = "there is no such workspace";
            Err(Failure::refused(
                "ResourceNotFound",
                &format!("workspace {name}"),
                message,
            ))
        }
        _ => Ok(()),
    }
}

/// Shows one resource.
pub(super) async fn show(books: &dyn Books, which: &Which, json: bool) -> Result<(), Failure> {
    let now = Timestamp::now();
    match which {
        Which::Workspace(name) => {
            let (kept, accounts) = (books.workspace(name).await?, books.accounts(name).await?);
            if json {
                let names: Vec<_> = accounts.iter().map(|(name, _)| name).collect();
                let mut whole = serde_json::json!(Shown::new(name, &kept));
                whole["accounts"] = serde_json::json!(names);
                return print::json(&whole);
            }
            print::out(&workspace_page(name, &kept, accounts.len(), now))
        }
        Which::Account(id) => {
            let kept = books.account(id).await?;
            let connections = books.connections(id).await?;
            let connections = connections.into_iter().map(|(name, kept)| {
                let account = id.clone();
                (ConnectionId { account, name }, kept)
            });
            let connections: Vec<_> = connections.collect();
            if json {
                let shown = connections
                    .iter()
                    .map(|(id, kept)| Shown::new(&id.name, kept));
                let mut whole = serde_json::json!(Shown::new(id, &kept));
                whole["connections"] = serde_json::json!(shown.collect::<Vec<_>>());
                return print::json(&whole);
            }
            print::out(&account_page(id, &kept, &connections, now, print::width()))
        }
        Which::Connection(id) => {
            let kept = books.connection(id).await?;
            if json {
                return print::json(&Shown::new(id.to_string(), &kept));
            }
            print::out(&connection_page(id, &kept, now))
        }
    }
}

/// A lookup's answer, as JSON.
#[derive(Serialize)]
struct Looked {
    sequence: u64,
    #[serde(flatten)]
    answer: Answer,
}

/// Says what the data plane would be told. Whether the link reaches the host.
pub(super) async fn lookup(
    books: &dyn Books,
    link: LinkId,
    host: &HostName,
    json: bool,
) -> Result<bool, Failure> {
    let asked = books.lookup(link, host).await;
    // Whoever does not answer has not said "no".
    let (sequence, answer) = asked.map_err(|failure| Failure::NoAnswer(failure.to_string()))?;
    let found = matches!(answer, Answer::Found { .. });
    if json {
        print::json(&Looked { sequence, answer })?;
    } else {
        let words = decision(link, host, &answer);
        print::out(&format!(
            "{words}\n(change {sequence} is the newest that this knows of)\n"
        ))?;
    }
    Ok(found)
}

/// A lookup's answer in words.
fn decision(link: LinkId, host: &HostName, answer: &Answer) -> String {
    match answer {
        Answer::Found { account, .. } => {
            let [name, cluster] = [&account.account, &account.cluster].map(|it| print::plain(it));
            let kind = account.kind;
            let whose =
                format!("link {link} reaches {host}: account {name}, {kind}, cluster {cluster}");
            match account.customer_key {
                CustomerKey::Accessible => format!("yes: {whose}"),
                CustomerKey::NotAccessible => format!(
                    "yes, but each request is answered with 403, as the customer's key is not accessible: {whose}"
                ),
            }
        }
        Answer::NotApproved { state } => {
            format!("no: the account of {host} knows link {link}, and its connection is {state}")
        }
        Answer::Unknown => format!("no: no account knows link {link} for {host}"),
    }
}

fn account_table(accounts: &[(&AccountId, &Kept<Account>)], width: Option<u16>) -> String {
    let rows = accounts.iter().map(|(id, kept)| {
        let account = &kept.value;
        vec![
            id.to_string(),
            account.kind.to_string(),
            account.cluster.to_string(),
            key(&account.customer_key).to_owned(),
            hosts(account, ", "),
        ]
    });
    print::table(
        &["ACCOUNT", "KIND", "CLUSTER", "KEY", "HOSTS"],
        rows.collect(),
        width,
    )
}

fn connection_table(found: &[Found], now: Timestamp, width: Option<u16>) -> String {
    let rows = found.iter().map(|(id, kept)| {
        let mut row = vec![id.to_string()];
        row.extend(connection_cells(kept, now));
        row
    });
    let header = ["CONNECTION", "STATE", "LINK ID", "CHANGED", "MESSAGE"];
    print::table(&header, rows.collect(), width)
}

fn connection_cells(kept: &Kept<Connection>, now: Timestamp) -> [String; 4] {
    let connection = &kept.value;
    // What was decided says more than what was asked.
    let message = if connection.description.is_empty() {
        connection.request_message.as_str()
    } else {
        connection.description.as_str()
    };
    [
        connection.state.to_string(),
        connection.link_id.to_string(),
        print::age(kept.changed, now),
        print::plain(message),
    ]
}

fn workspace_page(
    name: &WorkspaceName,
    kept: &Kept<Workspace>,
    accounts: usize,
    now: Timestamp,
) -> String {
    let mut page = Page::default();
    page.line("workspace", name);
    page.line("accounts", accounts);
    page.history(kept, now);
    page.0
}

fn account_page(
    id: &AccountId,
    kept: &Kept<Account>,
    connections: &[Found],
    now: Timestamp,
    width: Option<u16>,
) -> String {
    let account = &kept.value;
    let mut page = Page::default();
    page.line("account", id);
    page.line("kind", account.kind);
    page.line("hosts", hosts(account, "\n                "));
    page.line("cluster", &account.cluster);
    page.line("customer key", key(&account.customer_key));
    if let Some(url) = &account.customer_key.key_url {
        page.line("", url);
    }
    page.line("public access", account.public_network_access.label());
    if let Some(limit) = account.requests_per_second {
        page.line(
            "limit",
            format!("{limit} requests a second, all links together"),
        );
    }
    let room = account
        .connections_max
        .map_or_else(String::new, |max| format!(" of at most {}", max.get()));
    page.line("connections", format!("{}{room}", connections.len()));
    page.history(kept, now);
    if !connections.is_empty() {
        let rows = connections.iter().map(|(id, kept)| {
            let mut row = vec![id.name.to_string()];
            row.extend(connection_cells(kept, now));
            row
        });
        let header = ["NAME", "STATE", "LINK ID", "CHANGED", "MESSAGE"];
        page.0.push('\n');
        page.0
            .push_str(&print::table(&header, rows.collect(), width));
    }
    page.0
}

/// Everything about a connection, a line each.
pub(super) fn connection_page(
    id: &ConnectionId,
    kept: &Kept<Connection>,
    now: Timestamp,
) -> String {
    let connection = &kept.value;
    let mut page = Page::default();
    page.line("connection", id);
    page.line("state", connection.state);
    page.line("link id", connection.link_id);
    for (name, text) in [
        ("description", connection.description.as_str()),
        ("request", connection.request_message.as_str()),
    ] {
        if !text.is_empty() {
            page.line(name, print::plain(text));
        }
    }
    if let Some(limit) = connection.requests_per_second {
        page.line("limit", format!("{limit} requests a second"));
    }
    page.history(kept, now);
    page.0
}

/// Lines of names and values.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "{name:<14}  {value}");
    }

    fn history<T>(&mut self, kept: &Kept<T>, now: Timestamp) {
        for (name, time) in [("created", kept.created), ("changed", kept.changed)] {
            if time.is_some() {
                self.line(name, format!("{} ago", print::age(time, now)));
            }
        }
        self.line("etag", kept.version.0.trim_matches('"'));
    }
}

fn hosts(account: &Account, between: &str) -> String {
    let hosts: Vec<_> = account
        .hosts
        .as_slice()
        .iter()
        .map(HostName::as_str)
        .collect();
    hosts.join(between)
}

const fn key(key: &CustomerManagedKey) -> &'static str {
    match (key.state, &key.key_url) {
        (CustomerKey::NotAccessible, _) => "not accessible",
        (CustomerKey::Accessible, Some(_)) => "accessible",
        (CustomerKey::Accessible, None) => "none",
    }
}

#[cfg(test)]
mod tests;
