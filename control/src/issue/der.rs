//! DER (ITU-T X.690) as far as a certificate needs it: writing only.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `[number]`, constructed.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// `[number]`, primitive.
pub(super) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

/// A tag, the length of its content in the fewest octets, and the content.
pub(super) fn value(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let octets = length.to_be_bytes();
            let octets = trimmed(&octets);
            // At most eight octets, so that their count fits.
            der.push(0x80 | u8::try_from(octets.len()).unwrap_or(0));
            der.extend_from_slice(octets);
        }
    }
    der.extend(content.iter().copied().flatten());
    der
}

/// A number that is not negative, from its big-endian octets.
pub(super) fn unsigned(octets: &[u8]) -> Vec<u8> {
    let octets = trimmed(octets);
    match octets.first() {
        Some(first) if *first < 0x80 => value(INTEGER, &[octets]),
        _ => value(INTEGER, &[&[0], octets]),
    }
}

/// A bit string of whole octets.
pub(super) fn bits(octets: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], octets])
}

/// A Unix time in seconds, as RFC 5280 section 4.1.2.5 writes it: two digits of the year through 2049.
pub(super) fn time(unix: i64) -> Option<Vec<u8>> {
    let time = Timestamp::from_second(unix).ok()?.to_zoned(TimeZone::UTC);
    let (tag, format) = if (1950..2050).contains(&time.year()) {
        (UTC_TIME, "%y%m%d%H%M%SZ")
    } else {
        (GENERALIZED_TIME, "%Y%m%d%H%M%SZ")
    };
    let text = time.strftime(format).to_string();
    Some(value(tag, &[text.as_bytes()]))
}

fn trimmed(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    &octets[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_the_fewest_octets() {
        assert_eq!(value(OCTET_STRING, &[&[7; 3]])[..2], [4, 3]);
        assert_eq!(value(OCTET_STRING, &[&[7; 127]])[..2], [4, 127]);
        assert_eq!(value(OCTET_STRING, &[&[7; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(value(OCTET_STRING, &[&[7; 255]])[..3], [4, 0x81, 255]);
        assert_eq!(
            value(OCTET_STRING, &[&[7; 200], &[7; 100]])[..4],
            [4, 0x82, 1, 44]
        );
    }

    #[test]
    fn a_number_is_minimal_and_not_negative() {
        assert_eq!(unsigned(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0, 0x7f, 0xff]), [2, 2, 0x7f, 0xff]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
    }

    #[test]
    fn the_year_2050_has_four_digits() {
        assert_eq!(time(0).unwrap(), b"\x17\x0d700101000000Z");
        assert_eq!(time(2_524_607_999).unwrap(), b"\x17\x0d491231235959Z");
        assert_eq!(time(2_524_608_000).unwrap(), b"\x18\x0f20500101000000Z");
    }
}
