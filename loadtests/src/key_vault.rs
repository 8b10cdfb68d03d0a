//! `postern-load key-vault`: Key Vault and the identity that may read it, for a sidecar in another process.
//!
//! What the vault begins with lies in a folder:
//!
//! | files | are |
//! |---|---|
//! | `NAME.crt`, `NAME.key` | a CA: the certificate NAME, whose key only signs, and the issuer NAME |
//! | `NAME/tls.crt`, `NAME/tls.key` | the certificate NAME |
//!
//! If there is none of it, a usual set is made there first: the CAs `public-ca` and `internal-ca`, and of them
//! `private` and `client`. What a sidecar needs to know is written beside it, see [`Stands`].

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_certs::dev_ca::DevCa;
use postern_control::testing::StandInError;
use postern_control::testing::identity::{CLIENT_ID, Identity, IdentityOptions};
use postern_control::testing::key_vault::{self as vault, Contents, KeyVault, SeedError};

use crate::stack::accounts::CERTIFICATE_NAME;
use crate::stack::credentials::CLIENT_NAME;
use crate::stack::{StackError, make_folder, write_file};
use crate::{interrupted, say};

/// Where to listen, and what to begin with.
#[derive(Debug, Clone, clap::Args)]
pub struct KeyVaultOptions {
    /// Where the vault listens, in HTTPS
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8460")]
    pub listen: SocketAddr,
    /// Where managed identity listens, as App Service and as IMDS
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8461")]
    pub identity: SocketAddr,
    /// Where the switches listen that change certificates and break things
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8462")]
    pub switches: SocketAddr,
    /// What the vault begins with, made if it is not there; and where `stand-in-ca.crt` and `environment` go
    #[arg(long, value_name = "FOLDER", default_value = ".local/key-vault")]
    pub folder: PathBuf,
    /// Seconds that a token lives
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600)]
    pub token_lifetime: i64,
}

/// Why the vault is not there.
#[derive(Debug, thiserror::Error)]
pub enum KeyVaultError {
    /// A stand-in did not start.
    #[error(transparent)]
    Start(#[from] StandInError),
    /// What the folder holds cannot be put into a vault.
    #[error("what {0} holds cannot be put into a vault")]
    Seed(PathBuf, #[source] SeedError),
    /// A file could not be read or written, or a certificate made.
    #[error(transparent)]
    Files(#[from] StackError),
}

/// A vault that stands for one with contents, and the files that a sidecar needs to use it.
#[derive(Debug)]
pub struct Stands {
    /// The vault.
    pub vault: KeyVault,
    /// `stand-in-ca.crt`: the CA to trust, for `ca` of the sidecar's `[vaults.…]`.
    pub ca: PathBuf,
    /// `environment`: `NAME=value` lines that make an SDK ask this managed identity.
    pub environment: PathBuf,
}

/// Starts vault and identity, and fills the vault from the folder.
pub async fn start(options: &KeyVaultOptions) -> Result<Stands, KeyVaultError> {
    let folder = &options.folder;
    make_folder(folder)?;
    // Keys lie in it unencrypted.
    let owner = fs::Permissions::from_mode(0o700);
    fs::set_permissions(folder, owner).map_err(|source| StackError::File {
        action: "protect",
        path: folder.clone(),
        source,
    })?;
    let identity = IdentityOptions {
        listen: options.identity,
        lifetime: options.token_lifetime,
        ..IdentityOptions::default()
    };
    let identity = Arc::new(Identity::start_with(identity).await?);
    let listen = vault::KeyVaultOptions {
        listen: options.listen,
        switches: options.switches,
    };
    let vault = KeyVault::start_with(listen, identity).await?;
    if seed(&vault, folder)? == 0 {
        make_usual(folder)?;
        seed(&vault, folder)?;
    }
    let ca = folder.join("stand-in-ca.crt");
    write_file(&ca, vault.ca_pem())?;
    let environment = folder.join("environment");
    let variables = vault.identity().environment().into_iter();
    let lines = variables.map(|(name, value)| format!("{name}={value}\n"));
    write_file(&environment, lines.collect::<String>())?;
    Ok(Stands {
        vault,
        ca,
        environment,
    })
}

/// Stands until the process is interrupted.
pub async fn run(options: KeyVaultOptions) -> Result<(), KeyVaultError> {
    let stands = start(&options).await?;
    say(&stands.instructions());
    interrupted().await;
    Ok(())
}

impl Stands {
    fn instructions(&self) -> String {
        let Self {
            vault,
            ca,
            environment,
        } = self;
        let switches = vault.switches_url();
        format!(
            "key-vault: {}, trusted through {}\n\
             key-vault: managed identity {CLIENT_ID}, with the variables in {}\n\
             key-vault: a new version: curl -X POST {switches}/certificates/private \
             -d '{{\"ca\":\"public-ca\",\"names\":[\"{CERTIFICATE_NAME}\"]}}'\n\
             key-vault: a new CA: curl -X POST {switches}/authorities/internal-ca -d '{{}}'\n\
             key-vault: throttle: curl -X PUT {switches}/faults -d '{{\"throttle\":5}}'\n\
             key-vault: what was asked: curl {switches}/requests",
            vault.url(),
            ca.display(),
            environment.display(),
        )
    }
}

/// Puts what the folder holds into the vault. Returns how many certificates that is.
fn seed(vault: &KeyVault, folder: &Path) -> Result<usize, KeyVaultError> {
    let mut found = 0;
    for path in entries(folder)? {
        let failed = |error| KeyVaultError::Seed(path.clone(), error);
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let (certificate, key) = if path.is_dir() {
            (path.join("tls.crt"), path.join("tls.key"))
        } else {
            (path.clone(), path.with_extension("key"))
        };
        let is_certificate = certificate
            .extension()
            .is_some_and(|extension| extension == "crt");
        if !is_certificate || !certificate.exists() || !key.exists() {
            continue;
        }
        let (certificate, key) = (read(&certificate)?, read(&key)?);
        if path.is_dir() {
            vault
                .add_pem(name, &certificate, &key, Contents::Pkcs12)
                .map_err(failed)?;
        } else {
            let ca = DevCa::load(&certificate, &key).map_err(StackError::from)?;
            vault.add_ca(name, ca).map_err(failed)?;
        }
        found += 1;
    }
    Ok(found)
}

fn make_usual(folder: &Path) -> Result<(), StackError> {
    let public = DevCa::new("Postern development public CA")?;
    let internal = DevCa::new("Postern development internal CA")?;
    for (name, ca) in [("public-ca", &public), ("internal-ca", &internal)] {
        write_file(&folder.join(name).with_extension("crt"), ca.ca_pem())?;
        write_file(&folder.join(name).with_extension("key"), ca.ca_key_pem())?;
    }
    public
        .server(&[CERTIFICATE_NAME])?
        .write_to(&folder.join("private"))?;
    internal
        .client(CLIENT_NAME)?
        .write_to(&folder.join("client"))?;
    Ok(())
}

/// What lies in the folder, in the order of names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StackError> {
    let failed = |source| StackError::File {
        action: "read",
        path: folder.to_owned(),
        source,
    };
    let entries = fs::read_dir(folder).map_err(failed)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, StackError> {
    fs::read_to_string(path).map_err(|source| StackError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}
