//! What the service says, made into what the data plane goes by. The service is taken to be hostile: an answer that
//! does not fit its question, or names a cluster that we do not have, is no answer.
//!
//! Invariant: a route that leaves here is for a host and a link that were asked for, on a cluster that is configured.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_api::{HostName, LinkId, LinkState, routing as wire};

use crate::metrics::{DistrustReason, Metrics};
use crate::routing::{Account, Answer, Change, ClusterName, Link, Lookup, Route};

/// Judges answers.
pub(super) struct Answers {
    clusters: ArcSwap<BTreeSet<ClusterName>>,
    /// Clusters that were named and are not configured, each of which was told once.
    strangers: Mutex<HashSet<String>>,
    metrics: Arc<Metrics>,
}

/// An account with its links.
pub(super) type AccountLinks = (Arc<Account>, Vec<Link>);

/// Why an answer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrusted {
    /// It cannot be read.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// The route is on a cluster that is not configured.
    #[error("route names a cluster that is not configured: `{0}`")]
    Cluster(String),
    /// The account does not have the host that was asked for.
    #[error("the answer is about other hosts than `{0}`")]
    Host(HostName),
    /// The answer is about another link.
    #[error("the answer is about another link than {}", .0.map_or_else(|| "none".to_owned(), |id| id.to_string()))]
    Link(Option<LinkId>),
    /// The answer contradicts itself about the state of the link.
    #[error("the answer says both yes and no: the link is {0}")]
    State(LinkState),
    /// A change of one account comes with the routes of another.
    #[error("the change is of one account and brings another")]
    Account,
    /// An account without hosts, or with more than there can be, or a name that is none.
    #[error("the account is out of bounds")]
    Bounds,
    /// The answer knows less than the changes that were seen before it was asked for.
    #[error("the answer is older than what is known: sequence {answer}, known {known}")]
    Behind {
        /// The newest change that the answer knows of.
        answer: u64,
        /// The newest change that we know of.
        known: u64,
    },
}

impl Distrusted {
    /// The word in metrics.
    pub const fn reason(&self) -> DistrustReason {
        match self {
            Self::Malformed(_) => DistrustReason::Malformed,
            Self::Cluster(_) => DistrustReason::Cluster,
            Self::Host(_) | Self::Link(_) | Self::State(_) | Self::Account => {
                DistrustReason::Contradiction
            }
            Self::Bounds => DistrustReason::Bounds,
            Self::Behind { .. } => DistrustReason::Behind,
        }
    }
}

