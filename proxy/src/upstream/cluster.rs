//! Clusters: groups of ingress endpoints that serve the same thing under one name.
//!
//! Endpoints take turns; one that failed is passed over until its health check or a connection succeeds
//! again, unless all have failed, in which case every one is tried. Addresses may change, and clusters come and go,
//! while requests are under way: each request sees one set, whole.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};
use rustls::pki_types::ServerName;
use tokio::sync::watch;

use crate::routing::ClusterName;
use crate::upstream::Traffic;
use crate::upstream::connect::ConnectError;
use crate::upstream::endpoints::{Endpoints, Place, Target};
use crate::upstream::pool::Key;

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

/// A group of ingress endpoints.
#[derive(Debug)]
pub struct Cluster {
    /// Its name in routes and configuration.
    pub name: ClusterName,
    /// The logical name: SNI towards the ingress, and what its certificate must be for.
    pub server_name: ServerName<'static>,
    /// Which HTTP to speak.
    pub protocol: Protocol,
    /// Whose connections are its own: another number, if another name was verified.
    pub number: u64,
    targets: Vec<Target>,
    endpoints: ArcSwap<Endpoints>,
    turn: AtomicUsize,
    no_http1: AtomicBool,
}

impl Cluster {
    /// A cluster of these targets. Their addresses are presumed up; names have none yet.
    pub fn new(
        name: ClusterName,
        server_name: ServerName<'static>,
        protocol: Protocol,
        targets: impl IntoIterator<Item = impl Into<Target>>,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let targets: Vec<Target> = targets.into_iter().map(Into::into).collect();
        Self {
            name,
            server_name,
            protocol,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            endpoints: ArcSwap::from_pointee(Endpoints::configured(&targets)),
            targets,
            turn: AtomicUsize::new(0),
            no_http1: AtomicBool::new(false),
        }
    }

    /// Takes over what is known of the same cluster as it was configured before.
    #[must_use]
    fn succeeding(mut self, before: &Self) -> Self {
        let known = before.endpoints.load();
        let known = known.moved(&before.targets, &self.targets);
        // And of what was resolved for it already.
        let own = self.endpoints();
        let targets = 0..self.targets.len();
        let endpoints = targets.fold(known, |all, target| match own.answer(target) {
            Some(addresses) if all.answer(target).is_none() => {
                all.with(&self.targets, target, addresses)
            }
            _ => all,
        });
        self.endpoints = ArcSwap::from_pointee(endpoints);
        if self.server_name == before.server_name {
            self.number = before.number;
            self.no_http1 = AtomicBool::new(before.no_http1.load(Ordering::Relaxed));
        }
        self
    }

    fn is_configured_as(&self, other: &Self) -> bool {
        (&self.name, &self.server_name) == (&other.name, &other.server_name)
            && self.protocol == other.protocol
            && self.targets == other.targets
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

    /// Whose turn it is. Try its candidates; not to be held while waiting.
    pub fn turn(&self) -> (Guard<Arc<Endpoints>>, usize) {
        let endpoints = self.endpoints.load();
        let turn = if endpoints.len() > 1 {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        (endpoints, turn)
    }

    /// The endpoints in the order in which to try them.
    #[cfg(test)]
    pub fn candidates(&self) -> Vec<SocketAddr> {
        let (endpoints, turn) = self.turn();
        endpoints.candidates(turn).collect()
    }

    /// What the configuration names.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The endpoints as they are now.
    pub fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.load_full()
    }

    /// Whether it is known which addresses that is, if only that it is none.
    pub fn has_resolved(&self, place: &Place) -> bool {
        let target = self
            .targets
            .iter()
            .position(|target| target.place == *place);
        target.is_some_and(|target| self.endpoints.load().answer(target).is_some())
    }

    /// One of the targets has these addresses now. Those that stay keep their state.
    pub fn resolved(&self, target: usize, addresses: &[SocketAddr]) {
        self.endpoints
            .rcu(|endpoints| endpoints.with(&self.targets, target, addresses));
    }

    /// Whether a pooled connection may serve its requests.
    pub fn uses(&self, key: &Key) -> bool {
        self.number == key.cluster && self.endpoints.load().has(key.endpoint)
    }

    /// Every endpoint, and whether it is not known to be down.
    pub fn states(&self) -> impl Iterator<Item = (SocketAddr, bool)> + use<> {
        let states: Vec<_> = self.endpoints.load().states().collect();
        states.into_iter()
    }

    /// Whether any endpoint is not known to be down.
    pub fn any_up(&self) -> bool {
        self.endpoints.load().states().any(|(_, up)| up)
    }

    /// A connection to the endpoint succeeded.
    pub fn succeeded(&self, address: SocketAddr) {
        if self.endpoints.load().mark(address, false) {
            tracing::info!(cluster = %self.name, endpoint = %address, "ingress endpoint is up");
        }
    }

    /// A connection to the endpoint failed. Logged once, until one succeeds again.
    pub fn failed(&self, address: SocketAddr, error: &ConnectError) {
        let cause = error.source().map(ToString::to_string);
        if self.endpoints.load().mark(address, true) {
            tracing::warn!(cluster = %self.name, endpoint = %address, %error, cause, "ingress endpoint is down");
        } else {
            tracing::debug!(cluster = %self.name, endpoint = %address, %error, cause, "still down");
        }
    }
}

/// All clusters, by name.
#[derive(Debug)]
pub struct Clusters {
    current: ArcSwap<Vec<Arc<Cluster>>>,
    changes: watch::Sender<()>,
}

impl Clusters {
    /// The clusters as they are now. Not to be held while waiting.
    pub fn load(&self) -> Guard<Arc<Vec<Arc<Cluster>>>> {
        self.current.load()
    }

