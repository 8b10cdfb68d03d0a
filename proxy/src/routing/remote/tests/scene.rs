//! A service that does what a test says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postern_api::routing as wire;
use postern_api::{CustomerKey, LinkState, ServiceKind};
use postern_certs::dev_ca::{DevCa, Issued};
use postern_certs::{Bundle, Expectations, UnixTime};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::super::client::{Dial, Wire};
pub use super::super::*;
use crate::access_log::AccessLog;
use crate::config::Mode;
use crate::credentials;
use crate::readiness::Readiness;
pub use crate::routing::RouteCacheOptions;

pub const SECOND: Duration = Duration::from_secs(1);
pub const HOUR: Duration = Duration::from_hours(1);
pub const LINK: LinkId = LinkId::new(7);

pub fn host() -> HostName {
    HostName::parse("images.example").unwrap()
}

/// What the service answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Status, media type, body.
    Text(u16, &'static str, String),
    /// Nothing, for ever.
    Nothing,
}

impl Reply {
    pub fn json(body: impl Into<String>) -> Self {
        Self::Text(200, "application/json", body.into())
    }
}

/// How an endpoint is out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Refused,
    /// Accepts, and says nothing after the TLS handshake.
    Mute,
}

/// A change stream that somebody has opened.
pub struct Opened {
    pub after: u64,
    pieces: mpsc::UnboundedSender<std::io::Result<Frame<Bytes>>>,
}

impl Opened {
    pub fn raw(&self, text: &str) {
        let piece = Bytes::copy_from_slice(text.as_bytes());
        let _ = self.pieces.send(Ok(Frame::data(piece)));
    }

    pub fn head(&self, sequence: u64) {
        let head = wire::Head {
            sequence,
            oldest: 1,
        };
        let head = serde_json::to_string(&head).unwrap();
        self.raw(&format!("event: head\nid: {sequence}\ndata: {head}\n\n"));
    }

    pub fn change(&self, change: &wire::Change) {
        let (id, text) = (change.sequence, serde_json::to_string(change).unwrap());
        self.raw(&format!("event: change\nid: {id}\ndata: {text}\n\n"));
    }

    /// Heads for as long as somebody listens.
    pub fn beats(self, sequence: u64) -> AbortHandle {
        let task = tokio::spawn(async move {
            while !self.pieces.is_closed() {
                self.head(sequence);
                sleep(5 * SECOND).await;
            }
        });
        task.abort_handle()
    }

    pub async fn closed(&self) {
        self.pieces.closed().await;
    }
}

/// The service.
pub struct Service {
    acceptor: TlsAcceptor,
    reach: Mutex<HashMap<String, Reach>>,
    pub lookup: Mutex<Box<dyn Fn(Option<u32>) -> Reply + Send>>,
    pub snapshot: Mutex<Reply>,
    /// In place of a stream.
    pub changes: Mutex<Option<Reply>>,
    opened: mpsc::UnboundedSender<Opened>,
    pub lookups: AtomicUsize,
    /// The host and the client's certificate of each connection.
    pub connections: Mutex<Vec<(String, Vec<u8>)>>,
    /// Those that are finished are closed.
    pub serving: Mutex<Vec<AbortHandle>>,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Service {
    fn new(ca: &DevCa, opened: mpsc::UnboundedSender<Opened>) -> Self {
        let trust = Bundle::prove(ca.trust(), &Expectations::trust(), UnixTime::now()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(trust.roots(), Arc::clone(&provider));
        let identity = ca.server(&["routing.example"]).unwrap().bundle().unwrap();
        let key = SingleCertAndKey::from(identity.certified_key().unwrap());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_cert_resolver(Arc::new(key));
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            reach: Mutex::default(),
            lookup: Mutex::new(Box::new(|_| Reply::json(found(LINK)))),
            snapshot: Mutex::new(Reply::Text(
                200,
                "application/x-ndjson",
                snapshot(1, &[LINK]),
            )),
            changes: Mutex::default(),
            opened,
            lookups: AtomicUsize::new(0),
            connections: Mutex::default(),
            serving: Mutex::default(),
        }
    }

    pub fn reach(&self, host: &str, reach: Reach) {
        self.reach.lock().unwrap().insert(host.into(), reach);
    }

    pub fn answers(&self, answer: impl Fn(Option<u32>) -> Reply + Send + 'static) {
        *self.lookup.lock().unwrap() = Box::new(answer);
    }

    pub fn snapshot_is(&self, sequence: u64, links: &[LinkId]) {
        let text = snapshot(sequence, links);
        *self.snapshot.lock().unwrap() = Reply::Text(200, "application/x-ndjson", text);
    }

    pub fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }

