//! The steps of a plan, done: all at once where the books can, else one after the other, each told when it is done.
//!
//! Who is interrupted imports again: what has been done is no step then.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _};
use postern_api::LinkState;

use super::present::AT_ONCE_MAX;
use super::{Action, Plan, Step, Subject, Wanted};
use crate::routes::books::{Books, Expected};
use crate::routes::error::Failure;
use crate::routing::model::{AccountId, Connection, ConnectionId};
use crate::routing::store::Entry;

/// Hears of each step as it ends, with what has failed if it has.
pub(in crate::routes) type Told<'a> = &'a mut (dyn FnMut(&Step, Option<&Failure>) + Send);

/// Does the steps. Each is told as it ends; the first failure ends the import, after the steps under way with it.
///
/// Deletions come first and each by itself, also where all the rest is one transaction.
pub(in crate::routes) async fn carry_out(
    books: &dyn Books,
    plan: &Plan,
    wanted: &Wanted,
    told: Told<'_>,
) -> Result<(), Failure> {
    let (deletions, rest): (Vec<&Step>, Vec<&Step>) = plan
        .steps
        .iter()
        .partition(|step| step.action == Action::Delete);
    one_by_one(books, &deletions, told).await?;
    if rest.is_empty() {
        return Ok(());
    }
    let (workspaces, rest): (Vec<&Step>, Vec<&Step>) = rest
        .into_iter()
        .partition(|step| matches!(step.subject, Subject::Workspace(_)));
    match books.import(touched(&rest, wanted)).await {
        Some(Ok(())) => {
            // Those of accounts are there now; those without any are not.
            one_by_one(books, &workspaces, told).await?;
            for step in rest {
                told(step, None);
            }
            Ok(())
        }
        Some(Err(failure)) => Err(failure),
        None => {
            one_by_one(books, &workspaces, told).await?;
            let (connections, accounts): (Vec<&Step>, Vec<&Step>) = rest
                .into_iter()
                .partition(|step| matches!(step.subject, Subject::Connection(..)));
            one_by_one(books, &accounts, told).await?;
            at_once(books, &connections, told).await
        }
    }
}

/// The entries of the accounts that the steps are about, with the connections that they are about.
fn touched(steps: &[&Step], wanted: &Wanted) -> Vec<Entry> {
    let mut accounts: BTreeMap<&AccountId, BTreeSet<_>> = BTreeMap::new();
    for step in steps {
        match &step.subject {
            Subject::Account(id, ..) => {
                accounts.entry(id).or_default();
            }
            Subject::Connection(id, ..) => {
                accounts.entry(&id.account).or_default().insert(&id.name);
            }
            _ => {}
        }
    }
    let entries = wanted.entries.iter().filter_map(|entry| {
        let names = accounts.get(&entry.account)?;
        let connections = entry.connections.iter();
        Some(Entry {
            account: entry.account.clone(),
            properties: entry.properties.clone(),
            connections: connections
                .filter(|it| names.contains(&it.name))
                .cloned()
                .collect(),
        })
    });
    entries.collect()
}

async fn one_by_one(books: &dyn Books, steps: &[&Step], told: Told<'_>) -> Result<(), Failure> {
    for step in steps {
        let done = take(books, step).await;
        told(step, done.as_ref().err());
        done?;
    }
    Ok(())
}

/// Steps that do not depend on each other.
async fn at_once(books: &dyn Books, steps: &[&Step], told: Told<'_>) -> Result<(), Failure> {
    let take = |step| async move { (step, take(books, step).await) };
    let mut left = steps.iter().copied();
    let mut under_way = stream::FuturesUnordered::new();
    under_way.extend(left.by_ref().take(AT_ONCE_MAX).map(take));
    let mut failed = None;
    while let Some((step, done)) = under_way.next().await {
        told(step, done.as_ref().err());
        match done {
            Ok(()) if failed.is_none() => under_way.extend(left.next().map(take)),
            Ok(()) => {}
            Err(failure) => failed = failed.or(Some(failure)),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn take(books: &dyn Books, step: &Step) -> Result<(), Failure> {
    let done = match &step.subject {
        Subject::Workspace(name) => books.put_workspace(name).await,
        Subject::Account(id, value, expected) => books.put_account(id, value, expected).await,
        Subject::Connection(id, value, expected) => put(books, id, value, expected).await,
        Subject::NoAccount(id, version) => books.delete_account(id, version).await,
        Subject::NoConnection(id, version) => books.delete_connection(id, version).await,
    };
    done.map_err(|failure| failure.about(&step.subject))
}

/// A new connection begins as Pending or Approved: one that is neither begins as Pending, which may pass as little.
async fn put(
    books: &dyn Books,
    id: &ConnectionId,
    value: &Connection,
    expected: &Expected,
) -> Result<(), Failure> {
    let begins = matches!(value.state, LinkState::Pending | LinkState::Approved);
    if begins || *expected != Expected::Absent {
        books.put_connection(id, value, expected).await?;
        return Ok(());
    }
    let pending = Connection {
        state: LinkState::Pending,
        ..value.clone()
    };
    let version = books.put_connection(id, &pending, expected).await?;
    let expected = Expected::Version(version);
    books.put_connection(id, value, &expected).await?;
    Ok(())
}
