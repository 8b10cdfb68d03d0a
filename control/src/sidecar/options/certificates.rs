//! What is published: certificates, and the keys of session tickets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_api::HostName;
use postern_certs::TicketKeys;
use postern_chassis::{Section, Setting, options, period};
use serde::{Deserialize, Serialize};

use super::RestOptions;
use crate::issue::{Policy, PolicyError, PolicyOptions, Usage};

options! {
    /// One certificate.
    pub struct CertificateOptions {
        /// Required. "server" is what clients see, "client" our identity towards the ingress, "trust" the CAs that the
        /// ingress and our client certificate are issued by.
        pub kind: Option<Kind> = None => r#""client""#;
        /// Required. The vault it is in: a section of [vaults].
        pub vault: String = String::new() => r#""main""#;
        /// Required. Its name in the vault. Its newest enabled version is published; of "trust", all that are enabled.
        pub name: String = String::new() => r#""postern-client""#;
        /// Names of further CA certificates that are trusted, for "trust".
        pub also: Vec<String> = Vec::new();
        /// Required. The store that it is published into: a folder that nothing else is in.
        pub store: PathBuf = PathBuf::new() => r#""certs/client""#;
        /// DNS names that every version must cover, wildcards as "*.dicom.example"; others are refused.
        pub names: Vec<String> = Vec::new();
        /// The certificate of kind "trust" that a "client" must verify to, if there are several.
        pub trust: Option<String> = None => r#""trust""#;
        /// How new versions are made where no issuer of the vault does: signed by the internal CA.
        pub issue: Option<IssueOptions> = None;
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What clients see.
    Server,
    /// Our identity towards the ingress.
    Client,
    /// CAs that are trusted.
    Trust,
}

impl Setting for Kind {}

impl Kind {
    /// The word in configuration and log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Trust => "trust",
        }
    }
}

options! {
    /// How new versions of a certificate are made.
    pub struct IssueOptions {
        /// Required. The subject.
        pub subject: String = String::new() => r#""CN=postern, O=Example""#;
        /// DNS names of the subjectAltName extension. May be empty for a client.
        pub names: Vec<String> = Vec::new() => r#"["postern.example"]"#;
        /// "ec-p256", "ec-p384", "rsa-2048", "rsa-3072" or "rsa-4096".
        pub key_type: String = "ec-p256".into();
        /// How long a version is valid, in days. It never outlives its CA.
        pub lifetime_days: u32 = 30;
        /// The part of a version's lifetime after which a new one is made.
        pub renew_at: f64 = 0.66;
        /// The CA that signs: either one in a vault, or files for development.
        pub ca: CaOptions = CaOptions::default();
    }
}

options! {
    /// The internal CA.
    pub struct CaOptions {
        /// The name of the CA's certificate in a vault, whose key signs there and never leaves.
        pub certificate: Option<String> = None => r#""internal-ca""#;
        /// The vault of the CA, if not the certificate's own.
        pub vault: Option<String> = None;
        /// How long a version of the CA must have been in the vault before it signs, so that every host trusts it.
        #[serde(with = "period")]
        pub trusted_for: Duration = Duration::from_hours(72);
        /// The CA's certificate in a PEM file, for development.
        pub file: Option<PathBuf> = None;
        /// The CA's key in a PEM file, for development.
        pub key: Option<PathBuf> = None;
    }
}

options! {
    /// The session-ticket keys of the fleet.
    pub struct TicketOptions {
        /// Required. The vault they are in: a section of [vaults].
        pub vault: String = String::new() => r#""main""#;
        /// Required. The name of the secret whose versions they are. It needs not exist.
        pub name: String = String::new() => r#""postern-tickets""#;
        /// Required. The store that they are published into: a folder that nothing else is in.
        pub store: PathBuf = PathBuf::new() => r#""certs/tickets""#;
        /// Time between new keys.
        #[serde(with = "period")]
        pub period: Duration = Duration::from_hours(12);
        /// Time between a key's creation and its first use, so that every instance has it before. More than twice
        /// rest.interval.
        #[serde(with = "period")]
        pub lead: Duration = Duration::from_hours(1);
        /// How long a ticket is good.
        #[serde(with = "period")]
        pub lifetime: Duration = Duration::from_hours(24);
    }
}

// Limit: as Key Vault's own for the name of an object.
const OBJECT_BYTES_MAX: usize = 127;
// Limit: a bundle has a CA and its successor, of a few authorities.
const ALSO_MAX: usize = 7;
// Limit: ten years, as `issue` has it; a key is not used for longer.
const LIFETIME_DAYS_MAX: u32 = 3650;

impl CertificateOptions {
    pub(super) fn resolve(&mut self, folder: &Path) {
        self.store = folder.join(&self.store);
        if let Some(issue) = &mut self.issue {
            for path in [&mut issue.ca.file, &mut issue.ca.key]
                .into_iter()
                .flatten()
            {
                *path = folder.join(&path);
            }
        }
    }

