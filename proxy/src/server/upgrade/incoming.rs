//! The new process's side: takes the listeners, proves that it is ready, accepts.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use pingora_core::server::Fds;
use tokio::time::{sleep_until, timeout};

use super::{
    CONNECTIONS, Conversation, GO, LINE_BYTES_MAX, LISTENERS, LOOK_INTERVAL, NOT_READY, READY,
    SERVING, TALK, message,
};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::server::ServerError;
use crate::server::opening::Opening;

/// A process that has the listeners and does not accept yet.
#[derive(Debug)]
pub struct Incoming {
    stream: UnixStream,
    deadline: Instant,
}

/// The process that was replaced, which still tells of itself.
pub struct Previous {
    talk: Conversation,
    said: Option<String>,
}

/// Takes the listeners over from the process that is met in `folder`. Blocks, for a second at least.
pub fn take(folder: &Path, limit: Duration) -> Result<(Incoming, Fds), ServerError> {
    let deadline = Instant::now() + limit;
    let failed = |error: std::io::Error| lost(&error.to_string());
    let stream = UnixStream::connect(folder.join(TALK)).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    let mut reader = BufReader::new(stream).take(LINE_BYTES_MAX);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(failed)?;
    let number = line.strip_prefix(LISTENERS).map(str::trim_end);
    let number = number.and_then(|number| number.parse::<usize>().ok());
    let number = number.ok_or_else(|| lost("it does not say how many listeners there are"))?;
    let mut fds = Fds::new();
    for number in 0..number {
        let path = folder.join(message(number));
        let path = path.to_str().ok_or_else(|| lost("its folder is no text"))?;
        // Whatever goes wrong in there beside this ends this process, and no other.
        fds.get_from_sock(path)
            .map_err(|error| lost(&error.to_string()))?;
    }
    // It says nothing more before it is asked, so that nothing is lost with the buffer.
    let stream = reader.into_inner().into_inner();
    Ok((Incoming { stream, deadline }, fds))
}

impl Incoming {
    /// Proves that this process is ready, and then accepts. An error if the other one goes on instead.
    pub async fn take_over(
        self,
        readiness: &Readiness,
        opening: &Opening,
    ) -> Result<Previous, ServerError> {
        let Self { stream, deadline } = self;
        let failed = |error: std::io::Error| lost(&error.to_string());
        stream.set_nonblocking(true).map_err(failed)?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
        let mut talk = Conversation(tokio::io::BufReader::new(stream));
        let ready = async {
            while !readiness.is_ready() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            () = ready => {}
            _ = talk.hear() => return Err(lost("it gave up")),
            () = sleep_until(deadline.into()) => {
                let waiting_for = readiness.waiting_for().join(", ");
                let why = format!("waiting for {waiting_for}");
                // Whoever does not hear it finds out by itself.
                let _ = talk.say(&format!("{NOT_READY}{why}")).await;
                return Err(ServerError::NotReady(waiting_for));
            }
        }
        talk.say(READY).await.map_err(failed)?;
        let answer = timeout(ANSWER_TIMEOUT, talk.hear()).await;
        if answer.ok().flatten().as_deref() != Some(GO) {
            return Err(lost("it did not let this process accept"));
        }
        if !opening.open().await {
            return Err(ServerError::NotAccepting);
        }
        // If it is gone by now, nobody but us is there to accept.
        let _ = talk.say(SERVING).await;
        Ok(Previous { talk, said: None })
    }
}

impl Previous {
    /// Resolves when it has told the service manager of us, which it does before it tells us anything.
    pub async fn introduces_us(&mut self) {
        let heard = timeout(ANSWER_TIMEOUT, self.talk.hear()).await;
        self.said = heard.unwrap_or_default();
    }

    /// Follows what it tells until it has ended.
    pub async fn follow(mut self, metrics: &Metrics) {
        loop {
            let line = match self.said.take() {
                Some(line) => Some(line),
                None => self.talk.hear().await,
            };
            let left = line
                .as_deref()
                .and_then(|line| line.strip_prefix(CONNECTIONS));
            let Some(left) = left.and_then(|left| left.parse().ok()) else {
                break;
            };
            metrics.lifecycle().previous(left);
        }
        metrics.lifecycle().previous(0);
        tracing::info!("upgrade: the previous process has ended");
    }
}

fn lost(why: &str) -> ServerError {
    ServerError::TakeOver(why.to_owned())
}

// Limit: between `ready` and `go` the other process only decides.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
