//! A certificate that is being made: create, pending, merge.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::CertificateParams;
use serde_json::{Map, Value, json};

use super::answers::{Refusal, bad};
use super::key::Key;
use super::object::{Attributes, CertificateVersion, new_id};
use super::policy::Policy;

const DAY: i64 = 24 * 3600;

/// How far the making of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Cancelled,
}

/// The making of one version.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request_id: String,
    pub(super) status: Status,
    cancellation_requested: bool,
    key: Arc<Key>,
    csr: Vec<u8>,
    policy: Policy,
    enabled: bool,
    tags: Map<String, Value>,
}

impl Pending {
    /// Makes the request for a certificate of this policy.
    pub(super) fn new(
        policy: Policy,
        key: Arc<Key>,
        enabled: bool,
        tags: Map<String, Value>,
    ) -> Result<Self, Refusal> {
        let params = policy.certificate()?;
        let csr = params
            .serialize_request(key.pair())
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self {
            request_id: new_id(),
            status: Status::InProgress,
            cancellation_requested: false,
            csr: csr.der().to_vec(),
            key,
            policy,
            enabled,
            tags,
        })
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether a certificate made elsewhere is waited for.
    pub(super) fn is_manual(&self) -> bool {
        self.policy.issuer() != SELF
    }

    /// Gives up at the next look; the answer to this still says `inProgress`, as the service's does.
    pub(super) fn cancel(&mut self) -> Result<(), Refusal> {
        if self.status != Status::InProgress {
            return Err(Refusal::NotPending);
        }
        self.cancellation_requested = true;
        Ok(())
    }

    /// What became of a wish to cancel.
    pub(super) fn settle(&mut self) {
        if self.cancellation_requested && self.status == Status::InProgress {
            self.status = Status::Cancelled;
        }
    }

    /// The version that a merged chain, leaf first, makes of this.
    pub(super) fn merge(
        &mut self,
        chain: Vec<Vec<u8>>,
        now: i64,
    ) -> Result<CertificateVersion, Refusal> {
        // "Merge is allowed" when the making failed or was cancelled; of one that is done nothing is pending.
        if self.status == Status::Completed {
            return Err(Refusal::PendingNotFound(self.request_id.clone()));
        }
        let leaf = chain.first().ok_or_else(|| {
            bad("Property x5c has invalid value\r\nX5C must has at least one valid item")
        })?;
        if x509_parser::parse_x509_certificate(leaf).is_err() {
            return Err(bad(
                "Property x5c has invalid value\r\nASN1 bad tag value met.",
            ));
        }
        if !self.key.is_of(leaf) {
            return Err(bad(
                "Public key from x509 certificate and key of this instance doesn't match",
            ));
        }
        self.complete(chain, now)
    }

    /// The version that the issuer `Self` makes of this.
    pub(super) fn self_sign(&mut self, now: i64) -> Result<CertificateVersion, Refusal> {
        let mut params = self.policy.certificate()?;
        let months = self.policy.validity_months();
        // Key Vault begins ten minutes before.
        set_window(&mut params, now - 600, now + months * 365 * DAY / 12);
        let certificate = params.self_signed(self.key.pair());
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        self.complete(vec![certificate.der().to_vec()], now)
    }

    fn complete(&mut self, chain: Vec<Vec<u8>>, now: i64) -> Result<CertificateVersion, Refusal> {
        let mut version = CertificateVersion::new(Arc::clone(&self.key), chain, now)?;
        version.attributes.enabled = self.enabled;
        version.tags.clone_from(&self.tags);
        version.contents = self.policy.contents()?;
        version.exportable = self.policy.exportable();
        self.status = Status::Completed;
        Ok(version)
    }

    /// As the service shows it. `certificate`: the address of the certificate.
    pub(super) fn show(&self, certificate: &str) -> Value {
        let (status, details) = match self.status {
            Status::Completed => ("completed", Value::Null),
            Status::Cancelled => ("cancelled", json!("Certificate creation was cancelled.")),
            Status::InProgress if self.is_manual() => (
                "inProgress",
                json!("Pending certificate created. Please Perform Merge to complete the request."),
            ),
            Status::InProgress => (
                "inProgress",
                json!(
                    "Pending certificate created. Certificate request is in progress. This may take some \
                     time based on the issuer provider. Please check again later."
                ),
            ),
        };
        let mut shown = json!({
            "id": format!("{certificate}/pending"),
            "issuer": { "name": self.policy.issuer() },
            "csr": BASE64_STANDARD.encode(&self.csr),
            "cancellation_requested": self.cancellation_requested,
            "status": status,
            "request_id": self.request_id,
        });
        if !details.is_null() {
            shown["status_details"] = details;
        }
        if self.status == Status::Completed {
            shown["target"] = json!(certificate);
        }
        shown
    }
}

impl CertificateVersion {
    /// An enabled, exportable version as PKCS#12, valid for as long as its leaf.
    pub(super) fn new(key: Arc<Key>, chain: Vec<Vec<u8>>, now: i64) -> Result<Self, Refusal> {
        let leaf = chain.first().map_or(&[][..], |leaf| leaf);
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|_| bad("the certificate cannot be read"))?;
        let validity = leaf.validity();
        let attributes = Attributes {
            not_before: Some(validity.not_before.timestamp()),
            expires: Some(validity.not_after.timestamp()),
            ..Attributes::new(now)
        };
        Ok(Self {
            id: new_id(),
            attributes,
            tags: Map::new(),
            key,
            contents: super::contents::Contents::default(),
            exportable: true,
            chain,
        })
    }
}

/// The issuer that signs with the key of the certificate itself.
pub(super) const SELF: &str = "Self";

/// The issuer that stands for a signature made elsewhere.
pub(super) const UNKNOWN: &str = "Unknown";

fn set_window(params: &mut CertificateParams, not_before: i64, not_after: i64) {
    let since_1970 = |unix| std::time::Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_after);
}
