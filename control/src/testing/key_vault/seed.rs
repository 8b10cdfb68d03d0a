//! What a test puts into a vault without asking it: certificates of a development CA, and secrets.

use std::sync::Arc;

use postern_certs::Purpose;
use postern_certs::dev_ca::{DevCa, DevCaError, Issued, KeyKind, LeafOptions};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::KeyVault;
use super::answers::Refusal;
use super::contents::{Contents, certificates};
use super::key::Key;
use super::object::{Attributes, CertificateVersion, SecretVersion, new_id};
use super::policy::Policy;
use super::service::Service;

/// Why something could not be put into a vault.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// No CA was added under this name.
    #[error("the vault has no CA \"{0}\" to issue with")]
    NoSuchCa(String),
    /// No version of this name and id.
    #[error("the vault has no version {0}")]
    NoSuchVersion(String),
    /// The certificate could not be made.
    #[error("the certificate could not be made")]
    Issue(#[from] DevCaError),
    /// The key is no PKCS#8, or the certificate none.
    #[error("{0}")]
    Unreadable(String),
}

/// A version of a certificate, made to order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewVersion {
    /// The name of the CA that issues it. Default: `ca`.
    pub ca: String,
    /// DNS names and addresses, the first also the common name.
    pub names: Vec<String>,
    /// For a client instead of a server.
    pub client: bool,
    /// RSA with 2048 bits instead of P-256.
    pub rsa: bool,
    /// First second of validity, Unix time. Default: an hour ago.
    pub not_before: Option<i64>,
    /// Last second of validity, Unix time. Default: in 90 days.
    pub not_after: Option<i64>,
    /// How the secret is written.
    pub contents: Contents,
}

impl Default for NewVersion {
    fn default() -> Self {
        Self {
            ca: "ca".to_owned(),
            names: Vec::new(),
            client: false,
            rsa: false,
            not_before: None,
            not_after: None,
            contents: Contents::default(),
        }
    }
}

