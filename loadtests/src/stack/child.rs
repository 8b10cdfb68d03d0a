//! One process of the stack.
//!
//! Its standard output and error go to files in its folder, it is waited for until a condition holds, and
//! it is ended with everything it started when the value is dropped.
//!
//! Invariant: only process groups that this file made are ever signalled.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use super::StackError;

/// How long a part may take to become ready. A debug build on two busy cores is the slow case.
// Limit: 30 s; every process here is ready within one second on an idle machine.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

// Limit: how long a process may take to end by itself after its stop signal, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

// Limit: between two looks at a condition; short enough not to matter in a test's time.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

// Limit: of a log, this many last bytes are shown with a failure.
const TAIL_BYTES: u64 = 4096;

/// A point in time until which something is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    limit: Duration,
    end: Instant,
}

impl Deadline {
    /// The deadline `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self {
            limit,
            end: Instant::now() + limit,
        }
    }

    /// Looks at `condition` until it gives a value, or until the deadline: then `None`.
    pub async fn poll<T>(self, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
        loop {
            if let Some(value) = condition().await {
                return Some(value);
            }
            if Instant::now() >= self.end {
                return None;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// A running process, ended on drop.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
    started: Instant,
    reaped: bool,
    stop_signal: Signal,
}

impl Child {
    /// Starts `command` in a process group of its own, with standard output in `FOLDER/NAME.stdout` and
    /// standard error in `FOLDER/NAME.stderr`, both appended to.
    pub fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Self, StackError> {
        let (stdout, out) = log_file(folder, name, "stdout")?;
        let (stderr, err) = log_file(folder, name, "stderr")?;
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| StackError::Spawn {
            name: name.to_owned(),
            program,
            source,
        };
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        let process = command.spawn().map_err(failed)?;
        let pid = Pid::from_child(&process);
        let (name, started) = (name.to_owned(), Instant::now());
        Ok(Self {
            name,
            process,
            pid,
            stdout,
            stderr,
            started,
            reaped: false,
            stop_signal: Signal::TERM,
        })
    }

    /// Waits until `condition` holds; `awaited` says in words what that is. Fails at once when the process
    /// ends, and after `limit` otherwise.
    ///
    /// Returns the time since the process was started.
    pub async fn wait_until(
        &mut self,
        awaited: &str,
        limit: Duration,
        mut condition: impl AsyncFnMut() -> bool,
    ) -> Result<Duration, StackError> {
        let deadline = Deadline::after(limit);
        let outcome = deadline
            .poll(async || {
                // The process is looked at first: another one may answer on the port it failed to bind.
                if let Some(status) = self.exited() {
                    return Some(Err(status));
                }
                condition().await.then_some(Ok(()))
            })
            .await;
        let name = self.name.clone();
        let awaited = awaited.to_owned();
        match outcome {
            Some(Ok(())) => Ok(self.started.elapsed()),
            Some(Err(status)) => Err(StackError::Ended {
                name,
                status,
                awaited,
                log: self.tail(),
            }),
            None => Err(StackError::Late {
                name,
                limit: deadline.limit,
                awaited,
                log: self.tail(),
            }),
        }
    }

    /// Waits until a TCP connection to `address` is accepted.
    pub async fn wait_for_port(&mut self, address: SocketAddr) -> Result<Duration, StackError> {
        let awaited = format!("a listener on {address}");
        self.wait_until(&awaited, READY_TIMEOUT, async || accepts(address).await)
            .await
    }

    /// Waits until the process has ended.
    pub async fn wait_for_exit(&mut self, limit: Duration) -> Result<ExitStatus, StackError> {
        let deadline = Deadline::after(limit);
        let status = deadline.poll(async || self.exited()).await;
        status.ok_or_else(|| StackError::Late {
            name: self.name.clone(),
            limit,
            awaited: "its end".to_owned(),
            log: self.tail(),
        })
    }

    /// How the process ended, or `None` while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        // `NOWAIT` leaves the ended process in the table until `stop`, so that its number, which is also
        // its group's, cannot come to mean another process that we would then signal.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid), options).ok().flatten()?;
        let code = status.exit_status().unwrap_or(0) << 8;
        Some(ExitStatus::from_raw(
            code | status.terminating_signal().unwrap_or(0),
        ))
    }

    /// Sends a signal to the process itself, not to those it started.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// Which signal asks the process to end fast; SIGTERM unless set.
    pub fn set_stop_signal(&mut self, signal: Signal) {
        self.stop_signal = signal;
    }

    /// Ends the process and all it started: its stop signal, then SIGKILL. Does nothing when it has ended.
    pub fn stop(&mut self) {
        if self.reaped {
            return;
        }
        if self.exited().is_none() {
            let _ = kill_process(self.pid, self.stop_signal);
            let end = Instant::now() + STOP_TIMEOUT;
            while self.exited().is_none() && Instant::now() < end {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.process.wait();
        self.reaped = true;
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The file with its standard output.
    pub fn stdout(&self) -> &Path {
        &self.stdout
    }

    /// The file with its standard error.
    pub fn stderr(&self) -> &Path {
        &self.stderr
    }

    /// The last lines of its standard output and error.
    pub fn tail(&self) -> String {
        let mut text = String::new();
        for path in [&self.stdout, &self.stderr] {
            if let Some(tail) = tail(path) {
                text.push_str(&tail);
            }
        }
        if text.is_empty() {
            "(it wrote nothing)".to_owned()
        } else {
            text
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether something accepts TCP connections at `address`.
pub async fn accepts(address: SocketAddr) -> bool {
    let connect = tokio::net::TcpStream::connect(address);
    matches!(
        tokio::time::timeout(Duration::from_secs(1), connect).await,
        Ok(Ok(_))
    )
}

/// The last lines of a file with its name above, or `None` if it is empty or not there.
pub fn tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Unless it is the beginning of the file, the first line is half a line.
    let text = if start == 0 {
        &text
    } else {
        text.split_once('\n').map_or(&*text, |(_, rest)| rest)
    };
    let name = path.file_name()?.to_string_lossy();
    (!text.trim().is_empty()).then(|| format!("--- {name}\n{}\n", text.trim_end()))
}

fn log_file(folder: &Path, name: &str, kind: &str) -> Result<(PathBuf, File), StackError> {
    let path = folder.join(format!("{name}.{kind}"));
    let file = File::options().create(true).append(true).open(&path);
    match file {
        Ok(file) => Ok((path, file)),
        Err(source) => Err(StackError::File {
            action: "open",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_reported_with_its_status_and_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            Child::spawn("short", shell("echo no port >&2; exit 7"), folder.path()).unwrap();
        let error = child
            .wait_until("a port", READY_TIMEOUT, async || false)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("short: ended with exit status: 7"), "{text}");
        assert!(text.contains("no port"), "{text}");
    }

    #[tokio::test]
    async fn a_condition_that_never_holds_ends_with_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Child::spawn("idle", shell("exec sleep 60"), folder.path()).unwrap();
        let limit = Duration::from_millis(50);
        let error = child
            .wait_until("the impossible", limit, async || false)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("for: the impossible"), "{error}");
    }

    #[tokio::test]
    async fn what_a_process_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let grandchild = folder.path().join("pid");
        let script = format!(
            "sleep 60 & echo $! >{0}.new; mv {0}.new {0}; wait",
            grandchild.display()
        );
        let mut child = Child::spawn("parent", shell(&script), folder.path()).unwrap();
        child
            .wait_until("the pid", READY_TIMEOUT, async || grandchild.exists())
            .await
            .unwrap();
        let pid = std::fs::read_to_string(&grandchild).unwrap();
        drop(child);
        let stat = format!("/proc/{}/stat", pid.trim());
        // Gone, or a zombie until whoever inherited it looks.
        let ended = async || match std::fs::read_to_string(&stat) {
            Ok(stat) => stat.contains(") Z ").then_some(()),
            Err(_) => Some(()),
        };
        assert!(Deadline::after(READY_TIMEOUT).poll(ended).await.is_some());
    }
}
