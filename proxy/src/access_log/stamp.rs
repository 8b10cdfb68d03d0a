//! The time of a line: RFC 3339, UTC, milliseconds.
//!
//! Promises to work the calendar out once a second and thread, not once a line.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// A point in time, since 1970.
#[derive(Clone, Copy)]
pub(super) struct Stamp(Duration);

thread_local! {
    /// The last second that was printed, and `2026-08-21T10:11:12.` for it.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

impl Stamp {
    pub(super) fn now() -> Self {
        // A clock before 1970 is not worth losing the line for.
        Self(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        )
    }

    #[cfg(test)]
    pub(super) const fn at(since_1970: Duration) -> Self {
        Self(since_1970)
    }

    /// Appends it; digits and punctuation, nothing to escape.
    pub(super) fn append(self, out: &mut Vec<u8>) {
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != self.0.as_secs() {
                *second = self.0.as_secs();
                let at = i64::try_from(*second)
                    .ok()
                    .and_then(|at| Timestamp::from_second(at).ok());
                *text = at.map_or_else(String::new, |at| at.to_string());
                text.truncate(text.len().saturating_sub(1)); // the `Z`, which goes behind the milliseconds
                text.push('.');
            }
            out.extend_from_slice(text.as_bytes());
        });
        let millis = self.0.subsec_millis();
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            out.push(b'0' + u8::try_from(digit).unwrap_or(0));
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_rfc_3339_with_three_digits_of_a_second() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_787_306_400_007, "2026-08-21T10:00:00.007Z"),
            (1_787_306_400_999, "2026-08-21T10:00:00.999Z"),
            (1_787_306_401_000, "2026-08-21T10:00:01.000Z"),
        ] {
            let mut out = Vec::new();
            Stamp::at(Duration::from_millis(millis)).append(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
