//! Versions of resources, and what a change may ask of them.

use std::fmt;
use std::str::FromStr;

/// The version of a resource, as HTTP writes it: a strong entity tag (RFC 9110 section 8.8.3), in quotes. What is in the
/// quotes is nobody else's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ETag(u64);

/// The text is no entity tag of ours; no resource has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no resource has this entity tag")]
pub struct UnknownETag;

impl ETag {
    pub(super) const fn new(version: u64) -> Self {
        Self(version)
    }

    pub(super) const fn version(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:x}\"", self.0)
    }
}

impl FromStr for ETag {
    type Err = UnknownETag;

    fn from_str(text: &str) -> Result<Self, UnknownETag> {
        let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let version = quoted.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        // In the one spelling in which we give it.
        let tag = version.map(Self).filter(|tag| tag.to_string() == text);
        tag.ok_or(UnknownETag)
    }
}

/// What must hold for a change to take place; otherwise it is [`StoreError::PreconditionFailed`](super::StoreError).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// It is there in this version (`If-Match: "…"`).
    IfMatch(ETag),
    /// It is there (`If-Match: *`).
    IfExists,
    /// It is not there (`If-None-Match: *`).
    IfNoneMatch,
}

impl Condition {
    /// Whether it holds for what is there.
    pub fn holds(self, current: Option<ETag>) -> bool {
        match self {
            Self::Any => true,
            Self::IfMatch(etag) => current == Some(etag),
            Self::IfExists => current.is_some(),
            Self::IfNoneMatch => current.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_as_it_was_written() {
        assert_eq!(ETag(0x1f).to_string(), "\"1f\"");
        assert_eq!("\"1f\"".parse(), Ok(ETag(0x1f)));
        for text in [
            "",
            "1f",
            "\"1F\"",
            "\"01f\"",
            "\"+1f\"",
            "W/\"1f\"",
            "*",
            "\"",
            "\"\"",
            "\"10000000000000000\"",
        ] {
            assert_eq!(text.parse::<ETag>(), Err(UnknownETag), "{text}");
        }
    }

    #[test]
    fn a_condition_holds_or_not() {
        let (one, two) = (ETag(1), ETag(2));
        for (condition, absent, at_one) in [
            (Condition::Any, true, true),
            (Condition::IfMatch(one), false, true),
            (Condition::IfMatch(two), false, false),
            (Condition::IfExists, false, true),
            (Condition::IfNoneMatch, true, false),
        ] {
            assert_eq!(condition.holds(None), absent, "{condition:?}");
            assert_eq!(condition.holds(Some(one)), at_one, "{condition:?}");
        }
    }
}
