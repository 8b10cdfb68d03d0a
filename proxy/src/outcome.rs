//! How things end: the closed list of reasons to say no, and of ways a connection closes.
//!
//! Each value has exactly one blame, one answer and one word; the same word is the metric label, the log
//! word and the `code` that a client reads. A new reason is a new line in the table below, and the compiler
//! then asks for its blame and its answer.
//!
//! Invariant: no text in this file names an account, a host or a link.

use http::StatusCode;

use crate::proxy_protocol::Malformed;

/// Who has to act when this happens often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client, or whoever sent the bytes.
    Client,
    /// Nobody: the rules say no (a link that is not approved, a limit).
    Policy,
    /// The ingress or what is behind it.
    Upstream,
    /// Postern or what it depends on (account routing, capacity).
    Us,
}

impl Blame {
    /// The word in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Policy => "policy",
            Self::Upstream => "upstream",
            Self::Us => "us",
        }
    }
}

/// What the peer gets for a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The connection is closed without a byte.
    Close,
    /// A fatal TLS alert, by its number (RFC 8446 section 6), then close.
    Alert(u8),
    /// An HTTP answer.
    Status {
        /// The status code.
        status: StatusCode,
        /// Seconds for `Retry-After`, if the client should come back.
        retry_after: Option<u32>,
        /// Whether the connection ends with this answer (HTTP/1.1 `Connection: close`, HTTP/2 GOAWAY).
        close: bool,
    },
}

/// TLS alert `decode_error` (RFC 8446 section 6.2).
pub const ALERT_DECODE_ERROR: u8 = 50;
/// TLS alert `access_denied` (RFC 8446 section 6.2).
pub const ALERT_ACCESS_DENIED: u8 = 49;
/// TLS alert `unrecognized_name` (RFC 6066 section 3).
pub const ALERT_UNRECOGNIZED_NAME: u8 = 112;

/// Why we said no, to a connection or to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    // accept
    /// The TCP peer is neither a Private Link Service nor a probe source.
    UntrustedSource,
    /// As many connections are open as the configuration allows.
    ConnectionLimit,
    // proxy_header
    /// The first bytes are not a PROXY v2 header we accept.
    ProxyHeader(Malformed),
    /// The peer closed before the header was whole.
    ProxyHeaderTruncated,
    /// The header was not whole in time.
    ProxyHeaderLate,
    /// A second PROXY header followed the first.
    ProxyHeaderDuplicate,
    /// A well-formed PROXY header from a client carries no link id.
    LinkIdMissing,
    // client_hello
    /// The bytes after the header are not a TLS `ClientHello`.
    ClientHelloMalformed,
    /// The `ClientHello` names no server.
    SniMissing,
    /// We hold no certificate for the name in the `ClientHello`.
    SniUnknown,
    // authorize
    /// No account knows this link for this host.
    LinkUnknown,
    /// The link is known, but pending, rejected or disconnected.
    LinkNotApproved,
    /// The lookup failed and nothing usable was cached.
    LookupFailed,
    // admit
    /// The request is for another host that this link may reach: wrong connection.
    Misdirected,
    /// The request is for a host outside the permit.
    HostNotPermitted,
    /// No, two or an invalid authority; ambiguous framing; malformed HTTP.
    BadRequest,
    /// The request head is larger than we read.
    HeadTooLarge,
    /// The account's customer-managed key is not accessible.
    CustomerKey,
    /// Over this link's or account's rate.
    RateLimited,
    /// As many requests are in flight as the configuration allows.
    Overloaded,
    /// This process is draining.
    Draining,
    // forward
    /// No ingress endpoint could be connected to.
    UpstreamConnect,
    /// The ingress did not answer in time.
    UpstreamTimeout,
    /// The ingress broke the exchange before its answer began.
    UpstreamBroke,
}

impl Refusal {
    /// Every value, for metric registration, documentation and tests.
    pub fn all() -> impl Iterator<Item = Self> {
        Malformed::ALL.into_iter().map(Self::ProxyHeader).chain([
            Self::UntrustedSource,
            Self::ConnectionLimit,
            Self::ProxyHeaderTruncated,
            Self::ProxyHeaderLate,
            Self::ProxyHeaderDuplicate,
            Self::LinkIdMissing,
            Self::ClientHelloMalformed,
            Self::SniMissing,
            Self::SniUnknown,
            Self::LinkUnknown,
            Self::LinkNotApproved,
            Self::LookupFailed,
            Self::Misdirected,
            Self::HostNotPermitted,
            Self::BadRequest,
            Self::HeadTooLarge,
            Self::CustomerKey,
            Self::RateLimited,
            Self::Overloaded,
            Self::Draining,
            Self::UpstreamConnect,
            Self::UpstreamTimeout,
            Self::UpstreamBroke,
        ])
    }

