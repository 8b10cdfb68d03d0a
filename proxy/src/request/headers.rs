//! The header table: what never passes, and what we add.
//!
//! Everything that could tell the ingress who is calling is taken out of the client's request before our own
//! word goes in. All names are in this file.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING,
};

use crate::connection::http::Connection;
use crate::request_id::RequestId;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_MS_PRIVATE_LINK_ID: HeaderName = HeaderName::from_static("x-ms-private-link-id");
/// The id of a request, to the ingress and back to the client.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How many fields we add at most.
const OURS: usize = 8;

/// What a field is to us, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It goes from end to end.
    EndToEnd,
    /// It is of one hop (RFC 9110 section 7.6.1), besides those that `Connection` names.
    OneHop,
    /// By it a client could claim to be someone.
    Identity,
    /// We write it ourselves.
    Ours,
}

impl Kind {
    fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade" => Self::OneHop,
            "host" | "x-request-id" | "traceparent" | "tracestate" => Self::Ours,
            name if claims_identity(name) => Self::Identity,
            _ => Self::EndToEnd,
        }
    }
}

/// The headers that the ingress gets, of those that the client sent: what concerns one hop or claims an identity
/// stays behind, our own word goes in. `Host` is among them unless they go by HTTP/2, which has `:authority`.
pub fn to_ingress(
    sent: &HeaderMap,
    connection: &Connection,
    authority: &HeaderValue,
    http2: bool,
    id: RequestId,
) -> HeaderMap {
    let mut headers = end_to_end(sent);
    if connection.http2 {
        join_cookies(&mut headers);
    }
    if !http2 {
        headers.insert(HOST, authority.clone());
    }
    headers.insert(X_FORWARDED_FOR, connection.client_header.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(X_FORWARDED_HOST, authority.clone());
    headers.insert(X_MS_PRIVATE_LINK_ID, connection.link_id_header.clone());
    headers.insert(X_REQUEST_ID, unlike_any_other(id.to_header()));
    trace(sent, &mut headers, id);
    headers
}

/// What of a request's headers may pass, with room for ours.
fn end_to_end(sent: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(sent.len() + OURS);
    let named = named_by_connection(sent);
    let mut trailers = false;
    for (name, value) in sent {
        match Kind::of(name) {
            Kind::OneHop => trailers |= *name == TE && accepts_trailers(value),
            Kind::Identity | Kind::Ours => {}
            Kind::EndToEnd if named.contains(name) || is_settled(name, sent) => {}
            Kind::EndToEnd => {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers
}

/// Whether a field has done its work when we forward: hyper answers `100 Continue` for us when the ingress reads
/// the body, and "an intermediary that chooses to forward the message MUST first remove the received
/// Content-Length field" beside `Transfer-Encoding` (RFC 9112 section 6.3).
fn is_settled(name: &HeaderName, beside: &HeaderMap) -> bool {
    *name == EXPECT || (*name == CONTENT_LENGTH && beside.contains_key(TRANSFER_ENCODING))
}

/// Keeps a value that never comes again out of HPACK's dynamic table, where it would push out those that do
/// (RFC 7541 section 7.1.3, "never indexed").
fn unlike_any_other(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Makes the ingress's answer headers the ones that the client gets.
pub fn to_client(headers: &mut HeaderMap, id: RequestId) {
    strip(headers, |kind| kind == Kind::OneHop);
    headers.insert(X_REQUEST_ID, unlike_any_other(id.to_header()));
}

/// Makes the client's request trailers the ones that the ingress gets: what cannot be claimed in a header cannot
/// be claimed here, since some servers read trailers as headers.
pub fn trailers_to_ingress(trailers: &mut HeaderMap) {
    strip(trailers, |kind| kind != Kind::EndToEnd);
}

/// Takes out the fields of some kind. Most messages have none: one look at each name decides.
fn strip(headers: &mut HeaderMap, doomed: impl Fn(Kind) -> bool) {
    if !headers.keys().any(|name| doomed(Kind::of(name))) {
        return;
    }
    let named = named_by_connection(headers);
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| doomed(Kind::of(name)) || named.contains(name) || is_settled(name, headers))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// "Intermediaries MUST parse a received Connection header field before a message is forwarded and, for each
/// connection-option in this field, remove any header or trailer field(s) from the message with the same name"
/// (RFC 9110 section 7.6.1). Framing fields cannot be named away.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let usual = |option: &&str| {
        option.eq_ignore_ascii_case("keep-alive") || option.eq_ignore_ascii_case("close")
    };
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| !usual(option))
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(|name| *name != CONTENT_LENGTH)
        .collect()
}

/// Names, and beginnings of names, by which a client could claim to be someone.
const IDENTITY_NAMES: [&str; 2] = ["forwarded", "x-real-ip"];
const IDENTITY_PREFIXES: [&str; 4] = [
    "x-forwarded-",
    "x-client-cert",
    "x-ms-private-link-",
    "x-postern-",
];

fn claims_identity(name: &str) -> bool {
    let claims = |name: &str| {
        let begins = |prefix: &&str| name.starts_with(prefix);
        IDENTITY_NAMES.contains(&name) || IDENTITY_PREFIXES.iter().any(begins)
    };
    // Some servers read `X_Forwarded_For` as `X-Forwarded-For` (CGI's rule, RFC 3875 section 4.1.18).
    name.starts_with(['x', 'f'])
        && (claims(name) || (name.contains('_') && claims(&name.replace('_', "-"))))
}

/// Whether a value of `TE` has the one coding that we pass on.
fn accepts_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.to_str().unwrap_or_default().split(',');
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// RFC 9113 section 8.2.3: cookie fields that HTTP/2 split are one field again before they leave HTTP/2.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// W3C Trace Context: the client's trace goes on if it is valid, otherwise a new one begins whose id is the
/// request's id.
fn trace(sent: &HeaderMap, headers: &mut HeaderMap, id: RequestId) {
    let mut all = sent.get_all(TRACEPARENT).iter();
    let parent = all
        .next()
        .filter(|_| all.next().is_none())
        .map(HeaderValue::as_bytes);
    let digits = id.digits();
    let mut text = [0_u8; TRACEPARENT_BYTES];
    text[..3].copy_from_slice(b"00-");
    text[35] = b'-';
    text[52] = b'-';
    if let Some(parent) = parent.filter(|parent| is_traceparent(parent)) {
        text[3..35].copy_from_slice(&parent[3..35]);
        text[53..].copy_from_slice(&parent[53..55]);
        for state in sent.get_all(TRACESTATE) {
            headers.append(TRACESTATE, state.clone());
        }
    } else {
        text[3..35].copy_from_slice(digits);
        text[53..].copy_from_slice(b"00");
    }
    // Our own span: the second half of the request's id.
    text[36..52].copy_from_slice(&digits[16..]);
    if let Ok(value) = HeaderValue::from_bytes(&text) {
        headers.insert(TRACEPARENT, unlike_any_other(value));
    }
}

const TRACEPARENT_BYTES: usize = 55;

/// `00-<32 hex>-<16 hex>-<2 hex>`, lower case, neither id all zero. Later versions may be longer; we speak 00.
fn is_traceparent(text: &[u8]) -> bool {
    let lower_hex = |range: std::ops::Range<usize>| {
        text[range]
            .iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let zero = |range: std::ops::Range<usize>| text[range].iter().all(|&b| b == b'0');
    text.len() == TRACEPARENT_BYTES
        && text.starts_with(b"00-")
        && text[35] == b'-'
        && text[52] == b'-'
        && lower_hex(3..35)
        && lower_hex(36..52)
        && lower_hex(53..55)
        && !zero(3..35)
        && !zero(36..52)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_a_client_claims_to_be_never_passes() {
        let headers = map(&[
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-anything", "x"),
            ("x-real-ip", "1.1.1.1"),
            ("x-client-cert", "x"),
            ("x-client-cert-chain", "x"),
            ("x-ms-private-link-id", "7"),
            ("x-postern-foo", "x"),
            ("x_forwarded_for", "1.1.1.1"),
            ("x-ms_private-link-id", "7"),
            ("x-custom", "stays"),
            ("from", "stays"),
        ]);
        let headers = end_to_end(&headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["from", "x-custom"]);
    }

    #[test]
    fn fields_of_one_hop_and_those_that_connection_names_never_pass() {
        let headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "content-length"),
            ("keep-alive", "5"),
            ("x-secret", "x"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("accept", "stays"),
        ]);
        let headers = end_to_end(&headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length"]);
    }

    #[test]
    fn a_length_beside_a_transfer_coding_never_passes() {
        let mut headers = map(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        assert!(end_to_end(&headers).is_empty());
        to_client(&mut headers, RequestId::from(0));
        assert_eq!(headers.len(), 1, "{headers:?}");
    }

    #[test]
    fn trailers_claim_nothing() {
        let mut trailers = map(&[("x-forwarded-for", "1.1.1.1"), ("grpc-status", "0")]);
        trailers_to_ingress(&mut trailers);
        assert_eq!(trailers, map(&[("grpc-status", "0")]));
    }

    #[test]
    fn a_valid_trace_goes_on_and_an_invalid_one_begins_anew() {
        let id = RequestId::from(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = |parent: &str| {
            let mut headers = HeaderMap::new();
            let sent = map(&[("traceparent", parent), ("tracestate", "a=b")]);
            trace(&sent, &mut headers, id);
            headers
        };
        let headers = traced(valid);
        assert_eq!(
            headers["traceparent"],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0123456789abcdef-01"
        );
        assert_eq!(headers["tracestate"], "a=b");

        for invalid in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let headers = traced(invalid);
            assert_eq!(
                headers["traceparent"],
                "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"
            );
            assert!(!headers.contains_key("tracestate"));
        }
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(
            headers.get_all("cookie").iter().collect::<Vec<_>>(),
            ["a=1; b=2"]
        );
    }

    #[test]
    fn only_trailers_pass_in_te() {
        let headers = map(&[("te", "gzip, Trailers"), ("te", "gzip")]);
        assert_eq!(end_to_end(&headers), map(&[("te", "trailers")]));
        assert!(end_to_end(&map(&[("te", "gzip")])).is_empty());
    }
}
