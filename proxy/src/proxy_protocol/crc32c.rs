//! The checksum of a header (section 2.2.3; CRC-32C of RFC 4960, appendix B).
//!
//! We verify it whenever it is there: "If the checksum is provided as part of the PROXY header and the
//! checksum functionality is supported by the receiver, the receiver MUST [...] verify that the calculated
//! `CRC32c` checksum is the same as the received `CRC32c` checksum. If it is not, the receiver MUST treat the
//! TCP connection providing the header as invalid." A Private Link Service sends none, so this costs nothing.
//!
//! It protects from broken senders and from nobody else: it is not a signature.

/// Whether `value`, which stands in `header` at `at`, is the checksum of `header`.
pub(super) fn holds(header: &[u8], at: usize, value: &[u8]) -> bool {
    let Ok(stored) = <[u8; BYTES]>::try_from(value) else {
        return false;
    };
    of(header, at) == stored
}

/// The checksum of `header`, computed as if the four bytes at `at` were zero.
pub(super) fn of(header: &[u8], at: usize) -> [u8; BYTES] {
    let before = step(!0, &header[..at]);
    let field = step(before, &[0; BYTES]);
    (!step(field, &header[at + BYTES..])).to_be_bytes()
}

/// Bytes of a checksum.
pub(super) const BYTES: usize = 4;

fn step(mut crc: u32, bytes: &[u8]) -> u32 {
    for &byte in bytes {
        let [low, ..] = crc.to_le_bytes();
        crc = (crc >> 8) ^ TABLE[usize::from(low ^ byte)];
    }
    crc
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    // The Castagnoli polynomial 0x1EDC6F41, bit-reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut index = 0;
    let mut byte = 0_u32;
    while index < table.len() {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc32c_comes_out() {
        assert_eq!(!step(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!step(!0, &[0; 32]), 0x8a91_36aa, "RFC 3720, appendix B.4");
    }
}
