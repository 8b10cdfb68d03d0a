//! A process that was started by a process of the stack to take its place, such as a new Postern by an upgrade.
//!
//! It lives on when its parent has ended, and is then a child of this process, which asks the kernel for that.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid,
};

/// A process, known by its number.
#[derive(Debug, Clone, Copy)]
pub struct Descendant(Pid);

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
    /// The process of this number. None if there can be none.
    pub fn new(pid: u32) -> Option<Self> {
        Pid::from_raw(i32::try_from(pid).ok()?).map(Self)
    }

    /// From now on, what the processes of the stack leave behind becomes a child of this process.
    pub fn adopt() -> std::io::Result<()> {
        Ok(set_child_subreaper(Some(getpid()))?)
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends it a signal.
    pub fn signal(self, signal: Signal) -> std::io::Result<()> {
        // Its number cannot mean another process: nobody has asked for its end yet but its parent, which is ours.
        Ok(kill_process(self.0, signal)?)
    }

    /// Whether it has ended, and how. It stays in the table of processes, so that its number is nobody else's.
    pub fn end(self) -> End {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.0), options) {
            Ok(Some(status)) => {
                let code = status.exit_status().unwrap_or(0) << 8;
                let signal = status.terminating_signal().unwrap_or(0);
                End::Status(ExitStatus::from_raw(code | signal))
            }
            Ok(None) => End::Running,
            // Another process's child.
            Err(Errno::CHILD) if Path::new(&format!("/proc/{}", self.pid())).exists() => {
                End::Running
            }
            Err(_) => End::Gone,
        }
    }

    /// Takes it out of the table of processes once it has ended.
    pub fn reap(self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // Whoever else is its parent does so.
        let _ = waitid(WaitId::Pid(self.0), options);
    }
}
