//! The options, proven: certificates read, targets paired, requests built. What is left to do is to run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{Request, Uri, Version};
use postern_api::LinkId;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::options::{BenchOptions, BenchProtocol, Handshake};
use crate::proxy_v2::Header;
use crate::stack::client::{ClientError, Tls};

/// Why the options make no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// They contradict each other, or lack something.
    #[error("{0}")]
    Options(String),
    /// A certificate or key cannot be used.
    #[error("cannot set up TLS")]
    Tls(#[from] ClientError),
    /// The request cannot be built.
    #[error("method, path or host is invalid")]
    Request(#[from] http::Error),
    /// The route file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The route file is not one.
    #[error("{} is not a route file", path.display())]
    Routes {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// After a time.
    Time(Duration),
    /// After as many requests.
    Requests(u64),
}

/// Everything a run needs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    tls: Arc<ClientConfig>,
    pub(super) protocol: BenchProtocol,
    pub(super) connections: usize,
    pub(super) streams: usize,
    pub(super) handshake: Option<Handshake>,
    pub(super) upload: u64,
    pub(super) rate: Option<f64>,
    pub(super) limit: Limit,
    /// Connections to hold; 0 unless that is what to do.
    pub(super) idle: usize,
    /// Never empty.
    targets: Vec<Target>,
}

/// A private endpoint, and whom it asks.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What a connection begins with.
    pub(super) header: Bytes,
    /// SNI, and the name that the certificate must have.
    pub(super) name: ServerName<'static>,
    /// The head of each request.
    pub(super) head: Parts,
}

impl Plan {
    pub(super) fn new(options: &BenchOptions) -> Result<Self, PlanError> {
        let BenchOptions {
            protocol,
            handshake,
            ..
        } = *options;
        let wrong = |text: &str| Err(PlanError::Options(text.to_owned()));
        if protocol == BenchProtocol::H1 && options.streams.get() > 1 {
            return wrong("HTTP/1.1 has no streams: use --connections, or --protocol h2");
        }
        if handshake.is_some() && options.streams.get() > 1 {
            return wrong("--handshake makes a connection for each request: it has one stream");
        }
        if options
            .rate
            .is_some_and(|rate| !(0.001..=RATE_MAX).contains(&rate))
        {
            return wrong("--rate must be between 0.001 and 1000000");
        }
        let limit = match (options.requests, options.seconds) {
            (Some(requests), _) => Limit::Requests(requests),
            (None, Some(seconds)) => Limit::Time(seconds.into()),
            (None, None) => Limit::Time(SECONDS_DEFAULT),
        };
        let pairs = pairs(options)?;
        let targets: Result<Vec<_>, _> = pairs
            .into_iter()
            .map(|(link_id, host)| Target::new(options, link_id, &host))
            .collect();
        Ok(Self {
            address: options.to,
            tls: tls(options)?,
            protocol,
            connections: options.connections.get() as usize,
            streams: options.streams.get() as usize,
            handshake,
            upload: options.upload,
            rate: options.rate,
            limit,
            idle: options.idle.unwrap_or(0) as usize,
            targets: targets?,
        })
    }

    /// The target of the `index`th connection: each in turn.
    pub(super) fn target(&self, index: usize) -> &Target {
        &self.targets[index % self.targets.len()]
    }

    /// TLS for one worker. Tickets are its own: of one server rustls keeps eight, which is fewer than there are
    /// workers, and a ticket serves once.
    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        if self.handshake != Some(Handshake::Resumed) {
            return Arc::clone(&self.tls);
        }
        let mut config = ClientConfig::clone(&self.tls);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Arc::new(config)
    }

    /// Bytes that a connection reads at once. Those that are to be held should cost little.
    pub(super) fn read_bytes(&self) -> usize {
        if self.idle > 0 { 1 } else { READ_BYTES }
    }
}

impl Target {
    fn new(options: &BenchOptions, link_id: Option<LinkId>, host: &str) -> Result<Self, PlanError> {
        let header = match (options.no_proxy_header, link_id) {
            (true, _) => Header::Absent,
            (false, Some(link_id)) => Header::link(link_id.get()),
            (false, None) => Header::without_link(),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| PlanError::Options(format!("`{host}` is no host name")))?;
        let request = Request::builder().method(options.method.clone());
        let path = options.path.as_str();
        let request = match options.protocol {
            BenchProtocol::H1 => request.uri(path).header(HOST, host),
            BenchProtocol::H2 => {
                let uri = Uri::builder()
                    .scheme("https")
                    .authority(host)
                    .path_and_query(path);
                request.version(Version::HTTP_2).uri(uri.build()?)
            }
        };
        let (head, ()) = request.body(())?.into_parts();
        Ok(Self {
            header: header.bytes(),
            name,
            head,
        })
    }
}

