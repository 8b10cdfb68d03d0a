//! The id of one request: in the access log, in `X-Request-Id`, in the answer's body.
//!
//! Promises 122 random bits from a cryptographic generator, so that two never collide and none can be guessed
//! from another. Never says anything about the client, the account or this machine.

use std::fmt;

use http::HeaderValue;
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The id of one request. Prints as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

/// Room for an id's digits.
type Buffer = [u8; uuid::fmt::Urn::LENGTH];

impl RequestId {
    /// A new id (RFC 9562 section 5.4: version 4). No system call: the thread's generator is seeded once.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The 32 digits, printed into `buffer`.
    pub(crate) fn digits(self, buffer: &mut Buffer) -> &str {
        self.0.simple().encode_lower(buffer)
    }

    /// Room for the digits.
    pub(crate) const fn buffer() -> Buffer {
        Uuid::encode_buffer()
    }

    /// As a header value.
    pub fn to_header(self) -> HeaderValue {
        HeaderValue::from_str(self.digits(&mut Self::buffer()))
            .unwrap_or_else(|_| unreachable!("hexadecimal digits are a header value"))
    }
}

impl From<u128> for RequestId {
    fn from(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits(&mut Self::buffer()))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.digits(&mut Self::buffer()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits_everywhere() {
        let id = RequestId::from(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(id.to_string(), text);
        assert_eq!(id.to_header(), text);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn ids_of_many_threads_are_all_different() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| (0..5000).map(|_| RequestId::generate()).collect::<Vec<_>>())
            })
            .collect();
        let ids: HashSet<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(ids.len(), 20_000);
    }
}
