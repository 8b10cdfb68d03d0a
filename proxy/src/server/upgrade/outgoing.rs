//! The old process's side: starts the new one, hands it the listeners, and goes on if it is not ready in time.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::{Fds, ListenFds};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{
    CONNECTIONS, Conversation, GO, LISTENERS, LOOK_INTERVAL, Launch, NOT_READY, READY, SERVING,
    TALK, message,
};
use crate::connection::accept::Seats;
use crate::metrics::{Metrics, UpgradeOutcome};
use crate::server::drain::{Drain, Phase};
use crate::server::in_force::InForce;

/// What replaces this process when it is asked to.
pub struct Upgrade {
    /// How it was started.
    pub launch: Launch,
    /// The listeners.
    pub fds: ListenFds,
    /// Has the time until the new process must be ready.
    pub in_force: Arc<InForce>,
    /// The drain of this process.
    pub drain: Arc<Drain>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The process that has taken over.
pub struct Successor {
    talk: Conversation,
    /// Its number.
    pub pid: u32,
}

impl Upgrade {
    /// Has a new process take over. None if it does not, for a reason that was logged: this one goes on.
    pub async fn attempt(&self) -> Option<Successor> {
        match self.replace().await {
            Ok(successor) => Some(successor),
            Err(reason) => {
                self.refuse(&reason);
                None
            }
        }
    }

    /// Says that this process goes on.
    pub fn refuse(&self, reason: &str) {
        self.metrics.lifecycle().upgraded(UpgradeOutcome::Refused);
        tracing::error!(reason, "upgrade: refused; this process goes on");
    }

    fn limit(&self) -> Duration {
        self.in_force.config().upgrade.timeout
    }

    async fn replace(&self) -> Result<Successor, String> {
        // A reload that has begun comes to its end first; one that begins meanwhile is refused.
        let _turn = self.in_force.turn().await;
        if self.drain.phase() != Phase::Serving {
            return Err("this process is draining".into());
        }
        if std::process::id() == 1 {
            return Err("this process is the first of its container, which ends with it".into());
        }
        let folder = private_folder(&self.launch.folder)?;
        let talk = folder.path().join(TALK);
        let listener =
            UnixListener::bind(&talk).map_err(|error| format!("{}: {error}", talk.display()))?;
        let mut new = NewProcess::start(&self.launch, folder.path())?;
        let (pid, program) = (new.pid, self.launch.program.display());
        tracing::info!(%program, pid, "upgrade: starting the new process");
        let mut accepts = false;
        let heard = tokio::select! {
            heard = timeout(
                self.limit() + TELL_TIMEOUT,
                self.converse(&listener, folder.path(), &mut accepts),
            ) => heard.unwrap_or_else(|_| Err(format!("it was not ready within {:?}", self.limit()))),
            ended = new.child.wait() => Err(end_of(ended)),
            () = self.drain.begun() => Err("a drain has begun".into()),
        };
        match heard {
            Ok(talk) => {
                new.done = true;
                Ok(Successor { talk, pid })
            }
            Err(reason) => Err(new.end(reason, accepts).await),
        }
    }

