//! The certificate itself: what is to be signed, and the whole of it once it is signed (RFC 5280 section 4.1).
//!
//! Names and keys are taken over byte by byte, the subject from the request and the issuer from the CA, so that paths
//! are built whatever their encoding.

use aws_lc_rs::{digest, rand};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::IssueError;
use super::authority::{Ca, SignatureAlgorithm};
use super::der::{self, value};
use super::policy::{Policy, Usage};
use super::request::{Request, is_signed_by};

/// A certificate without its signature.
#[derive(Debug)]
pub(super) struct Unsigned {
    /// `TBSCertificate`: what the CA signs.
    pub(super) to_be_signed: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl Unsigned {
    /// For `request` by `ca`, valid from a little before `now` (Unix seconds) for the policy's lifetime, but no longer
    /// than the CA.
    pub(super) fn new(
        request: &Request,
        ca: &Ca,
        policy: &Policy,
        now: i64,
    ) -> Result<Self, IssueError> {
        let not_before = now.saturating_sub(BACKDATED_SECONDS).max(ca.not_before());
        let not_after = now.saturating_add(policy.lifetime()).min(ca.not_after());
        let time =
            |unix| der::time(unix).ok_or_else(|| IssueError::Ca(format!("{unix} is no time")));
        let validity = value(der::SEQUENCE, &[&time(not_before)?, &time(not_after)?]);
        let version_3 = value(der::explicit(0), &[&der::unsigned(&[2])]);
        let algorithm = ca.algorithm();
        let to_be_signed = value(
            der::SEQUENCE,
            &[
                &version_3,
                &serial()?,
                algorithm.identifier(),
                ca.subject(),
                &validity,
                &request.subject,
                &request.public_key,
                &extensions(request, ca, policy)?,
            ],
        );
        Ok(Self {
            to_be_signed,
            algorithm,
        })
    }

    /// With its signature, if that is the CA's.
    pub(super) fn signed(
        self,
        signature: &[u8],
        ca: &Ca,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let parts: [&[u8]; 3] = [
            &self.to_be_signed,
            self.algorithm.identifier(),
            &der::bits(signature),
        ];
        let certificate = CertificateDer::from(value(der::SEQUENCE, &parts));
        if !is_issued_by(&certificate, ca) {
            return Err(IssueError::Signature);
        }
        Ok(certificate)
    }
}

/// Whether `certificate` names `ca` as its issuer and is signed with its key.
pub(super) fn is_issued_by(certificate: &CertificateDer<'_>, ca: &Ca) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Ok((_, above)) = X509Certificate::from_der(ca.certificate()) else {
        return false;
    };
    leaf.issuer().as_raw() == ca.subject()
        && is_signed_by(
            above.public_key(),
            &leaf.signature_algorithm,
            leaf.tbs_certificate.as_ref(),
            &leaf.signature_value.data,
        )
}

/// 127 bits of chance (section 4.1.2.2: positive, at most 20 octets).
fn serial() -> Result<Vec<u8>, IssueError> {
    let mut octets = [0; 16];
    rand::fill(&mut octets).map_err(|_| IssueError::Ca("there is no randomness".to_owned()))?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(der::unsigned(&octets))
}

fn extensions(request: &Request, ca: &Ca, policy: &Policy) -> Result<Vec<u8>, IssueError> {
    let not_a_ca = value(der::SEQUENCE, &[]);
    // Bit 0, so that seven are unused.
    let digital_signature = value(der::BIT_STRING, &[&[7, 0x80]]);
    let usages: &[&[u8]] = match policy.usage() {
        Usage::Client => &[CLIENT_AUTH],
        Usage::Server => &[SERVER_AUTH],
        Usage::Both => &[SERVER_AUTH, CLIENT_AUTH],
    };
    let key = value(der::OCTET_STRING, &[&key_identifier(&request.public_key)?]);
    let authority = value(der::implicit(0), &[ca.key_identifier()]);
    let mut all = vec![
        extension(BASIC_CONSTRAINTS, true, &not_a_ca),
        extension(KEY_USAGE, true, &digital_signature),
        extension(EXTENDED_KEY_USAGE, false, &value(der::SEQUENCE, usages)),
        extension(SUBJECT_KEY_IDENTIFIER, false, &key),
        extension(
            AUTHORITY_KEY_IDENTIFIER,
            false,
            &value(der::SEQUENCE, &[&authority]),
        ),
    ];
    if !policy.names().is_empty() {
        let names = policy.names().iter();
        let names: Vec<_> = names
            .map(|name| value(DNS_NAME, &[name.as_bytes()]))
            .collect();
        let names: Vec<_> = names.iter().map(Vec::as_slice).collect();
        all.push(extension(
            SUBJECT_ALT_NAME,
            false,
            &value(der::SEQUENCE, &names),
        ));
    }
    let all: Vec<_> = all.iter().map(Vec::as_slice).collect();
    Ok(value(der::explicit(3), &[&value(der::SEQUENCE, &all)]))
}

fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    // DER leaves a default out (X.690 section 11.5).
    let critical: &[u8] = if critical {
        &[der::BOOLEAN, 1, 0xff]
    } else {
        &[]
    };
    value(
        der::SEQUENCE,
        &[id, critical, &value(der::OCTET_STRING, &[content])],
    )
}

/// RFC 7093 section 2, method 1: the leftmost 160 bits of SHA-256 over the public key.
pub(super) fn key_identifier(public_key: &[u8]) -> Result<Vec<u8>, IssueError> {
    let (_, key) = x509_parser::x509::SubjectPublicKeyInfo::from_der(public_key)
        .map_err(|_| IssueError::Request("its key does not parse".to_owned()))?;
    let digest = digest::digest(&digest::SHA256, &key.subject_public_key.data);
    Ok(digest.as_ref()[..20].to_vec())
}

/// Object identifiers with tag and length: 2.5.29.x and 1.3.6.1.5.5.7.3.x.
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[der::OBJECT_IDENTIFIER, 3, 0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[der::OBJECT_IDENTIFIER, 3, 0x55, 0x1d, 15];
const SUBJECT_ALT_NAME: &[u8] = &[der::OBJECT_IDENTIFIER, 3, 0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[der::OBJECT_IDENTIFIER, 3, 0x55, 0x1d, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[der::OBJECT_IDENTIFIER, 3, 0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[der::OBJECT_IDENTIFIER, 3, 0x55, 0x1d, 37];
const SERVER_AUTH: &[u8] = &[der::OBJECT_IDENTIFIER, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[der::OBJECT_IDENTIFIER, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
/// `dNSName`, the choice of that number in `GeneralName`.
const DNS_NAME: u8 = der::implicit(2);
/// For verifiers whose clock is behind.
const BACKDATED_SECONDS: i64 = 300;
