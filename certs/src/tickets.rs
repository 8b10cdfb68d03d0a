//! The keys of TLS session tickets, which a fleet shares so that a client resumes on any instance.
//!
//! Text form, one line a key, newest first; version 1:
//!
//! ```text
//! postern-ticket-keys 1
//! SECRET NOT-BEFORE NOT-AFTER      64 hex digits, and two Unix times in seconds
//! ```
//!
//! A ticket is the key's name (16 bytes), a nonce (12), and what was encrypted with its tag (16).
//!
//! Tickets are encrypted by AES-256-GCM-SIV (RFC 8452), since all instances of a fleet encrypt under one key with random
//! nonces of 96 bits. Plain GCM allows 2^32 of those (NIST SP 800-38D section 8.3), which a hundred instances with a
//! thousand handshakes a second use up in half a day, and gives its authentication key away when one is used twice; a
//! nonce that GCM-SIV uses twice tells only whether the two tickets are the same.
//!
//! Invariant: a secret leaves this module in the text form, in a buffer that is wiped, and in no other way.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use crate::content::{About, Content, ContentFile, Proof};
use crate::facts::hex;
use crate::fingerprint::Fingerprint;
use crate::manifest::TICKETS_FILE;
use crate::parts::Parts;
use crate::unproven::{Unproven, seconds};

/// The key of one period: it encrypts tickets from its first second until a newer key begins, and decrypts them until
/// its last.
#[derive(Clone)]
pub struct TicketKey {
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    name: [u8; NAME_BYTES],
    cipher: Arc<RandomizedNonceKey>,
    not_before: i64,
    not_after: i64,
}

/// Why something is no ticket key, or no set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketKeyError {
    /// The secret has another length.
    #[error("a ticket key has {0} bytes: expected 32 random ones")]
    Length(usize),
    /// It ends before it begins.
    #[error("a ticket key ends at {not_after}, before it begins at {not_before}")]
    Window {
        /// First second, Unix time.
        not_before: i64,
        /// Last second, Unix time.
        not_after: i64,
    },
    /// There is none.
    #[error("there is no ticket key")]
    Empty,
    /// There are too many.
    #[error("there are more than {} ticket keys", TicketKeys::MAX)]
    TooMany,
    /// Two are the same.
    #[error("two ticket keys have the same secret")]
    Twice,
    /// The text does not begin as it must.
    #[error("the text does not begin with `{HEADING}`: was it written by a newer version?")]
    Heading,
    /// The cryptographic library refuses it.
    #[error("the cryptographic library makes no cipher of a ticket key")]
    Cipher,
    /// A line is no key.
    #[error("line {0} is no ticket key: expected 64 hex digits and two Unix times")]
    Line(usize),
}