impl Answers {
    /// Routes may live on these clusters.
    pub(super) fn new(
        clusters: impl IntoIterator<Item = ClusterName>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            clusters: ArcSwap::from_pointee(clusters.into_iter().collect()),
            strangers: Mutex::default(),
            metrics,
        }
    }

    /// Routes may live on these clusters from now on.
    pub(super) fn know(&self, clusters: impl IntoIterator<Item = ClusterName>) {
        self.clusters
            .store(Arc::new(clusters.into_iter().collect()));
    }

    /// The answer to whether `link`, or whoever asks, may reach `host`, asked when change `known` was the newest.
    pub(super) fn lookup(
        &self,
        link: Option<LinkId>,
        host: &HostName,
        known: u64,
        body: &[u8],
    ) -> Result<Answer, Distrusted> {
        self.count(self.judge_lookup(link, host, known, body))
    }

    fn judge_lookup(
        &self,
        link: Option<LinkId>,
        host: &HostName,
        known: u64,
        body: &[u8],
    ) -> Result<Answer, Distrusted> {
        let answer: wire::LookupAnswer =
            serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        if answer.sequence < known {
            let answer = answer.sequence;
            return Err(Distrusted::Behind { answer, known });
        }
        let lookup = match answer.answer {
            wire::Answer::Unknown => Lookup::Unknown,
            wire::Answer::NotApproved {
                state: LinkState::Approved,
            } => return Err(Distrusted::State(LinkState::Approved)),
            wire::Answer::NotApproved { state } => Lookup::NotApproved(state),
            wire::Answer::Found {
                account,
                link: answered,
            } => {
                if answered.map(|link| link.link_id) != link {
                    return Err(Distrusted::Link(link));
                }
                if let Some(link) = answered.filter(|link| link.state != LinkState::Approved) {
                    return Err(Distrusted::State(link.state));
                }
                let account = self.judge_account(account)?;
                if !account.hosts.contains(host) {
                    return Err(Distrusted::Host(host.clone()));
                }
                let limit = answered.and_then(|link| link.requests_per_second);
                Lookup::Found(Arc::new(Route::new(Arc::new(account), limit)))
            }
        };
        Ok(Answer {
            lookup,
            lifetime: Some(Duration::from_secs(answer.max_age.into())),
        })
    }

    /// A change and its place in the log.
    ///
    /// If the account as it is now cannot be used here, because it is on a cluster that is not configured, nothing of
    /// it can be reached any more.
    pub(super) fn change(&self, text: &[u8]) -> Result<(wire::Change, Change), Distrusted> {
        self.count(self.judge_change(text))
    }

    fn judge_change(&self, text: &[u8]) -> Result<(wire::Change, Change), Distrusted> {
        let change: wire::Change =
            serde_json::from_slice(text).map_err(|error| malformed(&error))?;
        let mut removed_hosts = change.removed_hosts.clone();
        let account = match change.route.clone() {
            None => None,
            Some(route) if route.account != change.account => return Err(Distrusted::Account),
            Some(route) => {
                let hosts = route.hosts.clone();
                let account = self.usable_account(route)?;
                if account.is_none() {
                    removed_hosts.extend(hosts);
                }
                account
            }
        };
        if removed_hosts.len() > 2 * HOSTS_MAX {
            return Err(Distrusted::Bounds);
        }
        let links = change.links.iter().map(link).collect();
        let ours = Change {
            account,
            removed_hosts,
            links,
        };
        Ok((change, ours))
    }

    /// Where the change log stands.
    pub(super) fn head(&self, text: &[u8]) -> Result<wire::Head, Distrusted> {
        self.count(serde_json::from_slice(text).map_err(|error| malformed(&error)))
    }

    /// An account with its links, of a snapshot. None if it is on a cluster that is not configured.
    pub(super) fn account_links(&self, text: &[u8]) -> Result<Option<AccountLinks>, Distrusted> {
        self.count(self.judge_account_links(text))
    }

    fn judge_account_links(&self, text: &[u8]) -> Result<Option<AccountLinks>, Distrusted> {
        let line: wire::AccountLinks =
            serde_json::from_slice(text).map_err(|error| malformed(&error))?;
        let links = line.links.iter().map(link).collect();
        let account = self.usable_account(line.account)?;
        Ok(account.map(|account| (account, links)))
    }

    /// The account; none, which is counted, if it is on a cluster that is not configured.
    fn usable_account(
        &self,
        route: wire::AccountRoute,
    ) -> Result<Option<Arc<Account>>, Distrusted> {
        match self.judge_account(route) {
            Ok(account) => Ok(Some(Arc::new(account))),
            Err(why @ Distrusted::Cluster(_)) => {
                let service = self.metrics.route_service();
                service.distrusted(why.reason());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn judge_account(&self, route: wire::AccountRoute) -> Result<Account, Distrusted> {
        let named = !route.account.is_empty() && route.account.len() <= ACCOUNT_NAME_BYTES_MAX;
        if !named || route.hosts.is_empty() || route.hosts.len() > HOSTS_MAX {
            return Err(Distrusted::Bounds);
        }
        // Ours, so that a million routes share one name.
        let clusters = self.clusters.load();
        let Some(cluster) = clusters.get(route.cluster.as_str()) else {
            self.tell_of(&route.cluster, &route.account);
            return Err(Distrusted::Cluster(
                route.cluster.chars().take(NAME_SHOWN_MAX).collect(),
            ));
        };
        Ok(Account {
            name: route.account.into(),
            kind: route.kind,
            cluster: cluster.clone(),
            hosts: route.hosts.into(),
            customer_key: route.customer_key,
            limit: route.requests_per_second,
        })
    }

    fn tell_of(&self, cluster: &str, account: &str) {
        let cluster: String = cluster.chars().take(NAME_SHOWN_MAX).collect();
        let mut strangers = self
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if strangers.len() < STRANGERS_MAX && strangers.insert(cluster.clone()) {
            tracing::error!(
                cluster,
                account,
                "route names a cluster that is not configured; it is not used"
            );
        }
    }

    /// Counts what is not taken, once where it is found.
    fn count<T>(&self, judged: Result<T, Distrusted>) -> Result<T, Distrusted> {
        judged.inspect_err(|why| self.metrics.route_service().distrusted(why.reason()))
    }
}

/// The account as it is written into a snapshot.
pub(super) fn to_wire(account: &Account) -> wire::AccountRoute {
    wire::AccountRoute {
        account: account.name.as_ref().to_owned(),
        kind: account.kind,
        hosts: account.hosts.to_vec(),
        cluster: account.cluster.as_str().to_owned(),
        customer_key: account.customer_key,
        requests_per_second: account.limit,
    }
}

/// A link as it is written into a snapshot.
pub(super) const fn link_to_wire(link: &Link) -> wire::Link {
    wire::Link {
        link_id: link.id,
        state: link.state,
        requests_per_second: link.limit,
    }
}

const fn link(link: &wire::Link) -> Link {
    Link {
        id: link.link_id,
        state: link.state,
        limit: link.requests_per_second,
    }
}

fn malformed(error: &serde_json::Error) -> Distrusted {
    // What was read is not repeated: it may be anything.
    let (line, column) = (error.line(), error.column());
    Distrusted::Malformed(format!("{:?} at {line}:{column}", error.classify()))
}

// Limit: account routing allows 16 hosts an account; what is several times more is no account.
const HOSTS_MAX: usize = 64;
// Limit: a workspace and an account have names of at most 24 bytes each.
const ACCOUNT_NAME_BYTES_MAX: usize = 128;
// Limit: what is told of in the log; more than there are clusters in a region.
const STRANGERS_MAX: usize = 64;
// Limit: as long as a cluster's name can be.
const NAME_SHOWN_MAX: usize = 63;
