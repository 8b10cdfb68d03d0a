//! What a request says, read strictly: what is unknown, repeated, too large or of another type is an error that names
//! the part to blame.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::object::Object;
use crate::routing::model::{AccountId, ConnectionId, InvalidText, WorkspaceName};
use crate::routing::store::{Condition, ETag};

/// What a path names.
pub(super) struct At<T>(pub(super) T);

/// A thing that a path can name.
pub(super) trait Place: Sized {
    fn read(path: &RawPathParams) -> Result<Self, ApiError>;
}

impl<S: Send + Sync, T: Place> FromRequestParts<S> for At<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = RawPathParams::from_request_parts(parts, state).await;
        let path = path.map_err(|_| ApiError::no_such_path(parts.uri.path()))?;
        T::read(&path).map(Self)
    }
}

impl Place for WorkspaceName {
    fn read(path: &RawPathParams) -> Result<Self, ApiError> {
        segment(path, "workspace")
    }
}

impl Place for AccountId {
    fn read(path: &RawPathParams) -> Result<Self, ApiError> {
        Ok(Self {
            workspace: segment(path, "workspace")?,
            name: segment(path, "account")?,
        })
    }
}

impl Place for ConnectionId {
    fn read(path: &RawPathParams) -> Result<Self, ApiError> {
        Ok(Self {
            account: AccountId::read(path)?,
            name: segment(path, "name")?,
        })
    }
}

fn segment<T: std::str::FromStr<Err = InvalidText>>(
    path: &RawPathParams,
    key: &str,
) -> Result<T, ApiError> {
    let value = path.iter().find(|(name, _)| *name == key);
    let value = value.map_or("", |(_, value)| value);
    let invalid = |error: InvalidText| {
        let status = StatusCode::BAD_REQUEST;
        ApiError::new(status, "InvalidResourceName", error.to_string()).about(key)
    };
    value.parse().map_err(invalid)
}

/// A JSON body.
pub(super) struct Content<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Content<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let body = read(request).await?;
        if !is_json {
            return Err(not_json());
        }
        parse(&body).map(Self)
    }
}

/// A JSON body, or none at all.
pub(super) struct MaybeContent<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeContent<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let body = read(request).await?;
        match (body.is_empty(), is_json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => parse(&body).map(Self),
            (false, false) => Err(not_json()),
        }
    }
}

fn not_json() -> ApiError {
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let message = "the body must be of the type application/json";
    ApiError::new(status, "UnsupportedMediaType", message).about("Content-Type")
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(request: Request) -> Result<bytes::Bytes, ApiError> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let body = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("a body has at most {BODY_BYTES_MAX} bytes");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            ApiError::new(status, "RequestEntityTooLarge", message)
        } else {
            ApiError::content("the body broke off")
        }
    })?;
    Ok(body.to_bytes())
}

/// The value that a JSON text is. The error's target is the path to what is to blame.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut json);
    let Object(value) = value.map_err(|error| {
        // "?" is for what has no name, as the text ends before it or is no JSON; "." for the whole.
        let path = error.path().to_string();
        let path = path.trim_end_matches('?').trim_end_matches('.');
        let path = Some(path.to_owned()).filter(|path| !path.is_empty());
        let message = error.into_inner().to_string();
        // What is missing or there twice has no path of its own, but it has a name.
        let field = ["missing field `", "duplicate field `"];
        let field = field.iter().find_map(|begin| message.strip_prefix(begin));
        let field = field.and_then(|rest| rest.split_once('`'));
        let target = match (path, field) {
            (Some(path), Some((name, _))) => Some(format!("{path}.{name}")),
            (None, Some((name, _))) => Some(name.to_owned()),
            (path, None) => path,
        };
        let refusal = ApiError::content(message);
        match target {
            Some(target) => refusal.about(target),
            None => refusal,
        }
    })?;
    json.end()
        .map_err(|error| ApiError::content(error.to_string()))?;
    Ok(value)
}

/// What a query says.
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Each name is one of `known`, and there once at most.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) =
            pairs.map_err(|error| ApiError::parameter("query", error.to_string()))?;
        let mut all = BTreeMap::new();
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                let message = format!("there is no such parameter; there is {known}");
                return Err(ApiError::parameter(&name, message));
            }
            if all.insert(name.clone(), value).is_some() {
                return Err(ApiError::parameter(&name, "the parameter is there twice"));
            }
        }
        Ok(Self(all))
    }

    /// A value, if it is there.
    pub(super) fn get<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let value = self.0.get(name).map(|text| text.parse::<T>());
        let value = value.transpose();
        value.map_err(|error| ApiError::parameter(name, error.to_string()))
    }

    /// A value that must be there.
    pub(super) fn require<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<T, ApiError> {
        self.get(name)?
            .ok_or_else(|| ApiError::parameter(name, "the parameter is required"))
    }
}

/// The only value of a header that may be there once.
pub(super) fn only<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let refused = |why| Err(ApiError::header(name.as_str(), why));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => refused("the header is there twice"),
        (Some(value), None) => value.to_str().map_or_else(
            |_| refused("the header is no text"),
            |text| Ok(Some(text.trim())),
        ),
    }
}

/// What must hold for a change to take place: `If-Match: "…"`, `If-Match: *` or `If-None-Match: *`.
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition, ApiError> {
    let (matches, matches_not) = (only(headers, &IF_MATCH)?, only(headers, &IF_NONE_MATCH)?);
    match (matches, matches_not) {
        (None, None) => Ok(Condition::Any),
        (None, Some("*")) => Ok(Condition::IfNoneMatch),
        (Some("*"), None) => Ok(Condition::IfExists),
        (Some(tag), None) if is_tag(tag) => match tag.parse::<ETag>() {
            Ok(tag) => Ok(Condition::IfMatch(tag)),
            // A tag of no resource of ours matches none.
            Err(_) => Err(crate::routing::store::StoreError::PreconditionFailed.into()),
        },
        (Some(_), None) => Err(ApiError::header(
            "If-Match",
            "must be * or one entity tag in quotes, as `etag` of the resource has it",
        )),
        (None, Some(_)) => Err(ApiError::header(
            "If-None-Match",
            "must be *: the resource is not to be there yet",
        )),
        (Some(_), Some(_)) => Err(ApiError::header(
            "If-None-Match",
            "cannot be there together with If-Match",
        )),
    }
}

fn is_tag(text: &str) -> bool {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.contains('"'))
}

/// Whether who asks has this version already (`If-None-Match`, RFC 9110 section 13.1.2: compared weakly).
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

// Limit: an account with 16 of the longest hosts has some 5 KB.
const BODY_BYTES_MAX: usize = 64 * 1024;
