//! How a line is put together: the names of fields as they stand, the values by their kind.
//!
//! Promises one JSON object. Text from outside is escaped by `serde_json`; what is printed here (numbers, addresses,
//! words from closed lists) has nothing to escape.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use postern_api::LinkId;

use super::stamp::Stamp;
use crate::request_id::RequestId;

/// Whether a value was appended. Only escaping could fail.
pub(super) type Written = serde_json::Result<()>;

/// A line that is being appended to a buffer.
pub(super) struct Line<'a>(&'a mut Vec<u8>);

/// A field's name, with the punctuation around it.
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(super) use name;

/// What a field may hold.
pub(super) trait Value {
    /// Appends the value as JSON.
    fn append(self, out: &mut Vec<u8>) -> Written;
}

/// A word of ours.
pub(super) struct Word(pub(super) &'static str);

/// Text from outside, and of how many bytes more are cut off; what is missing shows as `…`.
pub(super) struct Text<'a>(pub(super) &'a str, pub(super) usize);

/// In whole microseconds.
pub(super) struct Micros(pub(super) Duration);

impl<'a> Line<'a> {
    /// Begins a line of this kind that happened just now.
    pub(super) fn begin(out: &'a mut Vec<u8>, kind: &'static str) -> Self {
        out.extend_from_slice(b"{\"ts\":\"");
        Stamp::now().append(out);
        out.extend_from_slice(b"\",\"kind\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        Self(out)
    }

    /// A field with this [`name`]. Inlined, so that the name's length is known where it is copied.
    #[inline]
    pub(super) fn field(&mut self, name: &'static str, value: impl Value) -> Written {
        self.0.extend_from_slice(name.as_bytes());
        value.append(self.0)
    }

    /// A field, if it has a value.
    #[inline]
    pub(super) fn some(&mut self, name: &'static str, value: Option<impl Value>) -> Written {
        value.map_or(Ok(()), |value| self.field(name, value))
    }

    /// Ends the line.
    pub(super) fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }
}

impl Value for Word {
    fn append(self, out: &mut Vec<u8>) -> Written {
        quote(out, self.0);
        Ok(())
    }
}

impl Value for Text<'_> {
    fn append(self, out: &mut Vec<u8>) -> Written {
        let Self(text, max) = self;
        let clipped = if text.len() <= max {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(max)]))
        };
        if needs_escaping(&clipped) {
            return serde_json::to_writer(out, &*clipped);
        }
        quote(out, &clipped);
        Ok(())
    }
}

/// Whether JSON writes the text in another way than it is (RFC 8259 section 7). Never stops early, so that many bytes
/// are looked at at once.
fn needs_escaping(text: &str) -> bool {
    let escaped = |byte| matches!(byte, 0..b' ' | b'"' | b'\\');
    text.bytes()
        .fold(0, |found, byte| found | u8::from(escaped(byte)))
        > 0
}

fn quote(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

impl Value for bool {
    fn append(self, out: &mut Vec<u8>) -> Written {
        serde_json::to_writer(out, &self)
    }
}

impl Value for u16 {
    fn append(self, out: &mut Vec<u8>) -> Written {
        serde_json::to_writer(out, &self)
    }
}

impl Value for u64 {
    fn append(self, out: &mut Vec<u8>) -> Written {
        serde_json::to_writer(out, &self)
    }
}

impl Value for Micros {
    fn append(self, out: &mut Vec<u8>) -> Written {
        u64::try_from(self.0.as_micros())
            .unwrap_or(u64::MAX)
            .append(out)
    }
}

impl Value for LinkId {
    /// A decimal string, as everywhere.
    fn append(self, out: &mut Vec<u8>) -> Written {
        out.push(b'"');
        u64::from(self.get()).append(out)?;
        out.push(b'"');
        Ok(())
    }
}

impl Value for RequestId {
    fn append(self, out: &mut Vec<u8>) -> Written {
        out.push(b'"');
        out.extend_from_slice(self.digits());
        out.push(b'"');
        Ok(())
    }
}

impl Value for SocketAddr {
    fn append(self, out: &mut Vec<u8>) -> Written {
        out.push(b'"');
        match self {
            // The usual kind, without the detour by `fmt`.
            Self::V4(address) => {
                let [first, rest @ ..] = address.ip().octets();
                u16::from(first).append(out)?;
                for octet in rest {
                    out.push(b'.');
                    u16::from(octet).append(out)?;
                }
                out.push(b':');
                address.port().append(out)?;
            }
            Self::V6(address) => write!(out, "{address}").map_err(serde_json::Error::io)?,
        }
        out.push(b'"');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(value: impl Value) -> String {
        let mut out = Vec::new();
        value.append(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_address_prints_as_it_displays() {
        for text in [
            "10.0.0.4:50000",
            "255.255.255.255:65535",
            "0.0.0.0:0",
            "[2001:db8::4]:443",
            "[::ffff:10.0.0.4]:443",
            "[fe80::1%7]:443",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(appended(address), format!("\"{address}\""));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_writes_it(text in "\\PC*|[\\x00-\\x7f]*|(?s:.*)") {
            proptest::prop_assert_eq!(
                appended(Text(&text, usize::MAX)),
                serde_json::to_string(&text).unwrap()
            );
        }
    }

    #[test]
    fn each_character_that_json_escapes_is_escaped() {
        for byte in 0..=0x7f {
            let text = char::from(byte).to_string();
            let written = appended(Text(&text, 9));
            assert_eq!(written, serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn text_is_cut_between_characters_and_then_escaped() {
        assert_eq!(appended(Text("a\"b", 3)), r#""a\"b""#);
        assert_eq!(appended(Text("aéb", 2)), "\"a…\"");
        assert_eq!(appended(Text("aéb", 3)), "\"aé…\"");
    }

    #[test]
    fn no_word_of_ours_needs_escaping() {
        use crate::outcome::{Ending, Refusal};
        let words = Refusal::all()
            .flat_map(|refusal| [refusal.label(), refusal.blame().label()])
            .chain(Ending::ALL.map(Ending::label))
            .chain(super::super::RequestEnding::ALL.map(super::super::RequestEnding::label));
        for word in words {
            assert_eq!(appended(Word(word)), serde_json::to_string(word).unwrap());
        }
    }
}
