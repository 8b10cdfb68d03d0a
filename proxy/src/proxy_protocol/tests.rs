use std::net::SocketAddr;

use postern_api::LinkId;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Command, FIXED_BYTES, Header, HeaderBuilder, Malformed, Progress, SIGNATURE, parse};

const BYTES_MAX: usize = 4096;

/// What a Private Link Service sends for 10.0.0.4:50000 → 10.1.0.5:443 with link id 0x210045c1.
const AZURE: [u8; 36] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0x00, 0x14,
    0x0a, 0x00, 0x00, 0x04, 0x0a, 0x01, 0x00, 0x05, 0xc3, 0x50, 0x01, 0xbb, 0xee, 0x00, 0x05, 0x01,
    0xc1, 0x45, 0x00, 0x21,
];

fn azure_header() -> Header {
    Header {
        command: Command::Proxy,
        source: Some("10.0.0.4:50000".parse().unwrap()),
        destination: Some("10.1.0.5:443".parse().unwrap()),
        link_id: Some(LinkId::new(0x2100_45c1)),
    }
}

fn fixed(version_and_command: u8, family: u8, length: u16) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[version_and_command, family]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

/// A TCP4 header around these raw bytes in the place of the vectors.
fn with_vectors(vectors: &[u8]) -> Vec<u8> {
    let mut bytes = fixed(0x21, 0x11, u16::try_from(12 + vectors.len()).unwrap());
    bytes.extend_from_slice(&AZURE[16..28]);
    bytes.extend_from_slice(vectors);
    bytes
}

