//! Session tickets: by the keys that the fleet shares, so that a client resumes on any instance, and by keys of this
//! process where there are none.
//!
//! A resumed handshake saves the key exchange's signature and nothing else: rustls takes a ticket only for the server
//! name and cipher suite of its session, and link and name are authorized before, as for any handshake. Whom the
//! session belonged to is in no ticket.
//!
//! Keys change under the same `ServerConfig`s. A ticket whose key ended, or is of nobody here, is no error: the
//! handshake is a full one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use postern_certs::{TicketKeys, UnixTime};
use rustls::crypto::aws_lc_rs;
use rustls::server::ProducesTickets;

/// What encrypts tickets and decrypts them.
#[derive(Debug)]
pub(super) struct Tickets {
    shared: ArcSwapOption<TicketKeys>,
    /// Renews its key every six hours and knows the one before. Keeps decrypting what it encrypted once keys are shared.
    own: Arc<dyn ProducesTickets>,
}

impl Tickets {
    /// By keys of this process alone.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            shared: ArcSwapOption::empty(),
            own: aws_lc_rs::Ticketer::new()?,
        })
    }

    /// By these keys from now on, while one of them may encrypt.
    pub(super) fn share(&self, keys: Arc<TicketKeys>) {
        self.shared.store(Some(keys));
    }

    /// By keys of this process alone from now on.
    pub(super) fn share_no_more(&self) {
        self.shared.store(None);
    }

    /// Whether a shared key encrypts at `now`, in seconds since 1970.
    pub(super) fn are_shared(&self, now: i64) -> bool {
        let shared = self.shared.load();
        shared
            .as_ref()
            .is_some_and(|keys| keys.encrypting(now).is_some())
    }

    fn lifetime_at(&self, now: i64) -> Option<u32> {
        let shared = self.shared.load();
        let left = shared.as_ref()?.encrypting(now)?.not_after() - now;
        u32::try_from(left.min(LIFETIME_SECONDS_MAX)).ok()
    }

    fn encrypt_at(&self, plain: &[u8], now: i64) -> Option<Vec<u8>> {
        let shared = self.shared.load();
        let ticket = shared.as_ref().and_then(|keys| keys.encrypt(plain, now));
        ticket.or_else(|| self.own.encrypt(plain))
    }

    fn decrypt_at(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        let shared = self.shared.load();
        let plain = shared.as_ref().and_then(|keys| keys.decrypt(ticket, now));
        plain.or_else(|| self.own.decrypt(ticket))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// How long clients keep a ticket of now: as long as its key lives.
    fn lifetime(&self) -> u32 {
        self.lifetime_at(now())
            .unwrap_or_else(|| self.own.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, now())
    }
}

fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

// RFC 8446 section 4.6.1: "Servers MUST NOT use any value greater than 604800 seconds (7 days)."
const LIFETIME_SECONDS_MAX: i64 = 604_800;

#[cfg(test)]
mod tests {
    use postern_certs::TicketKey;

    use super::*;

    fn keys(windows: &[(u8, i64, i64)]) -> Arc<TicketKeys> {
        let key =
            |&(secret, from, to): &(u8, i64, i64)| TicketKey::new(&[secret; 32], from, to).unwrap();
        Arc::new(TicketKeys::new(windows.iter().map(key).collect()).unwrap())
    }

    #[test]
    fn two_instances_with_the_same_keys_open_each_others_tickets_and_without_them_do_not() {
        let [one, other] = [(); 2].map(|()| Tickets::new().unwrap());
        let ticket = one.encrypt_at(b"session", 5).unwrap();
        assert_eq!(one.decrypt_at(&ticket, 5).unwrap(), b"session");
        assert_eq!(other.decrypt_at(&ticket, 5), None);
        one.share(keys(&[(1, 0, 20)]));
        other.share(keys(&[(2, 10, 30), (1, 0, 20)]));
        let shared = one.encrypt_at(b"session", 5).unwrap();
        assert_eq!(other.decrypt_at(&shared, 15).unwrap(), b"session");
        assert_eq!(other.decrypt_at(&shared, 21), None, "its key has ended");
        // What it gave before is still good.
        assert_eq!(one.decrypt_at(&ticket, 5).unwrap(), b"session");
    }

    #[test]
    fn while_no_shared_key_may_encrypt_the_process_uses_its_own() {
        let tickets = Tickets::new().unwrap();
        tickets.share(keys(&[(1, 10, 20)]));
        for now in [5, 25] {
            assert!(!tickets.are_shared(now));
            assert_eq!(tickets.lifetime_at(now), None);
            let ticket = tickets.encrypt_at(b"session", now).unwrap();
            assert_eq!(tickets.decrypt_at(&ticket, now).unwrap(), b"session");
            assert_eq!(keys(&[(1, 10, 20)]).decrypt(&ticket, 15), None);
        }
        assert!(tickets.are_shared(15));
    }

    #[test]
    fn a_ticket_lives_as_long_as_its_key_and_a_week_at_most() {
        let tickets = Tickets::new().unwrap();
        tickets.share(keys(&[(1, 0, 100)]));
        assert_eq!(tickets.lifetime_at(40), Some(60));
        tickets.share(keys(&[(1, 0, 10_000_000)]));
        assert_eq!(tickets.lifetime_at(0), Some(604_800));
    }
}
