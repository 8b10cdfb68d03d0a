//! What gives out tokens: managed identity as App Service and as a virtual machine have it, and Entra's token
//! endpoint for workload identity.
//!
//! | request | as |
//! |---|---|
//! | `GET /msi/token`, header `X-IDENTITY-HEADER` | App Service: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` |
//! | `GET /metadata/identity/oauth2/token`, header `Metadata: true` | IMDS of a virtual machine |
//! | `POST /{tenant}/oauth2/v2.0/token` with a `client_assertion`, HTTPS | Entra: `AZURE_AUTHORITY_HOST` |
//! | `GET`, `PUT /stand-in/faults` | [`IdentityFaults`], for other processes |
//! | `PUT /stand-in/tokens` | `{"lifetime": seconds, "revoke": true}`, each optional |
//!
//! The first two are plain HTTP, as they are in Azure. Both take the client id of one of the identities that
//! there are, and without one answer 400 if there are several.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::{Method, StatusCode};
use postern_certs::dev_ca::DevCa;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::StandInError;
use super::clock::Clock;
use super::http::{Answer, Call, Handler, Server};
use super::tokens::Tokens;

/// The tenant of all identities.
pub const TENANT: &str = "5a7d1e00-0000-4000-8000-000000000001";

/// The client id of the one identity that there is by default.
pub const CLIENT_ID: &str = "5a7d1e00-0000-4000-8000-000000000002";

/// The API versions of managed identity: 2019-08-01 in the SDKs, 2018-02-01 in the documentation.
const API_VERSIONS: [&str; 2] = ["2018-02-01", "2019-08-01"];

/// What an identity stand-in is like.
#[derive(Debug, Clone)]
pub struct IdentityOptions {
    /// Where managed identity listens, in plain HTTP. Default: a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// Where the token endpoint of workload identity listens, in HTTPS. Default: a free port of 127.0.0.1.
    pub login: SocketAddr,
    /// The client ids of the user-assigned identities. Default: [`CLIENT_ID`]. There is no system-assigned one.
    pub client_ids: Vec<String>,
    /// Seconds that a token lives. Default: a day, as for managed identities.
    pub lifetime: i64,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: free,
            login: free,
            client_ids: vec![CLIENT_ID.to_owned()],
            lifetime: 24 * 3600,
        }
    }
}

/// What can be made to go wrong. The same as JSON, each field optional, over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityFaults {
    /// This status instead of a token, say 404, 410 (updating), 429 or 500.
    pub error: Option<u16>,
    /// How many requests that concerns; then it is over. `None`: until changed.
    pub times: Option<u32>,
    /// Milliseconds before each answer.
    pub latency_ms: u64,
}

/// Running identity endpoints, ended when the value is dropped.
#[derive(Debug)]
pub struct Identity {
    service: Arc<Service>,
    ca: Ca,
    server: Server,
    login: Server,
}

struct Ca(DevCa);

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca")
    }
}

#[derive(Debug)]
struct Service {
    clock: Arc<Clock>,
    tokens: Arc<Tokens>,
    client_ids: Vec<String>,
    /// What a caller of `/msi/token` has to know.
    secret: String,
    /// What a pod has to have.
    assertion: String,
    faults: Mutex<IdentityFaults>,
    requests: AtomicUsize,
}

impl Identity {
    /// Starts one with one identity, [`CLIENT_ID`], on free ports of 127.0.0.1.
    pub async fn start() -> Result<Self, StandInError> {
        Self::start_with(IdentityOptions::default()).await
    }

    /// Starts one to order. The certificate of its token endpoint is of a CA made for it.
    pub async fn start_with(options: IdentityOptions) -> Result<Self, StandInError> {
        let ca = DevCa::new("Postern stand-in CA")?;
        let clock = Arc::new(Clock::default());
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let service = Arc::new(Service {
            tokens: Arc::new(Tokens::new(Arc::clone(&clock), options.lifetime)),
            clock,
            client_ids: options.client_ids,
            secret: random(),
            assertion: random(),
            faults: Mutex::default(),
            requests: AtomicUsize::new(0),
        });
        let always_up = || watch::Sender::new(false).subscribe();
        let tls = Some(server_tls(&ca, options.login.ip())?);
        let handler = Arc::clone(&service);
        let login = Server::start(options.login, tls, always_up(), handler).await?;
        let handler = Arc::clone(&service);
        let server = Server::start(options.listen, None, always_up(), handler).await?;
        Ok(Self {
            service,
            ca: Ca(ca),
            server,
            login,
        })
    }

