//! PROXY v2 headers, as the Private Link Service sends them and a little longer.

use std::net::SocketAddr;

use postern::proxy_protocol::{HeaderBuilder, Progress, parse};
use postern_api::LinkId;

use super::Harness;

// The default of `proxy_header.bytes_max` is larger than all of these.
const BYTES_MAX: usize = 4096;

pub fn cases(harness: &mut impl Harness) {
    let azure = || proxied("10.0.0.4:50000", "10.1.0.5:443").link_id(LinkId::new(0x2100_45c1));
    header(harness, "proxy_header/ipv4", azure);
    header(harness, "proxy_header/ipv6", || {
        proxied("[2001:db8::4]:50000", "[2001:db8::5]:443").link_id(LinkId::new(0x2100_45c1))
    });
    header(harness, "tlv/link_id_after_8_others", || {
        let others = (0xe0..0xe8)
            .fold(proxied("10.0.0.4:50000", "10.1.0.5:443"), |header, kind| {
                header.tlv(kind, b"another vector's value")
            });
        others.link_id(LinkId::new(0x2100_45c1))
    });
    header(harness, "tlv/checksum", move || azure().checksum());
}

fn proxied(source: &str, destination: &str) -> HeaderBuilder {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    HeaderBuilder::proxied(address(source), address(destination))
}

fn header(harness: &mut impl Harness, name: &str, header: impl Fn() -> HeaderBuilder) {
    harness.case(
        name,
        || header().encode().unwrap(),
        |_| (),
        |bytes, ()| match parse(bytes, BYTES_MAX) {
            Progress::Header(header, _) => header.link_id.unwrap(),
            other => panic!("{other:?}"),
        },
    );
}
