//! Health answers, for the load balancer, the scale set's extension and Traffic Manager.
//!
//! `/healthz` is exactly 200, or 503 while not ready or draining; `/health/vmss` is always 200 with the state in
//! its body; `/livez` says that the process answers; `/readyz` says what is missing. The probe listener takes
//! connections with and without a PROXY header; probes that come to the data port see `/healthz` alone, over
//! plain HTTP or TLS, and never a route.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::connection::proxy_header::Announced;
use crate::credentials::Credentials;
use crate::outcome::Ending;
use crate::proxy_protocol::{FIXED_BYTES, Progress, SIGNATURE, parse};
use crate::read_ahead::ReadAhead;
use crate::readiness::Readiness;

/// Answers probes.
pub struct Health {
    readiness: Arc<Readiness>,
    mode: &'static str,
    /// Room on the probe listener.
    places: Semaphore,
}

/// Which paths a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Probe,
    Data,
}

impl Health {
    /// Answers by `readiness`; `mode` shows in `/readyz`.
    pub fn new(readiness: Arc<Readiness>, mode: &'static str) -> Self {
        Self {
            readiness,
            mode,
            places: Semaphore::new(PROBERS_MAX),
        }
    }

    /// Serves a connection of the probe listener, and closes it between two probes once `leaving` resolves: another
    /// process answers then. Whoever finds no room is closed without a word, and so is whoever says nothing.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        leaving: impl Future<Output = ()>,
    ) {
        let Ok(_place) = self.places.try_acquire() else {
            return;
        };
        let mut io = ReadAhead::new(io);
        let begun = async {
            skip_proxy_header(&mut io).await?;
            io.peek().await
        };
        let Ok(Ok(Some(_))) = timeout(FIRST_BYTE_TIMEOUT, begun).await else {
            return;
        };
        self.serve_http(io, Lane::Probe, leaving).await;
    }

    /// Serves a health probe that came to the data port.
    pub async fn serve_on_data_port(
        &self,
        announced: Announced,
        credentials: &Credentials,
        tls_timeout: Duration,
    ) -> Ending {
        let mut io = announced.io;
        let Ok(Ok(Some(first))) = timeout(tls_timeout, io.peek()).await else {
            return Ending::Probe;
        };
        if first != TLS_HANDSHAKE {
            self.serve_http(io, Lane::Data, pending()).await;
            return Ending::Probe;
        }
        // HTTPS probes send no SNI and do not look at the certificate: any will do.
        if let Some(tls) = credentials.server().any()
            && let Ok(Ok(stream)) = timeout(tls_timeout, TlsAcceptor::from(tls).accept(io)).await
        {
            self.serve_http(stream, Lane::Data, pending()).await;
        }
        Ending::Probe
    }

    async fn serve_http(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        lane: Lane,
        leaving: impl Future<Output = ()>,
    ) {
        let service = service_fn(|request: Request<Incoming>| {
            let response = self.answer(request.method(), request.uri().path(), lane);
            async move { Ok::<_, Infallible>(response) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(CONNECTION_TIMEOUT)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(io), service);
        let mut served = pin!(served);
        // A probe that breaks off has what it wanted.
        tokio::select! {
            _ = served.as_mut() => {}
            () = leaving => {
                served.as_mut().graceful_shutdown();
                let _ = timeout(LAST_ANSWER_TIMEOUT, served).await;
            }
        }
    }

    fn answer(&self, method: &Method, path: &str, lane: Lane) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "method not allowed\n".into(),
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match (path, lane) {
            ("/healthz" | "/", Lane::Data) | ("/healthz", Lane::Probe) => self.healthz(),
            ("/livez", Lane::Probe) => text(StatusCode::OK, "alive\n".into()),
            ("/readyz" | "/ready", Lane::Probe) => self.readyz(),
            ("/health/vmss", Lane::Probe) => self.vmss(),
            _ => text(StatusCode::NOT_FOUND, "not found\n".into()),
        }
    }

    fn status(&self) -> StatusCode {
        if self.readiness.is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }

    fn healthz(&self) -> Response<Full<Bytes>> {
        let status = self.status();
        text(
            status,
            if status.is_success() {
                "ok\n".into()
            } else {
                "not ready\n".into()
            },
        )
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({
            "ready": self.readiness.is_ready(),
            "draining": self.readiness.is_draining(),
            "mode": self.mode,
            "waiting_for": self.readiness.waiting_for(),
        });
        json(self.status(), body.to_string())
    }

    /// The rich health state of the Application Health extension: 2xx with this body, anything else is Unknown.
    fn vmss(&self) -> Response<Full<Bytes>> {
        let state = if self.readiness.is_ready() {
            "Healthy"
        } else {
            "Unhealthy"
        };
        json(
            StatusCode::OK,
            format!(r#"{{"ApplicationHealthState":"{state}"}}"#),
        )
    }
}

/// Skips a PROXY v2 header, if there is one: the load balancer's probes have it, the extension's have not. HTTP
/// never begins with the signature's twelve bytes.
async fn skip_proxy_header<T: AsyncRead + Unpin>(io: &mut ReadAhead<T>) -> std::io::Result<()> {
    if io.peek().await? != Some(SIGNATURE[0]) {
        return Ok(());
    }
    let mut bytes = vec![0; FIXED_BYTES];
    io.read_exact(&mut bytes).await?;
    loop {
        match parse(&bytes, HEADER_BYTES_MAX) {
            Progress::Need(wanted) => {
                let have = bytes.len();
                bytes.resize(wanted, 0);
                io.read_exact(&mut bytes[have..]).await?;
            }
            Progress::Header(..) => return Ok(()),
            Progress::Malformed(malformed) => return Err(std::io::Error::other(malformed)),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "application/json", body)
}

fn respond(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const TLS_HANDSHAKE: u8 = 22;
const HEADER_BYTES_MAX: usize = 4096;
// Limit: a probe sends one short request.
const BUFFER_BYTES: usize = 16 * 1024;
// Limit: probes come every 5 to 60 seconds; none waits longer than this between requests.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(75);
// Limit: a probe begins with its request; Azure's time out within 10 seconds themselves.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
// Limit: probers are a handful, Traffic Manager's a few dozen; each place is a buffer and a descriptor at most.
const PROBERS_MAX: usize = 256;
// Limit: of a probe whose process was replaced, as long as it may take to come.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::*;

    async fn get(health: &Health, path: &str, lane: Lane) -> (u16, String) {
        let response = health.answer(&Method::GET, path, lane);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_prober_gets_the_answer_it_understands() {
        let readiness = Arc::new(Readiness::default());
        let condition = readiness.condition("ingress");
        let health = Health::new(Arc::clone(&readiness), "enforce");
        assert_eq!(get(&health, "/healthz", Lane::Probe).await.0, 503);
        assert_eq!(get(&health, "/livez", Lane::Probe).await.0, 200);
        let (status, body) = get(&health, "/readyz", Lane::Probe).await;
        assert_eq!(status, 503);
        assert!(
            body.contains(r#""waiting_for":["ingress"]"#) && body.contains(r#""mode":"enforce""#)
        );
        let unhealthy = (200, r#"{"ApplicationHealthState":"Unhealthy"}"#.to_owned());
        assert_eq!(get(&health, "/health/vmss", Lane::Probe).await, unhealthy);
        condition.set(true);
        assert_eq!(
            get(&health, "/healthz", Lane::Probe).await,
            (200, "ok\n".to_owned())
        );
        let healthy = (200, r#"{"ApplicationHealthState":"Healthy"}"#.to_owned());
        assert_eq!(get(&health, "/health/vmss", Lane::Probe).await, healthy);
        readiness.drain();
        assert_eq!(get(&health, "/healthz", Lane::Probe).await.0, 503);
    }

    #[tokio::test]
    async fn the_data_port_shows_probes_the_health_answer_alone() {
        let health = Health::new(Arc::default(), "enforce");
        assert_eq!(get(&health, "/healthz", Lane::Data).await.0, 200);
        assert_eq!(get(&health, "/readyz", Lane::Data).await.0, 404);
        assert_eq!(get(&health, "/studies", Lane::Data).await.0, 404);
    }

    #[tokio::test]
    async fn a_proxy_header_before_a_probe_is_skipped() {
        let health = Health::new(Arc::default(), "enforce");
        let (mut near, far) = tokio::io::duplex(4096);
        let mut sent = SIGNATURE.to_vec();
        sent.extend_from_slice(&[0x20, 0x00, 0x00, 0x03, 1, 2, 3]);
        sent.extend_from_slice(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        near.write_all(&sent).await.unwrap();
        health.serve(far, pending()).await;
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_or_never_ends_is_not_waited_for() {
        let health = Health::new(Arc::default(), "enforce");
        let mut header = SIGNATURE.to_vec();
        header.extend_from_slice(&[0x20, 0x00, 0x00, 0x00]);
        let in_the_header = &header[..14];
        for (said, limit) in [
            (&b""[..], FIRST_BYTE_TIMEOUT),
            (in_the_header, FIRST_BYTE_TIMEOUT),
            (&header, FIRST_BYTE_TIMEOUT),
            (b"GET /healthz HTT", CONNECTION_TIMEOUT),
            (
                b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                CONNECTION_TIMEOUT,
            ),
        ] {
            let (mut near, far) = tokio::io::duplex(4096);
            near.write_all(said).await.unwrap();
            let began = Instant::now();
            health.serve(far, pending()).await;
            let took = began.elapsed();
            assert!(took >= limit, "{took:?} {said:?}");
            assert!(took < limit + Duration::from_secs(1), "{took:?} {said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probers_are_so_many_at_a_time_and_no_more() {
        let health = Arc::new(Health::new(Arc::default(), "enforce"));
        let mut held = Vec::new();
        for _ in 0..PROBERS_MAX {
            let (near, far) = tokio::io::duplex(64);
            let health = Arc::clone(&health);
            held.push((
                near,
                tokio::spawn(async move { health.serve(far, pending()).await }),
            ));
        }
        while health.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let closed = async || {
            let (mut near, far) = tokio::io::duplex(4096);
            let request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            near.write_all(request).await.unwrap();
            let began = Instant::now();
            health.serve(far, pending()).await;
            assert_eq!(began.elapsed(), Duration::ZERO);
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            answer.is_empty()
        };
        assert!(closed().await);
        let (near, served) = held.swap_remove(0);
        drop(near);
        served.await.unwrap();
        assert!(!closed().await);
    }
}
