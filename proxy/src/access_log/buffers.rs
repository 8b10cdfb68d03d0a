//! Where lines wait for the writer: one buffer for each thread that logs.
//!
//! Promises that nobody who logs waits for the disk or for another thread that logs: a thread's buffer is shared with
//! the writer alone, which holds it for as long as it takes to swap it for an empty one. (With more threads than
//! the machine has processors, some share a buffer.)
//!
//! Invariant: a buffer holds whole lines, and all of them together no more lines than the bound.

use std::mem::swap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The lines that wait.
#[derive(Debug)]
pub(super) struct Buffers {
    places: Box<[Place]>,
    /// Lines that wait or are being written.
    lines: AtomicUsize,
    lines_max: usize,
    dropped: AtomicU64,
}

/// On cache lines of its own, two of which processors fetch at once.
#[derive(Debug)]
#[repr(align(128))]
struct Place(Mutex<Buffer>);

#[derive(Debug)]
struct Buffer {
    text: Vec<u8>,
    lines: usize,
    closed: bool,
}

/// Whether the writer has to come before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// No.
    Waits,
    /// Yes: there is enough for one write.
    Enough,
}

// Limit: one write, and what a thread has in its buffer while the writer is on its way; small beside a second-level
// cache, and large beside what a system call costs.
const ENOUGH_BYTES: usize = 64 * 1024;
// Limit: a buffer that grew beyond this while the disk was slow is given back.
const KEPT_BYTES: usize = 4 * ENOUGH_BYTES;

/// Room for enough and the line that makes it so. Memory that nobody wrote to costs nothing.
pub(super) fn empty() -> Vec<u8> {
    Vec::with_capacity(ENOUGH_BYTES + ENOUGH_BYTES / 8)
}

impl Place {
    fn empty() -> Self {
        Self(Mutex::new(Buffer {
            text: empty(),
            lines: 0,
            closed: false,
        }))
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's number among those that ever logged.
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

impl Buffers {
    /// Room for `lines_max` lines.
    pub(super) fn new(lines_max: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: (0..threads).map(|_| Place::empty()).collect(),
            lines: AtomicUsize::new(0),
            lines_max,
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds what `write` appends. A line for which there is no room, or that fails, is dropped and counted.
    pub(super) fn add<E>(&self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Added {
        let lines = self.lines.fetch_add(1, Ordering::Relaxed);
        if lines >= self.lines_max {
            self.gone(1);
            self.count_dropped(1);
            return Added::Waits;
        }
        let place = THREAD.with(|thread| thread % self.places.len());
        let mut buffer = self.places[place].0.lock();
        let before = buffer.text.len();
        if buffer.closed || write(&mut buffer.text).is_err() {
            buffer.text.truncate(before);
            drop(buffer);
            self.gone(1);
            self.count_dropped(1);
            return Added::Waits;
        }
        buffer.lines += 1;
        // Told once, by the line that reaches it.
        let enough = before < ENOUGH_BYTES && buffer.text.len() >= ENOUGH_BYTES;
        if enough || lines == self.lines_max / 2 {
            Added::Enough
        } else {
            Added::Waits
        }
    }

    /// Hands each buffer that holds anything to `write`, with the number of its lines.
    pub(super) fn drain(&self, spare: &mut Vec<u8>, mut write: impl FnMut(&mut Vec<u8>, usize)) {
        for place in &self.places {
            let mut buffer = place.0.lock();
            if buffer.lines == 0 {
                continue;
            }
            swap(&mut buffer.text, spare);
            let lines = std::mem::take(&mut buffer.lines);
            drop(buffer);
            write(spare, lines);
            spare.clear();
            spare.shrink_to(KEPT_BYTES);
            self.gone(lines);
        }
    }

    /// From now on every line is dropped and counted.
    pub(super) fn close(&self) {
        for place in &self.places {
            place.0.lock().closed = true;
        }
    }

    /// So many lines were lost.
    pub(super) fn count_dropped(&self, lines: usize) {
        self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
    }

    /// Lines that were lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn gone(&self, lines: usize) {
        self.lines.fetch_sub(lines, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: usize) -> impl FnOnce(&mut Vec<u8>) -> Result<(), ()> {
        move |text| {
            text.resize(text.len() + bytes, b'x');
            Ok(())
        }
    }

    fn drained(buffers: &Buffers) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        buffers.drain(&mut Vec::new(), |text, lines| all.push((text.len(), lines)));
        all
    }

    #[test]
    fn the_writer_is_called_once_for_enough_bytes_and_again_for_the_next() {
        let buffers = Buffers::new(1000);
        for _ in 0..2 {
            assert_eq!(buffers.add(line(ENOUGH_BYTES - 1)), Added::Waits);
            assert_eq!(buffers.add(line(1)), Added::Enough);
            assert_eq!(buffers.add(line(1)), Added::Waits);
            assert_eq!(drained(&buffers), [(ENOUGH_BYTES + 1, 3)]);
        }
        assert!(drained(&buffers).is_empty());
    }

    #[test]
    fn the_writer_is_called_when_half_of_the_room_is_taken_and_what_is_too_much_is_dropped() {
        let buffers = Buffers::new(4);
        let added: Vec<_> = (0..5).map(|_| buffers.add(line(1))).collect();
        let enough = added.iter().map(|added| *added == Added::Enough);
        assert_eq!(
            enough.collect::<Vec<_>>(),
            [false, false, true, false, false]
        );
        assert_eq!(buffers.dropped(), 1);
        assert_eq!(drained(&buffers), [(4, 4)]);
        assert_eq!(buffers.add(line(1)), Added::Waits);
    }

    #[test]
    fn a_line_that_fails_leaves_nothing_behind() {
        let buffers = Buffers::new(4);
        buffers.add(|text| {
            text.extend(b"half");
            Err(())
        });
        assert_eq!(buffers.dropped(), 1);
        assert!(drained(&buffers).is_empty());
    }
}
