//! Every part of the data plane that the whole process shares, made once, in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_certs::UnixTime;
use rustls::pki_types::ServerName;

use crate::access_log::AccessLog;
use crate::admin::{self, Admin};
use crate::config::{
    ClusterEndpoint, Config, Host, Mode as ConfiguredMode, RefuseBy, RouteServiceOptions,
    UpstreamProtocol,
};
use crate::connection::accept::{Networks, Seats, TrustedSources};
use crate::connection::authorize::{Authorizer, Mode};
use crate::connection::http::Connection;
use crate::connection::registry::Registry;
use crate::connection::{self, Connections};
use crate::credentials::{self, Credentials, Rejected};
use crate::metrics::Metrics;
use crate::probe::Health;
use crate::readiness::{Condition, Readiness};
use crate::request::admit::Load;
use crate::request::{self, Requests};
use crate::routing::{
    ClientOptions, ClusterName, NoRoutes, RemoteOptions, RemoteRoutes, RouteCache,
    RouteCacheOptions, RouteFile, RouteSource,
};
use crate::server::ServerError;
use crate::server::background::Files;
use crate::server::drain::Drain;
use crate::server::in_force::InForce;
use crate::server::workers::{Worker, Workers};
use crate::telemetry::Telemetry;
use crate::upstream::{self, Cluster, Clusters, Place, Protocol, Target, Upstream};

/// What the whole process shares.
pub struct Parts {
    pub access_log: AccessLog,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub listening: Condition,
    pub credentials: Arc<Credentials>,
    pub authorizer: Arc<Authorizer>,
    pub clusters: Arc<Clusters>,
    pub in_force: Arc<InForce>,
    pub bounds: Arc<upstream::Bounds>,
    pub sources: Arc<TrustedSources>,
    pub workers: Workers,
    pub seats: Arc<Seats>,
    pub registry: Arc<Registry<Connection>>,
    pub load: Arc<Load>,
    pub drain: Arc<Drain>,
    pub health: Arc<Health>,
    pub upstream_health: Arc<upstream::Health>,
    pub resolver: Arc<upstream::Resolver>,
    pub files: Arc<Files>,
    pub routes: Routes,
}

/// Where routes come from.
#[derive(Clone)]
pub enum Routes {
    /// Nowhere: nothing is looked up.
    None,
    /// A file.
    File(Arc<RouteFile>),
    /// The account-routing service.
    Service(Arc<RemoteRoutes>),
}

impl Routes {
    fn source(&self) -> Arc<dyn RouteSource> {
        match self {
            Self::None => Arc::new(NoRoutes::default()),
            Self::File(file) => Arc::<RouteFile>::clone(file),
            Self::Service(service) => Arc::<RemoteRoutes>::clone(service),
        }
    }

    /// The account-routing service, if they come from there.
    pub const fn service(&self) -> Option<&Arc<RemoteRoutes>> {
        match self {
            Self::Service(service) => Some(service),
            Self::None | Self::File(_) => None,
        }
    }
}

impl Parts {
    /// For a process that serves.
    pub fn live(config: &Config) -> Result<Self, ServerError> {
        Self::new(config, AccessLog::open(&config.access_log)?)
    }

    /// For a command that answers and exits.
    pub fn quiet(config: &Config) -> Result<Self, ServerError> {
        Self::new(config, AccessLog::off())
    }

