//! Deciding: `approve`, `reject` and `delete`, each about the version that was read or shown.

use jiff::Timestamp;
use postern_api::{LinkId, LinkState};
use serde::Serialize;

use super::arguments::{Decide, Which};
use super::books::{Books, Kept, Version};
use super::error::{Failure, RefusalKind};
use super::look::{self, Shown};
use super::print;
use crate::routing::model::{Connection, ConnectionId, WorkspaceName};
use crate::routing::store::Decision;

/// Approves a connection.
pub(super) async fn approve(books: &dyn Books, it: Decide, json: bool) -> Result<(), Failure> {
    decide(books, it, LinkState::Approved, json).await
}

/// Rejects a connection.
pub(super) async fn reject(books: &dyn Books, it: Decide, json: bool) -> Result<(), Failure> {
    decide(books, it, LinkState::Rejected, json).await
}

async fn decide(
    books: &dyn Books,
    it: Decide,
    state: LinkState,
    json: bool,
) -> Result<(), Failure> {
    let Decide {
        which,
        link_id,
        workspace,
        description,
        seen,
    } = it;
    let (id, before) = match (which, link_id) {
        (Some(id), _) => {
            let kept = books.connection(&id).await?;
            (id, kept)
        }
        (None, Some(link)) => only(books, link, workspace.as_ref()).await?,
        (None, None) => return Err(Failure::Wrong("which connection?".to_owned())),
    };
    let version = seen.etag.unwrap_or_else(|| before.version.clone());
    let decision = Decision { state, description };
    let after = match books.decide(&id, decision, &version).await {
        Err(failure) if failure.is(RefusalKind::Changed) => {
            return Err(changed(books, &id, &version).await);
        }
        after => after?,
    };
    if json {
        return print::json(&Shown::new(id.to_string(), &after));
    }
    print::out(&told(&id, &before, &after))
}

/// The connection with this link id, if there is one only.
async fn only(
    books: &dyn Books,
    link: LinkId,
    workspace: Option<&WorkspaceName>,
) -> Result<(ConnectionId, Kept<Connection>), Failure> {
    let mut found = look::connections(books, workspace).await?;
    found.retain(|(_, kept)| kept.value.link_id == link);
    if found.len() > 1 {
        let which = found
            .iter()
            .map(|(id, kept)| format!("{id} ({})", kept.value.state));
        let which: Vec<_> = which.collect();
        let message = format!(
            "several connections have it, so name one: {}",
            which.join(", ")
        );
        return Err(Failure::refused(
            "Ambiguous",
            &format!("--link-id {link}"),
            message,
        ));
    }
    let none = || {
        let message = "no connection has this link id";
        Failure::refused("ResourceNotFound", &format!("--link-id {link}"), message)
    };
    found.pop().ok_or_else(none)
}

/// What to say about a decision on something that is no longer as it was seen.
async fn changed(books: &dyn Books, id: &ConnectionId, seen: &Version) -> Failure {
    let now = match books.connection(id).await {
        Ok(kept) => format!(
            "it is {} now, etag {}",
            kept.value.state,
            kept.version.0.trim_matches('"')
        ),
        Err(failure) => failure.to_string(),
    };
    let message = format!(
        "it has changed since it was seen with etag {} ({now}). Nothing was done: \
         look at it (`routes show {id}`) and decide again",
        seen.0.trim_matches('"')
    );
    Failure::refused("PreconditionFailed", &format!("connection {id}"), message)
}

fn told(id: &ConnectionId, before: &Kept<Connection>, after: &Kept<Connection>) -> String {
    let what = if before.version == after.version {
        format!("{id} is {} already; nothing was changed", after.value.state)
    } else {
        format!(
            "{id} was {} and is {} now",
            before.value.state, after.value.state
        )
    };
    format!(
        "{what}\n\n{}",
        look::connection_page(id, after, Timestamp::now())
    )
}

/// What was deleted, as JSON.
#[derive(Serialize)]
struct Deleted {
    deleted: String,
    connections: usize,
}

/// Deletes a resource.
pub(super) async fn delete(
    books: &dyn Books,
    which: &Which,
    recursive: bool,
    seen: Option<Version>,
    json: bool,
) -> Result<(), Failure> {
    let (deleted, connections) = match which {
        Which::Workspace(name) => {
            let version = books.workspace(name).await?.version;
            let version = seen.unwrap_or(version);
            books.delete_workspace(name, &version).await?;
            (format!("workspace {name}"), 0)
        }
        Which::Account(id) => {
            let version = books.account(id).await?.version;
            let connections = books.connections(id).await?.len();
            if connections > 0 && !recursive {
                let message = format!(
                    "it has connections ({connections}), which would be deleted with it: say --recursive"
                );
                return Err(Failure::refused(
                    "Conflict",
                    &format!("account {id}"),
                    message,
                ));
            }
            let version = seen.unwrap_or(version);
            books.delete_account(id, &version).await?;
            (format!("account {id}"), connections)
        }
        Which::Connection(id) => {
            let version = books.connection(id).await?.version;
            let version = seen.unwrap_or(version);
            match books.delete_connection(id, &version).await {
                Err(failure) if failure.is(RefusalKind::Changed) => {
                    return Err(changed(books, id, &version).await);
                }
                done => done?,
            }
            (format!("connection {id}"), 0)
        }
    };
    if json {
        return print::json(&Deleted {
            deleted,
            connections,
        });
    }
    let with = if connections > 0 {
        format!(" with {connections} connections")
    } else {
        String::new()
    };
    print::out(&format!("{deleted} is deleted{with}\n"))
}
