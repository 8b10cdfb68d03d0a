//! Clusters: groups of ingress endpoints that serve the same thing under one name.
//!
//! Endpoints take turns; one that failed is passed over until its health check or a connection succeeds
//! again, unless all have failed, in which case every one is tried.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::pki_types::ServerName;

use crate::routing::ClusterName;
use crate::upstream::Traffic;
use crate::upstream::connect::ConnectError;

/// Which HTTP to speak with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// What ALPN gives, HTTP/2 preferred.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

// Limit: endpoints of a cluster; the configuration allows no more. One bit each while one is chosen.
const ENDPOINTS_MAX: usize = u64::BITS as usize;

/// A group of ingress endpoints.
#[derive(Debug)]
pub struct Cluster {
    /// Its name in routes and configuration.
    pub name: ClusterName,
    /// The logical name: SNI towards the ingress, and what its certificate must be for.
    pub server_name: ServerName<'static>,
    /// Which HTTP to speak.
    pub protocol: Protocol,
    endpoints: Vec<Endpoint>,
    turn: AtomicUsize,
    no_http1: AtomicBool,
}

#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    down: AtomicBool,
}

impl Cluster {
    /// A cluster of these endpoints, all presumed up.
    pub fn new(
        name: ClusterName,
        server_name: ServerName<'static>,
        protocol: Protocol,
        endpoints: &[SocketAddr],
    ) -> Self {
        let endpoint = |&address| Endpoint {
            address,
            down: AtomicBool::new(false),
        };
        Self {
            name,
            server_name,
            protocol,
            endpoints: endpoints.iter().map(endpoint).collect(),
            turn: AtomicUsize::new(0),
            no_http1: AtomicBool::new(false),
        }
    }

    /// Which HTTP to speak where we may choose.
    pub fn protocol_for(&self, traffic: Traffic) -> Protocol {
        let by_http1 = traffic.bulk
            && self.protocol == Protocol::Auto
            && !self.no_http1.load(Ordering::Relaxed);
        if by_http1 {
            Protocol::Http1
        } else {
            self.protocol
        }
    }

    /// An endpoint refused HTTP/1.1: none is asked for it any more, but for upgrades.
    pub fn speaks_no_http1(&self) {
        tracing::info!(cluster = %self.name, "speaks no HTTP/1.1; large answers go by HTTP/2 as well");
        self.no_http1.store(true, Ordering::Relaxed);
    }

    /// The endpoints in the order in which to try them: those that are up, in turn, then the others.
    pub fn candidates(&self) -> impl Iterator<Item = SocketAddr> {
        let count = self.endpoints.len();
        let first = if count > 1 {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        // As they are when the search begins: one that fails meanwhile is not tried a second time.
        let down = self.endpoints.iter().enumerate().fold(0, |bits, (n, e)| {
            bits | (u64::from(e.down.load(Ordering::Relaxed)) << (n % ENDPOINTS_MAX))
        });
        let with = move |wanted: bool| {
            (0..count)
                .map(move |n| first.wrapping_add(n) % count)
                .filter(move |n| (down >> (n % ENDPOINTS_MAX) & 1 == 1) == wanted)
                .map(|n| self.endpoints[n].address)
        };
        with(false).chain(with(true))
    }

    /// Every endpoint.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address)
    }

    /// Every endpoint, and whether it is not known to be down.
    pub fn states(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let state =
            |endpoint: &Endpoint| (endpoint.address, !endpoint.down.load(Ordering::Relaxed));
        self.endpoints.iter().map(state)
    }

    /// Whether any endpoint is not known to be down.
    pub fn any_up(&self) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| !endpoint.down.load(Ordering::Relaxed))
    }

    /// A connection to the endpoint succeeded.
    pub fn succeeded(&self, address: SocketAddr) {
        if self.mark(address, false) {
            tracing::info!(cluster = %self.name, endpoint = %address, "ingress endpoint is up");
        }
    }

    /// A connection to the endpoint failed. Logged once, until one succeeds again.
    pub fn failed(&self, address: SocketAddr, error: &ConnectError) {
        let cause = error.source().map(ToString::to_string);
        if self.mark(address, true) {
            tracing::warn!(cluster = %self.name, endpoint = %address, %error, cause, "ingress endpoint is down");
        } else {
            tracing::debug!(cluster = %self.name, endpoint = %address, %error, cause, "still down");
        }
    }

    /// Whether that was news.
    fn mark(&self, address: SocketAddr, down: bool) -> bool {
        let mut endpoints = self.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.address == address);
        endpoint.is_some_and(|endpoint| endpoint.down.swap(down, Ordering::Relaxed) != down)
    }
}

/// All clusters, by name.
#[derive(Debug, Default)]
pub struct Clusters(Vec<Cluster>);

impl Clusters {
    /// The cluster of that name.
    pub fn get(&self, name: &ClusterName) -> Option<&Cluster> {
        // A handful: comparing is cheaper than hashing.
        self.0.iter().find(|cluster| cluster.name == *name)
    }

    /// Every cluster.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.0.iter()
    }
}

impl FromIterator<Cluster> for Clusters {
    fn from_iter<T: IntoIterator<Item = Cluster>>(clusters: T) -> Self {
        Self(clusters.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let endpoints = ["10.0.0.1:443", "10.0.0.2:443"].map(|text| text.parse().unwrap());
        let name = ServerName::try_from("ingress.internal.example").unwrap();
        Cluster::new(ClusterName::new("dicom"), name, Protocol::Auto, &endpoints)
    }

    fn order(cluster: &Cluster) -> Vec<String> {
        cluster
            .candidates()
            .map(|address| address.ip().to_string())
            .collect()
    }

    #[test]
    fn endpoints_take_turns() {
        let cluster = cluster();
        assert_eq!(order(&cluster), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(order(&cluster), ["10.0.0.2", "10.0.0.1"]);
    }

    #[test]
    fn an_endpoint_that_fails_during_the_search_is_not_tried_again_in_it() {
        let cluster = cluster();
        let mut tried = Vec::new();
        for address in cluster.candidates() {
            cluster.failed(address, &ConnectError::Alpn);
            tried.push(address.ip().to_string());
        }
        assert_eq!(tried, ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn an_endpoint_that_failed_is_tried_last_until_it_succeeds() {
        let cluster = cluster();
        let first = "10.0.0.1:443".parse().unwrap();
        cluster.failed(first, &ConnectError::Alpn);
        for _ in 0..3 {
            assert_eq!(order(&cluster), ["10.0.0.2", "10.0.0.1"]);
        }
        cluster.failed("10.0.0.2:443".parse().unwrap(), &ConnectError::Alpn);
        assert_eq!(order(&cluster).len(), 2);
        assert!(!cluster.any_up());
        cluster.succeeded(first);
        assert!(cluster.any_up());
    }
}
