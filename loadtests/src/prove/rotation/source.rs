//! Where new credentials come from.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_certs::dev_ca::DevCa;
use postern_certs::{Bundle, Content, Expectations, Parts, Store, TicketKey, TicketKeys, UnixTime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use uuid::Uuid;

use crate::check::{Broken, with_causes};
use crate::prove::sign::Sign;
use crate::stack::StackError;
use crate::stack::accounts::CERTIFICATE_NAME;
use crate::stack::credentials::{CLIENT_NAME, Credentials, Stores};

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

/// Makes and publishes new credentials.
pub(super) struct Source<'a> {
    credentials: &'a Credentials,
    stores: &'a Stores,
    ticket_keys: Mutex<Vec<TicketKey>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(credentials: &'a Credentials, stores: &'a Stores) -> Self {
        Self {
            credentials,
            stores,
            ticket_keys: Mutex::default(),
        }
    }

    /// Publishes something new of this kind, and tells what will show that it is in use.
    pub(super) fn rotate(&self, kind: Kind) -> Result<Sign, Broken> {
        let stores = self.stores;
        match kind {
            Kind::Server => {
                let issued = self.credentials.public.server(&[CERTIFICATE_NAME]);
                let issued = issued.map_err(StackError::from)?;
                publish(&stores.server, &issued.bundle().map_err(StackError::from)?)?;
                let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes());
                Ok(Sign::Server(leaf.map_err(|error| unexpected(&error))?))
            }
            Kind::Client => {
                let issued = self.credentials.internal.client(CLIENT_NAME);
                let bundle = issued
                    .and_then(|issued| issued.bundle())
                    .map_err(StackError::from)?;
                publish(&stores.client, &bundle)?;
                let serial = bundle.facts().serial.trim_start_matches('0').to_owned();
                Ok(Sign::Client(serial))
            }
            Kind::Trust => {
                let next =
                    DevCa::new(&format!("next {}", Uuid::new_v4())).map_err(StackError::from)?;
                // The fingerprint of the new one by itself, and then both.
                let new = anchors(next.ca_pem())?.facts().fingerprint.to_string();
                let both = format!("{}{}", self.credentials.internal.ca_pem(), next.ca_pem());
                publish(&stores.trust, &anchors(&both)?)?;
                Ok(Sign::Trust(new))
            }
            Kind::Tickets => self.rotate_tickets(),
        }
    }
    /// A new key, that is used from a moment on at which every instance has it.
    fn rotate_tickets(&self) -> Result<Sign, Broken> {
        let not_before = unix(SystemTime::now() + TICKET_KEY_LEAD) + 1;
        let secret = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
        let key = TicketKey::new(&secret, not_before, not_before + TICKET_KEY_SECONDS);
        let key = key.map_err(|error| unexpected(&error))?;
        let name = key.name();
        let mut keys = self
            .ticket_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        keys.insert(0, key);
        keys.truncate(TicketKeys::MAX);
        let set = TicketKeys::new(keys.clone()).map_err(|error| unexpected(&error))?;
        publish(&self.stores.tickets, &set)?;
        Ok(Sign::Tickets(name))
    }
}

fn anchors(pem: &str) -> Result<Bundle, Broken> {
    Bundle::prove(Parts::anchors(pem), &Expectations::trust(), UnixTime::now())
        .map_err(|error| unexpected(&error))
}

fn publish(store: &Store, content: &impl Content) -> Result<(), Broken> {
    let published = store.publish(content, "rotated");
    published.map(drop).map_err(|error| unexpected(&error))
}

fn unexpected(error: &dyn std::error::Error) -> Broken {
    Broken::Unexpected(with_causes(error))
}

/// Whole seconds since 1970.
fn unix(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

// Limit: every instance looks ten times a second; half a second is enough on a busy machine, too.
const TICKET_KEY_LEAD: Duration = Duration::from_millis(500);
// Limit: a ticket is used within a second of its being given; the sets stay small.
const TICKET_KEY_SECONDS: i64 = 60;