    /// The cluster of that name.
    pub fn get(&self, name: &ClusterName) -> Option<Arc<Cluster>> {
        find(&self.load(), name).cloned()
    }

    /// Every cluster.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Cluster>> + use<> {
        let all = self.current.load_full();
        (0..all.len()).map(move |n| Arc::clone(&all[n]))
    }

    /// These take the place of all there are. A cluster that is configured as before goes on as it is; one that is not
    /// takes over the addresses that stay, with their state. Requests under way end with the cluster they began with.
    pub fn replace(&self, clusters: impl IntoIterator<Item = Cluster>) {
        let before = self.current.load();
        let clusters = clusters.into_iter();
        let clusters = clusters.map(|cluster| match find(&before, &cluster.name) {
            Some(before) if before.is_configured_as(&cluster) => Arc::clone(before),
            Some(before) => Arc::new(cluster.succeeding(before)),
            None => Arc::new(cluster),
        });
        self.current.store(Arc::new(clusters.collect()));
        self.announce();
    }

    /// Some addresses have changed: who follows [`Clusters::changes`] hears of it.
    pub fn announce(&self) {
        self.changes.send_replace(());
    }

    /// Tells when clusters or their addresses have changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

/// The cluster of that name among them.
pub fn find<'a>(clusters: &'a [Arc<Cluster>], name: &ClusterName) -> Option<&'a Arc<Cluster>> {
    // A handful: comparing is cheaper than hashing.
    clusters.iter().find(|cluster| cluster.name == *name)
}

impl FromIterator<Cluster> for Clusters {
    fn from_iter<T: IntoIterator<Item = Cluster>>(clusters: T) -> Self {
        Self {
            current: ArcSwap::from_pointee(clusters.into_iter().map(Arc::new).collect()),
            changes: watch::Sender::new(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 443))
    }

    fn cluster(name: &str, endpoints: &[u8]) -> Cluster {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let endpoints = endpoints.iter().map(|&last| address(last));
        Cluster::new(ClusterName::new("dicom"), name, Protocol::Auto, endpoints)
    }

    #[test]
    fn endpoints_take_turns() {
        let cluster = cluster("a.example", &[1, 2]);
        assert_eq!(cluster.candidates(), [address(1), address(2)]);
        assert_eq!(cluster.candidates(), [address(2), address(1)]);
    }

    #[test]
    fn an_endpoint_that_fails_during_the_search_is_not_tried_again_in_it() {
        let cluster = cluster("a.example", &[1, 2]);
        let (endpoints, turn) = cluster.turn();
        let mut tried = Vec::new();
        for address in endpoints.candidates(turn) {
            cluster.failed(address, &ConnectError::Alpn);
            tried.push(address);
        }
        assert_eq!(tried, [address(1), address(2)]);
    }

    #[test]
    fn an_endpoint_that_failed_is_tried_last_until_it_succeeds() {
        let cluster = cluster("a.example", &[1, 2]);
        cluster.failed(address(1), &ConnectError::Alpn);
        for _ in 0..3 {
            assert_eq!(cluster.candidates(), [address(2), address(1)]);
        }
        cluster.failed(address(2), &ConnectError::Alpn);
        assert_eq!(cluster.candidates().len(), 2);
        assert!(!cluster.any_up());
        cluster.succeeded(address(1));
        assert!(cluster.any_up());
    }

    #[test]
    fn clusters_that_are_replaced_keep_what_is_known_of_what_stays() {
        let clusters: Clusters = [cluster("a.example", &[1, 2])].into_iter().collect();
        let name = ClusterName::new("dicom");
        let first = clusters.get(&name).unwrap();
        first.failed(address(2), &ConnectError::Alpn);
        let changes = clusters.changes();
        clusters.replace([cluster("a.example", &[1, 2])]);
        assert!(changes.has_changed().unwrap());
        assert!(Arc::ptr_eq(&first, &clusters.get(&name).unwrap()));
        clusters.replace([cluster("a.example", &[2, 3])]);
        let second = clusters.get(&name).unwrap();
        assert_eq!(second.number, first.number);
        assert_eq!(second.candidates(), [address(3), address(2)]);
        clusters.replace([cluster("b.example", &[2, 3])]);
        let third = clusters.get(&name).unwrap();
        assert_ne!(third.number, first.number, "another name is verified");
        clusters.replace([]);
        assert!(clusters.get(&name).is_none());
        assert_eq!(first.candidates(), [address(1), address(2)]);
    }
}
