//! A process that was started by a process of the stack to take its place, such as a new Postern by an upgrade.
//!
//! It lives on when its parent has ended, and is then a child of this process, which asks the kernel for that.
//!
//! Invariant: only members of a process group that this process holds are ever signalled, since a number alone may have
//! come to mean another process.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, getpid, kill_process, set_child_subreaper, waitid,
};

/// A process, known by its number and its group's.
#[derive(Debug, Clone, Copy)]
pub struct Descendant {
    pid: Pid,
    group: Pid,
}

/// What is known of the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It runs.
    Running,
    /// It ended like this.
    Status(ExitStatus),
    /// It is gone; its parent, which still runs, knows how.
    Gone,
}

impl Descendant {
    /// The process `pid` of the group of the process `first`. None if there can be none.
    pub fn new(pid: u32, first: u32) -> Option<Self> {
        let number = |number: u32| Pid::from_raw(i32::try_from(number).ok()?);
        Some(Self {
            pid: number(pid)?,
            group: number(first)?,
        })
    }

    /// From now on, what the processes of the stack leave behind becomes a child of this process.
    pub fn adopt() -> std::io::Result<()> {
        Ok(set_child_subreaper(Some(getpid()))?)
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends it a signal.
    pub fn signal(self, signal: Signal) -> std::io::Result<()> {
        if !self.is_there() {
            return Err(Errno::SRCH.into());
        }
        Ok(kill_process(self.pid, signal)?)
    }

    /// Whether it has ended, and how. It stays in the table of processes, so that its number is nobody else's.
    pub fn end(self) -> End {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(Some(status)) => {
                let code = status.exit_status().unwrap_or(0) << 8;
                let signal = status.terminating_signal().unwrap_or(0);
                End::Status(ExitStatus::from_raw(code | signal))
            }
            Ok(None) => End::Running,
            // Another process's child.
            Err(Errno::CHILD) if self.is_there() => End::Running,
            Err(_) => End::Gone,
        }
    }

    fn is_there(self) -> bool {
        getpgid(Some(self.pid)) == Ok(self.group)
    }

    /// Takes it out of the table of processes once it has ended.
    pub fn reap(self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // Whoever else is its parent does so.
        let _ = waitid(WaitId::Pid(self.pid), options);
    }
}