fn tls(options: &BenchOptions) -> Result<Arc<ClientConfig>, PlanError> {
    let identity = options.identity.as_deref();
    let mut provider = aws_lc_rs::default_provider();
    if options.x25519 {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    }
    let versions = rustls::ALL_VERSIONS;
    let mut config = Tls::with_provider(&options.ca, identity, versions, provider)?.config();
    config.alpn_protocols = vec![options.protocol.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Link ids with host names.
fn pairs(options: &BenchOptions) -> Result<Vec<(Option<LinkId>, String)>, PlanError> {
    if let Some(path) = &options.routes {
        return routes(path);
    }
    let (links, hosts) = (&options.link_id, &options.host);
    if hosts.is_empty() {
        let text = "which host? --host NAME, or --routes FILE";
        return Err(PlanError::Options(text.to_owned()));
    }
    match (links.len(), hosts.len()) {
        (0, _) => Ok(hosts.iter().map(|host| (None, host.clone())).collect()),
        (1, _) => Ok(hosts
            .iter()
            .map(|host| (Some(links[0]), host.clone()))
            .collect()),
        (_, 1) => Ok(links
            .iter()
            .map(|link| (Some(*link), hosts[0].clone()))
            .collect()),
        (links_given, hosts_given) if links_given == hosts_given => {
            let pairs = links.iter().zip(hosts);
            Ok(pairs
                .map(|(link, host)| (Some(*link), host.clone()))
                .collect())
        }
        (links_given, hosts_given) => Err(PlanError::Options(format!(
            "{links_given} link ids and {hosts_given} hosts: as many of each, or one of either"
        ))),
    }
}

/// The part of a route file that says who may go where.
#[derive(Debug, Deserialize)]
struct RouteFile {
    accounts: Vec<Account>,
}

#[derive(Debug, Deserialize)]
struct Account {
    hosts: Vec<String>,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Debug, Deserialize)]
struct Link {
    link_id: LinkId,
    state: String,
}

fn routes(path: &Path) -> Result<Vec<(Option<LinkId>, String)>, PlanError> {
    let text = std::fs::read_to_string(path).map_err(|source| PlanError::Read {
        path: path.to_owned(),
        source,
    })?;
    let file: RouteFile = toml::from_str(&text).map_err(|source| PlanError::Routes {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut pairs = Vec::new();
    for account in &file.accounts {
        let approved = account.links.iter().filter(|link| link.state == "Approved");
        for link in approved {
            pairs.extend(
                account
                    .hosts
                    .iter()
                    .map(|host| (Some(link.link_id), host.clone())),
            );
        }
    }
    if pairs.is_empty() {
        let text = format!("{} has no approved link", path.display());
        return Err(PlanError::Options(text));
    }
    Ok(pairs)
}

const SECONDS_DEFAULT: Duration = Duration::from_secs(10);
// Limit: one request a microsecond is far more than one thread can send.
const RATE_MAX: f64 = 1_000_000.0;
// Limit: names that tickets are kept for.
const SESSIONS: usize = 1024;
// Limit: four TLS records; rustls by itself reads 4 KiB at a time.
const READ_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::stack::accounts;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: BenchOptions,
    }

    fn options(more: &[&str]) -> BenchOptions {
        let line = ["bench", "--to", "127.0.0.1:1", "--ca", "ca.crt"];
        Line::try_parse_from(line.iter().chain(more))
            .unwrap()
            .options
    }

    #[test]
    fn one_host_serves_all_link_ids_and_one_link_id_all_hosts() {
        for more in [
            ["--link-id", "1", "--link-id", "2", "--host", "a"],
            ["--link-id", "1", "--host", "a", "--host", "b"],
        ] {
            assert_eq!(pairs(&options(&more)).unwrap().len(), 2);
        }
    }

    #[test]
    fn as_many_link_ids_as_hosts_are_pairs() {
        let options = options(&[
            "--link-id",
            "1",
            "--host",
            "a",
            "--link-id",
            "2",
            "--host",
            "b",
        ]);
        let second = pairs(&options).unwrap().remove(1);
        assert_eq!(second, (Some(LinkId::new(2)), "b".to_owned()));
    }

    #[test]
    fn a_route_file_gives_its_approved_links_with_all_hosts_of_their_account() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.toml");
        std::fs::write(&path, accounts::routes()).unwrap();
        let pairs = routes(&path).unwrap();
        let link = LinkId::new(accounts::LINK_A);
        assert!(pairs.contains(&(Some(link), accounts::HOST_A.to_owned())));
        assert!(pairs.contains(&(Some(link), accounts::HOST_A_ARCHIVE.to_owned())));
        let pending = Some(LinkId::new(accounts::LINK_PENDING));
        assert!(pairs.iter().all(|(link, _)| *link != pending));
    }

    #[test]
    fn streams_need_http2() {
        let options = options(&["--host", "a", "--streams", "2"]);
        let error = Plan::new(&options).unwrap_err();
        assert!(error.to_string().contains("HTTP/1.1"), "{error}");
    }
}
