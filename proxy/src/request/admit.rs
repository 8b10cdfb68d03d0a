//! Admission of a request: is it well framed, for the host of its connection, within its limits?
//!
//! Invariant: an [`Admitted`] request names exactly the host of its permit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Version};
use postern_api::HostName;

use crate::connection::Born;
use crate::connection::authorize::Permit;
use crate::connection::http::{Connection, Spoken};
use crate::outcome::Refusal;
use crate::request::Requests;
use crate::request::exchange::Exchange;
use crate::request::upgrade::WEBSOCKET;

/// A request that may be forwarded.
pub struct Admitted {
    /// What allows it.
    pub permit: Arc<Permit>,
    /// Host or `:authority`, as the client sent it.
    pub authority: Spoken,
}

/// Judges a request head.
pub async fn admit(
    requests: &Requests,
    connection: &Connection,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Result<Admitted, Refusal> {
    // The authority first, so that the log line of whatever refusal has it.
    let named = authority(parts);
    let known = named.ok().and_then(|text| connection.spoken(text));
    let header = match known {
        Some(known) => Ok(known.header.clone()),
        None => named.and_then(|text| HeaderValue::from_str(text).map_err(|_| Refusal::BadRequest)),
    };
    if let Ok(header) = &header {
        exchange.named(header.clone());
    }
    if connection.born == Born::Late {
        return Err(Refusal::Draining);
    }
    exchange.occupies(requests.load.enter().ok_or(Refusal::Overloaded)?);
    let permit = Arc::clone(
        (**connection.standing.load())
            .as_ref()
            .map_err(|refusal| *refusal)?,
    );
    exchange.permitted(Arc::clone(&permit));
    if connection
        .framing
        .as_ref()
        .is_some_and(|framing| framing.doubtful())
    {
        return Err(Refusal::BadRequest);
    }
    if parts.headers.len() > requests.options.headers_max {
        return Err(Refusal::HeadTooLarge);
    }
    well_framed(parts)?;
    let header = header?;
    let authority = if let Some(known) = known {
        // What was found good once on this connection need not be read again.
        known.clone()
    } else {
        let authority = authority_of(named?).ok_or(Refusal::BadRequest)?;
        if !permit.host().matches(authority.host().as_bytes()) {
            let host = authority.host();
            return Err(Box::pin(other_host(requests, connection, host)).await);
        }
        let spoken = Spoken { header, authority };
        connection.speaks(&spoken);
        spoken
    };
    if permit.customer_key_lost() {
        return Err(Refusal::CustomerKey);
    }
    if !permit.limits().admit() {
        return Err(Refusal::RateLimited);
    }
    Ok(Admitted { permit, authority })
}

async fn other_host(requests: &Requests, connection: &Connection, host: &str) -> Refusal {
    let Ok(other) = HostName::parse(host) else {
        return Refusal::HostNotPermitted;
    };
    let same_certificate = requests
        .credentials
        .same_certificate(&connection.sni, &other);
    requests
        .authorizer
        .judge_other_host(connection.link_id, &other, same_certificate)
        .await
}

/// The one authority of a request.
///
/// "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a
/// Host header field and to any request message that contains more than one Host header field line or a Host
/// header field with an invalid field value." (RFC 9112 section 3.2). A target in absolute form and
/// `:authority` count as well, and must not say otherwise (RFC 9112 section 3.2.2; RFC 9113 section 8.3.1).
fn authority(parts: &Parts) -> Result<&str, Refusal> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::BadRequest);
    }
    let target = parts.uri.authority().map(Authority::as_str);
    let text = match (header, target) {
        (Some(header), None) => header.to_str().ok(),
        (Some(header), Some(target))
            if header.as_bytes().eq_ignore_ascii_case(target.as_bytes()) =>
        {
            header.to_str().ok()
        }
        (None, Some(target)) if parts.version == Version::HTTP_2 => Some(target),
        _ => None,
    };
    text.ok_or(Refusal::BadRequest)
}

/// `host[:port]`. `None` if it is not of that form: user information, an empty host, a port that is no number.
pub fn authority_of(text: &str) -> Option<Authority> {
    // The parser of the `http` crate accepts what RFC 3986 does; the rest of the rules are ours.
    let authority: Authority = text.parse().ok()?;
    if text.contains('@') || authority.host().is_empty() {
        return None;
    }
    let rest = text.strip_prefix(authority.host())?;
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some(port) => Some(port),
        None => return None,
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return None;
    }
    Some(authority)
}

