//! DNS host names in the one spelling we compare.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// A DNS host name: ASCII lower case, letters-digits-hyphens labels, no trailing dot, at most 253 bytes
/// (RFC 1123 section 2.1; RFC 1035 section 2.3.4). Never an IP address, never a wildcard, no port.
///
/// Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, max_length = 253, example = "images.clinic.example"))]
pub struct HostName(Arc<str>);

/// Why a text is not a [`HostName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostName {
    /// The text is empty.
    #[error("a host name cannot be empty")]
    Empty,
    /// More than 253 bytes.
    #[error("a host name has at most 253 bytes")]
    TooLong,
    /// A label is empty, longer than 63 bytes, or begins or ends with a hyphen.
    #[error(
        "each label of a host name has 1 to 63 bytes and neither begins nor ends with a hyphen"
    )]
    Label,
    /// Another byte than a letter, digit, hyphen or dot. International names are written as A-labels (`xn--…`).
    #[error(
        "a host name has only ASCII letters, digits, hyphens and dots (international names as xn--…)"
    )]
    Character,
    /// The last label is all digits, so that the text would be an IPv4 address or look like one.
    #[error("an IP address is not a host name")]
    IpAddress,
}

// Limit: RFC 1035 section 2.3.4 gives 255 octets on the wire, which is 253 bytes of text.
const BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

impl HostName {
    /// Reads a name in any letter case.
    pub fn parse(text: &str) -> Result<Self, InvalidHostName> {
        validate(text)?;
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` spells this name, in any letter case. Allocates nothing.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(text)
    }
}

fn validate(text: &str) -> Result<(), InvalidHostName> {
    if text.is_empty() {
        return Err(InvalidHostName::Empty);
    }
    if text.len() > BYTES_MAX {
        return Err(InvalidHostName::TooLong);
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
    {
        return Err(InvalidHostName::Character);
    }
    let mut last = "";
    for label in text.split('.') {
        let hyphens = label.starts_with('-') || label.ends_with('-');
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || hyphens {
            return Err(InvalidHostName::Label);
        }
        last = label;
    }
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidHostName::IpAddress);
    }
    Ok(())
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A visitor, so that the format knows which value the error is about, and where it is.
        struct Text;
        impl Visitor<'_> for Text {
            type Value = HostName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host name")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HostName, E> {
                HostName::parse(text).map_err(|why| E::custom(format_args!("`{text}`: {why}")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_letter_case() {
        assert_eq!(
            HostName::parse("Acct.Example.COM").unwrap().as_str(),
            "acct.example.com"
        );
        assert!(HostName::parse("a.example").unwrap().matches(b"A.EXAMPLE"));
    }

    #[test]
    fn refuses_what_is_not_a_host_name() {
        use InvalidHostName::{Character, Empty, IpAddress, Label, TooLong};
        for (text, why) in [
            ("", Empty),
            ("a..b", Label),
            ("a.example.", Label),
            ("-a.example", Label),
            ("a-.example", Label),
            ("*.example", Character),
            ("a.example:443", Character),
            ("bücher.example", Character),
            ("a_b.example", Character),
            ("10.0.0.4", IpAddress),
            ("[::1]", Character),
        ] {
            assert_eq!(HostName::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(HostName::parse(&"a.".repeat(127)), Err(TooLong));
        assert_eq!(HostName::parse(&"a".repeat(64)), Err(Label));
    }
}
