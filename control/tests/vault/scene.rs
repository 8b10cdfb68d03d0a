//! A stand-in, and vaults that reach it as a sidecar would.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use postern_certs::dev_ca::DevCa;
use postern_control::testing::identity;
use postern_control::testing::key_vault::{KeyVault, RESOURCE};
use postern_control::vault::{Identity, Vault, VaultOptions};
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
    Vault::new(&options, &identity(Arc::clone(stand_in.identity()))).unwrap()
}

/// An identity with the tokens of `source`.
pub fn identity(source: Arc<identity::Identity>) -> Identity {
    let identity = Identity::from_credentials(move || {
        Ok(Arc::new(Keeping {
            source: Arc::clone(&source),
            token: Mutex::default(),
        }))
    });
    identity.unwrap()
}

/// A credential that keeps its token until five minutes before its end, whatever a vault says of it, as those of
/// `azure_identity` do.
#[derive(Debug)]
struct Keeping {
    source: Arc<identity::Identity>,
    token: Mutex<Option<AccessToken>>,
}

#[async_trait]
impl TokenCredential for Keeping {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, [format!("{RESOURCE}/.default")]);
        let mut kept = self.token.lock().unwrap();
        let soon = OffsetDateTime::now_utc() + Duration::from_secs(300);
        if let Some(token) = kept.as_ref().filter(|token| token.expires_on > soon) {
            return Ok(token.clone());
        }
        let (token, end) = self.source.token(RESOURCE);
        let end = OffsetDateTime::from_unix_timestamp(end).unwrap();
        let token = AccessToken::new(Secret::new(token), end);
        *kept = Some(token.clone());
        Ok(token)
    }
}

pub fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
