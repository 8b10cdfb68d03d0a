//! `import` and `export`: the books from and to a file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;

use super::arguments::Import;
use super::books::Books;
use super::error::Failure;
use super::import::{self, Action, Plan, Step, Wanted, present};
use super::print;
use crate::routing::model::WorkspaceName;

// Limit: a connection is some 250 bytes, so that this is a million of them.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What the file to import says.
pub(super) fn read(import: &Import) -> Result<Wanted, Failure> {
    let path = &import.from;
    let name = if path.as_os_str() == "-" {
        Path::new("standard input")
    } else {
        path
    };
    let text =
        text(path).map_err(|error| Failure::Wrong(format!("{}: {error}", name.display())))?;
    import::parse(name, &text, import.workspace.as_ref()).map_err(Failure::Wrong)
}

fn text(path: &Path) -> io::Result<String> {
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path)?)
    };
    let mut text = String::new();
    if input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 256 MiB",
        ));
    }
    Ok(text)
}

/// Prints the books.
pub(super) async fn export(
    books: &dyn Books,
    workspace: Option<WorkspaceName>,
) -> Result<(), Failure> {
    let within = workspace.map(|name| BTreeSet::from([name]));
    let mut found = present(books, within.as_ref(), |_| true).await?;
    if let Some(within) = &within {
        if let Some(missing) = within.difference(&found.workspaces).next() {
            let message = "there is no such workspace";
            return Err(Failure::refused(
                "ResourceNotFound",
                &format!("workspace {missing}"),
                message,
            ));
        }
        found.workspaces.retain(|name| within.contains(name));
    }
    let text = import::export(found.into_wanted()).map_err(io::Error::from)?;
    print::out(&text)
}

/// Makes the books hold what is wanted.
pub(super) async fn import(
    books: &dyn Books,
    wanted: &Wanted,
    import: &Import,
    json: bool,
) -> Result<(), Failure> {
    let within = wanted.all_workspaces();
    let accounts: BTreeSet<_> = wanted.entries.iter().map(|it| &it.account).collect();
    let present = present(books, Some(&within), |id| accounts.contains(id)).await?;
    let plan = import::plan(&present, wanted, import.prune);
    let plan = plan.map_err(|reasons| {
        let message = format!("nothing was done:\n{}", reasons.join("\n"));
        Failure::refused("Conflict", &import.from.display(), message)
    })?;
    let mut report = Report::new(&plan, import.dry_run, json);
    if import.dry_run {
        for step in &plan.steps {
            report.add(step, None);
        }
        return report.end(Ok(()));
    }
    let mut told = |step: &Step, failed: Option<&Failure>| report.add(step, failed);
    let done = import::carry_out(books, &plan, wanted, &mut told).await;
    report.end(done)
}

/// What is said about an import: a line for each step as it is done, or one JSON text at the end.
struct Report {
    unchanged: usize,
    planned: usize,
    dry_run: bool,
    json: bool,
    items: Vec<Item>,
    done: [usize; 3],
    output: Result<(), Failure>,
}

/// A step, as JSON.
#[derive(Serialize)]
struct Item {
    action: Action,
    what: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The whole, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    dry_run: bool,
    created: usize,
    changed: usize,
    deleted: usize,
    unchanged: usize,
    not_done: usize,
    items: &'a [Item],
}

impl Report {
    fn new(plan: &Plan, dry_run: bool, json: bool) -> Self {
        Self {
            unchanged: plan.unchanged,
            planned: plan.steps.len(),
            dry_run,
            json,
            items: Vec::new(),
            done: [0; 3],
            output: Ok(()),
        }
    }

    fn add(&mut self, step: &Step, failed: Option<&Failure>) {
        let count = &mut self.done[step.action as usize];
        *count += usize::from(failed.is_none());
        let item = Item {
            action: step.action,
            what: step.subject.to_string(),
            fields: step.fields.clone(),
            error: failed.map(ToString::to_string),
        };
        if self.json {
            self.items.push(item);
        } else if self.output.is_ok() {
            self.output = print::out(&item.line(self.dry_run));
        }
    }

    fn end(self, done: Result<(), Failure>) -> Result<(), Failure> {
        let [created, changed, deleted] = self.done;
        let unchanged = self.unchanged;
        let not_done = self.planned - created - changed - deleted;
        if self.json {
            print::json(&Whole {
                dry_run: self.dry_run,
                created,
                changed,
                deleted,
                unchanged,
                not_done,
                items: &self.items,
            })?;
        } else {
            self.output?;
            let left = if not_done > 0 {
                format!(", {not_done} not done: import again to go on")
            } else {
                String::new()
            };
            let would = if self.dry_run { "would be: " } else { "" };
            print::out(&format!(
                "{would}{created} created, {changed} changed, {deleted} deleted, {unchanged} unchanged{left}\n"
            ))?;
        }
        done
    }
}

impl Item {
    fn line(&self, dry_run: bool) -> String {
        let action = match (self.action, dry_run, &self.error) {
            (Action::Create, false, None) => "created",
            (Action::Change, false, None) => "changed",
            (Action::Delete, false, None) => "deleted",
            (Action::Create, true, _) => "would create",
            (Action::Change, true, _) => "would change",
            (Action::Delete, true, _) => "would delete",
            (_, false, Some(_)) => "NOT DONE",
        };
        let why = match (&self.error, self.fields.as_slice()) {
            (Some(error), _) => format!(": {error}"),
            (None, []) => String::new(),
            (None, fields) => format!(" ({})", fields.join(", ")),
        };
        format!("{action} {}{why}\n", self.what)
    }
}