    fn new(config: &Config, access_log: AccessLog) -> Result<Self, ServerError> {
        let metrics = Arc::new(Metrics::new(config.mode, access_log.clone())?);
        let readiness = Arc::new(Readiness::default());
        let listening = readiness.condition("listeners");
        let in_force = Arc::new(InForce::new(config.clone(), Arc::clone(&metrics)));
        let clusters = Arc::new(clusters(config)?.into_iter().collect::<Clusters>());
        let credentials = Arc::new(Credentials::new(credentials(config), Arc::clone(&metrics))?);
        let routes = routes(config, &credentials, &metrics)?;
        let options = route_cache(config);
        let cache = RouteCache::observed(routes.source(), options, Arc::clone(&metrics));
        let authorizer = Arc::new(Authorizer::new(mode(config), cache, Arc::clone(&metrics)));
        let seats = Seats::new(config.data.connections_max);
        let load = Load::new(config.http.requests_max);
        let drain = Arc::new(Drain::new(
            config.drain.clone(),
            Arc::clone(&readiness),
            Arc::clone(&seats),
            Arc::clone(&metrics),
        ));
        let files = Files::new(
            &readiness,
            Arc::clone(&credentials),
            routes.clone(),
            Arc::clone(&metrics),
        );
        let bounds = Arc::new(upstream::Bounds::new(upstream(config)));
        let upstream_health = Arc::new(upstream::Health::new(
            Arc::clone(&clusters),
            Arc::clone(&credentials),
            Arc::clone(&bounds),
            readiness.condition("ingress"),
            Arc::clone(&metrics),
        ));
        let resolver = Arc::new(upstream::Resolver::new(
            upstream::Dns,
            Arc::clone(&clusters),
            resolve(config),
            Arc::clone(&metrics),
        ));
        let sources =
            TrustedSources::new(networks(config), Arc::clone(&metrics), access_log.clone());
        Ok(Self {
            in_force,
            bounds,
            sources: Arc::new(sources),
            workers: Workers::default(),
            health: Arc::new(Health::new(Arc::clone(&readiness), config.mode.label())),
            access_log,
            metrics,
            readiness,
            listening,
            credentials,
            authorizer,
            clusters,
            seats,
            registry: Arc::default(),
            load,
            drain,
            upstream_health,
            resolver,
            files: Arc::new(files),
            routes,
        })
    }

    /// Reads the credentials once; an error if any of them is not good.
    pub fn prove_credentials(&self) -> Result<(), ServerError> {
        all_good(&self.credentials.refresh(UnixTime::now()))
    }

    /// Takes the places of credentials from another configuration; an error, and no change, if any is not good.
    pub fn replace_credentials(&self, config: &Config, now: UnixTime) -> Result<(), ServerError> {
        let replaced = self.credentials.replace(credentials(config), now);
        replaced.or_else(|rejected| all_good(&rejected))
    }

    /// One more worker: what its connections use is a way to the ingress of its own, the rest shared.
    pub fn worker(&self, config: &Config) -> Worker {
        let upstream = Arc::new(Upstream::new(
            Arc::clone(&self.bounds),
            Arc::clone(&self.clusters),
            Arc::clone(&self.credentials),
            Arc::clone(&self.metrics),
        ));
        let requests = Requests {
            options: request(config),
            authorizer: Arc::clone(&self.authorizer),
            credentials: Arc::clone(&self.credentials),
            upstream,
            retries: Arc::new(request::retry::Budget::new(
                config.upstream.retry_reserve,
                config.upstream.retry_percent,
            )),
            load: Arc::clone(&self.load),
            metrics: Arc::clone(&self.metrics),
            access_log: self.access_log.clone(),
        };
        self.workers.add(Connections {
            options: connection(config),
            credentials: Arc::clone(&self.credentials),
            authorizer: Arc::clone(&self.authorizer),
            requests: Arc::new(requests),
            registry: Arc::clone(&self.registry),
            health: Arc::clone(&self.health),
            closing: self.drain.closing(),
            metrics: Arc::clone(&self.metrics),
            access_log: self.access_log.clone(),
        })
    }

    /// What shows all of it to operators.
    pub fn admin(&self, telemetry: Telemetry) -> Admin {
        Admin::new(admin::Sources {
            in_force: Arc::clone(&self.in_force),
            metrics: Arc::clone(&self.metrics),
            readiness: Arc::clone(&self.readiness),
            credentials: Arc::clone(&self.credentials),
            authorizer: Arc::clone(&self.authorizer),
            clusters: Arc::clone(&self.clusters),
            registry: Arc::clone(&self.registry),
            seats: Arc::clone(&self.seats),
            drain: Arc::clone(&self.drain),
            service: self.routes.service().cloned(),
            telemetry,
        })
    }
}

