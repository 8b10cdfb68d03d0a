//! The SDK's errors in our words.
//!
//! Invariant: a text from the service is shown bounded and without control characters, and a parser's words about an
//! answer are not shown at all: they may quote it.

use std::error::Error;
use std::time::{Duration, SystemTime};

use azure_core::error::ErrorKind;
use azure_core::http::headers::{
    HeaderName, Headers, RETRY_AFTER, RETRY_AFTER_MS, X_MS_RETRY_AFTER_MS,
};
use azure_core::http::{RawResponse, StatusCode};
use jiff::fmt::rfc2822::DateTimeParser;
use serde::Deserialize;

use super::error::VaultError;
use super::wire::AnswerTooLarge;

impl From<azure_core::Error> for VaultError {
    fn from(error: azure_core::Error) -> Self {
        match error.kind() {
            ErrorKind::HttpResponse {
                status,
                raw_response,
                ..
            } => of_status(*status, raw_response.as_deref(), now()),
            ErrorKind::Credential => Self::Identity {
                reason: text(&error),
                retry_after: asked_to_wait(&error),
            },
            ErrorKind::Connection | ErrorKind::Io if timed_out(&error) => Self::TimedOut,
            ErrorKind::Connection | ErrorKind::Io => Self::Unavailable {
                reason: text(&error),
                retry_after: None,
            },
            ErrorKind::DataConversion => Self::Malformed("it does not parse".to_owned()),
            ErrorKind::Other => match find::<AnswerTooLarge>(&error) {
                Some(too_large) => Self::Malformed(too_large.to_string()),
                None => Self::Malformed(text(&error)),
            },
        }
    }
}

fn of_status(status: StatusCode, answer: Option<&RawResponse>, now: i64) -> VaultError {
    let retry_after = answer.and_then(|answer| retry_after(answer.headers(), now));
    let said = answer.map(Said::of).unwrap_or_default();
    let reason = said.reason();
    match u16::from(status) {
        429 => VaultError::Throttled { retry_after },
        401 => VaultError::Unauthorized,
        403 if said.is_about_disabled() => VaultError::Disabled,
        403 => VaultError::Forbidden { reason },
        404 => VaultError::NotFound,
        409 => VaultError::Conflict { reason },
        status @ (408 | 500..) => VaultError::Unavailable {
            reason: format!("status {status}, {reason}"),
            retry_after,
        },
        status => VaultError::Rejected { status, reason },
    }
}

/// The error body that Azure's services share, as far as it is used.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    error: Detail,
}

#[derive(Default, Deserialize)]
struct Detail {
    code: Option<String>,
    message: Option<String>,
    #[serde(alias = "innerError", alias = "innererror")]
    inner: Option<Box<Detail>>,
}

impl Said {
    fn of(answer: &RawResponse) -> Self {
        serde_json::from_slice(answer.body().as_ref()).unwrap_or_default()
    }

    fn is_about_disabled(&self) -> bool {
        let inner = self.error.inner.as_ref();
        inner
            .and_then(|inner| inner.code.as_deref())
            .is_some_and(|code| code.ends_with("Disabled"))
    }

    fn reason(&self) -> String {
        let said = [&self.error.code, &self.error.message];
        let said: Vec<_> = said.into_iter().flatten().map(String::as_str).collect();
        if said.is_empty() {
            return "without saying why".to_owned();
        }
        shown(&said.join(": "))
    }
}

/// How long an answer asks to wait: milliseconds in Azure's own headers, else seconds or a date (RFC 9110 section
/// 10.2.3).
fn retry_after(headers: &Headers, now: i64) -> Option<Duration> {
    let value = |name: &HeaderName| headers.get_optional_str(name).map(str::trim);
    let milliseconds = [X_MS_RETRY_AFTER_MS, RETRY_AFTER_MS]
        .iter()
        .find_map(|name| value(name)?.parse().ok())
        .map(Duration::from_millis);
    let standard = || {
        let text = value(&RETRY_AFTER)?;
        let seconds = text.parse().ok().or_else(|| {
            let until = DateTimeParser::new().parse_timestamp(text).ok()?;
            u64::try_from(until.as_second().saturating_sub(now).max(0)).ok()
        })?;
        Some(Duration::from_secs(seconds))
    };
    milliseconds
        .or_else(standard)
        .map(|asked| asked.min(RETRY_AFTER_MAX))
}

/// The same of a source of tokens, whose answer is somewhere below the error.
fn asked_to_wait(error: &azure_core::Error) -> Option<Duration> {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<azure_core::Error>())
        .find_map(|cause| match cause.kind() {
            ErrorKind::HttpResponse { raw_response, .. } => {
                retry_after(raw_response.as_ref()?.headers(), now())
            }
            _ => None,
        })
}

fn timed_out(error: &azure_core::Error) -> bool {
    find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_timeout)
}

fn find<E: Error + 'static>(error: &azure_core::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn causes<'a>(error: &'a azure_core::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// What an error and its causes say, each once.
pub(super) fn text(error: &azure_core::Error) -> String {
    let mut whole = String::new();
    for cause in causes(error) {
        let said = cause.to_string();
        if whole.contains(&said) {
            continue;
        }
        if !whole.is_empty() {
            whole.push_str(": ");
        }
        whole.push_str(&said);
    }
    shown(&whole)
}

/// Bounded, on one line.
fn shown(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(REASON_CHARACTERS_MAX).collect()
}

fn now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

// Limit: Key Vault's longest message (a missing permission) has about 600 characters.
const REASON_CHARACTERS_MAX: usize = 800;
// Limit: throttling windows are seconds; a wrong header must not stop rotation for days.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests;
