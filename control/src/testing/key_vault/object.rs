//! What a vault holds: certificates and secrets, each with its versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answers::Refusal;
use super::contents::Contents;
use super::key::Key;
use super::pending::Pending;
use super::policy::Policy;

/// Days for which what is deleted can be recovered.
pub(super) const RECOVERABLE_DAYS: i64 = 90;

/// What a version says about itself. Times in Unix seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) enabled: bool,
    pub(super) not_before: Option<i64>,
    pub(super) expires: Option<i64>,
    pub(super) created: i64,
    pub(super) updated: i64,
}

impl Attributes {
    /// Enabled and made now.
    pub(super) fn new(now: i64) -> Self {
        Self {
            enabled: true,
            created: now,
            updated: now,
            ..Self::default()
        }
    }

    /// Takes over what a request sets.
    pub(super) fn update(&mut self, given: &Value, now: i64) {
        if let Some(enabled) = given["enabled"].as_bool() {
            self.enabled = enabled;
        }
        self.not_before = given["nbf"].as_i64().or(self.not_before);
        self.expires = given["exp"].as_i64().or(self.expires);
        self.updated = now;
    }

    pub(super) fn show(&self) -> Value {
        let mut shown = json!({
            "enabled": self.enabled,
            "created": self.created,
            "updated": self.updated,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": RECOVERABLE_DAYS,
        });
        for (name, time) in [("nbf", self.not_before), ("exp", self.expires)] {
            if let Some(time) = time {
                shown[name] = json!(time);
            }
        }
        shown
    }
}

/// Text by name, as a request sets it.
pub(super) fn tags(given: &Value) -> Option<Map<String, Value>> {
    given["tags"].as_object().cloned()
}

/// One version of a certificate: with it go a key and a secret of the same name and version.
#[derive(Debug, Clone)]
pub(super) struct CertificateVersion {
    pub(super) id: String,
    pub(super) attributes: Attributes,
    pub(super) tags: Map<String, Value>,
    pub(super) key: Arc<Key>,
    /// Leaf first, DER.
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) contents: Contents,
    pub(super) exportable: bool,
}

/// One version of a secret.
#[derive(Debug, Clone)]
pub(super) struct SecretVersion {
    pub(super) id: String,
    pub(super) attributes: Attributes,
    pub(super) tags: Map<String, Value>,
    pub(super) value: String,
    pub(super) content_type: Option<String>,
}

/// A version, whatever of.
pub(super) trait Version {
    /// Which collection it is in, and what an error calls it.
    const KIND: &'static str;

    fn id(&self) -> &str;
}

impl Version for CertificateVersion {
    const KIND: &'static str = "Certificate";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Version for SecretVersion {
    const KIND: &'static str = "Secret";

    fn id(&self) -> &str {
        &self.id
    }
}

/// A certificate: its versions, how the next one is made, and whether one is being made.
#[derive(Debug, Default)]
pub(super) struct CertificateObject {
    /// Oldest first.
    pub(super) versions: Vec<CertificateVersion>,
    pub(super) policy: Option<Policy>,
    pub(super) pending: Option<Pending>,
}

/// Something deleted, and when.
#[derive(Debug)]
pub(super) struct Deleted<T> {
    pub(super) object: T,
    pub(super) at: i64,
}

impl<T> Deleted<T> {
    /// Adds to what is shown of an object what is shown of a deleted one.
    pub(super) fn show(&self, mut shown: Value, recovery_id: &str) -> Value {
        shown["recoveryId"] = json!(recovery_id);
        shown["deletedDate"] = json!(self.at);
        shown["scheduledPurgeDate"] = json!(self.at + RECOVERABLE_DAYS * 24 * 3600);
        shown
    }
}

/// All that a vault holds.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) certificates: BTreeMap<String, CertificateObject>,
    pub(super) secrets: BTreeMap<String, Vec<SecretVersion>>,
    pub(super) deleted_certificates: BTreeMap<String, Deleted<CertificateObject>>,
    pub(super) deleted_secrets: BTreeMap<String, Deleted<Vec<SecretVersion>>>,
}

impl Objects {
    /// A version of a certificate, or the one made last.
    pub(super) fn certificate(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<&CertificateVersion, Refusal> {
        let object = self.certificates.get(name);
        find(object.map_or(&[], |object| &object.versions), name, version)
    }

    /// The same, to change it.
    pub(super) fn certificate_mut(
        &mut self,
        name: &str,
        version: Option<&str>,
    ) -> Result<&mut CertificateVersion, Refusal> {
        let object = self.certificates.get_mut(name);
        find_mut(object.map(|object| &mut object.versions), name, version)
    }

    /// A version of a secret that no certificate has, or the one made last.
    pub(super) fn secret(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<&SecretVersion, Refusal> {
        find(
            self.secrets.get(name).map_or(&[], |versions| versions),
            name,
            version,
        )
    }

    /// The same, to change it.
    pub(super) fn secret_mut(
        &mut self,
        name: &str,
        version: Option<&str>,
    ) -> Result<&mut SecretVersion, Refusal> {
        find_mut(self.secrets.get_mut(name), name, version)
    }
}

/// Where in `versions`, oldest first, this one is, or the newest.
fn position<V: Version>(
    versions: &[V],
    name: &str,
    version: Option<&str>,
) -> Result<usize, Refusal> {
    let found = match version {
        Some(id) => versions.iter().position(|version| version.id() == id),
        None => versions.len().checked_sub(1),
    };
    let id = || version.map_or_else(|| name.to_owned(), |id| format!("{name}/{id}"));
    found.ok_or_else(|| Refusal::NotFound(V::KIND, id()))
}

fn find<'a, V: Version>(
    versions: &'a [V],
    name: &str,
    version: Option<&str>,
) -> Result<&'a V, Refusal> {
    Ok(&versions[position(versions, name, version)?])
}

fn find_mut<'a, V: Version>(
    versions: Option<&'a mut Vec<V>>,
    name: &str,
    version: Option<&str>,
) -> Result<&'a mut V, Refusal> {
    let versions = versions.ok_or_else(|| Refusal::NotFound(V::KIND, name.to_owned()))?;
    let position = position(versions, name, version)?;
    Ok(&mut versions[position])
}

/// A new version's id.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
