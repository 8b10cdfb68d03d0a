//! A development CA, for tests and for the local stack.
//!
//! Only behind the feature `dev-ca`. Never part of a production build: whoever has one of these keys is trusted
//! by everything that trusts the CA.

use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SignatureAlgorithm,
};
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::bundle::Bundle;
use crate::expectations::{Expectations, Purpose};
use crate::parts::Parts;
use crate::store::{Generation, PublishError, Store};
use crate::unproven::Unproven;

/// Why the development CA could not do it.
#[derive(Debug, thiserror::Error)]
pub enum DevCaError {
    /// The certificate could not be made: a name that is no DNS name, a CA key that does not parse.
    #[error("could not make a development certificate")]
    Issue(#[from] rcgen::Error),
    /// A development CA issues leaves; trust anchors are its own certificate.
    #[error("a leaf is for a server or a client")]
    Purpose,
    /// What was issued does not prove, for instance because it was asked to be expired.
    #[error("the development certificate does not prove")]
    Unproven(#[from] Unproven),
    /// It could not be published.
    #[error("the development certificate could not be published")]
    Publish(#[from] PublishError),
    /// A file could not be written.
    #[error("could not write the development certificate's files")]
    Write(#[from] io::Error),
}

/// The kind of key a leaf gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521, which a bundle refuses.
    P521,
    /// RSA with 2048 bits. Takes a second or so to make.
    Rsa2048,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    const fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::P521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            Self::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

/// What a leaf is to be like.
#[derive(Debug, Clone)]
pub struct LeafOptions {
    /// DNS names (wildcards allowed) and IP addresses. The first is the common name, too.
    pub names: Vec<String>,
    /// [`Purpose::Server`] or [`Purpose::Client`].
    pub purpose: Purpose,
    /// First second of validity, Unix time. Default: an hour ago.
    pub not_before: Option<i64>,
    /// Last second of validity, Unix time. Default: in 90 days.
    pub not_after: Option<i64>,
    /// The kind of key.
    pub key: KeyKind,
}

impl LeafOptions {
    /// Defaults for a leaf with these names.
    pub fn new<S: Into<String>>(purpose: Purpose, names: impl IntoIterator<Item = S>) -> Self {
        Self {
            names: names.into_iter().map(Into::into).collect(),
            purpose,
            not_before: None,
            not_after: None,
            key: KeyKind::default(),
        }
    }
}

/// A CA, root or intermediate, with its key.
pub struct DevCa {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    /// Certificates that a leaf's chain has after the leaf: this one's and those above, without the root.
    below_root_pem: String,
    root_pem: String,
}

impl DevCa {
    /// A root with a fresh P-256 key, valid from an hour ago for ten years.
    pub fn new(common_name: &str) -> Result<Self, DevCaError> {
        Self::valid(common_name, after_now(-HOUR), after_now(10 * 365 * DAY))
    }

    /// A root with this window, in Unix seconds.
    pub fn valid(common_name: &str, not_before: i64, not_after: i64) -> Result<Self, DevCaError> {
        let key = KeyPair::generate()?;
        let params = ca_params(common_name, not_before, not_after)?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            below_root_pem: String::new(),
            root_pem: certificate_pem.clone(),
            certificate_pem,
        })
    }

    /// A root that was made before, from [`ca_pem`](Self::ca_pem) and [`ca_key_pem`](Self::ca_key_pem).
    pub fn load(ca_pem: &str, ca_key_pem: &str) -> Result<Self, DevCaError> {
        let key = KeyPair::from_pem(ca_key_pem)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(ca_pem, key)?,
            certificate_pem: ca_pem.to_owned(),
            below_root_pem: String::new(),
            root_pem: ca_pem.to_owned(),
        })
    }

