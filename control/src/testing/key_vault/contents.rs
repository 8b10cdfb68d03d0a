//! The value of a certificate's secret: PKCS#12 or PEM.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, Pkcs12Archive,
    PrivateKey, PrivateKeyChain,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::answers::{Refusal, bad};
use super::key::Key;

// Limit: few, since nothing here is secret and a debug build derives keys slowly. Key Vault takes 2000.
const ITERATIONS: u32 = 64;

/// How a certificate's secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// `application/x-pkcs12`, as base64, AES-256 and SHA-256, no password.
    #[default]
    Pkcs12,
    /// The same in the older form: triple DES and SHA-1.
    Pkcs12TripleDes,
    /// `application/x-pem-file`: the key, then leaf and issuers.
    Pem,
}

impl Contents {
    /// From a policy's `contentType`.
    pub(super) fn parse(content_type: &str) -> Result<Self, Refusal> {
        match content_type {
            "application/x-pkcs12" => Ok(Self::Pkcs12),
            "application/x-pem-file" => Ok(Self::Pem),
            other => Err(bad(format!(
                "Property contentType has invalid value: {other}"
            ))),
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Pkcs12 | Self::Pkcs12TripleDes => "application/x-pkcs12",
            Self::Pem => "application/x-pem-file",
        }
    }

    /// The secret's value: with `key`, or without it if it may not leave the vault.
    pub(super) fn pack(self, key: Option<&Key>, chain: &[Vec<u8>]) -> Result<String, Refusal> {
        let failed = |error| bad(format!("the certificate cannot be packed: {error}"));
        match self {
            Self::Pem => {
                let key = key
                    .map(|key| key.pair().serialize_pem())
                    .unwrap_or_default();
                let certificates = chain.iter().map(|der| pem("CERTIFICATE", der));
                Ok(key + &certificates.collect::<String>())
            }
            Self::Pkcs12 => store(key, chain)
                .and_then(|store| {
                    let writer = store.writer("").encryption_iterations(ITERATIONS);
                    writer.mac_iterations(ITERATIONS).write()
                })
                .map(|der| BASE64_STANDARD.encode(der))
                .map_err(failed),
            Self::Pkcs12TripleDes => store(key, chain)
                .and_then(|store| {
                    let triple_des = EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc;
                    let writer = store.writer("").encryption_algorithm(triple_des);
                    let writer = writer.encryption_iterations(ITERATIONS);
                    let writer = writer.mac_algorithm(MacAlgorithm::HmacSha1);
                    writer.mac_iterations(ITERATIONS).write()
                })
                .map(|der| BASE64_STANDARD.encode(der))
                .map_err(failed),
        }
    }
}

/// Key and chain, leaf first, of what is to be imported. PEM is taken as it is and, as the SDKs send it, as
/// base64.
pub(super) fn unpack(
    contents: Contents,
    value: &str,
    password: &str,
) -> Result<(Key, Vec<Vec<u8>>), Refusal> {
    let unreadable = || {
        let form = match contents {
            Contents::Pem => "PEM",
            Contents::Pkcs12 | Contents::Pkcs12TripleDes => "PKCS#12",
        };
        bad(format!(
            "The specified {form} X.509 certificate content can not be read. Please check if certificate is \
             in valid {form} format."
        ))
    };
    let decoded = match (contents, BASE64_STANDARD.decode(value)) {
        (Contents::Pem, Err(_)) => value.as_bytes().to_vec(),
        (_, decoded) => decoded.map_err(|_| unreadable())?,
    };
    let (key, mut chain) = if contents == Contents::Pem {
        let key = PrivatePkcs8KeyDer::from_pem_slice(&decoded).map_err(|_| unreadable())?;
        let text = String::from_utf8(decoded).map_err(|_| unreadable())?;
        let chain = certificates(&text).map_err(|_| unreadable())?;
        (Key::from_pkcs8(key.secret_pkcs8_der()), chain)
    } else {
        let archive = Pkcs12Archive::from_pkcs12(&decoded, password).map_err(|_| unreadable())?;
        let key = archive.keys.first().ok_or_else(unreadable)?;
        let chain = archive.certs.iter().map(|bag| bag.cert.as_der().to_vec());
        (Key::from_pkcs8(key.key.as_der()), chain.collect())
    };
    let key = key.map_err(|_| unreadable())?;
    let leaf = chain.iter().position(|certificate| key.is_of(certificate));
    let leaf = leaf.ok_or_else(|| bad("No certificate of the specified content has its key."))?;
    let leaf = chain.remove(leaf);
    chain.insert(0, leaf);
    Ok((key, chain))
}

/// The certificates of a PEM text.
pub(super) fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| Ok(certificate?.to_vec()))
        .collect()
}

/// As PEM, in lines of 64 characters: RFC 7468 2.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text + &format!("-----END {label}-----\n")
}

fn store(key: Option<&Key>, chain: &[Vec<u8>]) -> p12_keystore::Result<KeyStore> {
    let certificates: Vec<_> = chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<_, _>>()?;
    let mut store = KeyStore::new();
    match key {
        Some(key) => {
            let key = PrivateKey::from_der(key.pkcs8())?;
            let chain = PrivateKeyChain::new(vec![1, 0, 0, 0], key, certificates);
            store.add_entry("key", KeyStoreEntry::PrivateKeyChain(chain));
        }
        None => {
            for (index, certificate) in certificates.into_iter().enumerate() {
                store.add_entry(&format!("{index}"), KeyStoreEntry::Certificate(certificate));
            }
        }
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_again_with_its_leaf_first() {
        use postern_certs::dev_ca::DevCa;

        let root = DevCa::new("Root").unwrap();
        let issued = root
            .intermediate("Issuing")
            .unwrap()
            .server(&["a.example"])
            .unwrap();
        let chain = certificates(&issued.chain_pem).unwrap();
        let key = PrivatePkcs8KeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let key = Key::from_pkcs8(key.secret_pkcs8_der()).unwrap();
        for contents in [Contents::Pkcs12, Contents::Pkcs12TripleDes, Contents::Pem] {
            let value = contents.pack(Some(&key), &chain).unwrap();
            let (unpacked, same) = unpack(contents, &value, "").unwrap();
            assert_eq!(unpacked.pkcs8(), key.pkcs8());
            assert_eq!(same, chain);
        }
    }
}