    /// The environment in which an SDK finds the managed identity as App Service has it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "IDENTITY_ENDPOINT",
                format!("http://{}/msi/token", self.server.address()),
            ),
            ("IDENTITY_HEADER", self.service.secret.clone()),
        ]
    }

    /// The environment in which an SDK finds the workload identity, once [`assertion`](Self::assertion) is in
    /// the file that `AZURE_FEDERATED_TOKEN_FILE` names.
    pub fn workload_environment(&self) -> Vec<(&'static str, String)> {
        let client_id = self.service.client_ids.first().cloned();
        vec![
            (
                "AZURE_AUTHORITY_HOST",
                format!("https://{}/", self.login.address()),
            ),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_CLIENT_ID", client_id.unwrap_or_default()),
        ]
    }

    /// What stands for the token of a Kubernetes service account.
    pub fn assertion(&self) -> &str {
        &self.service.assertion
    }

    /// `http://{address}/metadata/identity/oauth2/token`, to put in place of IMDS.
    pub fn imds(&self) -> String {
        format!(
            "http://{}/metadata/identity/oauth2/token",
            self.server.address()
        )
    }

    /// `http://{address}/stand-in`, under which are the switches for other processes.
    pub fn switches_url(&self) -> String {
        format!("http://{}/stand-in", self.server.address())
    }

    /// `https://{address}/{tenant}`: whom a vault's challenge names.
    pub fn authority(&self) -> String {
        format!("https://{}/{TENANT}", self.login.address())
    }

    /// The CA of all that is HTTPS here, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.ca.0.ca_pem()
    }

    /// A token for `resource`, without asking over HTTP, and the Unix time of its end.
    pub fn token(&self, resource: &str) -> (String, i64) {
        self.service.tokens.give(resource)
    }

    /// The tokens given out: their lifetime, and to revoke them.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.service.tokens
    }

    /// The time here and at the vaults that accept the tokens.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.service.clock
    }

    /// How many requests for a token there were.
    pub fn requests(&self) -> usize {
        self.service.requests.load(Ordering::Relaxed)
    }

    /// Says what goes wrong from now on; `IdentityFaults::default()` ends it.
    pub fn set_faults(&self, faults: IdentityFaults) {
        *self.service.faults() = faults;
    }

    /// TLS for a server on `address`, with a certificate of this CA.
    pub(super) fn server_tls(&self, address: IpAddr) -> Result<Arc<ServerConfig>, StandInError> {
        server_tls(&self.ca.0, address)
    }
}

/// For `localhost`, 127.0.0.1, the address, and `*.vault.azure.net` for a client that resolves such a name to it.
fn server_tls(ca: &DevCa, address: IpAddr) -> Result<Arc<ServerConfig>, StandInError> {
    let address = address.to_string();
    let issued = ca.server(&["localhost", "127.0.0.1", &address, "*.vault.azure.net"])?;
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(
        config.with_no_client_auth().with_single_cert(chain, key)?,
    ))
}

impl Handler for Service {
    async fn answer(&self, call: Call) -> Answer {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("GET", ["msi", "token"]) => self.count(&call, Self::app_service).await,
            ("GET", ["metadata", "identity", "oauth2", "token"]) => {
                self.count(&call, Self::virtual_machine).await
            }
            ("POST", [TENANT, "oauth2", "v2.0", "token"]) => {
                self.count(&call, Self::workload).await
            }
            (_, ["stand-in", switch]) => self.switch(&call, switch),
            _ => Answer::new(StatusCode::NOT_FOUND, json!({ "error": "not_found" })),
        }
    }
}