/// Whether nothing about where this message ends could be read in two ways. What hyper refuses by itself never
/// gets here; what it resolves quietly, [`crate::connection::framing`] sees.
fn well_framed(parts: &Parts) -> Result<(), Refusal> {
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        // "A client MUST NOT send a request containing Transfer-Encoding unless it knows the server will handle
        // HTTP/1.1 requests" (RFC 9112 section 6.1); another coding than chunked we cannot pass on.
        let sound = chunked
            && codings.next().is_none()
            && parts.version == Version::HTTP_11
            && !parts.headers.contains_key(CONTENT_LENGTH);
        if !sound {
            return Err(Refusal::BadRequest);
        }
    }
    // "The asterisk-form of request-target is only used for a server-wide OPTIONS request" (RFC 9112 section 3.2.4).
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(Refusal::BadRequest);
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let websocket = protocol.is_some_and(|protocol| protocol.as_str() == WEBSOCKET);
    if parts.method == Method::CONNECT && !websocket {
        return Err(Refusal::BadRequest);
    }
    Ok(())
}

/// How many requests are in flight in the process, and how many may be.
#[derive(Debug)]
pub struct Load {
    in_flight: AtomicUsize,
    max: AtomicUsize,
}

impl Load {
    /// Room for `max` requests.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
        })
    }

    /// Room for `max` from now on. Whoever is in flight goes on.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> Option<Slot> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(Arc::clone(self));
        (before < self.max.load(Ordering::Relaxed)).then_some(slot)
    }
}

/// One request's place, given back on drop.
#[derive(Debug)]
pub struct Slot(Arc<Load>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(request: http::request::Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn host_of(request: http::request::Builder) -> Result<String, Refusal> {
        let parts = parts(request);
        let text = authority(&parts)?;
        let authority = authority_of(text).ok_or(Refusal::BadRequest)?;
        Ok(authority.host().to_owned())
    }

    #[test]
    fn one_host_with_or_without_a_port_is_the_authority() {
        assert_eq!(
            host_of(Request::get("/").header(HOST, "a.example")),
            Ok("a.example".into())
        );
        assert_eq!(
            host_of(Request::get("/").header(HOST, "a.example:8443")),
            Ok("a.example".into())
        );
        assert_eq!(
            host_of(Request::get("https://a.example/").header(HOST, "A.example")),
            Ok("A.example".into())
        );
        let h2 = Request::get("https://a.example/").version(Version::HTTP_2);
        assert_eq!(host_of(h2), Ok("a.example".into()));
    }

    #[test]
    fn no_host_two_hosts_and_invalid_hosts_are_bad_requests() {
        let bad = [
            Request::get("/"),
            Request::get("https://a.example/"),
            Request::get("/")
                .header(HOST, "a.example")
                .header(HOST, "a.example"),
            Request::get("https://a.example/").header(HOST, "b.example"),
            Request::get("/").header(HOST, ""),
            Request::get("/").header(HOST, "user@a.example"),
            Request::get("/").header(HOST, "a.example:https"),
            Request::get("/").header(HOST, "a.example:+443"),
            Request::get("/").header(HOST, "a.example:99999"),
            Request::get("/").header(HOST, "a.example, b.example"),
            Request::get("/").header(HOST, "a.example/path"),
            Request::get("/").header(HOST, "a.example:443:443"),
        ];
        for request in bad {
            let shown = format!("{request:?}");
            assert_eq!(host_of(request), Err(Refusal::BadRequest), "{shown}");
        }
    }

    #[test]
    fn doubtful_framing_is_a_bad_request() {
        let sound = Request::post("/").header(TRANSFER_ENCODING, "chunked");
        assert_eq!(well_framed(&parts(sound)), Ok(()));
        let bad = [
            Request::post("/").header(TRANSFER_ENCODING, "gzip, chunked"),
            Request::post("/")
                .header(TRANSFER_ENCODING, "chunked")
                .header(TRANSFER_ENCODING, "chunked"),
            Request::post("/")
                .header(TRANSFER_ENCODING, "chunked")
                .header(CONTENT_LENGTH, "3"),
            Request::post("/")
                .version(Version::HTTP_10)
                .header(TRANSFER_ENCODING, "chunked"),
            Request::builder()
                .method(Method::CONNECT)
                .uri("a.example:443"),
            Request::builder()
                .method(Method::CONNECT)
                .version(Version::HTTP_2)
                .uri("https://a.example/")
                .extension(h2::ext::Protocol::from_static("connect-udp")),
            Request::get("*"),
        ];
        for request in bad {
            let shown = format!("{request:?}");
            assert_eq!(
                well_framed(&parts(request)),
                Err(Refusal::BadRequest),
                "{shown}"
            );
        }
    }

    #[test]
    fn load_is_bounded_and_comes_back() {
        let load = Load::new(1);
        let slot = load.enter().unwrap();
        assert!(load.enter().is_none());
        assert_eq!(load.in_flight(), 1);
        load.set_max(2);
        assert!(load.enter().is_some());
        load.set_max(1);
        drop(slot);
        assert!(load.enter().is_some());
    }
}
