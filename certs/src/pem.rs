//! PEM (RFC 7468): bounded decoding of certificates and keys, and encoding in one normal form.
//!
//! Never keeps a copy of a key outside a buffer that is wiped, but for the decoder's own scratch space,
//! which `rustls-pki-types` frees unwiped.

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::unproven::{Piece, Unproven};

// Limit: a chain of ten certificates of 8 KiB each, in base64, with room for the text around them.
pub(crate) const IDENTITY_PEM_BYTES_MAX: usize = 256 * 1024;
// Limit: 256 anchors of about 2 KiB each in base64, and as much again for comments.
pub(crate) const ANCHORS_PEM_BYTES_MAX: usize = 1024 * 1024;
// Limit: leaf, eight intermediates, root. Public chains have at most five.
pub(crate) const CHAIN_CERTIFICATES_MAX: usize = 10;
// Limit: more than the public web has (about 150).
pub(crate) const ANCHORS_MAX: usize = 256;

/// The certificates of `pem`, in their order. Other sections are passed over.
pub(crate) fn certificates(
    pem: &[u8],
    piece: Piece,
) -> Result<Vec<CertificateDer<'static>>, Unproven> {
    let (bytes_max, count_max) = match piece {
        Piece::Anchors => (ANCHORS_PEM_BYTES_MAX, ANCHORS_MAX),
        Piece::Chain | Piece::Key => (IDENTITY_PEM_BYTES_MAX, CHAIN_CERTIFICATES_MAX),
    };
    bounded(pem, piece, bytes_max)?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        if found.len() == count_max {
            return Err(Unproven::TooManyCertificates {
                piece,
                max: count_max,
            });
        }
        found.push(certificate.map_err(|source| refusal(piece, source))?);
    }
    if found.is_empty() {
        return Err(Unproven::NoCertificate { piece });
    }
    Ok(found)
}

/// The one private key of `pem`: PKCS#8, SEC1 or PKCS#1, never encrypted.
pub(crate) fn key(pem: &[u8]) -> Result<Zeroizing<PrivateKeyDer<'static>>, Unproven> {
    bounded(pem, Piece::Key, IDENTITY_PEM_BYTES_MAX)?;
    let mut found: Option<Zeroizing<PrivateKeyDer<'static>>> = None;
    for key in PrivateKeyDer::pem_slice_iter(pem) {
        let key = Zeroizing::new(key.map_err(|source| refusal(Piece::Key, source))?);
        if found.is_some() {
            return Err(Unproven::SeveralKeys);
        }
        found = Some(key);
    }
    match found {
        Some(key) => Ok(key),
        None if contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || contains(pem, b"Proc-Type: 4,ENCRYPTED") =>
        {
            Err(Unproven::EncryptedKey)
        }
        None => Err(Unproven::NoKey),
    }
}

/// Whether a private key section begins in `pem`.
pub(crate) fn holds_key(pem: &[u8]) -> bool {
    contains(pem, b"PRIVATE KEY-----")
}

/// Certificates as PEM, with 64 characters a line and `\n` endings.
pub(crate) fn encode_certificates(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates
        .iter()
        .flat_map(|certificate| encode("CERTIFICATE", certificate).to_vec())
        .collect()
}

/// A private key as PEM.
pub(crate) fn encode_key(key: &PrivateKeyDer<'_>) -> Zeroizing<Vec<u8>> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    encode(label, key.secret_der())
}

fn bounded(pem: &[u8], piece: Piece, max: usize) -> Result<(), Unproven> {
    if pem.len() > max {
        return Err(Unproven::TooLarge {
            piece,
            bytes: pem.len(),
            max,
        });
    }
    Ok(())
}

fn refusal(piece: Piece, source: Error) -> Unproven {
    match source {
        Error::MissingSectionEnd { .. } | Error::IllegalSectionStart { .. } => {
            Unproven::TruncatedPem { piece }
        }
        // The decoder's words carry offsets and lengths, never the bytes themselves.
        source => Unproven::MalformedPem { piece, source },
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// One section. The buffer is sized beforehand so that it never moves and leaves a copy behind.
fn encode(label: &str, der: &[u8]) -> Zeroizing<Vec<u8>> {
    let characters = der.len().div_ceil(3) * 4;
    let size = characters + characters.div_ceil(LINE) + 2 * (label.len() + 17);
    let mut pem = Zeroizing::new(Vec::with_capacity(size));
    pem.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in der.chunks(LINE / 4 * 3) {
        for group in line.chunks(3) {
            let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for at in 0..4 {
                let six = (bits >> (18 - 6 * at)) & 0x3f;
                // `group` of n bytes fills n + 1 characters (RFC 4648 section 4).
                pem.push(if at <= group.len() {
                    ALPHABET[six as usize]
                } else {
                    b'='
                });
            }
        }
        pem.push(b'\n');
    }
    pem.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    pem
}

const LINE: usize = 64;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same_bytes() {
        for length in [1, 2, 3, 47, 48, 49, 50, 95, 96, 97, 1000] {
            let der: Vec<u8> = (0..=255).cycle().step_by(7).take(length).collect();
            let pem = encode("CERTIFICATE", &der);
            assert!(pem.split(|b| *b == b'\n').all(|line| line.len() <= LINE));
            assert_eq!(
                CertificateDer::from_pem_slice(&pem).unwrap().as_ref(),
                der,
                "{length}"
            );
        }
    }

    #[test]
    fn the_buffer_of_a_key_never_grows() {
        for length in [1, 48, 121, 1200] {
            let pem = encode("EC PRIVATE KEY", &vec![7; length]);
            assert!(pem.len() <= pem.capacity());
            let characters = length.div_ceil(3) * 4;
            let size = characters + characters.div_ceil(LINE) + 2 * ("EC PRIVATE KEY".len() + 17);
            assert!(pem.len() <= size, "{} > {size}", pem.len());
        }
    }
}
