//! One request on its way: permit, admission, headers, record, log line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Version};
use postern::access_log::{AccessLog, RequestEnding, RequestRecord};
use postern::config;
use postern::connection::authorize::{Authorizer, Mode};
use postern::connection::http::{Connection, Detached};
use postern::credentials::{self, Credentials};
use postern::metrics::Metrics;
use postern::request::admit::{self, Load};
use postern::request::body::RequestBody;
use postern::request::exchange::Exchange;
use postern::request::{Options, Requests, headers, retry};
use postern::request_id::RequestId;
use postern::upstream::{self, Upstream};
use postern_api::{HostName, LinkId};

use super::Harness;
use super::cache::Full;

const ROUTES: usize = 1_000;

pub fn cases(harness: &mut impl Harness) {
    harness.case(
        "authorize/cache_hit",
        || Scene::new(false),
        |scene| scene.routes.any_key(),
        |scene, (link, host)| {
            let standing = scene.requests.authorizer.authorize(*link, host);
            standing.now_or_never().unwrap().unwrap()
        },
    );
    for (name, http2) in [("http1", false), ("http2", true)] {
        harness.case(
            &format!("admit/{name}"),
            || Scene::new(http2),
            Scene::exchange,
            |scene, exchange| {
                let (requests, connection) = (&scene.requests, &scene.connection);
                let admitted = admit::admit(requests, connection, &scene.parts, exchange);
                admitted.now_or_never().unwrap().unwrap()
            },
        );
    }
    harness.case(
        "exchange/begin_and_end",
        || Scene::new(false),
        |_| (),
        |scene, ()| drop(scene.exchange()),
    );
    rewriting(harness);
    harness.case(
        "access_log/line",
        || (Scene::new(false), log()),
        |_| (),
        |(scene, log), ()| log.request(&record(scene)),
    );
}

fn rewriting(harness: &mut impl Harness) {
    for (name, more) in [
        ("headers/to_ingress/nothing_to_strip", &[][..]),
        ("headers/to_ingress/claims_to_strip", CLAIMS),
    ] {
        harness.case(
            name,
            || Scene::new(false),
            |scene| {
                let mut headers = scene.parts.headers.clone();
                headers.extend(map(more));
                headers
            },
            |scene, headers| {
                let Scene {
                    connection,
                    authority,
                    id,
                    ..
                } = scene;
                headers::to_ingress(headers, connection, authority, true, *id)
            },
        );
    }
    harness.case(
        "headers/to_client",
        || Scene::new(false),
        |_| map(ANSWER),
        |scene, headers| headers::to_client(headers, scene.id),
    );
}

/// Everything up to the point where a request would be sent to an ingress.
struct Scene {
    routes: Arc<Full>,
    requests: Arc<Requests>,
    connection: Arc<Connection>,
    parts: Parts,
    authority: HeaderValue,
    id: RequestId,
}

impl Scene {
    fn new(http2: bool) -> Self {
        let routes = Full::of(ROUTES);
        let (link_id, sni) = routes.any_key();
        let requests = requests(&routes);
        let standing = requests
            .authorizer
            .authorize(link_id, &sni)
            .now_or_never()
            .unwrap();
        let authority = HeaderValue::from_str(sni.as_str()).unwrap();
        Self {
            parts: head(&sni, http2),
            connection: connection(link_id, sni, http2, standing),
            routes,
            requests,
            authority,
            id: RequestId::generate(),
        }
    }

    fn exchange(&self) -> Exchange {
        let (requests, connection) = (Arc::clone(&self.requests), Arc::clone(&self.connection));
        Exchange::begin(requests, connection, &self.parts, RequestBody::empty())
    }
}

fn connection(
    link_id: LinkId,
    sni: HostName,
    http2: bool,
    standing: postern::connection::authorize::Standing,
) -> Arc<Connection> {
    let client = SocketAddr::from(([10, 0, 0, 4], 50_000));
    let detached = Detached {
        link_id,
        client,
        sni,
        http2,
        standing,
    };
    detached.connect()
}

