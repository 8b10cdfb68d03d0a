//! The way to the ingress: our identity, whom we trust, and the clusters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_api::HostName;
use postern_chassis::{Section, Setting, options, period};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::routes::{Endpoint, Host};

options! {
    /// Mutual TLS to the ingress.
    pub struct UpstreamOptions {
        /// Required. Where our client certificate is: a certificate store, a folder of PEM files, or one PEM file.
        pub identity: PathBuf = PathBuf::new() => r#""certs/client""#;
        /// Required. Where the certificate authorities are that sign the ingress's certificates.
        pub trust: PathBuf = PathBuf::new() => r#""certs/trust""#;
        /// Time for TCP connect and TLS handshake together.
        #[serde(with = "period")]
        pub connect_timeout: Duration = Duration::from_secs(3);
        /// Time until the response head.
        #[serde(with = "period")]
        pub response_timeout: Duration = Duration::from_mins(1);
        /// Time a pooled connection may wait for its next request.
        #[serde(with = "period")]
        pub idle_timeout: Duration = Duration::from_mins(1);
        /// Age at which a connection takes no more requests, so that a changed address is noticed.
        #[serde(with = "period")]
        pub connection_age_max: Duration = Duration::from_mins(10);
        /// Time that a connection may stay busy after the certificate or trust it was made with was replaced; then it is
        /// cut. After it, nothing depends on the old ones any more.
        #[serde(with = "period")]
        pub superseded_timeout: Duration = Duration::from_hours(24);
        /// Requests that broke before their answer and may be repeated: so many are, on each thread, in one burst.
        pub retry_reserve: u32 = 1000;
        /// Of a hundred requests, so many more may be repeated once the reserve is used up. 0 to 100.
        pub retry_percent: u32 = 20;
        /// The zone that we are in. Endpoints of the same zone are tried first, others when none of it is up.
        pub zone: Option<String> = None => r#""1""#;
        /// Time that addresses stay in use while their name cannot be resolved; then the name has none.
        #[serde(with = "period")]
        pub dns_stale_max: Duration = Duration::from_hours(1);
        /// Name servers, "ip:port", for the names of endpoints. None are those of the system, in /etc/resolv.conf.
        pub dns_servers: Vec<SocketAddr> = Vec::new() => r#"["168.63.129.16:53"]"#;
        /// The clusters that routes name: one section each, under its name (a-z, 0-9, - and _). At least one.
        pub clusters: BTreeMap<String, ClusterOptions> = BTreeMap::new() => "dicom";
    }
}

options! {
    /// One group of ingress endpoints.
    pub struct ClusterOptions {
        /// Required. TLS server name, and the name that the ingress's certificate must have.
        pub name: HostName = unset_name() => r#""z1-weu-aks.internal.example""#;
        /// Required. Addresses, "ip:port", or full names whose addresses are looked up as long as their answers hold,
        /// "name:port". With its zone: { address = "name:port", zone = "1" }.
        pub endpoints: Vec<ClusterEndpoint> = Vec::new() => r#"["z1-weu-aks.internal.example:443"]"#;
        /// "auto" is HTTP/2 where the ingress speaks it, but HTTP/1.1 for large answers; "http1" or "h2" is that alone.
        pub protocol: UpstreamProtocol = UpstreamProtocol::Auto;
    }
}

/// Which HTTP is spoken to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// What ALPN negotiates, HTTP/2 preferred; HTTP/1.1 for large answers.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    H2,
}

impl Setting for UpstreamProtocol {}

/// Where endpoints of a cluster are: an address or a name, and a port; and in which zone, if that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEndpoint {
    /// The address or name, and the port.
    pub address: Endpoint,
    /// The zone.
    pub zone: Option<String>,
}

/// The same where the zone is told.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Zoned {
    address: Endpoint,
    zone: String,
}

impl Setting for ClusterEndpoint {}

