//! One request and its answer, from the first byte to the last: what is told of it.
//!
//! An [`Exchange`] is made when a request head has arrived and lives until its answer's body is done or
//! given up. Whatever happens in between, dropping it writes the one access log line and the metrics:
//! nothing can end unlogged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version};

use crate::access_log::{RequestEnding, RequestRecord};
use crate::connection::authorize::Permit;
use crate::connection::http::Connection;
use crate::outcome::Refusal;
use crate::request::Requests;
use crate::request::admit::Slot;
use crate::request::body::RequestBody;
use crate::request_id::RequestId;
use crate::upstream::{BodyError, Served};

/// The record of one request.
pub struct Exchange(Box<Record>);

struct Record {
    requests: Arc<Requests>,
    connection: Arc<Connection>,
    id: RequestId,
    started: Instant,
    method: Method,
    uri: Uri,
    protocol: &'static str,
    authority: Option<HeaderValue>,
    body: RequestBody,
    slot: Option<Slot>,
    permit: Option<Arc<Permit>>,
    served: Option<Served>,
    first_byte: Option<Duration>,
    status: Option<StatusCode>,
    answer_bytes: u64,
    tunnel_bytes: u64,
    refusal: Option<Refusal>,
    ending: Option<RequestEnding>,
}

impl Exchange {
    /// A request head has arrived.
    pub fn begin(
        requests: Arc<Requests>,
        connection: Arc<Connection>,
        parts: &Parts,
        body: RequestBody,
    ) -> Self {
        let started = Instant::now();
        connection.activity.begin(started);
        requests.metrics.request_began();
        Self(Box::new(Record {
            requests,
            connection,
            id: RequestId::generate(),
            started,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            protocol: protocol(parts.version),
            authority: None,
            body,
            slot: None,
            permit: None,
            served: None,
            first_byte: None,
            status: None,
            answer_bytes: 0,
            tunnel_bytes: 0,
            refusal: None,
            ending: None,
        }))
    }

    /// The request's id.
    pub fn id(&self) -> RequestId {
        self.0.id
    }

    /// The method as the client sent it.
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// The permit, once there is one.
    pub fn permit(&self) -> Option<&Permit> {
        self.0.permit.as_deref()
    }

    /// The request names this authority.
    pub fn named(&mut self, authority: HeaderValue) {
        self.0.authority = Some(authority);
    }

    /// It takes this place among the requests in flight, until its answer is over.
    pub fn occupies(&mut self, slot: Slot) {
        self.0.slot = Some(slot);
    }

    /// The request is made under this permit.
    pub fn permitted(&mut self, permit: Arc<Permit>) {
        self.0.permit = Some(permit);
    }

    /// We say no.
    pub fn refused(&mut self, refusal: Refusal) {
        self.0.refusal = Some(refusal);
    }

    /// This endpoint serves it.
    pub fn served_by(&mut self, served: Served) {
        self.0.served = Some(served);
    }

    /// The answer's head is known, as of `now`.
    pub fn answered(&mut self, status: StatusCode, now: Instant) {
        self.0.status = Some(status);
        self.0.first_byte = Some(now.saturating_duration_since(self.0.started));
    }

    /// So many bytes of the answer's body passed.
    pub fn answer_bytes(&mut self, bytes: usize) {
        self.0.answer_bytes += bytes as u64;
        self.0.connection.activity.touch(Instant::now());
    }

    /// The answer is whole.
    pub fn complete(&mut self) {
        self.0.ending.get_or_insert(RequestEnding::Complete);
    }

    /// The connection now carries another protocol; the client was told so with this status.
    pub fn upgraded(&mut self, status: StatusCode) {
        self.0.status = Some(status);
        self.0.ending = Some(RequestEnding::Upgraded);
    }

    /// We ended it.
    pub fn cut(&mut self) {
        self.0.ending = Some(RequestEnding::Cut);
    }

    /// The tunnel has ended after so many bytes from and to the client.
    pub fn pumped(&mut self, from_client: u64, to_client: u64) {
        self.0.tunnel_bytes = from_client;
        self.0.answer_bytes = to_client;
    }

    /// Where the request's body ends is in doubt.
    pub fn distrust_body(&self) {
        self.0.body.distrust();
    }

    /// The client broke off.
    pub fn client_broke(&mut self) {
        self.0.ending = Some(RequestEnding::ClientBroke);
    }

    /// The ingress broke off in the middle of its answer; or the client in the middle of its request, and the
    /// ingress for that.
    pub fn upstream_broke(&mut self, error: &BodyError) {
        if self.0.body.broken().is_some() {
            return self.client_broke();
        }
        tracing::warn!(request_id = %self.0.id, %error, "the ingress broke off in the middle of an answer");
        self.0.ending = Some(RequestEnding::UpstreamBroke);
    }
}

impl Record {
    fn told_ending(&self) -> RequestEnding {
        match self.ending {
            None | Some(RequestEnding::Upgraded) if self.connection.was_cut() => RequestEnding::Cut,
            None => RequestEnding::ClientBroke,
            Some(ending) => ending,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let total = now.saturating_duration_since(self.started);
        let connection = &*self.connection;
        connection.activity.end(now, self.answer_bytes);
        let metrics = &self.requests.metrics;
        if let Some(refusal) = self.refusal {
            metrics.refused(refusal);
        }
        let request_bytes = self.body.bytes() + self.tunnel_bytes;
        metrics.request_ended(
            connection.http2,
            self.status.map(|status| status.as_u16()),
            total,
            request_bytes,
            self.answer_bytes,
        );
        if !self.requests.access_log.enabled() {
            return;
        }
        let permit = self.permit.as_deref();
        self.requests.access_log.request(&RequestRecord {
            request_id: self.id,
            link_id: Some(connection.link_id),
            client: Some(connection.client),
            account: permit.and_then(Permit::account),
            sni: Some(connection.sni.as_str()),
            authority: self
                .authority
                .as_ref()
                .and_then(|value| value.to_str().ok()),
            method: self.method.as_str(),
            uri: &self.uri,
            protocol: self.protocol,
            status: self.status.map(|status| status.as_u16()),
            request_bytes,
            response_bytes: self.answer_bytes,
            total,
            authorize: Some(connection.authorize),
            upstream_connect: self.served.as_ref().and_then(|served| served.connect),
            upstream_first_byte: self.served.as_ref().and(self.first_byte),
            endpoint: self.served.as_ref().map(|served| served.endpoint),
            upstream_protocol: self.served.as_ref().map(|served| served.protocol),
            tls: Some(connection.tls_version),
            tls_resumed: connection.resumed,
            refusal: self.refusal,
            would_refuse: permit.and_then(Permit::would_refuse),
            ending: self.told_ending(),
        });
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