/// The handling of requests, with no credentials and no ingress: nothing here gets that far.
fn requests(routes: &Full) -> Arc<Requests> {
    let access_log = AccessLog::off();
    let metrics = Arc::new(Metrics::new(config::Mode::Enforce, access_log.clone()).unwrap());
    let nowhere = credentials::Options {
        server: Vec::new(),
        identity: PathBuf::new(),
        trust: PathBuf::new(),
        routing: None,
        ticket_keys: None,
    };
    let credentials = Arc::new(Credentials::new(nowhere, Arc::clone(&metrics)).unwrap());
    let upstream = Upstream::new(
        Arc::new(upstream::Bounds::new(upstream::Options {
            connect_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            connection_age_max: Duration::ZERO,
            superseded_timeout: Duration::ZERO,
        })),
        Arc::new(std::iter::empty().collect()),
        Arc::clone(&credentials),
        Arc::clone(&metrics),
    );
    let cache = routes.cache.clone();
    Arc::new(Requests {
        options: Options {
            response_timeout: Duration::from_mins(1),
            upgraded_idle_timeout: Duration::from_mins(1),
            headers_max: 100,
        },
        authorizer: Arc::new(Authorizer::new(Mode::Enforce, cache, Arc::clone(&metrics))),
        credentials,
        upstream: Arc::new(upstream),
        retries: Arc::new(retry::Budget::new(1_000, 20)),
        load: Load::new(1_000),
        metrics,
        access_log,
    })
}

/// A search as a `DICOMweb` viewer sends it.
fn head(host: &HostName, http2: bool) -> Parts {
    let path = "/dicom-web/studies/1.2.840.113619.2.55.3.604688119.971.1/series?Modality=CT";
    let mut request = if http2 {
        Request::get(format!("https://{host}{path}")).version(Version::HTTP_2)
    } else {
        Request::get(path).header(HOST, host.as_str())
    };
    request.headers_mut().unwrap().extend(map(REQUEST));
    request.body(()).unwrap().into_parts().0
}

const REQUEST: &[(&str, &str)] = &[
    ("accept", "application/dicom+json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "de-DE,de;q=0.9,en;q=0.8"),
    (
        "authorization",
        "Bearer 0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
    ("cache-control", "no-cache"),
    ("user-agent", "Viewer/3.9 (X11; Linux x86_64)"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
];

const CLAIMS: &[(&str, &str)] = &[
    ("connection", "keep-alive, x-of-one-hop"),
    ("x-of-one-hop", "1"),
    ("te", "trailers"),
    ("forwarded", "for=192.0.2.1"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-ms-private-link-id", "7"),
];

const ANSWER: &[(&str, &str)] = &[
    ("content-type", "application/dicom+json"),
    ("content-length", "4711"),
    ("date", "Sat, 21 Nov 2026 10:11:12 GMT"),
    ("etag", "\"0123456789abcdef\""),
    ("server", "nginx"),
    ("vary", "accept-encoding"),
];

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = fields.iter().copied();
    fields
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect()
}

/// A log that formats and queues every line, and whose disk is fast.
fn log() -> AccessLog {
    let options = config::AccessLogOptions {
        output: config::AccessLogOutput::File("/dev/null".into()),
        ..config::AccessLogOptions::default()
    };
    AccessLog::open(&options).unwrap()
}

fn record(scene: &Scene) -> RequestRecord<'_> {
    RequestRecord {
        request_id: scene.id,
        link_id: Some(scene.connection.link_id),
        client: Some(scene.connection.client),
        account: Some("hospital-0000001"),
        sni: Some(scene.connection.sni.as_str()),
        authority: Some(scene.connection.sni.as_str()),
        method: "GET",
        uri: &scene.parts.uri,
        protocol: "HTTP/1.1",
        status: Some(200),
        request_bytes: 0,
        response_bytes: 4711,
        total: Duration::from_micros(1234),
        authorize: Some(Duration::from_micros(12)),
        upstream_connect: None,
        upstream_first_byte: Some(Duration::from_micros(987)),
        endpoint: Some(SocketAddr::from(([10, 2, 0, 6], 443))),
        upstream_protocol: Some("HTTP/2.0"),
        tls: Some("TLSv1.3"),
        tls_resumed: true,
        refusal: None,
        would_refuse: None,
        ending: RequestEnding::Complete,
    }
}
