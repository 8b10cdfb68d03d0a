//! The header table: what never passes, and what we add.
//!
//! Everything that could tell the ingress who is calling is taken out of the client's request before our own
//! word goes in. All names are in this file.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use crate::connection::http::Connection;
use crate::request_id::RequestId;

/// Fields of one hop (RFC 9110 section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Names, and beginnings of names, by which a client could claim to be someone.
const IDENTITY_NAMES: [&str; 2] = ["forwarded", "x-real-ip"];
const IDENTITY_PREFIXES: [&str; 4] = [
    "x-forwarded-",
    "x-client-cert",
    "x-ms-private-link-",
    "x-postern-",
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_MS_PRIVATE_LINK_ID: HeaderName = HeaderName::from_static("x-ms-private-link-id");
/// The id of a request, to the ingress and back to the client.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Makes the client's request headers the ones that the ingress gets.
pub fn to_ingress(
    headers: &mut HeaderMap,
    connection: &Connection,
    authority: &HeaderValue,
    id: RequestId,
) {
    // One look at each name decides; most requests have nothing to strip.
    if headers.keys().any(is_of_one_hop) {
        let trailers = accepts_trailers(headers);
        strip_hop_by_hop(headers);
        headers.remove(TE);
        // hyper answered `100 Continue` for us, or will when the ingress reads the body.
        headers.remove(EXPECT);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if headers.keys().any(claims_identity) {
        strip_identity(headers);
    }
    if connection.http2 {
        join_cookies(headers);
    }
    headers.insert(HOST, authority.clone());
    headers.insert(X_FORWARDED_FOR, connection.client_header.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(X_FORWARDED_HOST, authority.clone());
    headers.insert(X_MS_PRIVATE_LINK_ID, connection.link_id_header.clone());
    headers.insert(X_REQUEST_ID, unlike_any_other(id.to_header()));
    trace(headers, id);
}

/// Keeps a value that never comes again out of HPACK's dynamic table, where it would push out those that do
/// (RFC 7541 section 7.1.3, "never indexed").
fn unlike_any_other(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || *name == TE || *name == EXPECT
}

/// Makes the ingress's answer headers the ones that the client gets.
pub fn to_client(headers: &mut HeaderMap, id: RequestId) {
    if headers.keys().any(is_of_one_hop) {
        strip_hop_by_hop(headers);
        // No answer has it (RFC 9110 section 10.1.4).
        headers.remove(TE);
    }
    headers.insert(X_REQUEST_ID, unlike_any_other(id.to_header()));
}

/// Makes the client's request trailers the ones that the ingress gets: what cannot be claimed in a header cannot
/// be claimed here, since some servers read trailers as headers.
pub fn trailers_to_ingress(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    strip_identity(trailers);
    trailers.remove(X_REQUEST_ID);
    trailers.remove(HOST);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // "An intermediary that chooses to forward the message MUST first remove the received Content-Length
        // field" (RFC 9112 section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    // "Intermediaries MUST parse a received Connection header field before a message is forwarded and, for each
    // connection-option in this field, remove any header or trailer field(s) from the message with the same name"
    // (RFC 9110 section 7.6.1). Framing and routing fields cannot be named away.
    let says_more = |value: &&HeaderValue| {
        let value = value.as_bytes();
        !value.eq_ignore_ascii_case(b"keep-alive") && !value.eq_ignore_ascii_case(b"close")
    };
    if headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| says_more(&value))
    {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| *name != CONTENT_LENGTH && *name != HOST && *name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    // A look at the names that are there is cheaper than a search for each that is not.
    while let Some(name) = headers
        .keys()
        .find(|name| HOP_BY_HOP.contains(name))
        .cloned()
    {
        headers.remove(name);
    }
}

fn strip_identity(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| claims_identity(name))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
}

fn claims_identity(name: &HeaderName) -> bool {
    let name = name.as_str();
    let candidate = name.starts_with(['x', 'f']);
    candidate
        && (IDENTITY_NAMES.contains(&name)
            || IDENTITY_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
            || claims_by_underscore(name))
}

/// Some servers read `X_Forwarded_For` as `X-Forwarded-For` (CGI's rule, RFC 3875 section 4.1.18).
fn claims_by_underscore(name: &str) -> bool {
    name.contains('_') && {
        let dashed = name.replace('_', "-");
        IDENTITY_NAMES.contains(&dashed.as_str())
            || IDENTITY_PREFIXES
                .iter()
                .any(|prefix| dashed.starts_with(prefix))
    }
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
        })
}

/// RFC 9113 section 8.2.3: cookie fields that HTTP/2 split are one field again before they leave HTTP/2.
fn join_cookies(headers: &mut HeaderMap) {
    let mut values = headers.get_all(COOKIE).iter();
    if values.next().is_none() || values.next().is_none() {
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
fn trace(headers: &mut HeaderMap, id: RequestId) {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let sent = all
        .next()
        .filter(|_| all.next().is_none())
        .map(HeaderValue::as_bytes);
    let bytes = id.as_bytes();
    let mut text = [0_u8; TRACEPARENT_BYTES];
    text[..3].copy_from_slice(b"00-");
    text[35] = b'-';
    text[52] = b'-';
    if let Some(sent) = sent.filter(|sent| is_traceparent(sent)) {
        text[3..35].copy_from_slice(&sent[3..35]);
        text[53..].copy_from_slice(&sent[53..55]);
    } else {
        hex(bytes, &mut text[3..35]);
        text[53..].copy_from_slice(b"00");
        headers.remove(TRACESTATE);
    }
    // Our own span: the second half of the request's id.
    hex(&bytes[8..], &mut text[36..52]);
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

fn hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
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
        let mut headers = map(&[
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
        strip_identity(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["from", "x-custom"]);
    }

    #[test]
    fn fields_of_one_hop_and_those_that_connection_names_never_pass() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "content-length"),
            ("keep-alive", "5"),
            ("x-secret", "x"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("accept", "stays"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length"]);
    }

    #[test]
    fn a_length_beside_a_transfer_coding_never_passes() {
        let mut headers = map(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
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
        let mut headers = map(&[("traceparent", valid), ("tracestate", "a=b")]);
        trace(&mut headers, id);
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
            let mut headers = map(&[("traceparent", invalid), ("tracestate", "a=b")]);
            trace(&mut headers, id);
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
        assert!(accepts_trailers(&map(&[("te", "gzip, Trailers")])));
        assert!(!accepts_trailers(&map(&[("te", "gzip")])));
    }
}
