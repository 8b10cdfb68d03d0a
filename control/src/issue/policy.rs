//! What the certificate is to be like, and when a new version of it is due. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use x509_parser::x509::X509Name;

use crate::vault::{KeyKind, NewCertificate};

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Usage {
    /// `clientAuth`: our identity towards the ingress.
    #[default]
    Client,
    /// `serverAuth`.
    Server,
    /// Both.
    Both,
}

/// A certificate to be issued, before it is known to make sense.
#[derive(Debug, Clone)]
pub struct PolicyOptions {
    /// `CN=postern, O=Example`: CN, O, OU, L, ST and C.
    pub subject: String,
    /// DNS names of the subjectAltName extension. May be empty for a client.
    pub names: Vec<String>,
    /// The kind of key.
    pub key: KeyKind,
    /// How long a version is valid. It never outlives the CA.
    pub lifetime: Duration,
    /// The part of a version's lifetime after which a new one is due, above 0 and below 1.
    pub renew_at: f64,
    /// What it may be used for.
    pub usage: Usage,
}

/// A certificate to be issued.
#[derive(Debug, Clone)]
pub struct Policy {
    subject: Subject,
    names: Vec<String>,
    key: KeyKind,
    lifetime: Duration,
    renew_at: f64,
    usage: Usage,
}

/// Why a policy makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The subject.
    #[error(
        "`{0}` is no subject; it looks like CN=postern, O=Example, with CN, O, OU, L, ST and C"
    )]
    Subject(String),
    /// A name.
    #[error("`{0}` is no DNS name")]
    Name(String),
    /// A server without a name.
    #[error("a server's certificate needs a name")]
    Nameless,
    /// More names than a certificate should have.
    #[error("there are {0} names, more than {NAMES_MAX}")]
    Names(usize),
    /// The lifetime.
    #[error("a lifetime is an hour at least and ten years at most")]
    Lifetime,
    /// The time of renewal.
    #[error("renew_at is above 0 and below 1")]
    RenewAt,
}

impl TryFrom<PolicyOptions> for Policy {
    type Error = PolicyError;

    fn try_from(options: PolicyOptions) -> Result<Self, PolicyError> {
        let subject = options.subject.parse()?;
        if options.names.is_empty() && options.usage != Usage::Client {
            return Err(PolicyError::Nameless);
        }
        if options.names.len() > NAMES_MAX {
            return Err(PolicyError::Names(options.names.len()));
        }
        if let Some(name) = options.names.iter().find(|name| !is_dns_name(name)) {
            return Err(PolicyError::Name(name.clone()));
        }
        if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&options.lifetime) {
            return Err(PolicyError::Lifetime);
        }
        if !(options.renew_at > 0.0 && options.renew_at < 1.0) {
            return Err(PolicyError::RenewAt);
        }
        Ok(Self {
            subject,
            names: options.names,
            key: options.key,
            lifetime: options.lifetime,
            renew_at: options.renew_at,
            usage: options.usage,
        })
    }
}

impl Policy {
    pub(super) const fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) const fn key(&self) -> KeyKind {
        self.key
    }

    pub(super) const fn usage(&self) -> Usage {
        self.usage
    }

    /// How long a version is valid, in seconds.
    pub(super) const fn lifetime(&self) -> i64 {
        // At most ten years.
        self.lifetime.as_secs().cast_signed()
    }

    /// What the vault is asked to create.
    pub(super) fn new_certificate(&self) -> NewCertificate {
        let usages: &[&str] = match self.usage {
            Usage::Client => &[CLIENT_AUTH],
            Usage::Server => &[SERVER_AUTH],
            Usage::Both => &[SERVER_AUTH, CLIENT_AUTH],
        };
        let months = self.lifetime.as_secs().div_ceil(MONTH.as_secs());
        NewCertificate {
            subject: self.subject.to_string(),
            dns_names: self.names.clone(),
            key: self.key,
            extended_key_usages: usages.iter().map(|&usage| usage.to_owned()).collect(),
            // At most 122.
            validity_months: i32::try_from(months).unwrap_or(1),
        }
    }
}

/// The version in use, as far as the question of a new one goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// First second of validity, Unix time.
    pub not_before: i64,
    /// Last second of validity, Unix time.
    pub not_after: i64,
    /// Whether a newer CA than the one that issued it may sign now.
    pub superseded: bool,
}

/// Why a new version is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// There is no version, or none that is enabled.
    Missing,
    /// `renew_at` of its lifetime is over.
    Age,
    /// A newer CA signs now, and the old one is to be dropped.
    Authority,
}

