//! Who asks, and who is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_chassis::{Section, Setting, options, period};
use serde::{Deserialize, Serialize};

use crate::vault;

options! {
    /// One identity.
    pub struct IdentityOptions {
        /// Required. "managed" is a managed identity of this machine, "workload" the workload identity of a pod, "cli"
        /// whoever is logged in to the Azure CLI, for development.
        pub kind: Option<IdentityKind> = None => r#""managed""#;
        /// The client id: of the user-assigned managed identity, needed where there is more than one; of the workload
        /// identity, if not in the environment.
        pub client_id: Option<String> = None => r#""00000000-0000-0000-0000-000000000000""#;
        /// The tenant, for "workload" and "cli", if not in the environment.
        pub tenant_id: Option<String> = None;
    }
}

/// Where an identity's tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// A managed identity of this machine.
    Managed,
    /// The workload identity of a pod.
    Workload,
    /// The Azure CLI.
    Cli,
}

impl Setting for IdentityKind {}

options! {
    /// One key vault.
    pub struct VaultOptions {
        /// Required. Its URL.
        pub url: String = String::new() => r#""https://postern-weu.vault.azure.net""#;
        /// Required. The identity that asks it: a section of [identities].
        pub identity: String = String::new() => r#""vm""#;
        /// A PEM file of CAs that are trusted besides the system's, for private clouds and stand-ins.
        pub ca: Option<PathBuf> = None => r#""stand-in-ca.pem""#;
        /// Whether the vault's host must belong to the resource that it asks a token for. false is for stand-ins.
        pub verify_challenge: bool = true;
        /// Time to connect, TLS included.
        #[serde(with = "period")]
        pub connect_timeout: Duration = Duration::from_secs(5);
        /// Time for one request.
        #[serde(with = "period")]
        pub request_timeout: Duration = Duration::from_secs(20);
        /// The least time between two requests of this process, whatever happens. "0s" turns this off.
        #[serde(with = "period")]
        pub pace: Duration = Duration::from_secs(1);
    }
}

// Limit: a call of ten requests in a row still ends within its own deadline of 100 seconds.
const PACE_MAX: Duration = Duration::from_secs(5);

impl IdentityOptions {
    pub(super) fn validate(&self, several_managed: bool, mut at: Section<'_>) {
        at.require("kind", self.kind.is_some(), || {
            "is required: \"managed\", \"workload\" or \"cli\"".into()
        });
        let managed = self.kind == Some(IdentityKind::Managed);
        let ambiguous = managed && several_managed && self.client_id.is_none();
        at.require("client_id", !ambiguous, || {
            "is required where there are several managed identities: which one is this?".into()
        });
        let cli = self.kind == Some(IdentityKind::Cli);
        at.require("client_id", !cli || self.client_id.is_none(), || {
            "has no meaning with kind = \"cli\": whoever is logged in asks".into()
        });
        at.require("tenant_id", !managed || self.tenant_id.is_none(), || {
            "has no meaning with kind = \"managed\"".into()
        });
    }

    /// The identity's source of tokens. `None`: it has no kind, and was not validated.
    pub(crate) fn source(&self) -> Option<vault::IdentityOptions> {
        let Self {
            kind,
            client_id,
            tenant_id,
        } = self.clone();
        Some(match kind? {
            IdentityKind::Managed => vault::IdentityOptions::Managed { client_id },
            IdentityKind::Workload => vault::IdentityOptions::Workload {
                client_id,
                tenant_id,
            },
            IdentityKind::Cli => vault::IdentityOptions::Cli { tenant_id },
        })
    }
}

impl VaultOptions {
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(ca) = &mut self.ca {
            *ca = folder.join(&ca);
        }
    }

    pub(super) fn validate(&self, at: &mut Section<'_>) {
        if self.url.is_empty() {
            at.require("url", false, || {
                "is required, as in \"https://postern-weu.vault.azure.net\"".into()
            });
        } else if let Err(error) = self.client().checked() {
            let key = match error {
                vault::SetupError::UnverifiedChallenge => "verify_challenge",
                _ => "url",
            };
            at.require(key, false, || error.to_string());
        }
        at.wait("connect_timeout", self.connect_timeout);
        at.wait("request_timeout", self.request_timeout);
        at.period("pace", self.pace, Duration::ZERO..=PACE_MAX);
    }

    /// What the vault's client is told.
    pub(crate) fn client(&self) -> vault::VaultOptions {
        vault::VaultOptions {
            url: self.url.clone(),
            ca: self.ca.clone(),
            verify_challenge: self.verify_challenge,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            pace: self.pace,
        }
    }
}
