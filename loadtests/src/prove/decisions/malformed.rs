//! Rows for bytes that are no PROXY header, no `ClientHello` or no request head we accept.

use bytes::Bytes;

use super::act::{Act, Got};
use super::rows::{Row, row};
use crate::proxy_v2::Header;
use crate::stack::accounts::LINK_A;
use crate::stack::postern::TRUSTED_SOURCE;

// Places in the header of a TCP over IPv4 connection with a link id.
const VERSION_AND_COMMAND: usize = 12;
const FAMILY: usize = 13;
const LENGTH: usize = 14;
const TLV_KIND: usize = 28;
const TLV_LENGTH_LOW: usize = 30;

const CRC32C: u8 = 0x03;

pub(super) fn rows() -> Vec<Row> {
    let closed = |claim, header: Bytes, word| row(claim, bytes(header), Got::Closed, word);
    // Right in length, as a checksum must be, and wrong in value.
    let checksum = |header: &mut Vec<u8>| {
        header.truncate(TLV_KIND);
        header[LENGTH + 1] = 12 + 7;
        header.extend([CRC32C, 0, 4, 1, 2, 3, 4]);
    };
    let short = |header: &mut Vec<u8>| {
        header[LENGTH + 1] = 4;
        header.truncate(20);
    };
    let hello = [
        Header::link(LINK_A).bytes().as_ref(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    .concat();
    let head = format!(
        "GET /refused HTTP/1.1\r\nHost: hospital-a.dicom.example\r\nx: {}\r\n\r\n",
        "x".repeat(80_000)
    );
    vec![
        closed(
            "PROXY version 1",
            changed(|h| h[VERSION_AND_COMMAND] = 0x11),
            "proxy_header_bad_version",
        ),
        closed(
            "an unassigned command",
            changed(|h| h[VERSION_AND_COMMAND] = 0x22),
            "proxy_header_bad_command",
        ),
        closed(
            "a UNIX socket's family",
            changed(|h| h[FAMILY] = 0x31),
            "proxy_header_bad_family",
        ),
        closed(
            "a header of 64 KiB",
            changed(|h| h[LENGTH] = 0xff),
            "proxy_header_oversized",
        ),
        closed(
            "half the addresses",
            changed(short),
            "proxy_header_addresses_short",
        ),
        closed(
            "a TLV longer than the header",
            changed(|h| h[TLV_LENGTH_LOW] = 50),
            "proxy_header_tlv_overrun",
        ),
        closed(
            "a wrong checksum",
            changed(checksum),
            "proxy_header_bad_checksum",
        ),
        row(
            "cleartext HTTP instead of a ClientHello",
            bytes(hello.into()),
            Got::Alert(rustls::AlertDescription::DecodeError),
            "client_hello_malformed",
        ),
        row(
            "a request head of 80 kB",
            Act::Http1(head.into()),
            Got::Status(431),
            "head_too_large",
        ),
    ]
}

fn bytes(bytes: Bytes) -> Act {
    Act::Bytes {
        source: TRUSTED_SOURCE,
        header: Header::Raw(bytes),
        finish: false,
    }
}

fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut header = Header::link(LINK_A).bytes().to_vec();
    change(&mut header);
    header.into()
}
