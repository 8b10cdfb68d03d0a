//! A stand-in, and vaults that reach it as a sidecar would.

use postern_certs::dev_ca::DevCa;
use postern_control::testing::credential;
use postern_control::testing::key_vault::KeyVault;
use postern_control::vault::{Vault, VaultOptions};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;

/// A stand-in with the CA `internal-ca`, and one vault that is connected to it.
pub struct Scene {
    pub stand_in: KeyVault,
    pub vault: Vault,
    folder: TempDir,
}

impl Scene {
    pub async fn start() -> Self {
        let stand_in = KeyVault::start().await.unwrap();
        let ca = DevCa::new("Internal CA").unwrap();
        stand_in.add_ca("internal-ca", ca).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), stand_in.ca_pem()).unwrap();
        let vault = vault(&stand_in, &folder, |_| ());
        Self {
            stand_in,
            vault,
            folder,
        }
    }

    /// Another vault's client, with tokens and connections of its own.
    pub fn another(&self) -> Vault {
        vault(&self.stand_in, &self.folder, |_| ())
    }

    /// The same with other options.
    pub fn with(&self, change: impl FnOnce(&mut VaultOptions)) -> Vault {
        vault(&self.stand_in, &self.folder, change)
    }

    /// How many requests were answered that carried a token that is good.
    pub fn answered(&self) -> usize {
        let log = self.stand_in.log();
        log.requests().len() - log.count_status(401)
    }
}

fn vault(stand_in: &KeyVault, folder: &TempDir, change: impl FnOnce(&mut VaultOptions)) -> Vault {
    let mut options = VaultOptions {
        ca: Some(folder.path().join("ca.pem")),
        verify_challenge: false,
        ..VaultOptions::new(stand_in.url())
    };
    change(&mut options);
    Vault::new(
        &options,
        &credential::identity(stand_in.identity()).unwrap(),
    )
    .unwrap()
}

pub fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
