//! A Postern that is replaced by a new process while it serves: SIGUSR2.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::super::descendant::{Descendant, End};
use super::super::{Deadline, StackError};
use super::Postern;

impl Postern {
    /// SIGUSR2: waits until a new process has taken over, and gives its number. What is asked of this value from
    /// then on is asked of the new process; the previous one drains.
    pub async fn upgrade(&mut self) -> Result<u32, StackError> {
        let line = self.ask_for_upgrade().await?;
        let pid = line["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        let first = self.child.pid();
        match pid.and_then(|pid| Descendant::new(pid, first)) {
            Some(new) if line["message"] == TAKEN_OVER => {
                self.successors.push(new);
                Ok(new.pid())
            }
            _ => Err(StackError::Upgrade {
                said: line.to_string(),
            }),
        }
    }

    /// SIGUSR2: waits until the upgrade is refused, and gives the reason.
    pub async fn upgrade_refused(&mut self) -> Result<String, StackError> {
        let line = self.ask_for_upgrade().await?;
        match line["reason"].as_str() {
            Some(reason) if line["message"] == REFUSED => Ok(reason.to_owned()),
            _ => Err(StackError::Upgrade {
                said: line.to_string(),
            }),
        }
    }

    /// The line that says what the upgrade came to.
    async fn ask_for_upgrade(&mut self) -> Result<Value, StackError> {
        Descendant::adopt().map_err(|source| StackError::Signal {
            name: self.child.name().to_owned(),
            source,
        })?;
        let log = self.operational_log();
        let outcomes = || {
            let is_outcome =
                |line: &Value| line["message"] == TAKEN_OVER || line["message"] == REFUSED;
            log.all().into_iter().filter(is_outcome)
        };
        let before = outcomes().count();
        self.signal(Signal::USR2)?;
        let outcome = Deadline::after(UPGRADE_TIMEOUT)
            .poll(async || outcomes().nth(before))
            .await;
        outcome.ok_or_else(|| self.late(UPGRADE_TIMEOUT, "the outcome of the upgrade"))
    }

    /// How the newest process ended, if it has. Who handed over to another one is not the newest, whoever asked for
    /// that; [`Descendant::adopt`] comes before it.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        loop {
            let status = match self.successors.last().map(|newest| newest.end()) {
                None => self.child.exited()?,
                Some(End::Status(status)) => status,
                Some(End::Running | End::Gone) => return None,
            };
            match self.handed_over_to() {
                Some(next) => self.successors.push(next),
                None => return Some(status),
            }
        }
    }

    /// The process that took over from the newest that is known.
    fn handed_over_to(&self) -> Option<Descendant> {
        let lines = self.operational_log().all().into_iter();
        let mut handed_over = lines.filter(|line| line["message"] == TAKEN_OVER);
        let pid = handed_over.nth(self.successors.len())?["pid"].as_u64()?;
        Descendant::new(u32::try_from(pid).ok()?, self.child.pid())
    }

    /// Waits until every process before the newest has ended.
    pub async fn previous_ended(&mut self, limit: Duration) -> Result<(), StackError> {
        let ended = async || {
            let before = self
                .successors
                .split_last()
                .map_or(&[][..], |(_, before)| before);
            let first = self.successors.is_empty() || self.child.exited().is_some();
            let running = before.iter().any(|one| one.end() == End::Running);
            (first && !running).then_some(())
        };
        let ended = Deadline::after(limit).poll(ended).await;
        ended.ok_or_else(|| self.late(limit, "the end of the previous process"))
    }
}

impl Drop for Postern {
    /// Those that took over end as the first one does: fast, and by SIGKILL if not.
    fn drop(&mut self) {
        for one in &self.successors {
            if one.end() == End::Running {
                let _ = one.signal(Signal::INT);
            }
        }
        // The first one is waited for, and its group, which is everybody's, is killed.
        self.child.stop();
        for one in &self.successors {
            one.reap();
        }
    }
}

// What a Postern says of an upgrade, as its log has it.
const TAKEN_OVER: &str = "upgrade: the new process has taken over; draining";
const REFUSED: &str = "upgrade: refused; this process goes on";
// Limit: `upgrade.timeout` by default, and a little for the log.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(65);
