//! The one thread that writes.
//!
//! Promises to write what waits as soon as there is enough for one write, and within [`INTERVAL`] if there is less;
//! to survive any error of the disk, and to follow a file that is rotated by renaming. Never makes anybody wait who
//! logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::buffers::{self, Buffers};

/// What the writer is told. It looks when it is unparked.
#[derive(Debug)]
pub(super) enum Control {
    /// Open the file anew.
    Reopen,
    /// Write what waits, say so, and end.
    Close(Sender<()>),
}

/// Where the lines go.
pub(super) enum Sink {
    /// A stream that is not ours to open.
    Stream(Box<dyn Write + Send>),
    /// A file, and where it was opened.
    File(File, PathBuf),
}

// How long a line may wait on a quiet machine; and how much of the log a kill takes with it.
const INTERVAL: Duration = Duration::from_millis(100);
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
    buffers: Arc<Buffers>,
    control: Receiver<Control>,
    output: Output,
    checked: Instant,
}

/// The sink and what went wrong with it.
struct Output {
    sink: Sink,
    /// Whether the last write stopped within a line.
    torn: bool,
    errors: Arc<AtomicU64>,
    reported: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        buffers: Arc<Buffers>,
        control: Receiver<Control>,
        sink: Sink,
        errors: Arc<AtomicU64>,
    ) -> Self {
        Self {
            buffers,
            control,
            output: Output {
                sink,
                torn: false,
                errors,
                reported: None,
            },
            checked: Instant::now(),
        }
    }

    /// Writes until it is told to close, or everyone who could log is gone.
    pub(super) fn run(mut self) {
        let mut spare = buffers::empty();
        loop {
            park_timeout(INTERVAL);
            self.follow();
            self.write_waiting(&mut spare);
            match self.control.try_recv() {
                Ok(Control::Close(done)) => {
                    // Nothing comes any more; once more for what came while the last lines were written.
                    self.buffers.close();
                    self.write_waiting(&mut spare);
                    // Nobody listens any more if the deadline has passed.
                    let _ = done.send(());
                    return;
                }
                Ok(Control::Reopen) => self.output.reopen(),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn write_waiting(&mut self, spare: &mut Vec<u8>) {
        let Self {
            buffers, output, ..
        } = self;
        buffers.drain(spare, |text, lines| {
            let whole = output.write(text, lines);
            buffers.count_dropped(lines - whole);
        });
    }

    fn follow(&mut self) {
        if self.checked.elapsed() >= CHECK_INTERVAL {
            self.checked = Instant::now();
            if self.output.sink.moved() {
                self.output.reopen();
            }
        }
    }
}

impl Output {
    /// Writes so many lines; returns how many of them were written whole.
    fn write(&mut self, text: &mut Vec<u8>, lines: usize) -> usize {
        if self.torn {
            text.insert(0, b'\n');
        }
        let mut rest = text.as_slice();
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
        let written = text.len() - rest.len();
        if let Some(last) = text[..written].last() {
            self.torn = *last != b'\n';
        }
        let Some(error) = failed.or_else(|| self.sink.flush().err()) else {
            return lines;
        };
        self.count_error(&error);
        let whole = text[..written].split(|byte| *byte == b'\n').count() - 1;
        whole.min(lines)
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
        let errors = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        if self
            .reported
            .is_none_or(|at| at.elapsed() >= REPORT_INTERVAL)
        {
            self.reported = Some(Instant::now());
            tracing::error!(%error, errors, "the access log cannot be written; lines are dropped");
        }
    }
}
