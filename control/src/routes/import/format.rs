//! The text of an export, which an import reads: JSON, a format number, workspaces and accounts with connections.
//!
//! Promises that what was read makes sense in itself: no account, host, connection name or link id is there twice where
//! it may be once. A route file of the data plane is read by [`route_file`].

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Wanted, route_file};
use crate::routing::model::WorkspaceName;
use crate::routing::store::Entry;

/// The version of the format.
const FORMAT: u32 = 1;

/// An export.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Books {
    format: u32,
    #[serde(default)]
    workspaces: BTreeSet<WorkspaceName>,
    accounts: Vec<Entry>,
}

/// The text of an export.
pub(in crate::routes) fn export(wanted: Wanted) -> serde_json::Result<String> {
    let books = Books {
        format: FORMAT,
        workspaces: wanted.workspaces,
        accounts: wanted.entries,
    };
    Ok(serde_json::to_string_pretty(&books)? + "\n")
}

/// What `text` says the books are to hold: an export, or a route file of the data plane. `workspace` is that of the
/// accounts of a route file. Or the mistakes, one a line.
pub(in crate::routes) fn parse(
    path: &Path,
    text: &str,
    workspace: Option<&WorkspaceName>,
) -> Result<Wanted, String> {
    // No TOML text begins with a brace.
    let wanted = if text.trim_start().starts_with('{') {
        if workspace.is_some() {
            return Err(
                "--workspace is for route files: an export names its workspaces".to_owned(),
            );
        }
        json(path, text)?
    } else {
        route_file::parse(path, text, workspace)?
    };
    let mistakes = mistakes(&wanted);
    if mistakes.is_empty() {
        return Ok(wanted);
    }
    let lines = mistakes
        .iter()
        .map(|it| format!("{}: {it}", path.display()));
    Err(lines.collect::<Vec<_>>().join("\n"))
}

fn json(path: &Path, text: &str) -> Result<Wanted, String> {
    let books: Books = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let place = format!(" at line {line} column {column}");
        let message = message.strip_suffix(&place).unwrap_or(&message);
        format!("{}:{line}:{column}: {message}", path.display())
    })?;
    if books.format != FORMAT {
        let format = books.format;
        return Err(format!(
            "{}: format {format} is not {FORMAT}",
            path.display()
        ));
    }
    Ok(Wanted {
        workspaces: books.workspaces,
        entries: books.accounts,
    })
}

/// What is there twice.
fn mistakes(wanted: &Wanted) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut accounts = BTreeSet::new();
    let mut hosts = HashMap::new();
    for entry in &wanted.entries {
        let id = &entry.account;
        if !accounts.insert(id) {
            mistakes.push(format!("account {id} is there twice"));
            continue;
        }
        for host in entry.properties.hosts.as_slice() {
            if let Some(other) = hosts.insert(host, id) {
                mistakes.push(format!(
                    "host {host} is of account {other} and of account {id}"
                ));
            }
        }
        let (mut names, mut links) = (BTreeSet::new(), HashMap::new());
        for connection in &entry.connections {
            let name = &connection.name;
            if !names.insert(name) {
                mistakes.push(format!("connection {id}/{name} is there twice"));
            }
            let link = connection.properties.link_id;
            if let Some(other) = links.insert(link, name) {
                mistakes.push(format!(
                    "link {link} is of connection {id}/{other} and of connection {id}/{name}"
                ));
            }
        }
    }
    mistakes
}
