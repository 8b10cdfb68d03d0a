//! The instance metadata service: what is planned, who we are, and what we have prepared for.

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::json;

use super::document::{self, DocumentError, Event};
use super::wire::{WireError, fetch};

/// Why the service was of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImdsError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the answer is no document of events")]
    Document(#[from] DocumentError),
    #[error("the answer does not say what this machine is called")]
    Name(#[source] serde_json::Error),
    #[error("the answer says that this machine has no name")]
    NoName,
}

/// The service.
#[derive(Debug)]
pub(super) struct Imds {
    client: Client,
    endpoint: String,
    has_answered: bool,
}

#[derive(Deserialize)]
struct Compute {
    name: String,
}

impl Imds {
    /// The service at `endpoint`, such as `http://169.254.169.254`.
    pub(super) fn new(client: Client, endpoint: &str) -> Self {
        Self {
            client,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            has_answered: false,
        }
    }

    /// What this machine is called in events.
    pub(super) async fn name(&self) -> Result<String, ImdsError> {
        let url = format!("{}{COMPUTE}", self.endpoint);
        let text = fetch(marked(self.client.get(url)), TIMEOUT).await?;
        let compute: Compute = serde_json::from_slice(&text).map_err(ImdsError::Name)?;
        if compute.name.is_empty() {
            return Err(ImdsError::NoName);
        }
        Ok(compute.name)
    }

    /// What is planned.
    pub(super) async fn events(&mut self) -> Result<Vec<Event>, ImdsError> {
        let limit = if self.has_answered {
            TIMEOUT
        } else {
            FIRST_TIMEOUT
        };
        let url = format!("{}{EVENTS}", self.endpoint);
        let text = fetch(marked(self.client.get(url)), limit).await?;
        self.has_answered = true;
        Ok(document::parse(&text)?)
    }

    /// Says that this event may begin. It speaks for every machine that the event names.
    pub(super) async fn acknowledge(&self, id: &str) -> Result<(), ImdsError> {
        let url = format!("{}{EVENTS}", self.endpoint);
        let body = json!({ "StartRequests": [{ "EventId": id }] });
        let request = marked(self.client.post(url)).body(body.to_string());
        fetch(request, TIMEOUT).await?;
        Ok(())
    }
}

/// Without this header the service answers 400: it shows that nobody was made to ask.
fn marked(request: RequestBuilder) -> RequestBuilder {
    request.header("Metadata", "true")
}

const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const COMPUTE: &str = "/metadata/instance/compute?api-version=2021-02-01&format=json";
// Limit: it answers in milliseconds; what takes longer must not hold up a drain.
const TIMEOUT: Duration = Duration::from_secs(2);
// Limit: "a delayed response in your first call of up to two minutes", by which the service is enabled.
const FIRST_TIMEOUT: Duration = Duration::from_secs(130);
