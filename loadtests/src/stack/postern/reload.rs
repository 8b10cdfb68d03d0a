//! A Postern that takes up another configuration while it serves: SIGHUP.

use rustix::process::Signal;
use serde_json::Value;

use super::super::child::READY_TIMEOUT;
use super::super::{Deadline, StackError, write_file};
use super::Postern;

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// Another configuration is in force, which differs in these keys.
    Applied(String),
    /// There is no other.
    Unchanged,
    /// It was refused, and why.
    Refused(String),
}

impl Postern {
    /// The text of the configuration file.
    pub fn configuration(&self) -> Result<String, StackError> {
        std::fs::read_to_string(&self.config).map_err(|source| StackError::File {
            action: "read",
            path: self.config.clone(),
            source,
        })
    }

    /// Replaces the configuration file by one rename, as a careful operator does.
    pub fn configure(&self, text: &str) -> Result<(), StackError> {
        let new = self.config.with_extension("new");
        write_file(&new, text)?;
        std::fs::rename(&new, &self.config).map_err(|source| StackError::File {
            action: "replace",
            path: self.config.clone(),
            source,
        })
    }

    /// SIGHUP: waits until the configuration was read, and tells what came of it.
    pub async fn reload(&mut self) -> Result<Reloaded, StackError> {
        let log = self.operational_log();
        let outcomes = || log.all().into_iter().filter_map(|line| outcome(&line));
        let before = outcomes().count();
        self.signal(Signal::HUP)?;
        let reloaded = Deadline::after(READY_TIMEOUT)
            .poll(async || outcomes().nth(before))
            .await;
        reloaded.ok_or_else(|| self.late(READY_TIMEOUT, "the outcome of the reload"))
    }
}

fn outcome(line: &Value) -> Option<Reloaded> {
    let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    Some(match line["message"].as_str()? {
        "reload: applied" => Reloaded::Applied(text("changed")),
        "reload: nothing changed" => Reloaded::Unchanged,
        "reload: refused; the configuration in force stays" => Reloaded::Refused(text("error")),
        _ => return None,
    })
}
