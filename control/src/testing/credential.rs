//! An identity stand-in as the credential of a vault in the same process, where no environment can name it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::time::OffsetDateTime;

use super::identity;
use crate::vault::{Identity, SetupError};

/// The identity of `source`, for [`Vault::new`](crate::vault::Vault::new).
pub fn identity(source: &Arc<identity::Identity>) -> Result<Identity, SetupError> {
    let source = Arc::clone(source);
    Identity::from_credentials(move || {
        Ok(Arc::new(Keeping {
            source: Arc::clone(&source),
            token: Mutex::default(),
        }))
    })
}

/// Keeps its token until five minutes before its end, whatever a vault says of it, as the credentials of
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
        let [scope] = scopes else {
            let message = "exactly one scope";
            return Err(azure_core::Error::with_message(
                ErrorKind::Credential,
                message,
            ));
        };
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = OffsetDateTime::now_utc() + REFRESHED_BEFORE;
        if let Some(token) = kept.as_ref().filter(|token| token.expires_on > soon) {
            return Ok(token.clone());
        }
        let (token, end) = self.source.token(scope.trim_end_matches("/.default"));
        let end = OffsetDateTime::from_unix_timestamp(end)
            .map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        let token = AccessToken::new(Secret::new(token), end);
        *kept = Some(token.clone());
        Ok(token)
    }
}

const REFRESHED_BEFORE: Duration = Duration::from_mins(5);
