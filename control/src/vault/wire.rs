//! How requests reach a vault: the SDK's transport, with deadlines, bounds and no redirects.
//!
//! A token that the vault refuses is dropped here, where both the token and the answer are seen. The SDK then asks
//! the identity for a token again and repeats the request once.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::{AUTHORIZATION, HeaderName, HeaderValue, Headers};
use azure_core::http::{
    AsyncRawResponse, Body, ClientOptions, HttpClient, Request, RetryOptions, StatusCode, Transport,
};
use reqwest::{Certificate, Client, ClientBuilder, redirect};
use tokio::time::Instant;

use super::VaultOptions;
use super::error::SetupError;
use super::identity::Identity;

/// An answer that exceeds the limit.
#[derive(Debug, thiserror::Error)]
#[error("an answer has more than {0} bytes")]
pub(super) struct AnswerTooLarge(usize);

/// The SDK's options for a vault: our transport, and no repetition but ours.
pub(super) fn vault_options(
    options: &VaultOptions,
    identity: &Identity,
) -> Result<ClientOptions, SetupError> {
    let mut builder = bounded(options.connect_timeout, options.request_timeout).https_only(true);
    if let Some(path) = &options.ca {
        let pem = fs::read(path).map_err(|source| SetupError::Ca {
            path: path.clone(),
            source,
        })?;
        let roots = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if roots.is_empty() {
            return Err(SetupError::NoCa(path.clone()));
        }
        builder = builder.tls_certs_merge(roots);
    }
    let wire = Wire {
        client: builder.build().map_err(SetupError::Http)?,
        identity: Some(identity.clone()),
        pace: Pace::new(options.pace),
    };
    Ok(client_options(wire))
}

/// The SDK's options for a source of tokens. `on_this_host`: never through a proxy, as the instance metadata service
/// demands.
pub(super) fn token_options(on_this_host: bool) -> Result<ClientOptions, SetupError> {
    let mut builder = bounded(TOKEN_CONNECT_TIMEOUT, TOKEN_REQUEST_TIMEOUT);
    if on_this_host {
        builder = builder.no_proxy();
    }
    let wire = Wire {
        client: builder.build().map_err(SetupError::Http)?,
        identity: None,
        pace: Pace::new(Duration::ZERO),
    };
    Ok(client_options(wire))
}

fn client_options(wire: Wire) -> ClientOptions {
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(wire))),
        ..ClientOptions::default()
    }
}

fn bounded(connect_timeout: Duration, request_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .tls_backend_rustls()
        .connect_timeout(connect_timeout)
        .timeout(request_timeout)
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

/// One HTTP client, and the identity whose tokens it carries.
#[derive(Debug)]
struct Wire {
    client: Client,
    identity: Option<Identity>,
    pace: Pace,
}

/// Requests leave one after the other, at least so far apart. A fleet that starts at once thus sends no bursts.
#[derive(Debug)]
struct Pace {
    apart: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(apart: Duration) -> Self {
        Self {
            apart,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits for the next turn.
    async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.apart;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[async_trait]
impl HttpClient for Wire {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            let message = "a request's body must be in memory";
            return Err(azure_core::Error::with_message(ErrorKind::Other, message));
        };
        let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes())
            .map_err(|e| azure_core::Error::new(ErrorKind::Other, e))?;
        let mut outgoing = self.client.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        self.pace.turn().await;
        let mut answer = outgoing.body(body.clone()).send().await.map_err(failed)?;
        let status = StatusCode::from(answer.status().as_u16());
        if let (StatusCode::Unauthorized, Some(identity)) = (status, &self.identity)
            && let Ok(token) = request.headers().get_str(&AUTHORIZATION)
        {
            identity
                .drop_refused(token.trim_start_matches("Bearer "))
                .await;
        }
        let headers = headers(answer.headers());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let too_large = AnswerTooLarge(ANSWER_BYTES_MAX);
                return Err(azure_core::Error::new(ErrorKind::Other, too_large));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(AsyncRawResponse::from_bytes(status, headers, body))
    }
}

fn failed(error: reqwest::Error) -> azure_core::Error {
    let kind = if error.is_connect() {
        ErrorKind::Connection
    } else {
        ErrorKind::Io
    };
    azure_core::Error::new(kind, error.without_url())
}

fn headers(all: &reqwest::header::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in all {
        if let Ok(value) = value.to_str() {
            headers.insert(
                HeaderName::from(name.as_str().to_owned()),
                HeaderValue::from(value.to_owned()),
            );
        }
    }
    headers
}

// Limit: a page of 25 versions has about 10 KiB, a secret at most 128 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
// Limit: one for each of the three kinds of objects, and one to spare.
const IDLE_CONNECTIONS_MAX: usize = 4;
// Shorter than the 240 s after which Azure's load balancers forget a connection silently.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const TOKEN_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TOKEN_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
