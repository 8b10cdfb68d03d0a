//! The access log: one line of JSON for each request, and for each connection that was refused or broke.
//!
//! Promises that no request ever waits for the log: a line is formatted where it arises, put into a bounded queue
//! and written by one thread. When the queue is full, or the disk is, lines are dropped and counted.
//! Never writes a query string, a header or a body.
//!
//! Invariant: each line is one JSON object, whatever a client sends.

mod record;
mod stamp;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use serde::Serialize;

pub use self::record::{ConnectionRecord, RequestEnding, RequestRecord};
use self::stamp::Stamp;
use self::writer::{Control, Sink, Writer};
use crate::config::{AccessLogOptions, AccessLogOutput};

/// The handle that everyone writes through. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Arc<Queue>>);

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be created or appended to.
    #[error("{}: the access log cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("the access log's thread cannot be started")]
    Thread(#[source] io::Error),
}

#[derive(Debug)]
struct Queue {
    lines: Sender<Vec<u8>>,
    control: Sender<Control>,
    counts: Arc<Counts>,
}

/// What went wrong so far.
#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    write_errors: AtomicU64,
}

// Limit: a line is about 500 bytes; a longer one grows once, up to the clips in `record`.
const LINE_BYTES: usize = 640;
// Limit: `reopen` and `close` at once, and one more of each by a hasty operator.
const CONTROL_MAX: usize = 4;

impl AccessLog {
    /// Opens the log and starts its writer.
    pub fn open(options: &AccessLogOptions) -> Result<Self, AccessLogError> {
        let sink = match &options.output {
            AccessLogOutput::Off => return Ok(Self::off()),
            AccessLogOutput::Stdout => Sink::Stream(Box::new(io::stdout())),
            AccessLogOutput::File(path) => {
                Sink::append(path).map_err(|source| AccessLogError::Open {
                    path: path.clone(),
                    source,
                })?
            }
        };
        Self::start(sink, options.queue_max)
    }

    /// A log that takes nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    fn start(sink: Sink, queue_max: usize) -> Result<Self, AccessLogError> {
        let (lines, lines_out) = bounded(queue_max);
        let (control, control_out) = bounded(CONTROL_MAX);
        let counts = Arc::new(Counts::default());
        let writer = Writer::new(lines_out, control_out, sink, Arc::clone(&counts));
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(|| writer.run())
            .map_err(AccessLogError::Thread)?;
        Ok(Self(Some(Arc::new(Queue {
            lines,
            control,
            counts,
        }))))
    }

    /// Whether lines go anywhere. Where not, nobody need gather what a record holds.
    pub const fn enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Logs a request that ended.
    pub fn request(&self, record: &RequestRecord<'_>) {
        self.write("request", record);
    }

    /// Logs a connection that ended.
    pub fn connection(&self, record: &ConnectionRecord<'_>) {
        self.write("connection", record);
    }

    fn write<R: Serialize>(&self, kind: &'static str, record: &R) {
        #[derive(Serialize)]
        struct Line<'a, R> {
            ts: Stamp,
            kind: &'static str,
            #[serde(flatten)]
            record: &'a R,
        }
        let Some(queue) = &self.0 else { return };
        let mut line = Vec::with_capacity(LINE_BYTES);
        let written = serde_json::to_writer(
            &mut line,
            &Line {
                ts: Stamp::now(),
                kind,
                record,
            },
        );
        line.push(b'\n');
        if written.is_err() || queue.lines.try_send(line).is_err() {
            queue.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew at its path, after it was moved away. This also happens by itself within a second.
    pub fn reopen(&self) {
        if let Some(queue) = &self.0 {
            queue.tell(Control::Reopen);
        }
    }

    /// Writes what is queued and stops the writer; what is logged later is dropped and counted. Waits at most
    /// `deadline`, and says whether all was written.
    pub fn close(&self, deadline: Duration) -> bool {
        let Some(queue) = &self.0 else { return true };
        let (done, all_done) = bounded(1);
        queue.tell(Control::Close(done));
        all_done.recv_timeout(deadline).is_ok()
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |queue| queue.counts.dropped.load(Ordering::Relaxed))
    }

    /// Writes that failed.
    pub fn write_errors(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |queue| queue.counts.write_errors.load(Ordering::Relaxed))
    }
}

impl Queue {
    fn tell(&self, control: Control) {
        if self.control.try_send(control).is_ok() {
            // An empty line wakes the writer. If the queue is full, it is awake.
            let _ = self.lines.try_send(Vec::new());
        }
    }
}
