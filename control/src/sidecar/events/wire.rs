//! One bounded request over plain HTTP, to a neighbour: the metadata service, or Postern's admin listener.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, redirect};

/// Why there is no answer to be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// Nobody listens: the connection was refused. A hang is not that.
    #[error("nothing listens there")]
    Refused,
    #[error("no answer")]
    Request(#[source] reqwest::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

impl WireError {
    fn of(error: reqwest::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
                return Self::Refused;
            }
            cause = error.source();
        }
        Self::Request(error.without_url())
    }
}

/// The client of both. Through no proxy, as the metadata service demands, and to nowhere else.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        // Plain HTTP alone is spoken: no certificate needs to be read.
        .tls_certs_only([])
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
}

/// Sends a request and reads what a 2xx answer to it says, within `limit`.
pub(super) async fn fetch(request: RequestBuilder, limit: Duration) -> Result<Vec<u8>, WireError> {
    let mut answer = request.timeout(limit).send().await.map_err(WireError::of)?;
    if !answer.status().is_success() {
        return Err(WireError::Status(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(WireError::of)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(WireError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

// Limit: both are on this host or as near as the hypervisor.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
// Limit: an event has about 1 KiB and 20 bytes for each machine it names, of at most some hundreds of events.
const ANSWER_BYTES_MAX: usize = 512 * 1024;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