    pub fn hosts_connected(&self) -> Vec<String> {
        let connections = self.connections.lock().unwrap();
        connections.iter().map(|(host, _)| host.clone()).collect()
    }

    /// Every connection is cut, and none is accepted any more.
    pub fn dies(&self) {
        for host in ["one", "two"] {
            self.reach(host, Reach::Refused);
        }
        for serving in self.serving.lock().unwrap().drain(..) {
            serving.abort();
        }
    }

    pub fn lives(&self) {
        self.reach.lock().unwrap().clear();
    }

    /// Serves one connection to `host`.
    pub fn accept(self: &Arc<Self>, host: &str, wire: impl Wire + 'static, mute: bool) {
        let (service, host) = (Arc::clone(self), host.to_owned());
        let task = tokio::spawn(async move {
            let Ok(tls) = service.acceptor.accept(wire).await else {
                return;
            };
            let chain = tls.get_ref().1.peer_certificates().unwrap();
            let client = chain[0].to_vec();
            service.connections.lock().unwrap().push((host, client));
            if mute {
                let _tls = tls;
                return std::future::pending().await;
            }
            let answer = service_fn(|request| Arc::clone(&service).answer(request));
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(tls), answer)
                .await;
        });
        self.serving.lock().unwrap().push(task.abort_handle());
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        assert_eq!(request.uri().authority().unwrap(), "routing.example");
        let query = request.uri().query().unwrap_or_default();
        let number = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
            value.map(|value| value.parse::<u64>().unwrap())
        };
        let reply = match request.uri().path() {
            "/v1/lookup" => {
                self.lookups.fetch_add(1, Ordering::Relaxed);
                let link = number("linkId=").map(|link| u32::try_from(link).unwrap());
                (self.lookup.lock().unwrap())(link)
            }
            "/v1/snapshot" => self.snapshot.lock().unwrap().clone(),
            _ => {
                let instead = self.changes.lock().unwrap().clone();
                let Some(instead) = instead else {
                    return Ok(self.open(number("after=").unwrap()));
                };
                instead
            }
        };
        match reply {
            Reply::Nothing => std::future::pending().await,
            Reply::Text(status, kind, body) => Ok(Response::builder()
                .status(status)
                .header("content-type", kind)
                .body(BoxBody::new(
                    Full::from(body).map_err(|error| match error {}),
                ))
                .unwrap()),
        }
    }

    fn open(&self, after: u64) -> Response<Body> {
        let (pieces, received) = mpsc::unbounded_channel();
        let _ = self.opened.send(Opened { after, pieces });
        let body = futures_util::stream::unfold(received, |mut received| async {
            Some((received.recv().await?, received))
        });
        Response::builder()
            .header("content-type", "text/event-stream; charset=utf-8")
            .body(BoxBody::new(StreamBody::new(body)))
            .unwrap()
    }
}

/// Connects in memory.
struct InMemory(Arc<Service>);

#[async_trait]
impl Dial for InMemory {
    async fn dial(&self, host: &str, _: u16) -> std::io::Result<Box<dyn Wire>> {
        let reach = self.0.reach.lock().unwrap().get(host).copied();
        if reach == Some(Reach::Refused) {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        self.0.accept(host, far, reach == Some(Reach::Mute));
        Ok(Box::new(near))
    }
}

/// Everything together.
pub struct Scene {
    pub service: Arc<Service>,
    pub streams: mpsc::UnboundedReceiver<Opened>,
    pub routes: Arc<RemoteRoutes>,
    pub cache: RouteCache,
    pub credentials: Arc<Credentials>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub folder: Arc<tempfile::TempDir>,
    ca: DevCa,
    followers: Vec<AbortHandle>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        for follower in &self.followers {
            follower.abort();
        }
    }
}