impl TicketKey {
    /// A key of 32 random bytes, good from `not_before` to `not_after`, both included, in Unix seconds.
    pub fn new(secret: &[u8], not_before: i64, not_after: i64) -> Result<Self, TicketKeyError> {
        if secret.len() != SECRET_BYTES {
            return Err(TicketKeyError::Length(secret.len()));
        }
        if not_after < not_before {
            return Err(TicketKeyError::Window {
                not_before,
                not_after,
            });
        }
        let mut own = Zeroizing::<[u8; SECRET_BYTES]>::default();
        own.copy_from_slice(secret);
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&derive(&own, b"postern ticket key: name")[..NAME_BYTES]);
        let cipher = derive(&own, b"postern ticket key: encryption");
        let cipher = RandomizedNonceKey::new(&AES_256_GCM_SIV, &*cipher)
            .map_err(|_| TicketKeyError::Cipher)?;
        Ok(Self {
            secret: own,
            name,
            cipher: Arc::new(cipher),
            not_before,
            not_after,
        })
    }

    /// What tickets call it: derived from the secret, which it does not betray.
    pub const fn name(&self) -> [u8; NAME_BYTES] {
        self.name
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // Sized beforehand, so that the buffer does not move and leave a copy of what is encrypted in it.
        let mut sealed = Vec::with_capacity(plain.len() + AES_256_GCM_SIV.tag_len());
        sealed.extend_from_slice(plain);
        let name = Aad::from(self.name);
        let nonce = self.cipher.seal_in_place_append_tag(name, &mut sealed);
        let nonce = nonce.ok()?;
        Some([self.name.as_slice(), nonce.as_ref(), &sealed].concat())
    }

    /// `ticket` without the key's name.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let opened = self
            .cipher
            .open_in_place(nonce, Aad::from(self.name), &mut plain);
        let bytes = opened.ok()?.len();
        plain.truncate(bytes);
        Some(plain)
    }

    /// First second at which it may encrypt, Unix time.
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Last second at which it may decrypt, Unix time.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (digits, times) = line.split_at_checked(2 * SECRET_BYTES)?;
        let mut secret = Zeroizing::<[u8; SECRET_BYTES]>::default();
        for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        let times = std::str::from_utf8(times).ok()?.strip_prefix(' ')?;
        let (not_before, not_after) = times.split_once(' ')?;
        Self::new(&*secret, not_before.parse().ok()?, not_after.parse().ok()?).ok()
    }

    fn write(&self, text: &mut Vec<u8>) {
        for digit in self.secret.iter().flat_map(|byte| [byte >> 4, byte & 0xf]) {
            text.push(b"0123456789abcdef"[usize::from(digit)]);
        }
        let times = format!(" {} {}\n", self.not_before, self.not_after);
        text.extend_from_slice(times.as_bytes());
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey")
            .field("name", &hex(&self.name()))
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl PartialEq for TicketKey {
    /// Without a look at the secret, of which the name is a digest.
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.not_before, self.not_after)
            == (other.name, other.not_before, other.not_after)
    }
}

impl Eq for TicketKey {}

/// The ticket keys of a fleet.
///
/// Invariant: from 1 to [`TicketKeys::MAX`] of them, the one that begins last first, no two the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketKeys(Vec<TicketKey>);

impl TicketKeys {
    // Limit: a key lives a period, the time that tickets live, and the lead before it: with 12, 24 and one hour that
    // is four keys; room for a period of an hour and tickets of two days.
    /// The most keys that a set may have.
    pub const MAX: usize = 64;

    /// A set of keys, in whatever order.
    pub fn new(mut keys: Vec<TicketKey>) -> Result<Self, TicketKeyError> {
        if keys.is_empty() {
            return Err(TicketKeyError::Empty);
        }
        if keys.len() > Self::MAX {
            return Err(TicketKeyError::TooMany);
        }
        // By name where two begin at once, so that every instance encrypts with the same one.
        keys.sort_by_cached_key(|key| (std::cmp::Reverse(key.not_before), key.name()));
        let mut names: Vec<_> = keys.iter().map(TicketKey::name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(TicketKeyError::Twice);
        }
        Ok(Self(keys))
    }

    /// The keys of `parts` that have not ended at `now`. At least one must have begun, for the present to have a key
    /// to encrypt with.
    pub fn prove(parts: &Parts, now: UnixTime) -> Result<Self, Unproven> {
        let Self(mut keys) = Self::parse(&parts.tickets)?;
        let now = seconds(now);
        let ended = window(&keys);
        keys.retain(|key| now <= key.not_after);
        let (not_before, not_after) = if keys.is_empty() {
            ended
        } else {
            window(&keys)
        };
        let certificate = "each of the ticket keys".to_owned();
        if keys.is_empty() {
            return Err(Unproven::Expired {
                certificate,
                not_before,
                not_after,
                now,
            });
        }
        if now < not_before {
            return Err(Unproven::NotYetValid {
                certificate,
                not_before,
                not_after,
                now,
            });
        }
        Ok(Self(keys))
    }

    /// The key that encrypts at `now` (Unix seconds): of those that have begun and not ended, the one that began last.
    /// `None` while none has.
    pub fn encrypting(&self, now: i64) -> Option<&TicketKey> {
        let is_open = |key: &&TicketKey| key.not_before <= now && now <= key.not_after;
        self.0.iter().find(is_open)
    }

    /// A ticket that holds `plain`, encrypted at `now` (Unix seconds). `None` while no key may encrypt.
    pub fn encrypt(&self, plain: &[u8], now: i64) -> Option<Vec<u8>> {
        self.encrypting(now)?.encrypt(plain)
    }

