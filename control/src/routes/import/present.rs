//! What the books hold, read for an export, a list, or an import's plan.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Present, PresentAccount, Wanted};
use crate::routes::books::Books;
use crate::routes::error::Failure;
use crate::routing::model::{AccountId, WorkspaceName};
use crate::routing::store::{ConnectionEntry, Entry};

// Limit: a service allows 100 streams a connection and more at once gains little; it has others to answer.
pub(super) const AT_ONCE_MAX: usize = 16;

/// What `books` hold: of `within` or of all workspaces, and the connections of accounts for which `connections` holds.
pub(in crate::routes) async fn present(
    books: &dyn Books,
    within: Option<&BTreeSet<WorkspaceName>>,
    connections: impl Fn(&AccountId) -> bool,
) -> Result<Present, Failure> {
    let workspaces: BTreeSet<_> = books.workspaces().await?.into_iter().collect();
    let mut accounts = Vec::new();
    for workspace in &workspaces {
        if within.is_none_or(|within| within.contains(workspace)) {
            for (name, kept) in books.accounts(workspace).await? {
                let workspace = workspace.clone();
                accounts.push((AccountId { workspace, name }, kept));
            }
        }
    }
    let read = accounts.into_iter().map(|(id, kept)| {
        let wanted = connections(&id);
        async move {
            let connections = if wanted {
                books.connections(&id).await?.into_iter().collect()
            } else {
                BTreeMap::default()
            };
            Ok::<_, Failure>((id, PresentAccount { kept, connections }))
        }
    });
    let accounts = stream::iter(read)
        .buffered(AT_ONCE_MAX)
        .try_collect()
        .await?;
    Ok(Present {
        workspaces,
        accounts,
    })
}

impl Present {
    /// The same as something to import.
    pub(in crate::routes) fn into_wanted(self) -> Wanted {
        let entries = self.accounts.into_iter().map(|(account, present)| Entry {
            account,
            properties: present.kept.value,
            connections: present
                .connections
                .into_iter()
                .map(|(name, kept)| ConnectionEntry {
                    name,
                    properties: kept.value,
                })
                .collect(),
        });
        Wanted {
            workspaces: self.workspaces,
            entries: entries.collect(),
        }
    }
}
