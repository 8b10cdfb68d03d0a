//! PROXY protocol version 2, without I/O: bytes in, a header out, and the other way round.
//!
//! * `header`: [`parse`], the fixed part, the addresses, and every way a header can be [`Malformed`].
//! * `tlv`: the type-length-value vectors behind the addresses.
//! * `azure`: the one vector we read, the link id of an Azure Private Link Service.
//! * `crc32c`: the optional checksum of a header.
//! * `write`: [`HeaderBuilder`], for stand-ins of the Private Link Service and for tests.
//!
//! Source: "The PROXY protocol, versions 1 & 2" (`doc/proxy-protocol.txt` of `HAProxy`), section 2.2. Version 1
//! (text) is never accepted: a Private Link Service does not send it, and a receiver must not guess.
//!
//! Invariant: no sequence of bytes makes the parser panic, allocate, or look behind the header's own end.

mod azure;
mod crc32c;
mod header;
mod tlv;
mod write;

#[cfg(test)]
mod tests;

pub use header::{Command, Header, Malformed, Progress, parse};
pub use write::{HeaderBuilder, HeaderTooLong};

/// The twelve bytes that begin every version 2 header.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of the fixed part: signature, version and command, family, length of the rest.
pub const FIXED_BYTES: usize = 16;
