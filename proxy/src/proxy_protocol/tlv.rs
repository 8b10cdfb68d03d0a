//! Type-length-value vectors: type `u8`, length `u16` big endian, value.
//!
//! Promises to give each vector once, in order, or one [`Malformed::TlvOverrun`] and then nothing. Never
//! interprets a value; vectors of unknown type are the caller's to skip ("A receiver may choose to skip over
//! and ignore the TLVs it is not interested in or it does not understand").

use super::Malformed;

/// `PP2_TYPE_CRC32C`: checksum of the whole header.
pub(super) const CRC32C: u8 = 0x03;

/// One vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tlv<'a> {
    pub(super) kind: u8,
    pub(super) value: &'a [u8],
    /// Where the value begins, from the first byte of the first vector.
    pub(super) value_at: usize,
}

/// The vectors of one header.
#[derive(Debug, Clone)]
pub(super) struct Tlvs<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Tlvs<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((kind, value, rest)) = split(self.rest) else {
            self.rest = &[];
            return Some(Err(Malformed::TlvOverrun));
        };
        let value_at = self.at + TYPE_AND_LENGTH_BYTES;
        self.at = value_at + value.len();
        self.rest = rest;
        Some(Ok(Tlv {
            kind,
            value,
            value_at,
        }))
    }
}

fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<TYPE_AND_LENGTH_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (value, rest) = rest.split_at_checked(length)?;
    Some((kind, value, rest))
}

const TYPE_AND_LENGTH_BYTES: usize = 3;
