//! Who we are towards a vault: credentials of the configured identities.
//!
//! The SDK keeps a token twice, in the client and in the credential, and gets a new one when less than five minutes
//! are left. When a vault refuses a token, it drops the first copy only and would show the second one again. So the
//! credential is replaced as a whole here when its token is refused.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientAssertionCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use tokio::sync::Mutex;

use super::error::SetupError;
use super::failure;
use super::wire;

/// Which identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityOptions {
    /// A managed identity of this machine.
    Managed {
        /// The user-assigned identity's client id. Without it the machine must have one identity only.
        client_id: Option<String>,
    },
    /// Workload identity of a Kubernetes pod. What is not given here is in the pod's environment.
    Workload {
        /// The identity's client id; default `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// The tenant; default `AZURE_TENANT_ID`.
        tenant_id: Option<String>,
    },
    /// Whoever is logged in to the Azure CLI. For development.
    Cli {
        /// The tenant; default the CLI's.
        tenant_id: Option<String>,
    },
}

/// A source of tokens. Clones share it.
#[derive(Clone)]
pub struct Identity(Arc<Source>);

type Make = dyn Fn() -> Result<Arc<dyn TokenCredential>, SetupError> + Send + Sync;

struct Source {
    make: Box<Make>,
    current: Mutex<Current>,
}

struct Current {
    credential: Arc<dyn TokenCredential>,
    /// The token it gave last, to tell whether a refused one is of this credential.
    token: Option<AccessToken>,
}

impl Identity {
    /// The identity that the options name. Asks nobody for a token yet.
    pub fn new(options: IdentityOptions) -> Result<Self, SetupError> {
        Self::from_credentials(move || credential(&options))
    }

    /// An identity of `make`'s credentials, which is called again whenever a token is refused.
    pub fn from_credentials(
        make: impl Fn() -> Result<Arc<dyn TokenCredential>, SetupError> + Send + Sync + 'static,
    ) -> Result<Self, SetupError> {
        let current = Current {
            credential: make()?,
            token: None,
        };
        Ok(Self(Arc::new(Source {
            make: Box::new(make),
            current: Mutex::new(current),
        })))
    }

    /// Forgets `token` if it is the one in use.
    pub(super) async fn drop_refused(&self, token: &str) {
        let mut current = self.0.current.lock().await;
        let is_current = |given: &AccessToken| given.token.secret() == token;
        if !current.token.as_ref().is_some_and(is_current) {
            return;
        }
        tracing::info!("the vault refused a token; another one is fetched");
        current.token = None;
        match (self.0.make)() {
            Ok(credential) => current.credential = credential,
            // What could be set up before can be set up again; if not, the old one says why.
            Err(error) => tracing::error!(%error, "the identity cannot be set up again"),
        }
    }
}

#[async_trait]
impl TokenCredential for Identity {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        // Held while the source answers: whoever else needs a token needs this one.
        let mut current = self.0.current.lock().await;
        let token = current.credential.get_token(scopes, options).await?;
        current.token = Some(token.clone());
        Ok(token)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

fn credential(options: &IdentityOptions) -> Result<Arc<dyn TokenCredential>, SetupError> {
    let refused = |error: azure_core::Error| SetupError::Identity(failure::text(&error));
    Ok(match options {
        IdentityOptions::Managed { client_id } => {
            let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id,
                client_options: wire::token_options(true)?,
            }))
            .map_err(refused)?
        }
        IdentityOptions::Workload {
            client_id,
            tenant_id,
        } => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions {
                client_options: wire::token_options(false)?,
            },
            client_id: client_id.clone(),
            tenant_id: tenant_id.clone(),
            ..WorkloadIdentityCredentialOptions::default()
        }))
        .map_err(refused)?,
        IdentityOptions::Cli { tenant_id } => {
            AzureCliCredential::new(Some(AzureCliCredentialOptions {
                tenant_id: tenant_id.clone(),
                ..AzureCliCredentialOptions::default()
            }))
            .map_err(refused)?
        }
    })
}