    /// The one word for this reason: metric label, log word, and `code` in the answer.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UntrustedSource => "untrusted_source",
            Self::ConnectionLimit => "connection_limit",
            Self::ProxyHeader(malformed) => malformed.label(),
            Self::ProxyHeaderTruncated => "proxy_header_truncated",
            Self::ProxyHeaderLate => "proxy_header_late",
            Self::ProxyHeaderDuplicate => "proxy_header_duplicate",
            Self::LinkIdMissing => "link_id_missing",
            Self::ClientHelloMalformed => "client_hello_malformed",
            Self::SniMissing => "sni_missing",
            Self::SniUnknown => "sni_unknown",
            Self::LinkUnknown => "link_unknown",
            Self::LinkNotApproved => "link_not_approved",
            Self::LookupFailed => "lookup_failed",
            Self::Misdirected => "misdirected",
            Self::HostNotPermitted => "host_not_permitted",
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::CustomerKey => "customer_key",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamBroke => "upstream_broke",
        }
    }

    /// Who has to act.
    pub const fn blame(self) -> Blame {
        match self {
            Self::UntrustedSource
            | Self::ProxyHeader(_)
            | Self::ProxyHeaderTruncated
            | Self::ProxyHeaderLate
            | Self::ProxyHeaderDuplicate
            | Self::LinkIdMissing
            | Self::ClientHelloMalformed
            | Self::SniMissing
            | Self::SniUnknown
            | Self::Misdirected
            | Self::HostNotPermitted
            | Self::BadRequest
            | Self::HeadTooLarge => Blame::Client,
            Self::LinkUnknown | Self::LinkNotApproved | Self::CustomerKey | Self::RateLimited => {
                Blame::Policy
            }
            Self::ConnectionLimit | Self::LookupFailed | Self::Overloaded | Self::Draining => {
                Blame::Us
            }
            Self::UpstreamConnect | Self::UpstreamTimeout | Self::UpstreamBroke => Blame::Upstream,
        }
    }

    /// What the peer gets.
    pub const fn answer(self) -> Answer {
        const fn status(status: StatusCode) -> Answer {
            Answer::Status {
                status,
                retry_after: None,
                close: false,
            }
        }
        const fn closing(status: StatusCode) -> Answer {
            Answer::Status {
                status,
                retry_after: None,
                close: true,
            }
        }
        const fn later(status: StatusCode, seconds: u32) -> Answer {
            Answer::Status {
                status,
                retry_after: Some(seconds),
                close: false,
            }
        }
        match self {
            Self::UntrustedSource
            | Self::ConnectionLimit
            | Self::ProxyHeader(_)
            | Self::ProxyHeaderTruncated
            | Self::ProxyHeaderLate
            | Self::ProxyHeaderDuplicate
            | Self::LinkIdMissing => Answer::Close,
            Self::ClientHelloMalformed => Answer::Alert(ALERT_DECODE_ERROR),
            Self::SniMissing | Self::SniUnknown => Answer::Alert(ALERT_UNRECOGNIZED_NAME),
            Self::LinkUnknown | Self::LinkNotApproved => closing(StatusCode::FORBIDDEN),
            Self::LookupFailed => Answer::Status {
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry_after: Some(5),
                close: true,
            },
            Self::Misdirected => status(StatusCode::MISDIRECTED_REQUEST),
            Self::HostNotPermitted | Self::CustomerKey => status(StatusCode::FORBIDDEN),
            Self::BadRequest => closing(StatusCode::BAD_REQUEST),
            Self::HeadTooLarge => closing(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::RateLimited => later(StatusCode::TOO_MANY_REQUESTS, 1),
            Self::Overloaded => later(StatusCode::SERVICE_UNAVAILABLE, 1),
            Self::Draining => Answer::Status {
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry_after: Some(1),
                close: true,
            },
            Self::UpstreamConnect | Self::UpstreamBroke => status(StatusCode::BAD_GATEWAY),
            Self::UpstreamTimeout => status(StatusCode::GATEWAY_TIMEOUT),
        }
    }

    /// One sentence for the customer's engineer who reads the answer. Names no account, host or link.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::UntrustedSource => {
                "The connection did not come through the private link service."
            }
            Self::ConnectionLimit => "Too many connections are open.",
            Self::ProxyHeader(_)
            | Self::ProxyHeaderTruncated
            | Self::ProxyHeaderLate
            | Self::ProxyHeaderDuplicate => "The PROXY protocol header was not acceptable.",
            Self::LinkIdMissing => "The connection carries no private endpoint link id.",
            Self::ClientHelloMalformed => "The connection did not begin with a TLS ClientHello.",
            Self::SniMissing => "The TLS ClientHello names no server (SNI).",
            Self::SniUnknown => "No certificate is held for the name in the TLS ClientHello.",
            Self::LinkUnknown => {
                "This private endpoint has no connection to the requested host. Check that the host name is right and that the private endpoint was created for this resource."
            }
            Self::LinkNotApproved => {
                "This private endpoint's connection is not approved. Ask the owner of the resource to approve it."
            }
            Self::LookupFailed => {
                "It could not be checked whether this private endpoint may reach the requested host. Try again shortly."
            }
            Self::Misdirected => {
                "This connection was opened for another host. Open a new connection for this one."
            }
            Self::HostNotPermitted => "This private endpoint may not reach the requested host.",
            Self::BadRequest => "The request is malformed or ambiguous.",
            Self::HeadTooLarge => "The request's header section is too large.",
            Self::CustomerKey => {
                "The customer-managed key of this resource is not accessible. Restore the service's access to the key."
            }
            Self::RateLimited => "Too many requests. Slow down.",
            Self::Overloaded => "The service is busy. Try again shortly.",
            Self::Draining => "This instance is going away. Open a new connection.",
            Self::UpstreamConnect => "The service behind this endpoint could not be reached.",
            Self::UpstreamTimeout => "The service behind this endpoint did not answer in time.",
            Self::UpstreamBroke => "The service behind this endpoint broke off before it answered.",
        }
    }
}

