//! What is published, for whoever asks whether this process is ready.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

/// Each certificate by name, and when what is published of it ends.
#[derive(Debug)]
pub struct Status(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    name: String,
    until: AtomicI64,
}

impl Status {
    /// Nothing is published yet.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let entry = |name| Entry {
            name,
            until: AtomicI64::new(NEVER),
        };
        Self(names.into_iter().map(entry).collect())
    }

    /// What is published of the certificate number `index` ends at `until` (Unix seconds).
    pub(super) fn publish(&self, index: usize, until: i64) {
        if let Some(entry) = self.0.get(index) {
            entry.until.store(until, Ordering::Relaxed);
        }
    }

    /// Whether every certificate is published and none has ended at `now`; and a line for each that says so.
    pub fn report(&self, now: i64) -> (bool, String) {
        let mut is_ready = true;
        let mut lines = String::new();
        for Entry { name, until } in &self.0 {
            let until = until.load(Ordering::Relaxed);
            let word = match until {
                NEVER => "not published yet",
                until if until < now => "ended",
                _ => "ok",
            };
            is_ready &= word == "ok";
            // Writing to a `String` cannot fail.
            let _ = writeln!(lines, "{name}: {word}");
        }
        (is_ready, lines)
    }
}

const NEVER: i64 = i64::MIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_all_is_published_and_nothing_has_ended() {
        let status = Status::new(["a".to_owned(), "b".to_owned()]);
        assert_eq!(
            status.report(5),
            (false, "a: not published yet\nb: not published yet\n".into())
        );
        status.publish(0, 10);
        status.publish(1, 4);
        assert_eq!(status.report(5), (false, "a: ok\nb: ended\n".into()));
        status.publish(1, 5);
        assert_eq!(status.report(5), (true, "a: ok\nb: ok\n".into()));
    }
}
