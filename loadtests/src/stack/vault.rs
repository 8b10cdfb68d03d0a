//! The Key Vault of a stack: the stand-in, with what the stack's credentials are.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use postern_certs::dev_ca::DevCa;
use postern_certs::{TicketKey, TicketKeyError};
use postern_control::testing::identity::CLIENT_ID;
use postern_control::testing::key_vault::{Contents, KeyVault};
use uuid::Uuid;

use super::accounts::CERTIFICATE_NAME;
use super::credentials::{CLIENT_NAME, Credentials};
use super::{StackError, make_folder, write_file};

/// The certificate for the names that clients ask for.
pub const SERVER: &str = "private";
/// What Postern shows to the ingress.
pub const CLIENT: &str = "client";
/// The authority between Postern and the ingress; its key does not leave the vault.
pub const AUTHORITY: &str = "internal-ca";
/// The secret with what session tickets are encrypted with.
pub const TICKETS: &str = "tickets";

/// What the secret of a ticket key is said to be.
const TICKET_KEY_TYPE: &str = "application/vnd.postern.ticket-key";

/// How a process reaches a vault.
#[derive(Debug, Clone)]
pub struct Access {
    /// `https://…`.
    pub url: String,
    /// PEM file with the root that its certificate is of.
    pub ca: PathBuf,
    /// The client id of the managed identity.
    pub client_id: String,
    /// The environment in which that identity is found.
    pub environment: Vec<(String, String)>,
}

/// A running vault, in this process.
#[derive(Debug)]
pub struct Vault {
    stand_in: KeyVault,
    access: Access,
    authority: String,
}

impl Vault {
    /// Starts one with a first version of each certificate. Files that others need lie under `folder`.
    pub async fn start(folder: &Path, credentials: &Credentials) -> Result<Self, StackError> {
        make_folder(folder)?;
        let stand_in = KeyVault::start().await?;
        let ca = folder.join("key-vault-ca.crt");
        write_file(&ca, stand_in.ca_pem())?;
        let variables = stand_in.identity().environment().into_iter();
        let access = Access {
            url: stand_in.url(),
            ca,
            client_id: CLIENT_ID.to_owned(),
            environment: variables
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        };
        let server = credentials.public.server(&[CERTIFICATE_NAME])?;
        stand_in.add_issued(SERVER, &server, Contents::default())?;
        let client = credentials.internal.client(CLIENT_NAME)?;
        stand_in.add_issued(CLIENT, &client, Contents::default())?;
        let authority = stand_in.add_ca(AUTHORITY, copy(&credentials.internal)?)?;
        Ok(Self {
            stand_in,
            access,
            authority,
        })
    }

    /// How to reach it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The first version of [`AUTHORITY`].
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Adds a key that session tickets are encrypted with from `not_before` to `not_after`, in Unix seconds.
    pub fn add_ticket_key(
        &self,
        not_before: i64,
        not_after: i64,
    ) -> Result<TicketKey, TicketKeyError> {
        let secret = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
        let value = BASE64_URL_SAFE_NO_PAD.encode(&secret);
        let (from, to) = (Some(not_before), Some(not_after));
        self.stand_in
            .add_secret(TICKETS, &value, TICKET_KEY_TYPE, from, to);
        TicketKey::new(&secret, not_before, not_after)
    }

    /// The stand-in itself.
    pub fn stand_in(&self) -> &KeyVault {
        &self.stand_in
    }
}

/// The same authority once more, for who wants to have it.
pub fn copy(ca: &DevCa) -> Result<DevCa, StackError> {
    Ok(DevCa::load(ca.ca_pem(), &ca.ca_key_pem())?)
}
