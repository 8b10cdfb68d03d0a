//! The signing request that the vault made (PKCS#10, RFC 2986), held against the policy.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, UnparsedPublicKey,
    VerificationAlgorithm,
};
use postern_certs::KeyType;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::IssueError;
use super::policy::Policy;

/// What a certificate takes over from its request, as DER.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) subject: Vec<u8>,
    pub(super) public_key: Vec<u8>,
}

/// Parses the request, verifies that whoever made it has the key, and that it asks for what the policy says.
/// The rest of it – names, usages – is not looked at: those are taken from the policy.
pub(super) fn verified(der: &[u8], policy: &Policy) -> Result<Request, IssueError> {
    let refused = |why: String| IssueError::Request(why);
    let (rest, request) = X509CertificationRequest::from_der(der)
        .map_err(|_| refused("it does not parse".to_owned()))?;
    if !rest.is_empty() {
        return Err(refused("something follows its end".to_owned()));
    }
    let asked = &request.certification_request_info;
    let key = KeyType::of_public_key(asked.subject_pki.raw);
    if key != policy.key().key_type() {
        let wanted = policy.key().key_type();
        return Err(refused(format!(
            "its key is {key}, and the policy says {wanted}"
        )));
    }
    if !policy.subject().is(&asked.subject) {
        let (found, wanted) = (&asked.subject, policy.subject());
        return Err(refused(format!(
            "its subject is {found}, and the policy says {wanted}"
        )));
    }
    let signature = &request.signature_value.data;
    if !is_signed_by(
        &asked.subject_pki,
        &request.signature_algorithm,
        asked.raw,
        signature,
    ) {
        return Err(refused("its signature is not its key's".to_owned()));
    }
    Ok(Request {
        subject: asked.subject.as_raw().to_vec(),
        public_key: asked.subject_pki.raw.to_vec(),
    })
}

/// Whether `signature` over `message` is by `key`, with one of the algorithms that are in use for such keys.
pub(super) fn is_signed_by(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let named = &algorithm.algorithm;
    let (sha_256, sha_384) = (
        *named == oid::OID_SIG_ECDSA_WITH_SHA256 || *named == oid::OID_PKCS1_SHA256WITHRSA,
        *named == oid::OID_SIG_ECDSA_WITH_SHA384 || *named == oid::OID_PKCS1_SHA384WITHRSA,
    );
    let algorithm: &'static dyn VerificationAlgorithm = match KeyType::of_public_key(key.raw) {
        KeyType::EcP256 if sha_256 => &ECDSA_P256_SHA256_ASN1,
        KeyType::EcP384 if sha_256 => &ECDSA_P384_SHA256_ASN1,
        KeyType::EcP384 if sha_384 => &ECDSA_P384_SHA384_ASN1,
        KeyType::Rsa(_) if sha_256 => &RSA_PKCS1_2048_8192_SHA256,
        KeyType::Rsa(_) if sha_384 => &RSA_PKCS1_2048_8192_SHA384,
        _ => return false,
    };
    UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
        .verify(message, signature)
        .is_ok()
}
