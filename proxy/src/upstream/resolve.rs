//! Keeps the addresses of names current, each name for itself. No request ever waits for it.
//!
//! | what happens | what follows |
//! |---|---|
//! | an answer | its addresses are the name's; asked again shortly before its TTL is over |
//! | none, or one without an address | the last addresses stay; asked again after a pause |
//! | no good one for `stale_max` | the name has no address |
//!
//! Connections never move; those to addresses that are gone take no new requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use backon::{BackoffBuilder as _, ConstantBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::future::join_all;
use jiff::Timestamp;
use postern_api::HostName;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::metrics::{DnsOutcome, Metrics};
use crate::routing::ClusterName;
use crate::upstream::cluster::{Cluster, Clusters};
use crate::upstream::dns::{Answer, Ask, AskError, Dns};
use crate::upstream::endpoints::Place;

/// Whom to ask, and for how long to do without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name servers; none are those of the system.
    pub servers: Vec<SocketAddr>,
    /// How long addresses stay in use while their name cannot be resolved.
    pub stale_max: Duration,
}

/// A cluster whose names cannot be resolved, and that has no address beside them.
#[derive(Debug, thiserror::Error)]
#[error("upstream.clusters.{cluster}.endpoints: {name} is not resolved: {error}")]
pub struct Unresolved {
    cluster: ClusterName,
    name: HostName,
    error: AskError,
}

/// Resolves the names of all clusters.
pub struct Resolver<A = Dns> {
    clusters: Arc<Clusters>,
    ask: A,
    options: ArcSwap<Options>,
    metrics: Arc<Metrics>,
}

impl<A: Ask> Resolver<A> {
    /// For the names of `clusters`, whichever these are at the time. Asks nobody yet.
    pub fn new(ask: A, clusters: Arc<Clusters>, options: Options, metrics: Arc<Metrics>) -> Self {
        Self {
            clusters,
            ask,
            options: ArcSwap::from_pointee(options),
            metrics,
        }
    }

    /// From now on these hold.
    pub fn set_options(&self, options: Options) {
        self.options.store(Arc::new(options));
    }

    /// Resolves the names in `clusters` that nobody has resolved yet, so that none is without an address when it takes
    /// the place of another. An error if one would be.
    pub async fn prepare(&self, clusters: &[Cluster], options: &Options) -> Result<(), Unresolved> {
        join_all(clusters.iter().map(|cluster| async move {
            let known = self.clusters.get(&cluster.name);
            let is_known = |place| {
                known
                    .as_ref()
                    .is_some_and(|known| known.has_resolved(place))
            };
            let names = cluster.targets().iter().enumerate();
            let asked = names.map(|(target, named)| async move {
                let Place::Name(name, port) = &named.place else {
                    return Ok(());
                };
                if is_known(&named.place) {
                    return Ok(());
                }
                let answer = self.ask.ask(name, &options.servers).await;
                let answer = answer.map_err(|error| Unresolved {
                    cluster: cluster.name.clone(),
                    name: name.clone(),
                    error,
                })?;
                cluster.resolved(target, &answer.at(*port));
                Ok(())
            });
            // One name that is resolved, or an address, is enough to serve.
            let asked: Vec<Result<(), Unresolved>> = join_all(asked).await;
            if asked.iter().any(Result::is_ok) {
                Ok(())
            } else {
                asked.into_iter().collect()
            }
        }))
        .await
        .into_iter()
        .collect()
    }

    /// Resolves for ever.
    pub async fn run(self: &Arc<Self>) {
        let mut changes = self.clusters.changes();
        let mut followed: Vec<(Arc<Cluster>, JoinSet<()>)> = Vec::new();
        loop {
            changes.mark_unchanged();
            let current: Vec<_> = self.clusters.iter().collect();
            followed.retain(|(cluster, _)| {
                let same = |it: &Arc<Cluster>| Arc::ptr_eq(it, cluster);
                let stays = current.iter().any(same);
                if !stays {
                    self.metrics.dns().end(cluster.name.as_str());
                }
                stays
            });
            for cluster in current {
                if !followed.iter().any(|(it, _)| Arc::ptr_eq(it, &cluster)) {
                    let names = self.follow(&cluster);
                    followed.push((cluster, names));
                }
            }
            // We hold the clusters, so there will always be another change to wait for.
            let _ = changes.changed().await;
        }
    }