fn link_id_of(vectors: &[u8]) -> Option<LinkId> {
    match parse(&with_vectors(vectors), BYTES_MAX) {
        Progress::Header(header, _) => header.link_id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_header_of_a_private_link_service_is_read() {
    assert_eq!(
        parse(&AZURE, BYTES_MAX),
        Progress::Header(azure_header(), 36)
    );
}

#[test]
fn the_writer_makes_the_header_of_a_private_link_service() {
    let bytes = HeaderBuilder::proxied(
        azure_header().source.unwrap(),
        azure_header().destination.unwrap(),
    )
    .link_id(LinkId::new(0x2100_45c1))
    .encode();
    assert_eq!(bytes.as_deref(), Ok(&AZURE[..]));
}

#[test]
fn the_client_hello_in_the_same_segment_is_not_touched() {
    let mut bytes = AZURE.to_vec();
    bytes.extend_from_slice(b"\x16\x03\x01\x02\x00");
    assert_eq!(
        parse(&bytes, BYTES_MAX),
        Progress::Header(azure_header(), 36)
    );
}

#[test]
fn a_header_cut_at_any_byte_asks_for_the_rest() {
    for cut in 0..AZURE.len() {
        let need = if cut < FIXED_BYTES {
            FIXED_BYTES
        } else {
            AZURE.len()
        };
        assert_eq!(
            parse(&AZURE[..cut], BYTES_MAX),
            Progress::Need(need),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_wrong_signature_is_malformed_at_its_first_wrong_byte() {
    for at in 0..SIGNATURE.len() {
        let mut bytes = AZURE[..=at].to_vec();
        bytes[at] ^= 0x20;
        assert_eq!(
            parse(&bytes, BYTES_MAX),
            Progress::Malformed(Malformed::Missing),
            "byte {at}"
        );
    }
    for bytes in [
        &b"PROXY TCP4 10.0.0.4 10.1.0.5 50000 443\r\n"[..],
        b"\x16\x03\x01",
        b"G",
    ] {
        assert_eq!(
            parse(bytes, BYTES_MAX),
            Progress::Malformed(Malformed::Missing)
        );
    }
}

#[test]
fn only_version_2_is_accepted() {
    // "it must always be sent as \x2 and the receiver must only accept this value"
    for byte in (0..=255_u8).filter(|byte| byte >> 4 != 2) {
        let bytes = fixed(byte, 0x11, 12);
        assert_eq!(
            parse(&bytes[..13], BYTES_MAX),
            Progress::Malformed(Malformed::BadVersion)
        );
    }
}

#[test]
fn only_local_and_proxy_are_commands() {
    // "Receivers must drop connections presenting unexpected values here."
    for byte in 0x22..=0x2f {
        let bytes = fixed(byte, 0x11, 12);
        assert_eq!(
            parse(&bytes[..13], BYTES_MAX),
            Progress::Malformed(Malformed::BadCommand)
        );
    }
}

#[test]
fn only_tcp_and_unspecified_are_families() {
    for byte in (0..=255_u8).filter(|byte| ![0x00, 0x11, 0x21].contains(byte)) {
        let bytes = fixed(0x21, byte, 216);
        assert_eq!(
            parse(&bytes[..14], BYTES_MAX),
            Progress::Malformed(Malformed::BadFamily)
        );
    }
}

#[test]
fn local_skips_its_length_whatever_family_and_bytes() {
    // "Receivers MUST always consider this field to skip the appropriate number of bytes and must not
    // assume zero is presented for LOCAL connections."
    for family in 0..=255 {
        for length in [0_u16, 1, 2, 12, 20] {
            let mut bytes = fixed(0x20, family, length);
            bytes.resize(FIXED_BYTES + usize::from(length), 0xee);
            let total = bytes.len();
            bytes.push(b'!');
            let nothing = Header {
                command: Command::Local,
                source: None,
                destination: None,
                link_id: None,
            };
            assert_eq!(parse(&bytes, BYTES_MAX), Progress::Header(nothing, total));
        }
    }
}

#[test]
fn unspecified_skips_its_length_and_carries_no_link_id() {
    let mut bytes = fixed(0x21, 0x00, 8);
    bytes.extend_from_slice(&AZURE[28..]);
    let nothing = Header {
        command: Command::Proxy,
        source: None,
        destination: None,
        link_id: None,
    };
    assert_eq!(parse(&bytes, BYTES_MAX), Progress::Header(nothing, 24));
    let written = HeaderBuilder::unspecified()
        .link_id(LinkId::new(0x2100_45c1))
        .encode();
    assert_eq!(written, Ok(bytes));
}

#[test]
fn a_header_larger_than_allowed_is_malformed_before_its_body_arrives() {
    assert_eq!(parse(&AZURE[..16], 36), Progress::Need(36));
    assert_eq!(
        parse(&AZURE[..16], 35),
        Progress::Malformed(Malformed::Oversized)
    );
    let local = fixed(0x20, 0, 65535);
    assert_eq!(
        parse(&local, BYTES_MAX),
        Progress::Malformed(Malformed::Oversized)
    );
    assert_eq!(parse(&local, 65551), Progress::Need(65551));
}

#[test]
fn a_length_too_short_for_the_addresses_is_malformed() {
    for (family, bytes) in [(0x11, 12), (0x21, 36)] {
        for length in 0..bytes {
            let header = fixed(0x21, family, length);
            let malformed = Progress::Malformed(Malformed::AddressesShort);
            assert_eq!(
                parse(&header, BYTES_MAX),
                malformed,
                "family {family:#x}, length {length}"
            );
        }
    }
}

#[test]
fn a_vector_behind_the_end_is_malformed_even_after_a_good_link_id() {
    for tail in [
        &b"\x04"[..],
        b"\x04\x00",
        b"\x04\x00\x01",
        b"\xee\x00\x05\x01\xc1\x45\x00",
    ] {
        let mut vectors = AZURE[28..].to_vec();
        vectors.extend_from_slice(tail);
        let mut bytes = with_vectors(&vectors);
        // What follows the header must not complete the vector.
        bytes.extend_from_slice(&[0; 16]);
        assert_eq!(
            parse(&bytes, BYTES_MAX),
            Progress::Malformed(Malformed::TlvOverrun),
            "{tail:?}"
        );
    }
}

#[test]
fn a_link_id_of_wrong_length_or_subtype_is_skipped() {
    for vector in [
        &b"\xee\x00\x00"[..],
        b"\xee\x00\x04\x01\xc1\x45\x00",
        b"\xee\x00\x06\x01\xc1\x45\x00\x21\x00",
        b"\xee\x00\x05\x02\xc1\x45\x00\x21",
        b"\xea\x00\x05\x01\xc1\x45\x00\x21",
    ] {
        assert_eq!(link_id_of(vector), None, "{vector:?}");
        let then_good = [vector, b"\x04\x00\x00", b"\xee\x00\x05\x01\x07\x00\x00\x00"].concat();
        assert_eq!(link_id_of(&then_good), Some(LinkId::new(7)), "{vector:?}");
    }
}

#[test]
fn the_first_well_formed_link_id_wins() {
    let two = b"\xee\x00\x05\x01\x01\x00\x00\x00\xee\x00\x05\x01\x02\x00\x00\x00";
    assert_eq!(link_id_of(two), Some(LinkId::new(1)));
}

#[test]
fn the_extreme_link_ids_are_link_ids() {
    assert_eq!(
        link_id_of(b"\xee\x00\x05\x01\x00\x00\x00\x00"),
        Some(LinkId::new(0))
    );
    assert_eq!(
        link_id_of(b"\xee\x00\x05\x01\xff\xff\xff\xff"),
        Some(LinkId::new(u32::MAX))
    );
}

#[test]
fn a_wrong_checksum_is_malformed_and_a_right_one_is_not() {
    // "If it is not, the receiver MUST treat the TCP connection providing the header as invalid."
    let header = azure_header();
    let builder = HeaderBuilder::proxied(header.source.unwrap(), header.destination.unwrap())
        .link_id(header.link_id.unwrap())
        .checksum();
    let good = builder.clone().encode().unwrap();
    assert_eq!(
        parse(&good, BYTES_MAX),
        Progress::Header(header, good.len())
    );
    // All but the byte that says that this vector is the checksum.
    let checksum_type = good.len() - 7;
    for at in (FIXED_BYTES..good.len()).filter(|&at| at != checksum_type) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(
            matches!(parse(&bad, BYTES_MAX), Progress::Malformed(_)),
            "byte {at}"
        );
    }
    for bad in [
        builder
            .clone()
            .checksum()
            .tlv(0x03, &good[good.len() - 4..])
            .encode()
            .unwrap(),
        with_vectors(b"\x03\x00\x03\x00\x00\x00"),
    ] {
        assert_eq!(
            parse(&bad, BYTES_MAX),
            Progress::Malformed(Malformed::BadChecksum)
        );
    }
}

#[test]
fn a_header_that_does_not_fit_its_length_field_is_not_written() {
    assert!(
        HeaderBuilder::local()
            .tlv(4, &vec![0; 65532])
            .encode()
            .is_ok()
    );
    assert!(
        HeaderBuilder::local()
            .tlv(4, &vec![0; 65533])
            .encode()
            .is_err()
    );
    assert!(
        HeaderBuilder::local()
            .tlv(4, &vec![0; 65536])
            .encode()
            .is_err()
    );
}

#[test]
fn each_reason_has_its_own_word() {
    let words = Malformed::ALL.map(Malformed::label);
    let distinct: std::collections::HashSet<_> = words.iter().collect();
    assert_eq!(distinct.len(), words.len());
    assert!(words.iter().all(|word| word.starts_with("proxy_header_")));
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(std::net::IpAddr, u16)>().prop_map(SocketAddr::from)
}

/// What the reader should give back for an address pair that the writer was given.
fn as_written(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        v6 @ SocketAddr::V6(_) => v6,
    };
    (mapped(source), mapped(destination))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        source in address(),
        destination in address(),
        link_id in any::<Option<u32>>(),
        before in vec((0x04_u8..0xe0, vec(any::<u8>(), 0..64)), 0..4),
        rest in vec(any::<u8>(), 0..64),
        checksum in any::<bool>(),
    ) {
        let link_id = link_id.map(LinkId::new);
        let mut builder = HeaderBuilder::proxied(source, destination);
        for (kind, value) in &before {
            builder = builder.tlv(*kind, value);
        }
        if let Some(link_id) = link_id {
            builder = builder.link_id(link_id);
        }
        if checksum {
            builder = builder.checksum();
        }
        let mut bytes = builder.encode().unwrap();
        let consumed = bytes.len();
        bytes.extend_from_slice(&rest);
        let (source, destination) = as_written(source, destination);
        let header = Header {
            command: Command::Proxy,
            source: Some(source),
            destination: Some(destination),
            link_id,
        };
        prop_assert_eq!(parse(&bytes, BYTES_MAX), Progress::Header(header, consumed));
        for split in 0..consumed {
            let need = if split < FIXED_BYTES { FIXED_BYTES } else { consumed };
            prop_assert_eq!(parse(&bytes[..split], BYTES_MAX), Progress::Need(need));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_read_behind_the_header(
        start in 0_usize..=36,
        tail in vec(any::<u8>(), 0..300),
        bytes_max in 0_usize..600,
    ) {
        let bytes = [&AZURE[..start], &tail].concat();
        match parse(&bytes, bytes_max) {
            Progress::Need(n) => prop_assert!(n > bytes.len()),
            Progress::Header(header, consumed) => {
                prop_assert!(consumed <= bytes.len() && consumed <= bytes_max);
                let again = parse(&bytes[..consumed], bytes_max);
                prop_assert_eq!(again, Progress::Header(header, consumed));
            }
            Progress::Malformed(malformed) => {
                let more = [&bytes[..], b"more"].concat();
                prop_assert_eq!(parse(&more, bytes_max), Progress::Malformed(malformed));
            }
        }
    }

    #[test]
    fn an_independent_encoder_is_read(
        source in any::<(std::net::Ipv4Addr, u16)>(),
        destination in any::<(std::net::Ipv4Addr, u16)>(),
        six in any::<bool>(),
        link_id in any::<u32>(),
    ) {
        let address = |(ip, port): (std::net::Ipv4Addr, u16)| {
            if six { SocketAddr::from((ip.to_ipv6_compatible(), port)) } else { (ip, port).into() }
        };
        let (source, destination) = (address(source), address(destination));
        let mut value = vec![1];
        value.extend_from_slice(&link_id.to_le_bytes());
        let bytes = ppp::v2::Builder::with_addresses(
            ppp::v2::Version::Two | ppp::v2::Command::Proxy,
            ppp::v2::Protocol::Stream,
            (source, destination),
        )
        .write_tlv(ppp::v2::Type::NoOp, b"padding")
        .unwrap()
        .write_tlv(0xee_u8, &value)
        .unwrap()
        .build()
        .unwrap();
        let header = Header {
            command: Command::Proxy,
            source: Some(source),
            destination: Some(destination),
            link_id: Some(LinkId::new(link_id)),
        };
        prop_assert_eq!(parse(&bytes, BYTES_MAX), Progress::Header(header, bytes.len()));
    }

    #[test]
    fn an_independent_reader_reads_what_is_written(
        source in any::<(std::net::Ipv4Addr, u16)>(),
        destination in any::<(std::net::Ipv4Addr, u16)>(),
        link_id in any::<u32>(),
    ) {
        let (source, destination) = (SocketAddr::from(source), SocketAddr::from(destination));
        let bytes = HeaderBuilder::proxied(source, destination)
            .link_id(LinkId::new(link_id))
            .encode()
            .unwrap();
        let read = ppp::v2::Header::try_from(bytes.as_slice()).unwrap();
        prop_assert_eq!(read.addresses, (source, destination).into());
        let vectors: Vec<_> = read.tlvs().map(|vector| vector.unwrap()).collect();
        prop_assert_eq!(vectors.len(), 1);
        prop_assert_eq!(vectors[0].kind, 0xee);
    }
}
