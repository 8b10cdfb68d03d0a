//! The Key Vault of the stack that is left running: the stand-in as a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use postern_control::testing::identity::CLIENT_ID;

use super::{own, usual_or_free};
use crate::check::{Broken, expect};
use crate::stack::accounts::CERTIFICATE_NAME;
use crate::stack::child::READY_TIMEOUT;
use crate::stack::client::{Connection, full};
use crate::stack::credentials::{CLIENT_NAME, Credentials};
use crate::stack::vault::{AUTHORITY, Access, CLIENT, SERVER};
use crate::stack::{Child, StackError, make_folder, write_file};

// Usual ports, so that a command in a shell's history works again.
const PORT_VAULT: u16 = 8460;
const PORT_IDENTITY: u16 = 8461;
const PORT_SWITCHES: u16 = 8462;

/// What the vault calls the authority for clients.
const PUBLIC: &str = "public-ca";

/// A running vault.
#[derive(Debug)]
pub struct VaultProcess {
    child: Child,
    access: Access,
    address: SocketAddr,
    switches: SocketAddr,
    ready_after: Duration,
}

impl VaultProcess {
    /// Starts one with the authorities of the stack, and what they have issued, under `folder`.
    pub(super) async fn start(
        folder: &Path,
        logs: &Path,
        credentials: &Credentials,
    ) -> Result<Self, StackError> {
        make_folder(folder)?;
        for (name, ca) in [
            (PUBLIC, &credentials.public),
            (AUTHORITY, &credentials.internal),
        ] {
            write_file(&folder.join(name).with_extension("crt"), ca.ca_pem())?;
            write_file(&folder.join(name).with_extension("key"), ca.ca_key_pem())?;
        }
        let server = credentials.public.server(&[CERTIFICATE_NAME])?;
        server.write_to(&folder.join(SERVER))?;
        let client = credentials.internal.client(CLIENT_NAME)?;
        client.write_to(&folder.join(CLIENT))?;

        let address = usual_or_free(PORT_VAULT)?;
        let identity = usual_or_free(PORT_IDENTITY)?;
        let switches = usual_or_free(PORT_SWITCHES)?;
        let arguments = [
            "key-vault",
            "--listen",
            &address.to_string(),
            "--identity",
            &identity.to_string(),
            "--switches",
            &switches.to_string(),
            "--folder",
            &folder.display().to_string(),
        ];
        let mut child = own("key-vault", &arguments, logs)?;
        child.wait_for_port(switches).await?;
        // Written last, and in lines.
        let variables = folder.join("environment");
        let whole = || {
            fs::read_to_string(&variables)
                .ok()
                .filter(|text| text.ends_with('\n'))
        };
        let awaited = "the variables of its identity";
        let ready_after = child
            .wait_until(awaited, READY_TIMEOUT, async || whole().is_some())
            .await?;
        let environment = whole().unwrap_or_default();
        let pairs = environment.lines().filter_map(|line| line.split_once('='));
        let access = Access {
            url: format!("https://{address}"),
            ca: folder.join("stand-in-ca.crt"),
            client_id: CLIENT_ID.to_owned(),
            environment: pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        Ok(Self {
            child,
            access,
            address,
            switches,
            ready_after,
        })
    }

    /// How to reach it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long it took to be there.
    pub(super) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    /// The command that puts a new version of the certificate for clients into the vault.
    pub fn rotation(&self) -> String {
        let (switches, order) = (self.switches, order());
        format!("curl -d '{order}' http://{switches}/stand-in/certificates/{SERVER}")
    }

    /// Does what the printed command for a rotation says. Returns the name of the new version.
    pub async fn rotate(&self) -> Result<String, Broken> {
        let mut connection = Connection::plain(self.switches).await?;
        let path = format!("/stand-in/certificates/{SERVER}");
        let request = connection
            .request(Method::POST, &path)?
            .body(full(order()))?;
        let answer = connection.fetch(request).await?;
        expect(answer.status == StatusCode::OK, || {
            format!("the vault's switches answer {}", answer.summary())
        })?;
        Ok(answer.json()["version"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }
}

fn order() -> String {
    format!(r#"{{"ca":"{PUBLIC}","names":["{CERTIFICATE_NAME}"]}}"#)
}
