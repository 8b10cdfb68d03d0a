//! Writes version 2 headers, as a Private Link Service or its probes would.
//!
//! For stand-ins and tests: the data plane itself only reads headers. Promises that what it writes is well
//! formed; malformed headers are made by hand, where they are needed.

use std::net::SocketAddr;

use postern_api::LinkId;

use super::{FIXED_BYTES, SIGNATURE, azure, crc32c, tlv};

/// A header in the making.
#[derive(Debug, Clone)]
pub struct HeaderBuilder {
    command: u8,
    family: u8,
    addresses: Vec<u8>,
    vectors: Vec<u8>,
    too_long: bool,
    checksum: bool,
}

/// The addresses and vectors take more than the 65535 bytes that the length field can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PROXY header has at most 65535 bytes after its fixed part")]
pub struct HeaderTooLong;

impl HeaderBuilder {
    /// PROXY: a relayed TCP connection. Over IPv4 if both addresses are, else over IPv6 with IPv4 mapped.
    pub fn proxied(source: SocketAddr, destination: SocketAddr) -> Self {
        let mut addresses = Vec::new();
        let family = if let (SocketAddr::V4(from), SocketAddr::V4(to)) = (source, destination) {
            addresses.extend_from_slice(&from.ip().octets());
            addresses.extend_from_slice(&to.ip().octets());
            TCP4
        } else {
            for address in [source, destination] {
                let ip = match address {
                    SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
                    SocketAddr::V6(v6) => *v6.ip(),
                };
                addresses.extend_from_slice(&ip.octets());
            }
            TCP6
        };
        addresses.extend_from_slice(&source.port().to_be_bytes());
        addresses.extend_from_slice(&destination.port().to_be_bytes());
        Self {
            family,
            addresses,
            ..Self::new(PROXY)
        }
    }

    /// LOCAL: the sender's own connection, for example a health probe.
    pub fn local() -> Self {
        Self::new(LOCAL)
    }

    /// PROXY of an unspecified protocol: relayed, but the sender cannot say for whom.
    pub fn unspecified() -> Self {
        Self::new(PROXY)
    }

    const fn new(command: u8) -> Self {
        Self {
            command,
            family: UNSPECIFIED,
            addresses: Vec::new(),
            vectors: Vec::new(),
            too_long: false,
            checksum: false,
        }
    }

    /// Adds the Azure vector that carries `link_id`.
    #[must_use]
    pub fn link_id(self, link_id: LinkId) -> Self {
        self.tlv(azure::TYPE, &azure::value(link_id))
    }

    /// Adds any vector.
    #[must_use]
    pub fn tlv(mut self, kind: u8, value: &[u8]) -> Self {
        if let Ok(length) = u16::try_from(value.len()) {
            self.vectors.push(kind);
            self.vectors.extend_from_slice(&length.to_be_bytes());
            self.vectors.extend_from_slice(value);
        } else {
            self.too_long = true;
        }
        self
    }

    /// Ends the header with a checksum vector over all of it.
    #[must_use]
    pub const fn checksum(mut self) -> Self {
        self.checksum = true;
        self
    }

    /// The bytes of the header.
    pub fn encode(mut self) -> Result<Vec<u8>, HeaderTooLong> {
        if self.checksum {
            self = self.tlv(tlv::CRC32C, &[0; crc32c::BYTES]);
        }
        let length = self.addresses.len() + self.vectors.len();
        let length = u16::try_from(length).map_err(|_| HeaderTooLong)?;
        if self.too_long {
            return Err(HeaderTooLong);
        }
        let mut header = Vec::with_capacity(FIXED_BYTES + usize::from(length));
        header.extend_from_slice(&SIGNATURE);
        header.extend_from_slice(&[self.command, self.family]);
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&self.addresses);
        header.extend_from_slice(&self.vectors);
        if self.checksum {
            let at = header.len() - crc32c::BYTES;
            let checksum = crc32c::of(&header, at);
            header[at..].copy_from_slice(&checksum);
        }
        Ok(header)
    }
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
