//! The HTTP/1.1 server under every stand-in: a whole request in, a whole answer out.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

// Limit: a certificate to import is some 10 kB; Key Vault itself takes less than this.
const BODY_BYTES_MAX: usize = 1 << 20;

// Limit: of what a query holds, which no SDK of Azure comes near to.
const URI_BYTES_MAX: usize = 8 << 10;

// Limit: a herd of 100 sidecars with a connection for each of three clients, and room.
const CONNECTIONS_MAX: usize = 1024;

// Limit: a handshake on a busy machine in a debug build takes well below a second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request, read whole.
#[derive(Debug)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path, as sent.
    pub path: String,
    /// Its query, decoded; of a repeated name the last.
    pub query: BTreeMap<String, String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Call {
    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A value of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The parts of the path between slashes, without empty ones: the Rust SDK ends the path of a newest
    /// version with a slash.
    pub fn segments(&self) -> Vec<&str> {
        self.path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// The body as JSON; `Value::Null` if there is none or it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as `application/x-www-form-urlencoded`.
    pub fn form(&self) -> BTreeMap<String, String> {
        let text = String::from_utf8_lossy(&self.body);
        pairs(&format!("/?{text}"))
    }
}

/// An answer, written whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without those of the body.
    pub headers: HeaderMap,
    /// Its body as JSON; `Value::Null` for none.
    pub body: Value,
}

impl Answer {
    /// This status with this body.
    pub fn new(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body,
        }
    }

    /// 200 with this body.
    pub fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// The same with one more header, which is left out if it is no valid one.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let body = match &self.body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if !self.body.is_null() {
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, json);
        }
        response
    }
}

/// What a server does with a request.
pub trait Handler: Send + Sync + 'static {
    /// Answers it.
    fn answer(&self, call: Call) -> impl Future<Output = Answer> + Send;
}

/// A listening server, ended with all its connections when the value is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on `address`, in TLS if there is a configuration for it. While `down` is true, open connections
    /// are closed and new ones closed as soon as they are accepted.
    pub async fn start(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        down: watch::Receiver<bool>,
        handler: Arc<impl Handler>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let tls = tls.map(TlsAcceptor::from);
        let task = tokio::spawn(accept(listener, tls, down, handler));
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    down: watch::Receiver<bool>,
    handler: Arc<impl Handler>,
) {
    // They end with this task.
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely; one that is freed lets the next accept succeed.
            tokio::task::yield_now().await;
            continue;
        };
        if *down.borrow() {
            continue;
        }
        let (tls, handler, mut down) = (tls.clone(), Arc::clone(&handler), down.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, tls, handler) => {}
                () = comes(&mut down) => {}
            }
            drop(place);
        });
    }
}

/// Waits until it is true. If nobody can say so any more, it never comes.
async fn comes(down: &mut watch::Receiver<bool>) {
    if down.wait_for(|down| *down).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, handler: Arc<impl Handler>) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, handler).await,
        Some(tls) => {
            // A peer that does not trust this CA, or that went away, is not this side's failure.
            if let Ok(Ok(stream)) =
                tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await
            {
                serve(stream, handler).await;
            }
        }
    }
}

async fn serve<S>(stream: S, handler: Arc<impl Handler>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move {
            let answer = match read(request).await {
                Ok(call) => handler.answer(call).await,
                Err(status) => Answer::new(status, Value::Null),
            };
            Ok::<_, std::convert::Infallible>(answer.into_response())
        }
    });
    // How a connection ends is the client's business, and shows there.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn read(request: Request<Incoming>) -> Result<Call, StatusCode> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let uri = parts.uri.to_string();
    if uri.len() > URI_BYTES_MAX {
        return Err(StatusCode::URI_TOO_LONG);
    }
    Ok(Call {
        query: pairs(&uri),
        path: parts.uri.path().to_owned(),
        method: parts.method,
        headers: parts.headers,
        body: body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?.to_bytes(),
    })
}

fn pairs(uri: &str) -> BTreeMap<String, String> {
    let parsed = uri.parse().ok();
    let query = parsed.and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
    query.map_or_else(BTreeMap::new, |Query(pairs)| pairs.into_iter().collect())
}