impl NewVersion {
    /// For a server with these names, issued by the CA `ca`.
    pub fn server(ca: &str, names: &[&str]) -> Self {
        Self {
            ca: ca.to_owned(),
            names: names.iter().copied().map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    /// For a client of this name, issued by the CA `ca`.
    pub fn client(ca: &str, name: &str) -> Self {
        Self {
            client: true,
            ..Self::server(ca, &[name])
        }
    }

    fn leaf(&self) -> LeafOptions {
        let purpose = if self.client {
            Purpose::Client
        } else {
            Purpose::Server
        };
        LeafOptions {
            not_before: self.not_before,
            not_after: self.not_after,
            key: if self.rsa {
                KeyKind::Rsa2048
            } else {
                KeyKind::P256
            },
            ..LeafOptions::new(purpose, &self.names)
        }
    }
}

impl KeyVault {
    /// Adds a CA as the next version of the certificate `name`, with a key that signs but never leaves the
    /// vault, and as the issuer of that name for [`add`](Self::add). Returns the version.
    pub fn add_ca(&self, name: &str, ca: DevCa) -> Result<String, SeedError> {
        self.service.add_ca(name, ca)
    }

    /// Makes `ca` the issuer of that name without putting it into the vault.
    pub fn know_ca(&self, name: &str, ca: DevCa) {
        self.service.issuers().0.insert(name.to_owned(), ca);
    }

    /// Adds a version to the certificate `name`, made to order. Returns its id.
    pub fn add(&self, name: &str, version: &NewVersion) -> Result<String, SeedError> {
        self.service.add(name, version)
    }

    /// Adds a version to the certificate `name` from PEM: the chain, leaf first, and its key as PKCS#8. Returns
    /// its id.
    pub fn add_pem(
        &self,
        name: &str,
        chain_pem: &str,
        key_pem: &str,
        contents: Contents,
    ) -> Result<String, SeedError> {
        self.service
            .add_pem(name, chain_pem, key_pem, contents, true)
    }

    /// Adds a version to the certificate `name` that was made elsewhere. Returns its id.
    pub fn add_issued(
        &self,
        name: &str,
        issued: &Issued,
        contents: Contents,
    ) -> Result<String, SeedError> {
        self.service
            .add_pem(name, &issued.chain_pem, &issued.key_pem, contents, true)
    }

    /// Enables or disables a version of a certificate or secret; `None`: the newest.
    pub fn set_enabled(
        &self,
        name: &str,
        version: Option<&str>,
        enabled: bool,
    ) -> Result<(), SeedError> {
        self.service.set_enabled(name, version, enabled)
    }

    /// Adds a version to a secret that belongs to no certificate. Times in Unix seconds. Returns its id.
    pub fn add_secret(
        &self,
        name: &str,
        value: &str,
        content_type: &str,
        not_before: Option<i64>,
        expires: Option<i64>,
    ) -> String {
        let id = new_id();
        let version = SecretVersion {
            id: id.clone(),
            attributes: Attributes {
                not_before,
                expires,
                ..Attributes::new(self.service.now())
            },
            tags: Map::new(),
            value: value.to_owned(),
            content_type: Some(content_type.to_owned()),
        };
        let mut objects = self.service.objects();
        objects
            .secrets
            .entry(name.to_owned())
            .or_default()
            .push(version);
        id
    }
}

impl Service {
    pub(super) fn add_ca(&self, name: &str, ca: DevCa) -> Result<String, SeedError> {
        let id = self.add_pem(name, ca.ca_pem(), &ca.ca_key_pem(), Contents::Pem, false)?;
        self.issuers().0.insert(name.to_owned(), ca);
        Ok(id)
    }

    pub(super) fn add(&self, name: &str, version: &NewVersion) -> Result<String, SeedError> {
        let issued = {
            let issuers = self.issuers();
            let ca = issuers.0.get(&version.ca);
            let ca = ca.ok_or_else(|| SeedError::NoSuchCa(version.ca.clone()))?;
            ca.leaf(&version.leaf())?
        };
        self.add_pem(
            name,
            &issued.chain_pem,
            &issued.key_pem,
            version.contents,
            true,
        )
    }

    fn add_pem(
        &self,
        name: &str,
        chain: &str,
        key: &str,
        contents: Contents,
        exportable: bool,
    ) -> Result<String, SeedError> {
        let unreadable = |error: &dyn std::fmt::Display| SeedError::Unreadable(error.to_string());
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|e| unreadable(&e))?;
        let key = Key::from_pkcs8(key.secret_pkcs8_der()).map_err(|e| unreadable(&e))?;
        let chain = certificates(chain).map_err(|e| unreadable(&e))?;
        let refused = |refusal: Refusal| SeedError::Unreadable(format!("{refusal:?}"));
        let policy = json!({
            "key_props": { "exportable": exportable },
            "secret_props": { "contentType": contents.content_type() },
        });
        let policy = Policy::of(&policy, &key).map_err(refused)?;
        let version = CertificateVersion::new(Arc::new(key), chain, self.now());
        let version = CertificateVersion {
            contents,
            exportable,
            ..version.map_err(refused)?
        };
        let id = version.id.clone();
        let mut objects = self.objects();
        let object = objects.certificates.entry(name.to_owned()).or_default();
        object.policy.get_or_insert(policy);
        object.versions.push(version);
        Ok(id)
    }

    pub(super) fn set_enabled(
        &self,
        name: &str,
        version: Option<&str>,
        enabled: bool,
    ) -> Result<(), SeedError> {
        let now = self.now();
        let mut objects = self.objects();
        let attributes = if objects.certificates.contains_key(name) {
            objects
                .certificate_mut(name, version)
                .map(|version| &mut version.attributes)
        } else {
            objects
                .secret_mut(name, version)
                .map(|version| &mut version.attributes)
        };
        let missing =
            |_| SeedError::NoSuchVersion(format!("{name}/{}", version.unwrap_or("newest")));
        attributes
            .map_err(missing)?
            .update(&json!({ "enabled": enabled }), now);
        Ok(())
    }
}