impl fmt::Display for ClusterEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Serialize for ClusterEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = self.address.clone();
        match self.zone.clone() {
            None => address.serialize(serializer),
            Some(zone) => Zoned { address, zone }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClusterEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;

        impl<'de> Visitor<'de> for TextOrTable {
            type Value = ClusterEndpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""host:port" or { address = "host:port", zone = "1" }"#)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ClusterEndpoint, E> {
                let address = text.parse().map_err(E::custom)?;
                Ok(ClusterEndpoint {
                    address,
                    zone: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClusterEndpoint, A::Error> {
                let table = MapAccessDeserializer::new(map);
                let Zoned { address, zone } = Zoned::deserialize(table)?;
                if !is_zone(&zone) {
                    return Err(A::Error::custom(ZONE));
                }
                Ok(ClusterEndpoint {
                    address,
                    zone: Some(zone),
                })
            }
        }

        deserializer.deserialize_any(TextOrTable)
    }
}

/// Azure's zones are "1", "2" and "3"; elsewhere they have names.
fn is_zone(zone: &str) -> bool {
    (1..=ZONE_BYTES_MAX).contains(&zone.len()) && zone.bytes().all(|b| b.is_ascii_graphic())
}

const ZONE: &str = "a zone is a word of at most 63 bytes, such as \"1\"";
// Limit: a name is a word in the configuration, never sent anywhere.
const ZONE_BYTES_MAX: usize = 63;
// Limit: as many as resolvers commonly use of /etc/resolv.conf, and some.
const DNS_SERVERS_MAX: usize = 8;

// Limit: more requests than one thread has on their way at a time.
const RETRY_RESERVE_MAX: u32 = 100_000;
// Limit: each cluster has its own health checks, pools and metric children; a region has about ten.
const CLUSTERS_MAX: usize = 64;
// Limit: as many addresses as one DNS answer over UDP reasonably holds; each has its own pool and health check.
const ENDPOINTS_MAX: usize = 64;
// Limit: a name is a metric label and a log word.
const CLUSTER_NAME_BYTES_MAX: usize = 63;

/// Stands for "not set". RFC 2606 section 2 reserves `.invalid`, so that no operator means it.
pub(super) fn unset_name() -> HostName {
    HostName::parse("unset.invalid").unwrap_or_else(|_| unreachable!("a constant host name"))
}

impl UpstreamOptions {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for location in [&mut self.identity, &mut self.trust] {
            if !location.as_os_str().is_empty() {
                *location = folder.join(&location);
            }
        }
    }

    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.require("identity", !self.identity.as_os_str().is_empty(), || {
            "is required: where our client certificate is, as in \"certs/client\"".into()
        });
        at.require("trust", !self.trust.as_os_str().is_empty(), || {
            "is required: where the ingress's certificate authorities are, as in \"certs/trust\""
                .into()
        });
        at.wait("connect_timeout", self.connect_timeout);
        at.wait("response_timeout", self.response_timeout);
        at.wait("idle_timeout", self.idle_timeout);
        at.wait("connection_age_max", self.connection_age_max);
        at.wait("superseded_timeout", self.superseded_timeout);
        at.require("zone", self.zone.as_deref().is_none_or(is_zone), || {
            ZONE.into()
        });
        at.wait("dns_stale_max", self.dns_stale_max);
        at.require(
            "dns_servers",
            self.dns_servers.len() <= DNS_SERVERS_MAX,
            || format!("more than {DNS_SERVERS_MAX} name servers"),
        );
        for server in &self.dns_servers {
            at.port("dns_servers", *server);
        }
        at.within("retry_reserve", self.retry_reserve, 0..=RETRY_RESERVE_MAX);
        at.within("retry_percent", self.retry_percent, 0..=100);
        at.require("clusters", !self.clusters.is_empty(), || {
            "at least one cluster is required, as in [upstream.clusters.dicom]".into()
        });
        at.require("clusters", self.clusters.len() <= CLUSTERS_MAX, || {
            format!(
                "{} clusters are more than {CLUSTERS_MAX}",
                self.clusters.len()
            )
        });
        for (name, cluster) in &self.clusters {
            let mut at = at.under("clusters");
            let well_formed = !name.is_empty()
                && name.len() <= CLUSTER_NAME_BYTES_MAX
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
            at.require(name, well_formed, || {
                format!("a cluster's name has 1 to {CLUSTER_NAME_BYTES_MAX} of a-z, 0-9, - and _")
            });
            cluster.validate(at.under(name));
        }
    }
}

impl ClusterOptions {
    fn validate(&self, mut at: Section<'_>) {
        at.require("name", self.name != unset_name(), || {
            "is required: the name that the ingress's certificate has".into()
        });
        at.require("endpoints", !self.endpoints.is_empty(), || {
            "is required: at least one name or address, as in [\"10.1.0.5:443\"]".into()
        });
        at.require("endpoints", self.endpoints.len() <= ENDPOINTS_MAX, || {
            format!(
                "{} endpoints are more than {ENDPOINTS_MAX}",
                self.endpoints.len()
            )
        });
        for endpoint in &self.endpoints {
            let nowhere = matches!(endpoint.address.host, Host::Address(ip) if ip.is_unspecified());
            at.require("endpoints", !nowhere, || {
                format!("`{endpoint}` is not an address that can be connected to")
            });
        }
    }
}
