//! Account routing: where routes come from, and how long an answer is good.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use postern_api::HostName;
use postern_chassis::{Section, Setting, options, period};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::upstream::unset_name;

options! {
    /// Where routes come from: a file, or the account-routing service. One of both is required unless mode = "forward".
    pub struct RouteOptions {
        /// The route file.
        pub file: Option<PathBuf> = None => r#""routes.toml""#;
        /// Time between looks at the file for a change.
        #[serde(with = "period")]
        pub reload_interval: Duration = Duration::from_secs(1);
        /// Time a revoked link's open connections get to end before they are cut.
        #[serde(with = "period")]
        pub revoked_timeout: Duration = Duration::from_secs(30);
        /// The account-routing service, in place of the file.
        pub service: Option<RouteServiceOptions> = None;
    }
}

options! {
    /// The account-routing service: `postern-control routing`. Asked over HTTP/2 and mutual TLS.
    pub struct RouteServiceOptions {
        /// Required. Where it listens, "host:port". Several are tried one after the other.
        pub endpoints: Vec<Endpoint> = Vec::new() => r#"["routing.internal.example:8450"]"#;
        /// Required. TLS server name, and the name that the service's certificate must have.
        pub name: HostName = unset_name() => r#""routing.internal.example""#;
        /// Where our client certificate is, if it is not upstream.identity.
        pub identity: Option<PathBuf> = None => r#""certs/client""#;
        /// Where the certificate authorities are that sign the service's certificates, if not at upstream.trust.
        pub trust: Option<PathBuf> = None => r#""certs/trust""#;
        /// Time for name resolution, TCP connect and TLS handshake together.
        #[serde(with = "period")]
        pub connect_timeout: Duration = Duration::from_secs(1);
        /// Time after which a lookup that is not answered is sent to another endpoint or connection, too. Under
        /// route_cache.lookup_timeout.
        #[serde(with = "period")]
        pub hedge_after: Duration = Duration::from_millis(250);
        /// Time without a sign of life after which the change stream is taken for broken: three of the service's heartbeats.
        #[serde(with = "period")]
        pub silence_max: Duration = Duration::from_secs(15);
        /// Where routes are kept for the next start, so that it can serve before the service answers. Used only while it
        /// is younger than route_cache.stale_max. Without it, none are kept.
        pub snapshot: Option<PathBuf> = None => r#""/var/lib/postern/routes.snapshot""#;
        /// Time between two writes of it. It is written only if something changed, and when the process ends.
        #[serde(with = "period")]
        pub snapshot_interval: Duration = Duration::from_mins(1);
    }
}

/// Where a server listens: a host name or an IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name or address.
    pub host: Host,
    /// The port, not 0.
    pub port: u16,
}

/// A host name or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(HostName),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host and a port, as in \"routing.internal.example:8450\" or \"[2001:db8::5]:8450\""
)]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let six = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let host = match (six, host.parse::<IpAddr>()) {
                (Some(six), _) => Host::Address(IpAddr::V6(six.parse().ok()?)),
                (None, Ok(four @ IpAddr::V4(_))) => Host::Address(four),
                // Which colon would be the port's?
                (None, Ok(IpAddr::V6(_))) => return None,
                (None, Err(_)) => Host::Name(HostName::parse(host).ok()?),
            };
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(Self { host, port })
        });
        parsed.ok_or_else(|| InvalidEndpoint(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Address(ip), port) => SocketAddr::new(*ip, port).fmt(f),
            (Host::Name(name), port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Setting for Endpoint {}

options! {
    /// The cache of routing answers.
    pub struct RouteCacheOptions {
        /// Time an answer "allowed" is fresh.
        #[serde(with = "period")]
        pub ttl: Duration = Duration::from_mins(1);
        /// Time after that in which it is still used while a fresh one is fetched. "0s" turns this off.
        #[serde(with = "period")]
        pub stale_while_revalidate: Duration = Duration::from_mins(1);
        /// Time an answer "not found" is kept. "0s" turns this off.
        #[serde(with = "period")]
        pub not_found_ttl: Duration = Duration::from_secs(5);
        /// Age up to which the last good answer is used when the source fails; then 503. Not under ttl.
        #[serde(with = "period")]
        pub stale_max: Duration = Duration::from_hours(1);
        /// Answers "allowed" kept, at about 175 bytes each; a sixteenth of it more for "not found".
        pub entries_max: u64 = 1_000_000;
        /// Time a lookup may take.
        #[serde(with = "period")]
        pub lookup_timeout: Duration = Duration::from_secs(2);
    }
}

// Limit: an entry is about 175 bytes beside its route, so ten million are 2 GB.
const ENTRIES: std::ops::RangeInclusive<u64> = 1..=10_000_000;

// Limit: each has a connection of its own; a region has a few.
const ENDPOINTS_MAX: usize = 16;

impl RouteOptions {
    pub(super) fn resolve(&mut self, folder: &Path) {
        let service = self.service.as_mut();
        let service = service.map(|it| [&mut it.identity, &mut it.trust, &mut it.snapshot]);
        let paths = [&mut self.file]
            .into_iter()
            .chain(service.into_iter().flatten());
        for path in paths.flatten() {
            *path = folder.join(&path);
        }
    }

    pub(super) fn validate(&self, required: bool, cache: &RouteCacheOptions, mut at: Section<'_>) {
        let is_one = self.file.is_some() || self.service.is_some();
        at.require("file", is_one || !required, || {
            "is required unless mode = \"forward\": where the route file is, as in \"routes.toml\"; or the section \
             [routes.service]"
                .into()
        });
        let are_both = self.file.is_some() && self.service.is_some();
        at.require("file", !are_both, || {
            "there is [routes.service], too; routes come from one of both".into()
        });
        at.wait("reload_interval", self.reload_interval);
        at.wait("revoked_timeout", self.revoked_timeout);
        if let Some(service) = &self.service {
            service.validate(cache, at.under("service"));
        }
    }
}

impl RouteServiceOptions {
    fn validate(&self, cache: &RouteCacheOptions, mut at: Section<'_>) {
        at.require("endpoints", !self.endpoints.is_empty(), || {
            "is required: at least one, as in [\"routing.internal.example:8450\"]".into()
        });
        at.require("endpoints", self.endpoints.len() <= ENDPOINTS_MAX, || {
            let count = self.endpoints.len();
            format!("{count} endpoints are more than {ENDPOINTS_MAX}")
        });
        at.require("name", self.name != unset_name(), || {
            "is required: the name that the service's certificate has".into()
        });
        at.wait("connect_timeout", self.connect_timeout);
        at.wait("hedge_after", self.hedge_after);
        at.require(
            "hedge_after",
            self.hedge_after < cache.lookup_timeout,
            || {
                format!(
                    "must be shorter than route_cache.lookup_timeout, which is {}",
                    period::show(cache.lookup_timeout)
                )
            },
        );
        at.wait("silence_max", self.silence_max);
        at.wait("snapshot_interval", self.snapshot_interval);
    }
}

impl RouteCacheOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.wait("ttl", self.ttl);
        at.require("stale_max", self.stale_max >= self.ttl, || {
            format!(
                "must not be shorter than route_cache.ttl, which is {}",
                period::show(self.ttl)
            )
        });
        at.within("entries_max", self.entries_max, ENTRIES);
        at.wait("lookup_timeout", self.lookup_timeout);
    }
}

#[cfg(test)]
mod tests;
