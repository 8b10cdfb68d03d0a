//! Notifications of new versions, by Event Grid's webhook deliveries (event grid schema).
//!
//! Promises that a notification does nothing but make the next look at one certificate earlier, by chance within a
//! stretch, and at most once before that look. Whoever has the token can do no more than that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use axum::{Router, body::Bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::metrics::{Delivery, Metrics};

/// Who is woken by what.
pub(super) struct Notifications {
    pub(super) token_file: PathBuf,
    pub(super) topics: Vec<Topic>,
    pub(super) metrics: Arc<Metrics>,
}

/// An object of a vault, and who publishes it.
pub(super) struct Topic {
    /// The vault's host.
    pub(super) vault: String,
    /// The object's name in the vault.
    pub(super) object: String,
    pub(super) wake: Arc<Notify>,
}

/// Why there is no token to compare with.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token's file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token is too short or too long.
    #[error(
        "the token in {path} has {bytes} bytes; it may have {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX}",
        path = path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// The token's length.
        bytes: usize,
    },
}

/// `POST /events?token=…`.
pub(super) fn router(notifications: Notifications) -> Router {
    Router::new()
        .route("/events", post(deliver))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(notifications))
}

/// Reads the token, without the white space around it. Anew for each delivery, so that it can be changed.
pub(super) async fn read_token(path: &Path) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let failed = |source| TokenError::Read {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    // One byte more than a token and a line's end may have, so that a longer one is seen.
    let mut text = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES_MAX + 3));
    let mut file = file.take(TOKEN_BYTES_MAX as u64 + 3);
    file.read_to_end(&mut text).await.map_err(failed)?;
    let token = Zeroizing::new(text.trim_ascii().to_vec());
    if (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
        Ok(token)
    } else {
        Err(TokenError::Length {
            path: path.to_owned(),
            bytes: token.len(),
        })
    }
}

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

/// One event. What it does not need is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_type: String,
    #[serde(default)]
    data: Value,
}

async fn deliver(
    State(notifications): State<Arc<Notifications>>,
    credentials: Result<Query<Credentials>, QueryRejection>,
    body: Bytes,
) -> Response {
    let (delivery, answer) = notifications.judge(credentials.ok(), &body).await;
    notifications.metrics.delivered(delivery);
    answer
}

impl Notifications {
    async fn judge(
        &self,
        credentials: Option<Query<Credentials>>,
        body: &[u8],
    ) -> (Delivery, Response) {
        let token = match read_token(&self.token_file).await {
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(
                    error = postern_chassis::whole(&error),
                    "a notification is refused"
                );
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return (Delivery::Unauthorized, status.into_response());
            }
        };
        let shown = credentials.is_some_and(|Query(shown)| {
            verify_slices_are_equal(shown.token.as_bytes(), &token).is_ok()
        });
        if !shown {
            return (
                Delivery::Unauthorized,
                StatusCode::UNAUTHORIZED.into_response(),
            );
        }
        let Ok(events) = serde_json::from_slice::<Vec<Event>>(body) else {
            return (Delivery::Malformed, StatusCode::BAD_REQUEST.into_response());
        };
        let validation = events.iter().find(|event| event.event_type == VALIDATION);
        if let Some(event) = validation {
            let Some(code) = event.data["validationCode"].as_str() else {
                return (Delivery::Malformed, StatusCode::BAD_REQUEST.into_response());
            };
            tracing::info!("the subscription to notifications is confirmed");
            let answer = Json(json!({ "validationResponse": code }));
            return (Delivery::Validated, answer.into_response());
        }
        let woke = events.iter().filter(|event| self.wake(event)).count();
        let delivery = if woke > 0 {
            Delivery::Woke
        } else {
            Delivery::Ignored
        };
        (delivery, StatusCode::OK.into_response())
    }

    /// Whether the event is about something that is published here.
    fn wake(&self, event: &Event) -> bool {
        if !NEW_VERSIONS.contains(&event.event_type.as_str()) {
            return false;
        }
        let word = |key: &str| event.data[key].as_str().unwrap_or_default();
        let (vault, object) = (word("VaultName"), word("ObjectName"));
        let topics = self.topics.iter().filter(|topic| {
            let name = topic.vault.split('.').next().unwrap_or_default();
            let is_vault = [name, &topic.vault]
                .iter()
                .any(|it| it.eq_ignore_ascii_case(vault));
            is_vault && topic.object.eq_ignore_ascii_case(object)
        });
        let mut woke = false;
        for topic in topics {
            topic.wake.notify_one();
            woke = true;
        }
        woke
    }
}

const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";
const NEW_VERSIONS: [&str; 2] = [
    "Microsoft.KeyVault.CertificateNewVersionCreated",
    "Microsoft.KeyVault.SecretNewVersionCreated",
];
// Limit: Event Grid delivers one event at a time unless told otherwise; one has about 600 bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
// Limit: what is shorter can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 1024;
