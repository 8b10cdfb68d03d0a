//! What a line says.
//!
//! Promises stable field names, and that a path is written without its query: a record takes the whole URI and
//! there is no field for anything of it but the path.
#![expect(
    clippy::ref_option,
    clippy::ref_option_ref,
    clippy::trivially_copy_pass_by_ref,
    reason = "the signatures that serde's `serialize_with` calls"
)]

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use postern_api::LinkId;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use crate::outcome::{Ending, Refusal};
use crate::request_id::RequestId;

/// One request and its answer.
#[derive(Debug, Clone, Serialize)]
pub struct RequestRecord<'a> {
    /// The id in `X-Request-Id` and in our own answers.
    pub request_id: RequestId,
    /// The private endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_id: Option<LinkId>,
    /// The client's private address, from the PROXY header. Only together with the link id it says who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
    /// The account that the host belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// The server name of the connection.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "clipped_name"
    )]
    pub sni: Option<&'a str>,
    /// Host or `:authority` as the client sent it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "clipped_name"
    )]
    pub authority: Option<&'a str>,
    /// The method.
    #[serde(serialize_with = "method")]
    pub method: &'a str,
    /// The request target; only its path is written, as `path`.
    #[serde(rename = "path", serialize_with = "path")]
    pub uri: &'a Uri,
    /// The client's version of HTTP: `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'a str,
    /// The status of the answer; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// From the whole request head to the end of the answer, as `total_us`.
    #[serde(rename = "total_us", serialize_with = "micros")]
    pub total: Duration,
    /// Authorization of the connection that carries it, as `authorize_us`.
    #[serde(
        rename = "authorize_us",
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_micros"
    )]
    pub authorize: Option<Duration>,
    /// TCP and TLS to the ingress, if a connection was opened, as `upstream_connect_us`.
    #[serde(
        rename = "upstream_connect_us",
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_micros"
    )]
    pub upstream_connect: Option<Duration>,
    /// From the forwarded head to the ingress's head, as `upstream_first_byte_us`.
    #[serde(
        rename = "upstream_first_byte_us",
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_micros"
    )]
    pub upstream_first_byte: Option<Duration>,
    /// The ingress endpoint that answered, or was tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The version of HTTP spoken with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_protocol: Option<&'a str>,
    /// The client's version of TLS, as `TLSv1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<&'a str>,
    /// Whether the client's TLS session was resumed.
    pub tls_resumed: bool,
    /// Why we answered ourselves, as `refusal` and `blame`.
    #[serde(flatten, serialize_with = "refusal")]
    pub refusal: Option<Refusal>,
    /// Why we would have, in another mode.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "word")]
    pub would_refuse: Option<Refusal>,
    /// How the exchange ended.
    pub ending: RequestEnding,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestEnding {
    /// The answer was sent whole.
    Complete,
    /// It became a tunnel (RFC 9110 section 7.8), which has ended.
    Upgraded,
    /// The client broke off.
    ClientBroke,
    /// The ingress broke off after its answer had begun.
    UpstreamBroke,
    /// We cut it: a deadline, a drain or a revoked link.
    Cut,
}

/// One connection that was refused or broke.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionRecord<'a> {
    /// The TCP peer: the Private Link Service's NAT address.
    pub source: SocketAddr,
    /// The client's private address, from the PROXY header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
    /// The private endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_id: Option<LinkId>,
    /// The server name in the `ClientHello`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "clipped_name"
    )]
    pub sni: Option<&'a str>,
    /// From accept to close, as `duration_us`.
    #[serde(rename = "duration_us", serialize_with = "micros")]
    pub duration: Duration,
    /// How it closed, as `ending`, `blame`, and `refusal` if we refused it.
    #[serde(flatten, serialize_with = "ending")]
    pub ending: Ending,
}

// Limit: a DICOMweb path with three UIDs of 64 bytes is about 300 bytes. With this clip a full queue of 65536
// lines holds at most about 150 MB.
const PATH_BYTES_MAX: usize = 1024;
// Limit: a host name has 253 bytes and a port 5; a longer authority is not a name.
const NAME_BYTES_MAX: usize = 260;
// Limit: the longest registered method has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// At most `max` bytes of `text`; what is missing shows as `…`.
fn clip(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(max)]))
}

fn path<S: Serializer>(uri: &&Uri, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clip(uri.path(), PATH_BYTES_MAX))
}

fn method<S: Serializer>(method: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clip(method, METHOD_BYTES_MAX))
}

fn clipped_name<S: Serializer>(name: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clip(name.unwrap_or_default(), NAME_BYTES_MAX))
}

fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn some_micros<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    micros(&duration.unwrap_or_default(), serializer)
}

fn word<S: Serializer>(refusal: &Option<Refusal>, serializer: S) -> Result<S::Ok, S::Error> {
    refusal.map(Refusal::label).serialize(serializer)
}

fn refusal<S: Serializer>(refusal: &Option<Refusal>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    if let Some(refusal) = refusal {
        fields.serialize_entry("refusal", refusal.label())?;
        fields.serialize_entry("blame", refusal.blame().label())?;
    }
    fields.end()
}

fn ending<S: Serializer>(ending: &Ending, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    fields.serialize_entry("ending", ending.label())?;
    if let Ending::Refused(refusal) = ending {
        fields.serialize_entry("refusal", refusal.label())?;
    }
    fields.serialize_entry("blame", ending.blame().label())?;
    fields.end()
}
