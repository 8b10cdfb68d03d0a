//! The keys of a vault, and what it does with them.

use aws_lc_rs::digest::{Digest, SHA256, SHA384};
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::answers::{Refusal, bad};

/// What a key is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    P256,
    P384,
    P521,
    Rsa(RsaKeySize),
}

impl KeyKind {
    /// From `kty`, `crv` and `key_size` of `key_props`.
    pub(super) fn parse(properties: &Value) -> Result<Self, Refusal> {
        let text = |name: &str| properties[name].as_str();
        match text("kty").unwrap_or("RSA") {
            "RSA" | "RSA-HSM" => match properties["key_size"].as_u64().unwrap_or(2048) {
                2048 => Ok(Self::Rsa(RsaKeySize::_2048)),
                3072 => Ok(Self::Rsa(RsaKeySize::_3072)),
                4096 => Ok(Self::Rsa(RsaKeySize::_4096)),
                size => Err(bad(format!("key_size {size} is not supported"))),
            },
            "EC" | "EC-HSM" => match text("crv").unwrap_or("P-256") {
                "P-256" => Ok(Self::P256),
                "P-384" => Ok(Self::P384),
                "P-521" => Ok(Self::P521),
                curve => Err(bad(format!("crv {curve} is not supported"))),
            },
            kind => Err(bad(format!(
                "kty {kind} is not supported for a certificate"
            ))),
        }
    }
}

/// A private key, which may leave the vault or not.
#[derive(Debug)]
pub(super) struct Key {
    pair: KeyPair,
}

impl Key {
    /// A new one. RSA takes up to some seconds.
    pub(super) fn generate(kind: KeyKind) -> Result<Self, rcgen::Error> {
        let pair = match kind {
            KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            KeyKind::Rsa(size) => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size),
        };
        Ok(Self { pair: pair? })
    }

    /// One that was made elsewhere, as PKCS#8.
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, rcgen::Error> {
        let pair = KeyPair::try_from(der)?;
        Ok(Self { pair })
    }

    /// As PKCS#8.
    pub(super) fn pkcs8(&self) -> &[u8] {
        self.pair.serialized_der()
    }

    /// To sign certificates and requests with.
    pub(super) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// Whether the certificate has this key.
    pub(super) fn is_of(&self, certificate: &[u8]) -> bool {
        x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, certificate)| {
            *certificate.public_key().subject_public_key.data == *self.pair.public_key_raw()
        })
    }

    /// The public key as a JSON Web Key.
    pub(super) fn jwk(&self) -> Value {
        let spki = self.pair.subject_public_key_info();
        let Ok((_, info)) = SubjectPublicKeyInfo::from_der(&spki) else {
            return Value::Null;
        };
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => {
                let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
                let operations = [
                    "encrypt",
                    "decrypt",
                    "sign",
                    "verify",
                    "wrapKey",
                    "unwrapKey",
                ];
                json!({ "kty": "RSA", "key_ops": operations, "n": encode(modulus),
                        "e": encode(key.exponent) })
            }
            Ok(PublicKey::EC(point)) => {
                // 0x04, x, y: RFC 5480 2.2.
                let coordinates = point.data().get(1..).unwrap_or_default();
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "key_ops": ["sign", "verify"], "crv": curve, "x": encode(x),
                        "y": encode(y) })
            }
            _ => Value::Null,
        }
    }

    /// Its kind and size as `key_props` have it.
    pub(super) fn properties(&self) -> Value {
        let jwk = self.jwk();
        let modulus = jwk["n"].as_str().map(|n| BASE64_URL_SAFE_NO_PAD.decode(n));
        match modulus {
            Some(Ok(n)) => json!({ "kty": "RSA", "key_size": n.len() * 8 }),
            _ => json!({ "kty": jwk["kty"], "crv": jwk["crv"] }),
        }
    }

    /// Signs a digest. ECDSA gives r and s, each as long as the curve's order, one after the other.
    pub(super) fn sign(&self, algorithm: &str, digest: &[u8]) -> Result<Vec<u8>, Refusal> {
        let unfit = |()| {
            bad(format!(
                "Key and signing algorithm are incompatible: {algorithm}"
            ))
        };
        let wrong = |_| bad("Property value has invalid value: the digest has another length");
        let hash = match algorithm {
            "ES384" => &SHA384,
            "ES256" | "RS256" | "PS256" => &SHA256,
            other => return Err(bad(format!("Property alg has invalid value: {other}"))),
        };
        let digest = Digest::import_less_safe(digest, hash).map_err(wrong)?;
        let ecdsa = |signing: &'static EcdsaSigningAlgorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(signing, self.pkcs8()).map_err(|_| ());
            let signature = pair.and_then(|pair| pair.sign_digest(&digest).map_err(|_| ()));
            signature
                .map(|signature| signature.as_ref().to_vec())
                .map_err(unfit)
        };
        let rsa = |padding: &'static dyn RsaEncoding| {
            let pair = RsaKeyPair::from_pkcs8(self.pkcs8()).map_err(|_| unfit(()))?;
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign_digest(padding, &digest, &mut signature)
                .map_err(|_| unfit(()))?;
            Ok(signature)
        };
        match algorithm {
            "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            _ => rsa(&RSA_PSS_SHA256),
        }
    }
}