impl Due {
    /// One word, for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Age => "age",
            Self::Authority => "authority",
        }
    }
}

/// Whether a new version is due at `now`, where `ca_end` is the last second of the CA that would sign. All in Unix
/// seconds.
///
/// Not for its age if a new version would end no later: near the end of the CA that only makes more versions.
pub fn is_due(now: i64, standing: Option<&Standing>, policy: &Policy, ca_end: i64) -> Option<Due> {
    let Some(standing) = standing else {
        return Some(Due::Missing);
    };
    if standing.superseded {
        return Some(Due::Authority);
    }
    let gains = now.saturating_add(policy.lifetime()).min(ca_end) > standing.not_after;
    (gains && now >= renewal(standing, policy.renew_at)).then_some(Due::Age)
}

/// When `renew_at` of its lifetime is over.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a lifetime in seconds has fewer than 53 bits, and its part is shorter"
)]
fn renewal(standing: &Standing, renew_at: f64) -> i64 {
    let lifetime = standing
        .not_after
        .saturating_sub(standing.not_before)
        .max(0);
    standing
        .not_before
        .saturating_add((lifetime as f64 * renew_at) as i64)
}

/// A subject: its attributes in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject(Vec<(&'static Attribute, String)>);

/// An attribute of a name (RFC 4514 section 3), with its object identifier.
#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    word: &'static str,
    oid: &'static str,
}

impl Subject {
    /// Whether `name` has the same attributes. Their order, which Key Vault may turn round, does not matter.
    pub(super) fn is(&self, name: &X509Name<'_>) -> bool {
        let mut ours: Vec<_> = self
            .0
            .iter()
            .map(|(a, v)| (a.oid.to_owned(), v.clone()))
            .collect();
        let theirs = name.iter_attributes().map(|attribute| {
            let value = attribute.as_str().ok()?.to_owned();
            Some((attribute.attr_type().to_id_string(), value))
        });
        let Some(mut theirs) = theirs.collect::<Option<Vec<_>>>() else {
            return false;
        };
        ours.sort();
        theirs.sort();
        ours == theirs
    }
}

impl FromStr for Subject {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let refused = || PolicyError::Subject(text.to_owned());
        let attribute = |part: &str| {
            let (word, value) = part.split_once('=')?;
            let (word, value) = (word.trim(), value.trim());
            let known = ATTRIBUTES
                .iter()
                .find(|a| a.word.eq_ignore_ascii_case(word))?;
            // What RFC 4514 would have to escape is left out, so that nobody has to agree on how.
            let plain = |c: char| !c.is_control() && !",+\"\\<>;=#".contains(c);
            let fits = (1..=VALUE_CHARACTERS_MAX).contains(&value.chars().count());
            (fits && value.chars().all(plain)).then(|| (known, value.to_owned()))
        };
        let attributes: Option<Vec<_>> = text.split(',').map(attribute).collect();
        let attributes = attributes.ok_or_else(refused)?;
        let has_name = attributes
            .iter()
            .any(|(attribute, _)| attribute.word == "CN");
        has_name.then_some(Self(attributes)).ok_or_else(refused)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (attribute, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={value}", attribute.word)?;
        }
        Ok(())
    }
}

/// Letters, digits and hyphens in labels of 1 to 63, at most 253 in all; the first may be `*` (RFC 9525 section 6.3).
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253 && rest.split('.').all(label)
}

const ATTRIBUTES: [Attribute; 6] = [
    Attribute {
        word: "CN",
        oid: "2.5.4.3",
    },
    Attribute {
        word: "O",
        oid: "2.5.4.10",
    },
    Attribute {
        word: "OU",
        oid: "2.5.4.11",
    },
    Attribute {
        word: "L",
        oid: "2.5.4.7",
    },
    Attribute {
        word: "ST",
        oid: "2.5.4.8",
    },
    Attribute {
        word: "C",
        oid: "2.5.4.6",
    },
];
/// RFC 5280 section 4.2.1.12.
const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
// Limit: Key Vault's own for a certificate's names is 100.
const NAMES_MAX: usize = 100;
// Limit: RFC 5280's upper bound of a common name.
const VALUE_CHARACTERS_MAX: usize = 64;
// Limit: an hour is six looks of ten minutes; a key is not used for longer than ten years.
const LIFETIME_MIN: Duration = Duration::from_hours(1);
const LIFETIME_MAX: Duration = Duration::from_hours(10 * 366 * 24);
const MONTH: Duration = Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests;
