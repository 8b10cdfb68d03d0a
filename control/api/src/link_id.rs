//! The link id of a private endpoint connection.

use std::fmt;
use std::str::FromStr;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// LINKID: the 32-bit number that a Private Link Service gives a private endpoint connection.
///
/// On the wire it is a little-endian `u32` in the PROXY v2 TLV 0xEE. Azure Resource Manager prints the same
/// number as a decimal string (`privateEndpointConnections[].properties.linkIdentifier`); so does `Display`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[0-9]{1,10}$", example = "553665985"))]
pub struct LinkId(u32);

impl LinkId {
    /// A link id from its number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The text is not a decimal number from 0 to 4294967295.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a link id: expected a decimal number from 0 to 4294967295")]
pub struct InvalidLinkId(String);

impl FromStr for LinkId {
    type Err = InvalidLinkId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `u32::from_str` takes a leading `+`; Azure never prints one.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Self(number)),
            _ => Err(InvalidLinkId(text.chars().take(32).collect())),
        }
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkId({})", self.0)
    }
}

impl Serialize for LinkId {
    /// As a decimal string, as Azure Resource Manager does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkId {
    /// From a number or a decimal string.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrString;
        impl Visitor<'_> for NumberOrString {
            type Value = LinkId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a link id: a number from 0 to 4294967295, or the same as a string")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<LinkId, E> {
                u32::try_from(number)
                    .map(LinkId)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<LinkId, E> {
                u32::try_from(number)
                    .map(LinkId)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<LinkId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrString)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_azure_prints() {
        assert_eq!("553665985".parse(), Ok(LinkId::new(0x2100_45c1)));
        assert_eq!(LinkId::new(0x2100_45c1).to_string(), "553665985");
    }

    #[test]
    fn refuses_signs_spaces_and_overflow() {
        for text in ["", "+1", "-1", " 1", "1 ", "4294967296", "0x10", "١"] {
            assert!(text.parse::<LinkId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_numbers_and_strings_from_json_and_writes_strings() {
        let both: [LinkId; 2] = serde_json::from_str(r#"[7, "7"]"#).unwrap();
        assert_eq!(both, [LinkId::new(7); 2]);
        assert_eq!(serde_json::to_string(&both[0]).unwrap(), r#""7""#);
        assert!(serde_json::from_str::<LinkId>("4294967296").is_err());
        assert!(serde_json::from_str::<LinkId>("-1").is_err());
    }
}
