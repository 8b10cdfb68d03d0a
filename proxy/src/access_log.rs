//! The access log: one line of JSON for each request, and for each connection that was refused or broke.
//!
//! Promises that no request ever waits for the log: a line is formatted where it arises, into a bounded buffer that
//! its thread has to itself, and one thread writes what is in the buffers. When they are full, or the disk is, lines
//! are dropped and counted. Lines of one thread are in order; those of several are up to a tenth of a second apart.
//! Never writes a query string, a header or a body.
//!
//! A line is in the file within about a tenth of a second, and when the process ended gracefully every line is. What
//! is in the buffers is lost with a process that is killed or aborts: at most the lines of that tenth of a second.
//!
//! Invariant: each line is one JSON object, whatever a client sends.

mod buffers;
mod line;
mod record;
mod stamp;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use self::buffers::{Added, Buffers};
use self::line::Line;
use self::record::Record;
pub use self::record::{ConnectionRecord, RequestEnding, RequestRecord};
use self::writer::{Control, Sink, Writer};
use crate::config::{AccessLogOptions, AccessLogOutput};

/// The handle that everyone writes through. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Arc<Open>>);

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
struct Open {
    buffers: Arc<Buffers>,
    writer: Thread,
    control: Sender<Control>,
    write_errors: Arc<AtomicU64>,
}

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
        let buffers = Arc::new(Buffers::new(queue_max));
        let (control, control_out) = bounded(CONTROL_MAX);
        let write_errors = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(
            Arc::clone(&buffers),
            control_out,
            sink,
            Arc::clone(&write_errors),
        );
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(|| writer.run())
            .map_err(AccessLogError::Thread)?;
        Ok(Self(Some(Arc::new(Open {
            buffers,
            writer: thread.thread().clone(),
            control,
            write_errors,
        }))))
    }

    /// Whether lines go anywhere. Where not, nobody need gather what a record holds.
    pub const fn enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Logs a request that ended.
    pub fn request(&self, record: &RequestRecord<'_>) {
        self.log(record);
    }

    /// Logs a connection that ended.
    pub fn connection(&self, record: &ConnectionRecord<'_>) {
        self.log(record);
    }

    fn log<R: Record>(&self, record: &R) {
        let Some(open) = &self.0 else { return };
        let added = open.buffers.add(|out| {
            let mut line = Line::begin(out, R::KIND);
            record.append(&mut line)?;
            line.end();
            serde_json::Result::Ok(())
        });
        if added == Added::Enough {
            open.writer.unpark();
        }
    }

    /// Opens the file anew at its path, after it was moved away. This also happens by itself within a second.
    pub fn reopen(&self) {
        if let Some(open) = &self.0 {
            open.tell(Control::Reopen);
        }
    }

    /// Writes what waits and stops the writer; what is logged later is dropped and counted. Waits at most
    /// `deadline`, and says whether all was written.
    pub fn close(&self, deadline: Duration) -> bool {
        let Some(open) = &self.0 else { return true };
        let (done, all_done) = bounded(1);
        open.tell(Control::Close(done));
        all_done.recv_timeout(deadline).is_ok()
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |open| open.buffers.dropped())
    }

    /// Writes that failed.
    pub fn write_errors(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |open| open.write_errors.load(Ordering::Relaxed))
    }
}

impl Open {
    fn tell(&self, control: Control) {
        if self.control.try_send(control).is_ok() {
            self.writer.unpark();
        }
    }
}
