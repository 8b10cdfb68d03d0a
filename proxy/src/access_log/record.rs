//! What a line says.
//!
//! Promises stable field names, and that a path is written without its query: a record takes the whole URI and
//! there is no field for anything of it but the path.

use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use postern_api::LinkId;

use super::line::{Line, Micros, Text, Word, Written, name};
use crate::outcome::{Ending, Refusal};
use crate::request_id::RequestId;

/// What a line is made from.
pub(super) trait Record {
    /// The word for `kind`.
    const KIND: &'static str;

    /// Appends the fields.
    fn append(&self, line: &mut Line<'_>) -> Written;
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct RequestRecord<'a> {
    /// The id in `X-Request-Id` and in our own answers.
    pub request_id: RequestId,
    /// The private endpoint.
    pub link_id: Option<LinkId>,
    /// The client's private address, from the PROXY header. Only together with the link id it says who.
    pub client: Option<SocketAddr>,
    /// The account that the host belongs to.
    pub account: Option<&'a str>,
    /// The server name of the connection.
    pub sni: Option<&'a str>,
    /// Host or `:authority` as the client sent it.
    pub authority: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The request target; only its path is written, as `path`.
    pub uri: &'a Uri,
    /// The client's version of HTTP: `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// The status of the answer; absent if there was none.
    pub status: Option<u16>,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// From the whole request head to the end of the answer, as `total_us`.
    pub total: Duration,
    /// Authorization of the connection that carries it, as `authorize_us`.
    pub authorize: Option<Duration>,
    /// TCP and TLS to the ingress, if a connection was opened, as `upstream_connect_us`.
    pub upstream_connect: Option<Duration>,
    /// From the forwarded head to the ingress's head, as `upstream_first_byte_us`.
    pub upstream_first_byte: Option<Duration>,
    /// The ingress endpoint that answered, or was tried last.
    pub endpoint: Option<SocketAddr>,
    /// The version of HTTP spoken with it.
    pub upstream_protocol: Option<&'static str>,
    /// The client's version of TLS, as `TLSv1.3`.
    pub tls: Option<&'static str>,
    /// Whether the client's TLS session was resumed.
    pub tls_resumed: bool,
    /// Why we answered ourselves, as `refusal` and `blame`.
    pub refusal: Option<Refusal>,
    /// Why we would have, in another mode.
    pub would_refuse: Option<Refusal>,
    /// How the exchange ended.
    pub ending: RequestEnding,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone)]
pub struct ConnectionRecord<'a> {
    /// The TCP peer: the Private Link Service's NAT address.
    pub source: SocketAddr,
    /// The client's private address, from the PROXY header.
    pub client: Option<SocketAddr>,
    /// The private endpoint.
    pub link_id: Option<LinkId>,
    /// The server name in the `ClientHello`.
    pub sni: Option<&'a str>,
    /// From accept to close, as `duration_us`.
    pub duration: Duration,
    /// How it closed, as `ending`, `blame`, and `refusal` if we refused it.
    pub ending: Ending,
}

// Limit: a DICOMweb path with three UIDs of 64 bytes is about 300 bytes. With this clip a full queue of 65536
// lines holds at most about 150 MB.
const PATH_BYTES_MAX: usize = 1024;
// Limit: a host name has 253 bytes and a port 5; a longer authority is not a name.
const NAME_BYTES_MAX: usize = 260;
// Limit: the longest registered method has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

impl Record for RequestRecord<'_> {
    const KIND: &'static str = "request";

    fn append(&self, line: &mut Line<'_>) -> Written {
        let name = |text| Text(text, NAME_BYTES_MAX);
        line.field(name!("request_id"), self.request_id)?;
        line.some(name!("link_id"), self.link_id)?;
        line.some(name!("client"), self.client)?;
        line.some(name!("account"), self.account.map(name))?;
        line.some(name!("sni"), self.sni.map(name))?;
        line.some(name!("authority"), self.authority.map(name))?;
        line.field(name!("method"), Text(self.method, METHOD_BYTES_MAX))?;
        line.field(name!("path"), Text(self.uri.path(), PATH_BYTES_MAX))?;
        line.field(name!("protocol"), Word(self.protocol))?;
        line.some(name!("status"), self.status)?;
        line.field(name!("request_bytes"), self.request_bytes)?;
        line.field(name!("response_bytes"), self.response_bytes)?;
        line.field(name!("total_us"), Micros(self.total))?;
        line.some(name!("authorize_us"), self.authorize.map(Micros))?;
        line.some(
            name!("upstream_connect_us"),
            self.upstream_connect.map(Micros),
        )?;
        line.some(
            name!("upstream_first_byte_us"),
            self.upstream_first_byte.map(Micros),
        )?;
        line.some(name!("endpoint"), self.endpoint)?;
        line.some(name!("upstream_protocol"), self.upstream_protocol.map(Word))?;
        line.some(name!("tls"), self.tls.map(Word))?;
        line.field(name!("tls_resumed"), self.tls_resumed)?;
        if let Some(refusal) = self.refusal {
            line.field(name!("refusal"), Word(refusal.label()))?;
            line.field(name!("blame"), Word(refusal.blame().label()))?;
        }
        let would_refuse = self.would_refuse.map(Refusal::label);
        line.some(name!("would_refuse"), would_refuse.map(Word))?;
        line.field(name!("ending"), Word(self.ending.label()))
    }
}

impl RequestEnding {
    /// Every value.
    pub const ALL: [Self; 5] = [
        Self::Complete,
        Self::Upgraded,
        Self::ClientBroke,
        Self::UpstreamBroke,
        Self::Cut,
    ];

    /// The word in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Upgraded => "upgraded",
            Self::ClientBroke => "client_broke",
            Self::UpstreamBroke => "upstream_broke",
            Self::Cut => "cut",
        }
    }
}

impl Record for ConnectionRecord<'_> {
    const KIND: &'static str = "connection";

    fn append(&self, line: &mut Line<'_>) -> Written {
        line.field(name!("source"), self.source)?;
        line.some(name!("client"), self.client)?;
        line.some(name!("link_id"), self.link_id)?;
        line.some(name!("sni"), self.sni.map(|sni| Text(sni, NAME_BYTES_MAX)))?;
        line.field(name!("duration_us"), Micros(self.duration))?;
        line.field(name!("ending"), Word(self.ending.label()))?;
        if let Ending::Refused(refusal) = self.ending {
            line.field(name!("refusal"), Word(refusal.label()))?;
        }
        line.field(name!("blame"), Word(self.ending.blame().label()))
    }
}