    /// Follows each name of a cluster until the set is dropped.
    fn follow(self: &Arc<Self>, cluster: &Arc<Cluster>) -> JoinSet<()> {
        let mut names = JoinSet::new();
        for (target, named) in cluster.targets().iter().enumerate() {
            let Place::Name(name, port) = &named.place else {
                continue;
            };
            self.metrics.dns().begin(cluster.name.as_str());
            let follower = Follower {
                resolver: Arc::clone(self),
                cluster: Arc::clone(cluster),
                target,
                name: name.clone(),
                port: *port,
                answered: Instant::now(),
                pauses: None,
            };
            names.spawn(follower.run());
        }
        names
    }
}

/// Follows one name of one cluster.
struct Follower<A> {
    resolver: Arc<Resolver<A>>,
    cluster: Arc<Cluster>,
    target: usize,
    name: HostName,
    port: u16,
    /// When the newest good answer came, or when we began.
    answered: Instant,
    /// The pauses between lookups, if the last one failed.
    pauses: Option<ExponentialBackoff>,
}

impl<A: Ask> Follower<A> {
    async fn run(mut self) {
        loop {
            let options = self.resolver.options.load_full();
            let asked = self.resolver.ask.ask(&self.name, &options.servers).await;
            self.count(&asked);
            let pause = match asked {
                Ok(answer) => self.good(&answer),
                Err(error) => self.failed(&error, options.stale_max),
            };
            sleep(pause).await;
        }
    }

    fn count(&self, asked: &Result<Answer, AskError>) {
        let (dns, cluster) = (self.resolver.metrics.dns(), self.cluster.name.as_str());
        dns.looked_up(cluster, DnsOutcome::of(asked));
        if asked.is_ok() {
            dns.answered(cluster, Timestamp::now());
        }
    }

    /// Takes an answer, and gives the time until the next lookup.
    fn good(&mut self, answer: &Answer) -> Duration {
        self.answered = Instant::now();
        if self.pauses.take().is_some() {
            tracing::info!(cluster = %self.cluster.name, name = %self.name, "ingress name is resolved again");
        }
        self.put(&answer.at(self.port));
        within(answer.ttl.clamp(TTL_MIN, TTL_MAX))
    }

    /// Does without an answer, and gives the time until the next lookup. Logged once, until there is one again.
    fn failed(&mut self, error: &AskError, stale_max: Duration) -> Duration {
        let (cluster, name) = (&self.cluster.name, &self.name);
        if self.pauses.is_none() {
            tracing::warn!(%cluster, %name, %error, "ingress name is not resolved; its last addresses stay in use");
        }
        let pause = self.pauses.get_or_insert_with(pauses).next();
        let pause = pause.unwrap_or(PAUSE_MAX);
        let left = stale_max.saturating_sub(self.answered.elapsed());
        let endpoints = self.cluster.endpoints();
        let Some(known) = endpoints.answer(self.target) else {
            self.put(&[]);
            return pause;
        };
        if !left.is_zero() {
            return pause.min(left);
        }
        if !known.is_empty() {
            tracing::error!(%cluster, %name, %error, "ingress name is not resolved for too long; its addresses are given up");
            self.put(&[]);
        }
        pause
    }

    /// These are the name's addresses, in order.
    fn put(&self, addresses: &[SocketAddr]) {
        let before = self.cluster.endpoints();
        let before = before.answer(self.target);
        if before == Some(addresses) {
            return;
        }
        let known = before.unwrap_or_default();
        let missing_in = |some: &[SocketAddr], all: &[SocketAddr]| -> Vec<_> {
            let missing = all.iter().filter(|address| !some.contains(address));
            missing.map(ToString::to_string).collect()
        };
        let added = missing_in(known, addresses);
        let removed = missing_in(addresses, known);
        if !(added.is_empty() && removed.is_empty()) {
            let (cluster, name) = (&self.cluster.name, &self.name);
            let (added, removed) = (added.join(", "), removed.join(", "));
            tracing::info!(%cluster, %name, added, removed, "ingress addresses changed");
        }
        self.cluster.resolved(self.target, addresses);
        self.resolver.clusters.announce();
    }
}

/// A moment in the last tenth of this time, another one on each machine, so that a fleet does not ask at once.
fn within(ttl: Duration) -> Duration {
    let tenth = ttl / 10;
    let mut jitter = ConstantBuilder::default()
        .with_delay(tenth)
        .with_jitter()
        .build();
    // From one to two tenths.
    tenth * 8 + jitter.next().unwrap_or(tenth)
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .without_max_times()
        .with_jitter()
        .build()
}

// Limit: a TTL of 0 must not make us ask all the time.
const TTL_MIN: Duration = Duration::from_secs(1);
// Limit: whatever the TTL says, an ingress that moved is found after this.
const TTL_MAX: Duration = Duration::from_mins(5);
// With jitter up to twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
