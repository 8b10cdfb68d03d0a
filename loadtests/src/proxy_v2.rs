//! PROXY protocol v2 headers as a Private Link Service sends them, and as it never would.
//!
//! The bytes are written here and not by Postern's own encoder, so that a test that passes is not both
//! sides making the same mistake. Format: section 2.2 of `proxy-protocol.txt`; the
//! Azure TLV: type 0xEE, length 5, subtype 0x01, link id as `u32` little endian.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use postern_api::LinkId;

/// What a connection begins with.
#[derive(Debug, Clone)]
pub enum Header {
    /// Nothing.
    Absent,
    /// A PROXY header with client and server address, with or without a link id.
    Proxy {
        /// The address of the client in its own network.
        client: SocketAddr,
        /// The address the client connected to.
        server: SocketAddr,
        /// The link id for the Azure TLV.
        link_id: Option<LinkId>,
    },
    /// A LOCAL header without addresses, as for a health probe.
    Local,
    /// Any bytes.
    Raw(Bytes),
}

/// The client address of headers that name no other.
pub const CLIENT_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5)), 443);
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_PROXY: u8 = 0x21;
const VERSION_LOCAL: u8 = 0x20;
const FAMILY_UNSPEC: u8 = 0x00;
const FAMILY_TCP4: u8 = 0x11;
const FAMILY_TCP6: u8 = 0x21;
const AZURE_TLV: u8 = 0xEE;
const AZURE_LINK_ID: u8 = 0x01;

impl Header {
    /// A client at [`CLIENT_IP`] behind the private endpoint connection `link_id`.
    pub const fn link(link_id: u32) -> Self {
        let client = SocketAddr::new(CLIENT_IP, 50_000);
        Self::Proxy {
            client,
            server: SERVER,
            link_id: Some(LinkId::new(link_id)),
        }
    }

    /// A client at [`CLIENT_IP`] without a link id.
    pub const fn without_link() -> Self {
        let client = SocketAddr::new(CLIENT_IP, 50_000);
        Self::Proxy {
            client,
            server: SERVER,
            link_id: None,
        }
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Absent => Bytes::new(),
            Self::Raw(bytes) => bytes.clone(),
            Self::Local => frame(VERSION_LOCAL, FAMILY_UNSPEC, &[]),
            Self::Proxy {
                client,
                server,
                link_id,
            } => {
                let (family, mut rest) = addresses(*client, *server);
                if let Some(link_id) = link_id {
                    rest.extend_from_slice(&[AZURE_TLV, 0, 5, AZURE_LINK_ID]);
                    rest.extend_from_slice(&link_id.get().to_le_bytes());
                }
                frame(VERSION_PROXY, family, &rest)
            }
        }
    }
}

/// Both addresses must be of one family on the wire; an IPv4 one beside an IPv6 one is mapped.
fn addresses(client: SocketAddr, server: SocketAddr) -> (u8, Vec<u8>) {
    let mut bytes = Vec::with_capacity(36 + 8);
    let family = if let (IpAddr::V4(from), IpAddr::V4(to)) = (client.ip(), server.ip()) {
        bytes.extend_from_slice(&from.octets());
        bytes.extend_from_slice(&to.octets());
        FAMILY_TCP4
    } else {
        for address in [client, server] {
            let octets = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            bytes.extend_from_slice(&octets);
        }
        FAMILY_TCP6
    };
    bytes.extend_from_slice(&client.port().to_be_bytes());
    bytes.extend_from_slice(&server.port().to_be_bytes());
    (family, bytes)
}

fn frame(version: u8, family: u8, rest: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(16 + rest.len());
    bytes.extend_from_slice(SIGNATURE);
    bytes.extend_from_slice(&[version, family]);
    // Addresses and one TLV are at most 44 bytes.
    bytes.extend_from_slice(&u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_known_azure_vector() {
        let expected = "0d0a0d0a000d0a515549540a211100140a0000040a010005c35001bbee000501c1450021";
        let hex: String = Header::link(0x2100_45c1)
            .bytes()
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(hex, expected);
    }

    #[test]
    fn an_ipv6_client_makes_both_addresses_ipv6() {
        let client = "[2001:db8::1]:50000".parse().unwrap();
        let bytes = Header::Proxy {
            client,
            server: SERVER,
            link_id: None,
        }
        .bytes();
        assert_eq!(&bytes[13..16], [FAMILY_TCP6, 0, 36]);
        assert_eq!(bytes.len(), 16 + 36);
    }
}