    /// An intermediate CA under this one. What it issues carries the intermediates in its chain.
    pub fn intermediate(&self, common_name: &str) -> Result<Self, DevCaError> {
        let key = KeyPair::generate()?;
        let params = ca_params(common_name, after_now(-HOUR), after_now(10 * 365 * DAY))?;
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            below_root_pem: format!("{certificate_pem}{}", self.below_root_pem),
            root_pem: self.root_pem.clone(),
            certificate_pem,
        })
    }

    /// A server certificate, P-256.
    pub fn server(&self, names: &[&str]) -> Result<Issued, DevCaError> {
        self.leaf(&LeafOptions::new(Purpose::Server, names.iter().copied()))
    }

    /// A client identity, P-256.
    pub fn client(&self, name: &str) -> Result<Issued, DevCaError> {
        self.leaf(&LeafOptions::new(Purpose::Client, [name]))
    }

    /// A leaf made to order.
    pub fn leaf(&self, options: &LeafOptions) -> Result<Issued, DevCaError> {
        let mut params = CertificateParams::new(options.names.clone())?;
        params.distinguished_name =
            common_name(options.names.first().map_or("leaf", String::as_str));
        let not_before = options.not_before.unwrap_or_else(|| after_now(-HOUR));
        let not_after = options.not_after.unwrap_or_else(|| after_now(90 * DAY));
        set_window(&mut params, not_before, not_after);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match options.purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Purpose::Trust => return Err(DevCaError::Purpose),
        }];
        let key = KeyPair::generate_for(options.key.algorithm())?;
        let leaf_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued {
            purpose: options.purpose,
            chain_pem: format!("{leaf_pem}{}", self.below_root_pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
            ca_pem: self.root_pem.clone(),
        })
    }

    /// This CA's certificate as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// This CA's key as PEM, to [`load`](Self::load) it again.
    pub fn ca_key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// This CA's certificate as a trust anchor.
    pub fn trust(&self) -> Parts {
        Parts::anchors(&self.certificate_pem)
    }

    /// Publishes this CA's certificate as the trust anchor of `store`.
    pub fn publish_trust(&self, store: &Store, label: &str) -> Result<Generation, DevCaError> {
        let bundle = Bundle::prove(self.trust(), &Expectations::trust(), UnixTime::now())?;
        Ok(store.publish(&bundle, label)?)
    }
}

/// A leaf with its key and chain, as PEM.
#[derive(Clone)]
pub struct Issued {
    purpose: Purpose,
    /// Leaf and intermediates, without the root.
    pub chain_pem: String,
    /// The key, PKCS#8.
    pub key_pem: Zeroizing<String>,
    /// The root.
    pub ca_pem: String,
}

impl Issued {
    /// Chain and key.
    pub fn parts(&self) -> Parts {
        Parts::identity(&self.chain_pem, self.key_pem.as_str())
    }

    /// Proven now, for what it was issued for.
    pub fn bundle(&self) -> Result<Bundle, DevCaError> {
        let expectations = match self.purpose {
            Purpose::Client => Expectations::client(),
            Purpose::Server | Purpose::Trust => Expectations::server(),
        };
        Ok(Bundle::prove(self.parts(), &expectations, UnixTime::now())?)
    }

    /// Proves it now and publishes it.
    pub fn publish(&self, store: &Store, label: &str) -> Result<Generation, DevCaError> {
        Ok(store.publish(&self.bundle()?, label)?)
    }

    /// Writes `tls.crt`, `tls.key` (readable by the owner only) and `ca.crt` into `dir`, as a Kubernetes TLS
    /// secret is mounted. Creates `dir` if need be.
    pub fn write_to(&self, dir: &Path) -> Result<(), DevCaError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;

        fs::create_dir_all(dir)?;
        fs::write(dir.join("tls.crt"), &self.chain_pem)?;
        fs::write(dir.join("ca.crt"), &self.ca_pem)?;
        let mut key = fs::OpenOptions::new();
        let mut key = key
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(dir.join("tls.key"))?;
        Ok(key.write_all(self.key_pem.as_bytes())?)
    }
}

fn ca_params(name: &str, not_before: i64, not_after: i64) -> Result<CertificateParams, DevCaError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = common_name(name);
    set_window(&mut params, not_before, not_after);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_window(params: &mut CertificateParams, not_before: i64, not_after: i64) {
    let since_1970 = |unix| Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_after);
}

fn after_now(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_add(seconds)
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_ca_that_was_made_before_issues_what_its_anchor_verifies() {
        let made = DevCa::new("Development CA").unwrap();
        let loaded = DevCa::load(made.ca_pem(), &made.ca_key_pem()).unwrap();
        let issued = loaded
            .intermediate("Issuing CA")
            .unwrap()
            .client("postern")
            .unwrap();
        let parts = issued.parts().with_anchors(made.ca_pem());
        Bundle::prove(parts, &Expectations::client(), UnixTime::now()).unwrap();
        assert_eq!(issued.ca_pem, made.ca_pem());
    }

    #[test]
    fn the_key_file_is_for_the_owner_only() {
        let dir = tempfile::TempDir::new().unwrap();
        DevCa::new("Development CA")
            .unwrap()
            .server(&["a.example"])
            .unwrap()
            .write_to(dir.path())
            .unwrap();
        let key = fs::metadata(dir.path().join("tls.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn trust_anchors_are_no_leaf() {
        let ca = DevCa::new("Development CA").unwrap();
        let refused = ca.leaf(&LeafOptions::new(Purpose::Trust, ["a.example"]));
        assert!(matches!(refused, Err(DevCaError::Purpose)));
    }
}
