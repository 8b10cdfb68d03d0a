//! A client with a certificate, over HTTP/2 or HTTP/1.1.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use postern_certs::dev_ca::Issued;
use postern_certs::{Bundle, Expectations, Parts, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, SupportedProtocolVersion};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What no wait in these tests exceeds.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A connection.
pub enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// How a client connects.
#[derive(Clone)]
pub struct Connector {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    /// Of each HTTP/2 stream, in bytes.
    pub window: u32,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The TLS of a client that trusts the CA, with this certificate or none.
pub fn tls(ca_pem: &str, identity: Option<&Issued>, alpn: &[u8]) -> Arc<ClientConfig> {
    tls_of(rustls::DEFAULT_VERSIONS, ca_pem, identity, alpn)
}

/// The same with other versions.
pub fn tls_of(
    versions: &[&'static SupportedProtocolVersion],
    ca_pem: &str,
    identity: Option<&Issued>,
    alpn: &[u8],
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = Bundle::prove(
        Parts::anchors(ca_pem),
        &Expectations::trust(),
        UnixTime::now(),
    );
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(trust.unwrap().roots());
    let mut config = match identity {
        Some(identity) => {
            let key = identity.bundle().unwrap().certified_key().unwrap();
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((*key).clone())))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

impl Connector {
    /// Connects. An error may also come with the first request, as TLS 1.3 has it.
    pub async fn connect(&self) -> std::io::Result<Client> {
        let io = TokioIo::new(self.stream().await?);
        Ok(if self.tls.alpn_protocols == [b"h2"] {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(self.window)
                .handshake(io)
                .await
                .map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Client::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Client::Http1(sender)
        })
    }
}

impl Connector {
    /// Connects, and says nothing yet.
    pub async fn stream(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = "routing.example".try_into().unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, stream).await
    }
}

impl Client {
    /// Sends a request; the answer's body is not read yet.
    pub async fn open(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                let (mut parts, body) = request.into_parts();
                parts
                    .headers
                    .insert("host", "routing.example".parse().unwrap());
                let path = parts.uri.path_and_query().unwrap().to_string();
                parts.uri = path.parse().unwrap();
                sender.send_request(Request::from_parts(parts, body)).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let answer = async {
            let (parts, body) = self.open(request).await.unwrap().into_parts();
            Answer {
                status: parts.status,
                headers: parts.headers,
                body: body.collect().await.unwrap().to_bytes(),
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap()
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], "")).await
    }

    pub async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, path, headers, "")).await
    }

    pub async fn delete(&mut self, path: &str) -> Answer {
        self.send(request(Method::DELETE, path, &[], "")).await
    }

    pub async fn put(&mut self, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        let body = body.to_string();
        self.send(request(Method::PUT, path, &json, &body)).await
    }

    pub async fn put_if(&mut self, path: &str, header: (&str, &str), body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), header];
        let body = body.to_string();
        self.send(request(Method::PUT, path, &headers, &body)).await
    }

    pub async fn post(&mut self, path: &str, body: &str) -> Answer {
        let json = [("content-type", "application/json")];
        self.send(request(Method::POST, path, &json, body)).await
    }
}

/// A request to the service.
pub fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://routing.example{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap()
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The status, the code and the target of an error, which must have the shape of one.
    pub fn error(&self) -> (u16, String, String) {
        let body = self.json();
        let error = &body["error"];
        let word = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        assert!(!word("message").is_empty(), "{self:?}");
        assert_eq!(self.header("x-ms-error-code"), word("code"), "{self:?}");
        assert!(!self.header("x-ms-request-id").is_empty(), "{self:?}");
        (self.status.as_u16(), word("code"), word("target"))
    }

    pub fn message(&self) -> String {
        let body = self.json();
        body["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// The events of a stream.
pub struct Events {
    body: Incoming,
    text: BytesMut,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<u64>,
    pub data: Value,
}

impl Events {
    pub async fn of(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        let answer = client.open(request(Method::GET, path, &all, ""));
        let answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            body: answer.into_body(),
            text: BytesMut::new(),
        }
    }

    /// The next event; nothing once the stream has ended, in whatever way.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let text = self.text.split_to(end + 2);
                return Some(parse(std::str::from_utf8(&text).unwrap()));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.unwrap()?.ok()?;
            if let Ok(bytes) = frame.into_data() {
                self.text.extend_from_slice(&bytes);
            }
        }
    }

    /// The next event that is no sign of life.
    pub async fn next_change(&mut self) -> Option<Event> {
        loop {
            let event = self.next().await?;
            if event.name != "head" {
                return Some(event);
            }
        }
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    Event {
        name: field("event: ").unwrap().to_owned(),
        id: field("id: ").map(|id| id.parse().unwrap()),
        data: serde_json::from_str(field("data: ").unwrap()).unwrap(),
    }
}
