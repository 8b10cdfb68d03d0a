//! The header of a connection: fixed part, addresses, link id.
//!
//! Promises to read exactly `16 + length` bytes, and to say that bytes are malformed as soon as they are: a
//! wrong first byte is enough. Never keeps a header that a vector overruns, even if it has a good link id.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use postern_api::LinkId;

use super::tlv::Tlvs;
use super::{FIXED_BYTES, SIGNATURE, azure, crc32c, tlv};

/// How far the bytes at hand go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes are needed, counted from the first byte of the connection. Always more than were given.
    Need(usize),
    /// The header, and how many bytes it took. The bytes after that belong to the client.
    Header(Header, usize),
    /// This is not a header we accept. More bytes will not change that.
    Malformed(Malformed),
}

/// What the sender says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether the connection is relayed at all.
    pub command: Command,
    /// Who connected. `None` when the header does not say (LOCAL, or an unspecified protocol).
    pub source: Option<SocketAddr>,
    /// What they connected to. `None` when the header does not say.
    pub destination: Option<SocketAddr>,
    /// The private endpoint connection it came through. Always `None` without addresses.
    pub link_id: Option<LinkId>,
}

/// The low four bits of the thirteenth byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// The sender opened the connection for itself, for example to probe our health.
    Local,
    /// The sender relays somebody else's connection.
    Proxy,
}

/// Why bytes are not a header we accept. `Display` is one sentence for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The signature does not match.
    #[error("the connection does not begin with a PROXY protocol version 2 header")]
    Missing,
    /// Another version than 2.
    #[error("the PROXY header has another version than 2")]
    BadVersion,
    /// Neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown command")]
    BadCommand,
    /// Neither TCP over IPv4, nor TCP over IPv6, nor unspecified.
    #[error("the PROXY header is for another protocol than TCP over IPv4 or IPv6")]
    BadFamily,
    /// The header is larger than we read.
    #[error("the PROXY header is larger than allowed")]
    Oversized,
    /// The length is too small for the addresses of the family.
    #[error("the PROXY header is too short for its addresses")]
    AddressesShort,
    /// A vector runs behind the end of the header, or one or two bytes are left over.
    #[error("a type-length-value vector runs behind the end of the PROXY header")]
    TlvOverrun,
    /// There is a checksum and it is wrong.
    #[error("the checksum of the PROXY header is wrong")]
    BadChecksum,
}

impl Malformed {
    /// Every value, for metric registration, documentation and tests.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::BadVersion,
        Self::BadCommand,
        Self::BadFamily,
        Self::Oversized,
        Self::AddressesShort,
        Self::TlvOverrun,
        Self::BadChecksum,
    ];

    /// The one word: metric label and log word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "proxy_header_missing",
            Self::BadVersion => "proxy_header_bad_version",
            Self::BadCommand => "proxy_header_bad_command",
            Self::BadFamily => "proxy_header_bad_family",
            Self::Oversized => "proxy_header_oversized",
            Self::AddressesShort => "proxy_header_addresses_short",
            Self::TlvOverrun => "proxy_header_tlv_overrun",
            Self::BadChecksum => "proxy_header_bad_checksum",
        }
    }
}

/// Reads the header that `bytes` begin with. `bytes_max` bounds the whole header, fixed part included.
///
/// Call again with all bytes so far after [`Progress::Need`]; nothing is remembered between calls.
pub fn parse(bytes: &[u8], bytes_max: usize) -> Progress {
    match try_parse(bytes, bytes_max) {
        Ok(progress) => progress,
        Err(malformed) => Progress::Malformed(malformed),
    }
}