impl Scene {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut RemoteOptions)) -> Self {
        Self::by(tempfile::tempdir().unwrap().into(), None, change)
    }

    /// With its files in `folder`, and over `dial` if not in memory.
    pub fn by(
        folder: Arc<tempfile::TempDir>,
        dial: Option<Arc<dyn Dial>>,
        change: impl FnOnce(&mut RemoteOptions),
    ) -> Self {
        let ca = DevCa::new("Development CA").unwrap();
        let client = ca.client("postern.example").unwrap();
        client.write_to(&folder.path().join("client")).unwrap();
        let trust = folder.path().join("trust");
        std::fs::create_dir_all(&trust).unwrap();
        std::fs::write(trust.join("ca.crt"), ca.ca_pem()).unwrap();
        let metrics = Arc::new(Metrics::new(Mode::Enforce, AccessLog::off()).unwrap());
        let places = credentials::Options {
            server: Vec::new(),
            identity: folder.path().join("client"),
            trust,
            routing: None,
            ticket_keys: None,
        };
        let credentials = Arc::new(Credentials::new(places, Arc::clone(&metrics)).unwrap());
        assert!(credentials.refresh(UnixTime::now()).is_empty());
        let (opened, streams) = mpsc::unbounded_channel();
        let service = Arc::new(Service::new(&ca, opened));
        let mut options = RemoteOptions {
            client: ClientOptions {
                endpoints: vec![("one".into(), 1), ("two".into(), 1)],
                name: "routing.example".try_into().unwrap(),
                authority: "routing.example".into(),
                connect_timeout: SECOND,
            },
            hedge_after: SECOND / 4,
            silence_max: 15 * SECOND,
            snapshot: Some(folder.path().join("routes.snapshot")),
            snapshot_interval: 60 * SECOND,
            stale_max: HOUR,
            entries_max: 1_000,
        };
        change(&mut options);
        let dial = dial.unwrap_or_else(|| Arc::new(InMemory(Arc::clone(&service))));
        let clusters = [ClusterName::new("dicom")];
        let (credentials_, metrics_) = (Arc::clone(&credentials), Arc::clone(&metrics));
        let routes = RemoteRoutes::by(dial, options, clusters, credentials_, metrics_);
        let routes = Arc::new(routes);
        let source: Arc<dyn RouteSource> = Arc::<RemoteRoutes>::clone(&routes);
        Self {
            cache: RouteCache::new(source, RouteCacheOptions::default()),
            routes,
            service,
            streams,
            credentials,
            metrics,
            readiness: Arc::default(),
            folder,
            ca,
            followers: Vec::new(),
        }
    }

    /// Begins to follow.
    pub fn follow(&mut self) {
        let ready = self.readiness.condition("routes");
        let (routes, cache) = (Arc::clone(&self.routes), self.cache.clone());
        let task = tokio::spawn(async move { routes.follow(&cache, &ready).await });
        self.followers.push(task.abort_handle());
    }

    /// The next change stream that is opened.
    pub async fn stream(&mut self) -> Opened {
        let opened = tokio::time::timeout(60 * SECOND, self.streams.recv()).await;
        opened.expect("a change stream is opened").unwrap()
    }

    /// Follows, and has reached change 1.
    pub async fn followed(&mut self) -> Opened {
        self.follow();
        let stream = self.stream().await;
        stream.head(1);
        settle().await;
        stream
    }

    pub async fn get(&self) -> Result<Lookup, LookupError> {
        self.cache.get(LINK, &host()).await
    }

    pub fn issue(&self, name: &str) -> Issued {
        self.ca.client(name).unwrap()
    }

    /// The value of one line of the metrics.
    pub fn metric(&self, series: &str) -> i64 {
        let text = self.metrics.render().unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{series}")).parse().unwrap()
    }
}

/// Everything that can go on has gone on.
pub async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

pub fn account() -> wire::AccountRoute {
    wire::AccountRoute {
        account: "clinic/images".into(),
        kind: ServiceKind::Dicom,
        hosts: vec![host()],
        cluster: "dicom".into(),
        customer_key: CustomerKey::Accessible,
        requests_per_second: None,
    }
}

pub const fn link(link_id: LinkId, state: LinkState) -> wire::Link {
    wire::Link {
        link_id,
        state,
        requests_per_second: None,
    }
}

/// A lookup's answer.
pub fn answer(sequence: u64, answer: wire::Answer) -> String {
    let answer = wire::LookupAnswer {
        sequence,
        max_age: 60,
        answer,
    };
    serde_json::to_string(&answer).unwrap()
}

pub fn found(link_id: LinkId) -> String {
    let found = wire::Answer::Found {
        account: account(),
        link: Some(link(link_id, LinkState::Approved)),
    };
    answer(1_000_000, found)
}

pub fn change(sequence: u64, state: LinkState) -> wire::Change {
    wire::Change {
        sequence,
        at: 1_795_000_000,
        what: "connection.changed".into(),
        account: "clinic/images".into(),
        route: Some(account()),
        removed_hosts: Vec::new(),
        links: vec![link(LINK, state)],
    }
}

pub fn snapshot(sequence: u64, links: &[LinkId]) -> String {
    let head = wire::SnapshotHead {
        format: wire::SNAPSHOT_FORMAT,
        sequence,
        at: 0,
        accounts: 1,
    };
    let line = wire::AccountLinks {
        account: account(),
        links: links
            .iter()
            .map(|id| link(*id, LinkState::Approved))
            .collect(),
    };
    let text = serde_json::to_string(&head).unwrap();
    format!("{text}\n{}\n", serde_json::to_string(&line).unwrap())
}

pub const fn is_found(lookup: &Result<Lookup, LookupError>) -> bool {
    matches!(lookup, Ok(Lookup::Found(_)))
}