/// How a connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The client closed, or both sides were done.
    Closed,
    /// We closed it after its idle time.
    Idle,
    /// The client reset it or broke off in the middle of something.
    ClientBroke,
    /// The client broke HTTP.
    ProtocolError,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// The TLS handshake was not finished in time.
    HandshakeLate,
    /// A request head was not whole in time.
    HeadLate,
    /// It ended because this process drains.
    Drained,
    /// Its link was revoked.
    Revoked,
    /// It was a health probe.
    Probe,
    /// We refused it.
    Refused(Refusal),
}

impl Ending {
    /// Every value but [`Ending::Refused`], whose words are those of [`Refusal`].
    pub const ALL: [Self; 10] = [
        Self::Closed,
        Self::Idle,
        Self::ClientBroke,
        Self::ProtocolError,
        Self::HandshakeFailed,
        Self::HandshakeLate,
        Self::HeadLate,
        Self::Drained,
        Self::Revoked,
        Self::Probe,
    ];

    /// The one word: metric label and log word. All refusals are `refused` here and told apart by their own word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::ClientBroke => "client_broke",
            Self::ProtocolError => "protocol_error",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeLate => "handshake_late",
            Self::HeadLate => "head_late",
            Self::Drained => "drained",
            Self::Revoked => "revoked",
            Self::Probe => "probe",
            Self::Refused(_) => "refused",
        }
    }

    /// Who has to act.
    pub const fn blame(self) -> Blame {
        match self {
            Self::ClientBroke
            | Self::ProtocolError
            | Self::HandshakeFailed
            | Self::HandshakeLate
            | Self::HeadLate => Blame::Client,
            Self::Closed | Self::Idle | Self::Drained | Self::Revoked | Self::Probe => {
                Blame::Policy
            }
            Self::Refused(refusal) => refusal.blame(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_refusal_has_its_own_word() {
        let words: Vec<_> = Refusal::all().map(Refusal::label).collect();
        assert_eq!(
            words.iter().collect::<HashSet<_>>().len(),
            words.len(),
            "{words:?}"
        );
    }

    #[test]
    fn nothing_is_allowed_by_a_refusal() {
        for refusal in Refusal::all() {
            if let Answer::Status { status, .. } = refusal.answer() {
                assert!(
                    status.is_client_error() || status.is_server_error(),
                    "{refusal:?}"
                );
            }
        }
    }

    #[test]
    fn a_customer_key_is_never_our_error() {
        assert_eq!(Refusal::CustomerKey.blame(), Blame::Policy);
    }
}