fn try_parse(bytes: &[u8], bytes_max: usize) -> Result<Progress, Malformed> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(Malformed::Missing);
    }
    let Some(&version_and_command) = bytes.get(12) else {
        return Ok(Progress::Need(FIXED_BYTES));
    };
    let command = command(version_and_command)?;
    let Some(&family_byte) = bytes.get(13) else {
        return Ok(Progress::Need(FIXED_BYTES));
    };
    // "When a sender presents a LOCAL connection [...] the receiver [...] must use the real connection
    // endpoints and discard the protocol block including the family which is ignored."
    let family = match command {
        Command::Local => Family::Unspecified,
        Command::Proxy => family(family_byte)?,
    };
    let (Some(&high), Some(&low)) = (bytes.get(14), bytes.get(15)) else {
        return Ok(Progress::Need(FIXED_BYTES));
    };
    // "Receivers MUST always consider this field to skip the appropriate number of bytes and must not
    // assume zero is presented for LOCAL connections."
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = FIXED_BYTES + length;
    if total > bytes_max {
        return Err(Malformed::Oversized);
    }
    if length < family.addresses_bytes() {
        return Err(Malformed::AddressesShort);
    }
    // "The receiver must not start to parse an address before the whole address block is received."
    let Some(header) = bytes.get(..total) else {
        return Ok(Progress::Need(total));
    };
    let header = body(command, family, header)?;
    Ok(Progress::Header(header, total))
}

fn command(byte: u8) -> Result<Command, Malformed> {
    // "The highest four bits contains the version. As of this specification, it must always be sent as
    // \x2 and the receiver must only accept this value."
    if byte >> 4 != 2 {
        return Err(Malformed::BadVersion);
    }
    // "other values are unassigned and must not be emitted by senders. Receivers must drop connections
    // presenting unexpected values here."
    match byte & 0x0f {
        0 => Ok(Command::Local),
        1 => Ok(Command::Proxy),
        _ => Err(Malformed::BadCommand),
    }
}

#[derive(Clone, Copy)]
enum Family {
    Unspecified,
    Tcp4,
    Tcp6,
}

impl Family {
    const fn addresses_bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Tcp4 => 12,
            Self::Tcp6 => 36,
        }
    }
}

fn family(byte: u8) -> Result<Family, Malformed> {
    match byte {
        // "Only the UNSPEC protocol byte (\x00) is mandatory to implement on the receiver."
        0x00 => Ok(Family::Unspecified),
        0x11 => Ok(Family::Tcp4),
        0x21 => Ok(Family::Tcp6),
        // UDP and UNIX sockets are valid, but "the receiver is free to accept the connection anyway and
        // use the real endpoints addresses or to reject the connection". A Private Link Service relays
        // TCP only, so whoever sends them is not one. Other values "must be rejected as invalid".
        _ => Err(Malformed::BadFamily),
    }
}

/// `header` is the whole header and long enough for the addresses of `family`.
fn body(command: Command, family: Family, header: &[u8]) -> Result<Header, Malformed> {
    let (addresses, vectors) = header[FIXED_BYTES..].split_at(family.addresses_bytes());
    let (source, destination) = match family {
        // "The receiver should ignore address information." What follows need not be vectors at all.
        Family::Unspecified => {
            return Ok(Header {
                command,
                source: None,
                destination: None,
                link_id: None,
            });
        }
        Family::Tcp4 => {
            let ip = |at| Ipv4Addr::from(array::<4>(addresses, at));
            (
                SocketAddr::from((ip(0), port(addresses, 8))),
                (ip(4), port(addresses, 10)).into(),
            )
        }
        Family::Tcp6 => {
            let ip = |at| Ipv6Addr::from(array::<16>(addresses, at));
            (
                SocketAddr::from((ip(0), port(addresses, 32))),
                (ip(16), port(addresses, 34)).into(),
            )
        }
    };
    let mut link_id = None;
    let mut checksum = None;
    for vector in Tlvs::new(vectors) {
        let vector = vector?;
        if vector.kind == tlv::CRC32C {
            let at = header.len() - vectors.len() + vector.value_at;
            // Two checksums cannot both be computed with "the checksum field" set to zero.
            if checksum.replace((at, vector.value)).is_some() {
                return Err(Malformed::BadChecksum);
            }
        } else if link_id.is_none() {
            link_id = azure::link_id(vector);
        }
    }
    if let Some((at, value)) = checksum
        && !crc32c::holds(header, at, value)
    {
        return Err(Malformed::BadChecksum);
    }
    Ok(Header {
        command,
        source: Some(source),
        destination: Some(destination),
        link_id,
    })
}

fn port(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

/// `N` bytes from `at`. The caller has checked that they are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