    pub(super) fn validate(&self, at: &mut Section<'_>) {
        at.require("kind", self.kind.is_some(), || {
            "is required: \"server\", \"client\" or \"trust\"".into()
        });
        object(at, "name", &self.name);
        self.also.iter().for_each(|name| object(at, "also", name));
        at.require("also", self.also.len() <= ALSO_MAX, || {
            format!("{} are more than {ALSO_MAX}", self.also.len())
        });
        store(at, &self.store);
        for name in &self.names {
            let host = name.strip_prefix("*.").unwrap_or(name);
            at.require("names", HostName::parse(host).is_ok(), || {
                format!("`{name}` is neither a host name nor a wildcard as *.dicom.example")
            });
        }
        let is = |kind| self.kind.is_none() || self.kind == Some(kind);
        at.require("also", self.also.is_empty() || is(Kind::Trust), || {
            "has a meaning only with kind = \"trust\"".into()
        });
        at.require(
            "names",
            self.names.is_empty() || !is(Kind::Trust) || self.kind.is_none(),
            || "has no meaning with kind = \"trust\"".into(),
        );
        at.require("trust", self.trust.is_none() || is(Kind::Client), || {
            "has a meaning only with kind = \"client\"".into()
        });
        if let Some(issue) = &self.issue {
            at.require("issue", is(Kind::Client), || {
                "has a meaning only with kind = \"client\"".into()
            });
            issue.validate(at.under("issue"));
        }
    }
}

impl IssueOptions {
    /// What is issued.
    pub(crate) fn policy(&self) -> Result<Policy, PolicyError> {
        Policy::try_from(PolicyOptions {
            subject: self.subject.clone(),
            names: self.names.clone(),
            key: self.key_type.parse().unwrap_or_default(),
            lifetime: Duration::from_hours(24) * self.lifetime_days,
            renew_at: self.renew_at,
            usage: Usage::Client,
        })
    }

    fn validate(&self, mut at: Section<'_>) {
        if let Err(error) = self.key_type.parse::<crate::vault::KeyKind>() {
            at.require("key_type", false, || error.to_string());
        }
        at.within("lifetime_days", self.lifetime_days, 1..=LIFETIME_DAYS_MAX);
        if let Err(error) = self.policy() {
            let key = match error {
                PolicyError::Subject(_) => "subject",
                PolicyError::Name(_) | PolicyError::Names(_) | PolicyError::Nameless => "names",
                PolicyError::Lifetime => "lifetime_days",
                PolicyError::RenewAt => "renew_at",
            };
            at.require(key, false, || error.to_string());
        }
        self.ca.validate(at.under("ca"));
    }
}

impl CaOptions {
    fn validate(&self, mut at: Section<'_>) {
        let files = self.file.is_some() || self.key.is_some();
        at.require("certificate", self.certificate.is_some() != files, || {
            "either the CA's certificate in a vault, or `file` and `key`, is required".into()
        });
        at.require("key", self.file.is_some() == self.key.is_some(), || {
            "`file` and `key` belong together".into()
        });
        at.require("vault", self.vault.is_none() || !files, || {
            "has no meaning with `file` and `key`".into()
        });
        if let Some(name) = &self.certificate {
            object(&mut at, "certificate", name);
        }
    }
}

impl TicketOptions {
    pub(super) fn validate(&self, rest: &RestOptions, mut at: Section<'_>) {
        object(&mut at, "name", &self.name);
        store(&mut at, &self.store);
        at.wait("period", self.period);
        at.wait("lifetime", self.lifetime);
        at.require("lead", self.lead > rest.interval * 2, || {
            "must be more than twice rest.interval, for every instance to have a key before any uses it"
                .into()
        });
        at.require("lead", self.lead < self.period, || {
            "must be shorter than tickets.period".into()
        });
        let alive = self.period + self.lead + self.lifetime;
        let keys = alive.as_secs().div_ceil(self.period.as_secs().max(1));
        // Half of what a set may have: two instances may have made a key at the same time.
        at.require("period", keys <= TicketKeys::MAX as u64 / 4, || {
            format!(
                "{keys} keys would be alive at once: choose a longer period or a shorter lifetime"
            )
        });
    }
}

fn object(at: &mut Section<'_>, key: &str, name: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let fits = (1..=OBJECT_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    at.require(key, fits, || {
        format!("a name in a vault has 1 to {OBJECT_BYTES_MAX} letters, digits and hyphens")
    });
}

fn store(at: &mut Section<'_>, path: &Path) {
    at.require("store", !path.as_os_str().is_empty(), || {
        "is required: the folder that it is published into, as in \"certs/client\"".into()
    });
}