impl Service {
    fn faults(&self) -> MutexGuard<'_, IdentityFaults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn count(&self, call: &Call, answer: impl Fn(&Self, &Call) -> Answer) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let latency = std::time::Duration::from_millis(self.faults().latency_ms);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match self.faults().take() {
            Some(status) => {
                let status = StatusCode::from_u16(status);
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                denied(status, "unavailable", "the switch `error` is on")
            }
            None => answer(self, call),
        }
    }

    fn app_service(&self, call: &Call) -> Answer {
        if call.header("x-identity-header") != Some(&self.secret) {
            return denied(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "X-IDENTITY-HEADER is wrong",
            );
        }
        self.managed(call)
    }

    fn virtual_machine(&self, call: &Call) -> Answer {
        if call.header("metadata") != Some("true") {
            let text = "Required metadata header not specified";
            return denied(StatusCode::BAD_REQUEST, "bad_request_102", text);
        }
        // Whoever was made to ask by somebody else is a proxy.
        if call.headers.contains_key("x-forwarded-for") {
            let text = "A request with X-Forwarded-For is refused";
            return denied(StatusCode::BAD_REQUEST, "invalid_request", text);
        }
        self.managed(call)
    }

    fn managed(&self, call: &Call) -> Answer {
        let invalid = |text| denied(StatusCode::BAD_REQUEST, "invalid_request", text);
        if !call
            .query("api-version")
            .is_some_and(|version| API_VERSIONS.contains(&version))
        {
            return invalid("api-version is missing or not known");
        }
        let Some(resource) = call.query("resource") else {
            return invalid("resource is missing");
        };
        // An object id or a resource id is taken for a client id: there is no directory here.
        let names = [
            "client_id",
            "object_id",
            "principal_id",
            "msi_res_id",
            "mi_res_id",
        ];
        let asked = names.iter().find_map(|name| call.query(name));
        let client_id = match (asked, self.client_ids.as_slice()) {
            (Some(asked), known) => known.iter().find(|id| *id == asked),
            (None, [one]) => Some(one),
            (None, _) => {
                return invalid(
                    "Multiple user assigned identities exist, please specify the clientId / resourceId of \
                     the identity in the token request",
                );
            }
        };
        let Some(client_id) = client_id else {
            return invalid("Identity not found");
        };
        let (token, expires_on) = self.tokens.give(resource);
        let expires_in = expires_on - self.clock.now();
        Answer::ok(json!({
            "access_token": token,
            "client_id": client_id,
            "expires_in": expires_in.to_string(),
            "expires_on": expires_on.to_string(),
            "ext_expires_in": expires_in.to_string(),
            "not_before": self.clock.now().to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }))
    }

    fn workload(&self, call: &Call) -> Answer {
        const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let form = call.form();
        let field = |name| form.get(name).map_or("", String::as_str);
        let invalid = |error, text| denied(StatusCode::BAD_REQUEST, error, text);
        if field("grant_type") != "client_credentials" {
            return invalid(
                "unsupported_grant_type",
                "AADSTS70003: the grant type is not supported",
            );
        }
        if !self.client_ids.iter().any(|id| id == field("client_id")) {
            return invalid(
                "unauthorized_client",
                "AADSTS700016: the application was not found",
            );
        }
        if field("client_assertion_type") != ASSERTION
            || field("client_assertion") != self.assertion
        {
            let text = "AADSTS700213: no federated identity matches the presented assertion";
            return denied(StatusCode::UNAUTHORIZED, "invalid_client", text);
        }
        let Some(resource) = field("scope").strip_suffix("/.default") else {
            return invalid("invalid_scope", "AADSTS1002012: the scope is not valid");
        };
        let (token, expires_on) = self.tokens.give(resource);
        let expires_in = expires_on - self.clock.now();
        Answer::ok(json!({
            "access_token": token,
            "expires_in": expires_in,
            "ext_expires_in": expires_in,
            "token_type": "Bearer",
        }))
    }

    fn switch(&self, call: &Call, switch: &str) -> Answer {
        let body = call.json();
        match (&call.method, switch) {
            (&Method::GET, "faults") => Answer::ok(json!(*self.faults())),
            (&Method::PUT, "faults") => match serde_json::from_value(body) {
                Ok(faults) => {
                    *self.faults() = faults;
                    Answer::ok(Value::Null)
                }
                Err(error) => denied(StatusCode::BAD_REQUEST, "invalid", &error.to_string()),
            },
            (&Method::PUT, "tokens") => {
                if let Some(seconds) = body["lifetime"].as_i64() {
                    self.tokens.set_lifetime(seconds);
                }
                if body["revoke"].as_bool() == Some(true) {
                    self.tokens.revoke();
                }
                Answer::ok(Value::Null)
            }
            _ => denied(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no such switch",
            ),
        }
    }
}

impl IdentityFaults {
    fn take(&mut self) -> Option<u16> {
        let status = self.error?;
        if let Some(times) = &mut self.times {
            *times = times.checked_sub(1)?;
        }
        Some(status)
    }
}

fn denied(status: StatusCode, error: &str, description: &str) -> Answer {
    Answer::new(
        status,
        json!({ "error": error, "error_description": description }),
    )
}