fn all_good(rejected: &[Rejected]) -> Result<(), ServerError> {
    let lines: Vec<String> = rejected
        .iter()
        .map(|one| format!("{}: {}", one.path.display(), one.why))
        .collect();
    if lines.is_empty() {
        Ok(())
    } else {
        Err(ServerError::Credentials(lines.join("\n")))
    }
}

/// The clusters of a configuration.
pub fn clusters(config: &Config) -> Result<Vec<Cluster>, ServerError> {
    config
        .upstream
        .clusters
        .iter()
        .map(|(name, options)| {
            let server_name = ServerName::try_from(options.name.as_str().to_owned())
                .map_err(|_| ServerError::ServerName(format!("upstream.clusters.{name}")))?;
            let protocol = match options.protocol {
                UpstreamProtocol::Auto => Protocol::Auto,
                UpstreamProtocol::Http1 => Protocol::Http1,
                UpstreamProtocol::H2 => Protocol::Http2,
            };
            let name = ClusterName::new(name.as_str());
            Ok(Cluster::new(
                name,
                server_name,
                protocol,
                (options.endpoints.iter()).map(|it| target(it, config.upstream.zone.as_deref())),
            ))
        })
        .collect()
}

fn target(endpoint: &ClusterEndpoint, zone: Option<&str>) -> Target {
    let port = endpoint.address.port;
    Target {
        place: match &endpoint.address.host {
            Host::Address(ip) => Place::Address(SocketAddr::new(*ip, port)),
            Host::Name(name) => Place::Name(name.clone(), port),
        },
        near: zone.is_none() || zone == endpoint.zone.as_deref(),
    }
}

/// How the names of endpoints are resolved.
pub fn resolve(config: &Config) -> upstream::ResolveOptions {
    upstream::ResolveOptions {
        servers: config.upstream.dns_servers.clone(),
        stale_max: config.upstream.dns_stale_max,
    }
}

/// Where routes may lead.
pub fn cluster_names(config: &Config) -> impl Iterator<Item = ClusterName> {
    let names = config.upstream.clusters.keys();
    names.map(|name| ClusterName::new(name.as_str()))
}

fn routes(
    config: &Config,
    credentials: &Arc<Credentials>,
    metrics: &Arc<Metrics>,
) -> Result<Routes, ServerError> {
    if config.mode == ConfiguredMode::Forward {
        return Ok(Routes::None);
    }
    let clusters = cluster_names(config);
    if let Some(service) = &config.routes.service {
        let options = remote(config, service)?;
        let (credentials, metrics) = (Arc::clone(credentials), Arc::clone(metrics));
        let routes = RemoteRoutes::new(options, clusters, credentials, metrics);
        return Ok(Routes::Service(Arc::new(routes)));
    }
    // The configuration demands one of both; without any, nobody is known.
    let Some(path) = &config.routes.file else {
        return Ok(Routes::None);
    };
    RouteFile::open(path, clusters)
        .map(|file| Routes::File(Arc::new(file)))
        .map_err(|error| ServerError::Routes(with_source(&error)))
}

/// An error if the snapshot of the routes can never be written, since its folder is not there.
pub fn prove_snapshot_folder(config: &Config) -> Result<(), ServerError> {
    let service = config.routes.service.as_ref();
    let Some(path) = service.and_then(|service| service.snapshot.as_ref()) else {
        return Ok(());
    };
    let is_there = path.parent().is_some_and(Path::is_dir);
    is_there.then_some(()).ok_or_else(|| {
        let path = path.display();
        ServerError::Routes(format!(
            "routes.service.snapshot: {path} is in no folder that is there"
        ))
    })
}

