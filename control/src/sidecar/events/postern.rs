//! The Postern of this machine, by its admin listener: asked to drain, and looked at while it does.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;

use super::wire::{WireError, fetch};

/// Why Postern did not say how far it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum PosternError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the answer does not say how far a drain is")]
    Answer(#[from] serde_json::Error),
}

impl PosternError {
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self, Self::Wire(WireError::Refused))
    }
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Serving,
    Noticing,
    Ending,
    Drained,
}

impl Phase {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Noticing => "noticing",
            Self::Ending => "ending",
            Self::Drained => "drained",
        }
    }
}

/// What `/drain` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    /// Open connections.
    #[serde(default)]
    pub(super) connections: u64,
    #[serde(default)]
    pub(super) requests_in_flight: i64,
    /// Connections that were cut because they had not ended in time.
    #[serde(default)]
    pub(super) connections_cut: u64,
}

/// The admin listener.
#[derive(Debug)]
pub(super) struct Postern {
    client: Client,
    url: String,
    has_answered: bool,
}

impl Postern {
    pub(super) fn new(client: Client, admin: SocketAddr) -> Self {
        Self {
            client,
            url: format!("http://{admin}/drain"),
            has_answered: false,
        }
    }

    /// Whether it has ever answered. Where it has not, the address may be a wrong one, and that nobody listens there
    /// means nothing.
    pub(super) const fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Begins a drain that is over `within` this time, or shortens the one that has begun.
    pub(super) async fn drain(&mut self, within: Duration) -> Result<Progress, PosternError> {
        let url = format!("{}?within={}ms", self.url, within.as_millis());
        self.ask(self.client.post(url)).await
    }

    /// How far it is.
    pub(super) async fn progress(&mut self) -> Result<Progress, PosternError> {
        self.ask(self.client.get(&self.url)).await
    }

    async fn ask(&mut self, request: RequestBuilder) -> Result<Progress, PosternError> {
        let text = fetch(request, TIMEOUT).await?;
        let progress = serde_json::from_slice(&text)?;
        self.has_answered = true;
        Ok(progress)
    }
}

// Limit: it is on this host. Kept short, so that the deadline is met.
const TIMEOUT: Duration = Duration::from_secs(2);