    async fn converse(
        &self,
        listener: &UnixListener,
        folder: &Path,
        accepts: &mut bool,
    ) -> Result<Conversation, String> {
        let gone = |_| SILENT.to_owned();
        let (stream, _) = listener.accept().await.map_err(gone)?;
        let mut talk = Conversation(BufReader::new(stream));
        let messages = in_messages(&self.fds);
        talk.say(&format!("{LISTENERS}{}", messages.len()))
            .await
            .map_err(gone)?;
        for (number, fds) in messages.into_iter().enumerate() {
            send(fds, &folder.join(message(number))).await?;
        }
        match talk.hear().await.ok_or(SILENT)?.as_str() {
            READY => {}
            said => {
                let why = said.strip_prefix(NOT_READY).unwrap_or(said);
                return Err(format!("it was not ready within {:?}: {why}", self.limit()));
            }
        }
        *accepts = true;
        talk.say(GO).await.map_err(gone)?;
        match talk.hear().await.as_deref() {
            Some(SERVING) => Ok(talk),
            _ => Err("it did not accept connections".into()),
        }
    }
}

impl Successor {
    /// Tells it once a second how many connections this process has left, for ever.
    pub async fn tell(mut self, seats: &Seats, metrics: &Metrics) {
        loop {
            // Of those before us it hears through us.
            let left = seats.taken() + metrics.lifecycle().previous_connections();
            if self
                .talk
                .say(&format!("{CONNECTIONS}{left}"))
                .await
                .is_err()
            {
                // It has ended, and nobody else wants to know.
                return;
            }
            sleep(TELL_INTERVAL).await;
        }
    }
}

/// A process that may take over. It is ended if it has not when this is dropped.
struct NewProcess {
    child: Child,
    pid: u32,
    done: bool,
}

impl NewProcess {
    fn start(launch: &Launch, folder: &Path) -> Result<Self, String> {
        let mut command = Command::new(&launch.program);
        command
            .args(launch.arguments_to_take_over(folder))
            .stdin(Stdio::null())
            // The service manager's word for this process. The new one is watched, too.
            .env_remove("WATCHDOG_PID");
        let failed = |error| format!("{} cannot be started: {error}", launch.program.display());
        let child = command.spawn().map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        Ok(Self {
            child,
            pid,
            done: false,
        })
    }

    /// Ends it, and says why: what it said, or how it ended if it did so by itself. One that accepts drains first.
    async fn end(mut self, reason: String, accepts: bool) -> String {
        if reason == SILENT
            && let Ok(ended) = timeout(TELL_TIMEOUT, self.child.wait()).await
        {
            return end_of(ended);
        }
        self.terminate();
        if !accepts && timeout(END_TIMEOUT, self.child.wait()).await.is_err() {
            // It does not listen to signals, or not yet.
            let _ = self.child.kill().await;
        }
        reason
    }

    fn terminate(&mut self) {
        self.done = true;
        // None if it has ended, and was waited for.
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for NewProcess {
    fn drop(&mut self) {
        if !self.done {
            self.terminate();
        }
    }
}

fn end_of(ended: std::io::Result<std::process::ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("it cannot be waited for: {error}"),
    }
}

/// A folder that nobody else may enter: whoever can connect to a socket in there gets our listeners.
fn private_folder(parent: &Path) -> Result<TempDir, String> {
    tempfile::Builder::new()
        .prefix("postern-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|error| format!("no folder can be made in {}: {error}", parent.display()))
}

/// The listeners, as many in a message as it takes.
fn in_messages(fds: &ListenFds) -> Vec<Fds> {
    let (names, numbers) = fds.lock().serialize();
    let all: Vec<_> = names.into_iter().zip(numbers).collect();
    let message = |some: &[(String, i32)]| {
        let mut message = Fds::new();
        for (name, number) in some {
            message.add(name.clone(), *number);
        }
        message
    };
    all.chunks(MESSAGE_SOCKETS_MAX).map(message).collect()
}

/// Sends a message to the socket at `path` once it is there. On a thread, since it sleeps.
async fn send(fds: Fds, path: &Path) -> Result<(), String> {
    while !path.exists() {
        sleep(LOOK_INTERVAL).await;
    }
    let path = path
        .to_str()
        .ok_or("the private folder's name is no text")?
        .to_owned();
    let (sent, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("upgrade".into());
    let spawned = thread.spawn(move || {
        // Whoever waited may have given up.
        let _ = sent.send(fds.send_to_sock(path.as_str()));
    });
    spawned.map_err(|error| format!("a thread cannot be started: {error}"))?;
    match answer.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the listeners could not be handed over: {error}")),
        Err(_) => Err("the listeners could not be handed over".into()),
    }
}

const SILENT: &str = "it said nothing more";
// Limit: pingora's message has room for 32 sockets and for 2048 bytes of names, of which ours have 75 at most
// (`data/[IPv6%scope]:65535/1023/239`).
const MESSAGE_SOCKETS_MAX: usize = 24;
const TELL_INTERVAL: Duration = Duration::from_secs(1);
// Limit: what it has to say, it says as soon as its own time is over.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
// Limit: a process that does not accept yet has nothing to end.
const END_TIMEOUT: Duration = Duration::from_secs(3);