fn remote(config: &Config, service: &RouteServiceOptions) -> Result<RemoteOptions, ServerError> {
    let name = service.name.as_str().to_owned();
    let endpoints = service.endpoints.iter();
    Ok(RemoteOptions {
        client: ClientOptions {
            endpoints: endpoints.map(|it| (it.host.to_string(), it.port)).collect(),
            authority: name.clone(),
            name: ServerName::try_from(name)
                .map_err(|_| ServerError::ServerName("routes.service".into()))?,
            connect_timeout: service.connect_timeout,
        },
        hedge_after: service.hedge_after,
        silence_max: service.silence_max,
        snapshot: service.snapshot.clone(),
        snapshot_interval: service.snapshot_interval,
        stale_max: config.route_cache.stale_max,
        entries_max: config.route_cache.entries_max,
    })
}

/// An error and its cause in one line, for texts that end up where there is no `source()`.
fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn mode(config: &Config) -> Mode {
    match (config.mode, &config.forward_cluster) {
        (ConfiguredMode::Audit, _) => Mode::Audit,
        (ConfiguredMode::Forward, Some(cluster)) => {
            Mode::Forward(ClusterName::new(cluster.as_str()))
        }
        // The configuration demands a cluster with `forward`; without one, deny by default.
        (ConfiguredMode::Enforce | ConfiguredMode::Forward, _) => Mode::Enforce,
    }
}

fn credentials(config: &Config) -> credentials::Options {
    let (identity, trust) = (&config.upstream.identity, &config.upstream.trust);
    let service = config.routes.service.as_ref();
    let own = service.filter(|it| it.identity.is_some() || it.trust.is_some());
    let or = |own: &Option<PathBuf>, default: &PathBuf| own.as_ref().unwrap_or(default).clone();
    credentials::Options {
        server: (config.tls.certificates.iter())
            .map(|place| (place.path.clone(), place.names.clone()))
            .collect(),
        identity: identity.clone(),
        trust: trust.clone(),
        routing: own.map(|own| (or(&own.identity, identity), or(&own.trust, trust))),
        ticket_keys: config.tls.ticket_keys.clone(),
    }
}

fn route_cache(config: &Config) -> RouteCacheOptions {
    let cache = &config.route_cache;
    RouteCacheOptions {
        ttl: cache.ttl,
        stale_while_revalidate: cache.stale_while_revalidate,
        not_found_ttl: cache.not_found_ttl,
        stale_max: cache.stale_max,
        entries_max: cache.entries_max,
        lookup_timeout: cache.lookup_timeout,
    }
}

/// Bounds towards the ingress.
pub fn upstream(config: &Config) -> upstream::Options {
    upstream::Options {
        connect_timeout: config.upstream.connect_timeout,
        idle_timeout: config.upstream.idle_timeout,
        connection_age_max: config.upstream.connection_age_max,
        superseded_timeout: config.upstream.superseded_timeout,
    }
}

/// Who may open data connections.
pub fn networks(config: &Config) -> Networks {
    Networks {
        private_link: config.data.trusted_sources.clone(),
        probes: config.data.probe_sources.clone(),
    }
}

/// Bounds of a request.
pub fn request(config: &Config) -> request::Options {
    request::Options {
        response_timeout: config.upstream.response_timeout,
        upgraded_idle_timeout: config.http.upgraded_idle_timeout,
        headers_max: config.http.headers_max,
    }
}

/// Bounds of a connection.
pub fn connection(config: &Config) -> connection::Options {
    connection::Options {
        http: connection::http::Options {
            header_timeout: config.http.header_timeout,
            idle_timeout: config.http.idle_timeout,
            head_bytes_max: config.http.head_bytes_max,
            headers_max: config.http.headers_max,
            streams_max: config.http.streams_max,
            revoked_timeout: config.routes.revoked_timeout,
            upgraded_idle_timeout: config.http.upgraded_idle_timeout,
        },
        proxy_header: connection::proxy_header::Options {
            timeout: config.proxy_header.timeout,
            bytes_max: config.proxy_header.bytes_max,
        },
        tls_timeout: config.tls.timeout,
        refuse_by_alert: config.tls.refuse == RefuseBy::Alert,
    }
}
