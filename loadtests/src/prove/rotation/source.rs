//! Where new credentials come from.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_certs::dev_ca::{DevCa, Issued};
use postern_control::testing::key_vault::Contents;

use crate::check::{Broken, with_causes};
use crate::prove::fleet::Fleet;
use crate::prove::sign::{Sign, anchor};
use crate::stack::StackError;
use crate::stack::accounts::CERTIFICATE_NAME;
use crate::stack::credentials::{CLIENT_NAME, Credentials};
use crate::stack::vault::{AUTHORITY, CLIENT, SERVER, Vault};

/// What is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Client,
    Trust,
    Tickets,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Server, Self::Client, Self::Trust, Self::Tickets];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Trust => "trust",
            Self::Tickets => "tickets",
        }
    }
}

/// What the vault has besides the stack's own.
pub(super) struct Seed {
    /// Authorities that are trusted for a while, besides the one that is needed: version and fingerprint.
    extra: Vec<(String, String)>,
    /// Shows that the first ticket key is in use.
    pub(super) first_ticket_key: Sign,
}

impl Seed {
    pub(super) fn put_into(vault: &Vault) -> Result<Self, Broken> {
        let mut extra = Vec::with_capacity(EXTRA_AUTHORITIES);
        for number in 0..EXTRA_AUTHORITIES {
            let ca = DevCa::new(&format!("another internal CA, {number}"));
            let ca = ca.map_err(StackError::from)?;
            let fingerprint = anchor(&ca)?.facts().fingerprint.to_string();
            let version = vault
                .stand_in()
                .add_ca(AUTHORITY, ca)
                .map_err(StackError::from)?;
            enable(vault, &version, false)?;
            extra.push((version, fingerprint));
        }
        Ok(Self {
            extra,
            first_ticket_key: add_ticket_key(vault, Duration::ZERO)?,
        })
    }
}

/// Puts new versions into the vault, as an issuer or an operator would.
pub(super) struct Source<'a> {
    vault: &'a Vault,
    credentials: &'a Credentials,
    extra: Vec<(String, String)>,
    turn: AtomicUsize,
}

impl<'a> Source<'a> {
    pub(super) fn new(fleet: &'a Fleet, seed: Seed) -> Self {
        Self {
            vault: &fleet.vault,
            credentials: &fleet.credentials,
            extra: seed.extra,
            turn: AtomicUsize::new(0),
        }
    }

    /// Puts something new of this kind there, and tells what will show that it is in use.
    pub(super) fn rotate(&self, kind: Kind) -> Result<Sign, Broken> {
        match kind {
            Kind::Server => {
                let issued = self.credentials.public.server(&[CERTIFICATE_NAME]);
                let issued = issued.map_err(StackError::from)?;
                self.add(SERVER, &issued)?;
                Sign::server(&issued)
            }
            Kind::Client => {
                let issued = self.credentials.internal.client(CLIENT_NAME);
                let issued = issued.map_err(StackError::from)?;
                self.add(CLIENT, &issued)?;
                Sign::client(&issued)
            }
            Kind::Trust => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let (next, fingerprint) = &self.extra[turn % EXTRA_AUTHORITIES];
                let (last, _) = &self.extra[(turn + EXTRA_AUTHORITIES - 1) % EXTRA_AUTHORITIES];
                enable(self.vault, next, true)?;
                enable(self.vault, last, false)?;
                Ok(Sign::Trust(fingerprint.clone()))
            }
            Kind::Tickets => add_ticket_key(self.vault, TICKET_KEY_LEAD),
        }
    }

    fn add(&self, name: &str, issued: &Issued) -> Result<(), Broken> {
        let added = self
            .vault
            .stand_in()
            .add_issued(name, issued, Contents::default());
        added
            .map(drop)
            .map_err(|error| StackError::from(error).into())
    }
}

/// A new key, that is used from a moment on at which every instance has it.
fn add_ticket_key(vault: &Vault, lead: Duration) -> Result<Sign, Broken> {
    let not_before = unix(SystemTime::now() + lead);
    let not_after = not_before + TICKET_KEY_SECONDS;
    let key = vault.add_ticket_key(not_before, not_after);
    let key = key.map_err(|error| Broken::Unexpected(with_causes(&error)))?;
    Ok(Sign::Tickets {
        name: key.name(),
        from: UNIX_EPOCH + Duration::from_secs(not_before.unsigned_abs()),
    })
}

fn enable(vault: &Vault, version: &str, enabled: bool) -> Result<(), Broken> {
    let done = vault
        .stand_in()
        .set_enabled(AUTHORITY, Some(version), enabled);
    Ok(done.map_err(StackError::from)?)
}

/// Whole seconds since 1970, rounded up.
fn unix(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs() + 1).unwrap_or(i64::MAX)
}

// Limit: the sidecar looks every so often, then each process ten times a second; this much later all have it.
const TICKET_KEY_LEAD: Duration = Duration::from_secs(2);
// Limit: a ticket is used within a second of its being given; the sets stay below the sixteen that are read.
const TICKET_KEY_SECONDS: i64 = 18;
// Limit: one more than are trusted at any time.
const EXTRA_AUTHORITIES: usize = 3;
