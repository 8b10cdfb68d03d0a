//! The one thread that writes.
//!
//! Promises to write many lines at once, to survive any error of the disk, and to follow a file that is rotated
//! by renaming. Never makes a sender wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::Counts;

/// What the writer is told besides lines.
#[derive(Debug)]
pub(super) enum Control {
    /// Open the file anew.
    Reopen,
    /// Write what is queued, say so, and end.
    Close(Sender<()>),
}

/// Where the lines go.
pub(super) enum Sink {
    /// A stream that is not ours to open.
    Stream(Box<dyn Write + Send>),
    /// A file, and where it was opened.
    File(File, PathBuf),
}

// Limit: one write; as large as a pipe's buffer, and small beside the queue.
const BATCH_BYTES: usize = 64 * 1024;
// While lines keep coming the writer naps instead of waiting for the next one: a sender that finds nobody
// waiting makes no system call.
const NAP: Duration = Duration::from_millis(5);
// How soon a rotated file is noticed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
// How often a failing disk is reported.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

impl Sink {
    /// Appends to a file; creates it, for its owner to write and its group to read.
    pub(super) fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        Ok(Self::File(file, path.to_owned()))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(bytes),
            Self::File(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::File(..) => Ok(()),
        }
    }

    /// Whether the path names another file by now, or none.
    fn moved(&self) -> bool {
        let Self::File(file, path) = self else {
            return false;
        };
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (
            file.metadata().map(identity),
            std::fs::metadata(path).map(identity),
        ) {
            (Ok(open), Ok(named)) => open != named,
            (Ok(_), Err(error)) => error.kind() == io::ErrorKind::NotFound,
            (Err(_), _) => false,
        }
    }
}

pub(super) struct Writer {
    lines: Receiver<Vec<u8>>,
    control: Receiver<Control>,
    sink: Sink,
    counts: Arc<Counts>,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Whether the last write stopped within a line.
    torn: bool,
    checked: Instant,
    reported: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        lines: Receiver<Vec<u8>>,
        control: Receiver<Control>,
        sink: Sink,
        counts: Arc<Counts>,
    ) -> Self {
        let batch = Vec::with_capacity(BATCH_BYTES);
        let checked = Instant::now();
        Self {
            lines,
            control,
            sink,
            counts,
            batch,
            batch_lines: 0,
            torn: false,
            checked,
            reported: None,
        }
    }

    /// Writes until it is told to close, or everyone who could log is gone.
    pub(super) fn run(mut self) {
        loop {
            match self.lines.recv_timeout(CHECK_INTERVAL) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.follow();
            self.write_queued();
            match self.control.try_recv() {
                Ok(Control::Close(done)) => {
                    // Once more: what was logged before `close` may have come while the last batch was written.
                    self.write_queued();
                    // Nobody listens any more if the deadline has passed.
                    let _ = done.send(());
                    return;
                }
                Ok(Control::Reopen) => self.reopen(),
                Err(_) => std::thread::sleep(NAP),
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        self.batch.extend_from_slice(line);
        self.batch_lines += u64::from(!line.is_empty());
    }

    fn write_queued(&mut self) {
        loop {
            while self.batch.len() < BATCH_BYTES
                && let Ok(line) = self.lines.try_recv()
            {
                self.take(&line);
            }
            if self.batch.is_empty() {
                return;
            }
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        if self.torn {
            self.batch.insert(0, b'\n');
        }
        let mut rest = self.batch.as_slice();
        let mut failed = None;
        while !rest.is_empty() {
            match self.sink.write(rest) {
                Ok(0) => failed = Some(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failed = Some(error),
            }
            if failed.is_some() {
                break;
            }
        }
        let written = self.batch.len() - rest.len();
        if let Some(last) = self.batch[..written].last() {
            self.torn = *last != b'\n';
        }
        let whole = self.batch[..written].split(|byte| *byte == b'\n').count() as u64 - 1;
        let error = failed.or_else(|| self.sink.flush().err());
        if let Some(error) = error {
            self.counts
                .dropped
                .fetch_add(self.batch_lines.saturating_sub(whole), Ordering::Relaxed);
            self.count_error(&error);
        }
        self.batch.clear();
        self.batch_lines = 0;
    }

    fn follow(&mut self) {
        if self.checked.elapsed() >= CHECK_INTERVAL {
            self.checked = Instant::now();
            if self.sink.moved() {
                self.reopen();
            }
        }
    }

    fn reopen(&mut self) {
        let Sink::File(_, path) = &self.sink else {
            return;
        };
        match Sink::append(path) {
            Ok(sink) => {
                self.sink = sink;
                self.torn = false;
            }
            Err(error) => self.count_error(&error),
        }
    }

    fn count_error(&mut self, error: &io::Error) {
        let errors = self.counts.write_errors.fetch_add(1, Ordering::Relaxed) + 1;
        if self
            .reported
            .is_none_or(|at| at.elapsed() >= REPORT_INTERVAL)
        {
            self.reported = Some(Instant::now());
            tracing::error!(%error, errors, "the access log cannot be written; lines are dropped");
        }
    }
}
