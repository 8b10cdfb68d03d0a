//! Workspaces, and what lists of resources have in common.

use rusqlite::{Connection as Database, Params, Row};
use serde::de::DeserializeOwned;

use super::log::{Writing, check};
use super::rows::{self, Word};
use super::{Condition, Field, List, Page, Put, Resource, StoreError, Versioned};
use crate::routing::model::{Workspace, WorkspaceName};

/// A workspace that must be there.
pub(super) fn get(
    database: &Database,
    name: &WorkspaceName,
) -> Result<Versioned<Workspace>, StoreError> {
    let found = rows::workspace(database, name)?;
    let found = found.ok_or_else(|| StoreError::NotFound(Resource::Workspace(name.clone())))?;
    Ok(found.versioned)
}

/// Workspaces by name.
pub(super) fn list(
    database: &Database,
    page: &Page<WorkspaceName>,
) -> Result<List<WorkspaceName, Workspace>, StoreError> {
    let sql = "SELECT * FROM workspaces WHERE name > ?1 ORDER BY name LIMIT ?2";
    let after = page.after.as_ref().map_or("", WorkspaceName::as_str);
    let max = page_max(page.max);
    part(database, sql, (after, max + 1), max, |_| Ok(Workspace {}))
}

/// Creates a workspace.
pub(super) fn put(
    writing: &Writing<'_>,
    name: &WorkspaceName,
    value: Workspace,
    condition: Condition,
) -> Result<Put<Workspace>, StoreError> {
    let current = rows::workspace(&writing.database, name)?.map(|current| current.versioned);
    check(condition, current.as_ref())?;
    if let Some(current) = current {
        return Ok(Put::same(current));
    }
    let next = writing.next(value, None)?;
    let mut statement = writing.database.prepare_cached(
        "INSERT INTO workspaces (name, version, created, changed) VALUES (?1, ?2, ?3, ?3)",
    )?;
    let version = next.etag.version();
    statement.execute((name.as_str(), version, next.created.as_second()))?;
    Ok(Put::new(next, true))
}

/// Deletes a workspace without accounts.
pub(super) fn delete(
    writing: &Writing<'_>,
    name: &WorkspaceName,
    condition: Condition,
) -> Result<bool, StoreError> {
    let database = &writing.database;
    let current = rows::workspace(database, name)?;
    check(
        condition,
        current.as_ref().map(|current| &current.versioned),
    )?;
    let Some(current) = current else {
        return Ok(false);
    };
    let in_use: bool = database
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM accounts WHERE workspace = ?1)")?
        .query_row([current.key], |row| row.get(0))?;
    if in_use {
        return Err(StoreError::Conflict {
            field: Field::Name,
            message: format!("workspace {name} has accounts; delete them first"),
        });
    }
    database
        .prepare_cached("DELETE FROM workspaces WHERE id = ?1")?
        .execute([current.key])?;
    Ok(true)
}

/// Part of a list: one row more than `max` is read, to know whether others follow.
pub(super) fn part<N: DeserializeOwned, T>(
    database: &Database,
    sql: &str,
    parameters: impl Params,
    max: usize,
    value: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<List<N, T>, StoreError> {
    let mut statement = database.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, |row| {
        let name = row.get::<_, Word<N>>("name")?.0;
        Ok((name, rows::versioned(row, value(row)?)?))
    })?;
    let mut items = rows.collect::<Result<Vec<_>, _>>()?;
    let more = items.len() > max;
    items.truncate(max);
    Ok(List { items, more })
}

/// How many a page has that asks for `max`.
pub(super) fn page_max(max: usize) -> usize {
    max.clamp(1, PAGE_MAX)
}

// Limit: a page is held in memory; a thousand accounts are a few megabytes.
const PAGE_MAX: usize = 1000;
