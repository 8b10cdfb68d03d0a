//! Texts that follow a rule.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use postern_api::HostName;
use serde::{Deserialize, Deserializer, Serialize};

/// The text breaks the rule of what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(&'static str);

/// A text that follows `$valid`, in lower case if `$fold`.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, fold: $fold:literal, rule: $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Box<str>);

        impl $name {
            /// Reads it.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                let valid: fn(&str) -> bool = $valid;
                let text = if $fold { text.to_ascii_lowercase() } else { text.to_owned() };
                if valid(&text) { Ok(Self(text.into())) } else { Err(InvalidText($rule)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidText;

            fn from_str(text: &str) -> Result<Self, InvalidText> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text! {
    /// The name of a workspace, in lower case: names of resources are compared without regard to case
    /// ("Naming rules and restrictions for Azure resources").
    WorkspaceName, fold: true,
    rule: "a workspace's name has 3 to 24 letters, digits and hyphens, and begins and ends with a letter or digit",
    |text| is_name(text, 3..=24, b"-", b"")
}

text! {
    /// The name of an account, in lower case. Unique in its workspace.
    AccountName, fold: true,
    rule: "an account's name has 3 to 24 letters, digits and hyphens, and begins and ends with a letter or digit",
    |text| is_name(text, 3..=24, b"-", b"")
}

text! {
    /// The name of a private endpoint connection, in lower case. Unique in its account.
    ConnectionName, fold: true,
    rule: "a connection's name has 1 to 80 letters, digits, hyphens, dots and underscores, \
           begins with a letter or digit, and ends with one or an underscore",
    |text| is_name(text, 1..=80, b"-._", b"_")
}

text! {
    /// The name of an ingress cluster, as the data plane's `upstream.clusters` has it.
    ClusterName, fold: false,
    rule: "a cluster's name has 1 to 63 of a-z, 0-9, - and _",
    |text| (1..=63).contains(&text.len()) && text.bytes().all(|b| is_plain(b) || b"-_".contains(&b))
}

text! {
    /// Why a connection is in its state, for people.
    Description, fold: false,
    rule: "a description has at most 1024 characters, none of them a control character",
    |text| is_prose(text, 1024)
}

text! {
    /// What the owner of the private endpoint asks of the owner of the account. Azure's `PrivateLinkServiceConnection`
    /// restricts it to 140 characters.
    RequestMessage, fold: false,
    rule: "a request message has at most 140 characters, none of them a control character",
    |text| is_prose(text, 140)
}

text! {
    /// The identifier of a customer's key: `https://{vault}/keys/{name}[/{version}]`.
    KeyUrl, fold: false,
    rule: "a key's URL is https://{vault}/keys/{name}[/{version}], at most 512 characters, without user, query or fragment",
    is_key_url
}

/// A text that may be none at all.
macro_rules! optional {
    ($name:ident) => {
        impl $name {
            /// Whether there is none.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl Default for $name {
            /// None.
            fn default() -> Self {
                Self(Box::default())
            }
        }
    };
}

optional!(Description);
optional!(RequestMessage);

/// Whether `text` has lower-case letters, digits and `others`, begins with a letter or digit, and ends with one or with
/// one of `last`.
fn is_name(text: &str, length: RangeInclusive<usize>, others: &[u8], last: &[u8]) -> bool {
    let bytes = text.as_bytes();
    length.contains(&bytes.len())
        && bytes.iter().all(|b| is_plain(*b) || others.contains(b))
        && bytes.first().is_some_and(|b| is_plain(*b))
        && bytes
            .last()
            .is_some_and(|b| is_plain(*b) || last.contains(b))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_prose(text: &str, characters_max: usize) -> bool {
    text.chars().count() <= characters_max && !text.chars().any(char::is_control)
}

fn is_key_url(text: &str) -> bool {
    // Limit: a vault's name has at most 24 characters, a key's 127, a version 32.
    if text.len() > 512 {
        return false;
    }
    let Some((vault, path)) = text
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let mut segments = path.split('/');
    let is_segment = |segment: &str| {
        !segment.is_empty()
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    HostName::parse(vault).is_ok()
        && segments.next() == Some("keys")
        && segments.next().is_some_and(is_segment)
        && segments.next().is_none_or(is_segment)
        && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_regard_to_case() {
        assert_eq!(
            WorkspaceName::parse("Clinic-1").unwrap().as_str(),
            "clinic-1"
        );
        let name: ConnectionName = serde_json::from_str("\"PE_1.Of_Clinic_\"").unwrap();
        assert_eq!(name.as_str(), "pe_1.of_clinic_");
        assert_eq!(ClusterName::parse("Dicom").ok(), None);
    }

    #[test]
    fn what_breaks_the_rule_is_refused_with_the_rule() {
        for text in [
            "",
            "ab",
            &"a".repeat(25),
            "-ab",
            "ab-",
            "a_b",
            "a.b",
            "a b",
            "äbc",
            "a/b",
            "a\0b",
        ] {
            let error = AccountName::parse(text).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("an account's name has 3 to 24"),
                "{text:?}"
            );
            assert!(WorkspaceName::parse(text).is_err(), "{text:?}");
        }
        for text in ["", "-a", "a-", "a.", "_a", "a/b", "..", &"a".repeat(81)] {
            assert!(ConnectionName::parse(text).is_err(), "{text:?}");
        }
        assert!(ConnectionName::parse("a").is_ok());
    }

    #[test]
    fn prose_is_bounded_in_characters_and_of_one_line() {
        assert!(RequestMessage::parse(&"ü".repeat(140)).is_ok());
        assert!(RequestMessage::parse(&"ü".repeat(141)).is_err());
        assert!(Description::parse("two\nlines").is_err());
        assert!(Description::parse("").is_ok());
    }

    #[test]
    fn a_key_is_named_by_its_vault_and_name() {
        for text in [
            "https://v.vault.azure.net/keys/k",
            "https://v.vault.azure.net/keys/k/0123abc",
        ] {
            assert!(KeyUrl::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "http://v.vault.azure.net/keys/k",
            "https://v.vault.azure.net/keys",
            "https://v.vault.azure.net/keys/",
            "https://v.vault.azure.net/secrets/k",
            "https://v.vault.azure.net/keys/k/v/w",
            "https://v.vault.azure.net/keys/k?a=b",
            "https://me:secret@v.vault.azure.net/keys/k",
            "https://v.vault.azure.net:8443/keys/k",
        ] {
            assert!(KeyUrl::parse(text).is_err(), "{text}");
        }
    }
}
