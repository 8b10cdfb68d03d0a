//! Lengths of time in the configuration: `"10s"`, `"250ms"`, `"1h 30m"`.
//!
//! Promises that what was read is not negative and at most [`MAX`]; that zero makes sense is for the section
//! to say.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::de::{Unexpected, Visitor};
use serde::{Deserializer, Serializer};

// Limit: far from overflowing a clock.
/// Thirty days: longer than any wait of a proxy.
pub const MAX: Duration = Duration::from_hours(30 * 24);

/// Reads a length of time, for `#[serde(with = "period")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(r#"a length of time with its unit, such as "10s", "250ms" or "1h""#)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            let signed: SignedDuration = text
                .parse()
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))?;
            match Duration::try_from(signed) {
                Ok(duration) if duration <= MAX => Ok(duration),
                Ok(_) => Err(E::custom(format_args!(
                    "`{text}` is longer than {}",
                    show(MAX)
                ))),
                Err(_) => Err(E::custom(format_args!("`{text}` is negative"))),
            }
        }
    }
    deserializer.deserialize_str(Text)
}

/// Writes a length of time, for `#[serde(with = "period")]`.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&show(*value))
}

/// As the operator would write it.
pub fn show(value: Duration) -> String {
    SignedDuration::try_from(value)
        .map_or_else(|_| format!("{value:?}"), |signed| format!("{signed:#}"))
}