    /// What is in `ticket`, if one of the keys encrypted it and has not ended at `now` (Unix seconds).
    pub fn decrypt(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let is_named = |key: &&TicketKey| key.name == name && now <= key.not_after;
        self.0.iter().find(is_named)?.decrypt(rest)
    }

    /// All of them, the one that begins last first.
    pub fn all(&self) -> &[TicketKey] {
        &self.0
    }

    fn parse(text: &[u8]) -> Result<Self, TicketKeyError> {
        if text.is_empty() {
            return Err(TicketKeyError::Empty);
        }
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut lines = text.split(|byte| *byte == b'\n');
        if lines.next() != Some(HEADING.as_bytes()) {
            return Err(TicketKeyError::Heading);
        }
        let mut keys = Vec::new();
        for (at, line) in lines.enumerate() {
            if keys.len() == Self::MAX {
                return Err(TicketKeyError::TooMany);
            }
            keys.push(TicketKey::parse(line).ok_or(TicketKeyError::Line(at + 2))?);
        }
        Self::new(keys)
    }

    fn text(&self) -> Zeroizing<Vec<u8>> {
        // Sized beforehand, so that the buffer does not move and leave a copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(TICKETS_BYTES_MAX));
        text.extend_from_slice(HEADING.as_bytes());
        text.push(b'\n');
        for key in &self.0 {
            key.write(&mut text);
        }
        text
    }
}

/// Whether a text is meant to be ticket keys, of any version.
pub(crate) fn holds_ticket_keys(text: &[u8]) -> bool {
    text.starts_with(b"postern-ticket-keys ")
}

fn window(keys: &[TicketKey]) -> (i64, i64) {
    let begin = keys.iter().map(|key| key.not_before).min();
    let end = keys.iter().map(|key| key.not_after).max();
    (begin.unwrap_or_default(), end.unwrap_or_default())
}

impl Content for TicketKeys {
    fn about(&self) -> About {
        let (not_before, not_after) = window(&self.0);
        About {
            purpose: "tickets",
            subject: format!("{} ticket keys", self.0.len()),
            not_before,
            not_after,
            serial: None,
            // A key that got known is taken out, and what remains is no older set.
            has_age: false,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        let keys = self.0.iter().map(|key| {
            let mut piece = key.name().to_vec();
            piece.extend_from_slice(&key.not_before.to_be_bytes());
            piece.extend_from_slice(&key.not_after.to_be_bytes());
            piece
        });
        let keys: Vec<_> = keys.collect();
        Fingerprint::of_all(keys.iter().map(Vec::as_slice))
    }

    fn files(&self) -> Vec<ContentFile> {
        vec![(TICKETS_FILE, self.text())]
    }

    fn usable_until(&self) -> i64 {
        window(&self.0).1
    }

    fn changes_at(&self) -> Option<i64> {
        let ends = self.0.iter().map(|key| key.not_after);
        ends.min().map(|end| end.saturating_add(1))
    }
}

/// What ticket keys are held against: at least one of them has begun and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketExpectations;

impl Proof for TicketExpectations {
    type Content = TicketKeys;

    fn prove(&self, parts: Parts, now: UnixTime) -> Result<TicketKeys, Unproven> {
        TicketKeys::prove(&parts, now)
    }
}

/// HMAC-SHA-256 is a pseudorandom function of its key: what comes of one word tells nothing of another's, nor of the
/// secret.
fn derive(secret: &[u8; SECRET_BYTES], word: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::<[u8; 32]>::default();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    derived.copy_from_slice(hmac::sign(&key, word).as_ref());
    derived
}

const SECRET_BYTES: usize = 32;
const NAME_BYTES: usize = 16;
const HEADING: &str = "postern-ticket-keys 1";
// Limit: the heading and a line for each of 64 keys: 64 digits, two spaces, two numbers of at most 20 characters.
pub(crate) const TICKETS_BYTES_MAX: usize = 32 + TicketKeys::MAX * 108;

#[cfg(test)]
mod tests;
