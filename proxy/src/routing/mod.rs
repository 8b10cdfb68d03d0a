//! What a link may reach: the answer of account routing, where it comes from, and how it is remembered.
//!
//! * [`Route`]: what an approved (link id, host) may reach. [`Lookup`]: every definite answer.
//! * [`RouteSource`]: who answers. `file`: a TOML file that is read again when it changes.
//!   `remote`: the account-routing service, asked over HTTP/2 and followed by its changes.
//! * [`Change`]: what a source that knows of changes brings the cache up to date with.
//! * `cache`: [`RouteCache`], the only way the data plane asks.
//!
//! Invariant: there is no default route. Whoever holds an `Arc<Route>` got it for this very link and host from
//! a source that calls the link approved, except through the two functions that say "whoever asks".

mod cache;
mod file;
mod none;
mod remote;

use std::borrow::Borrow;
use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postern_api::{CustomerKey, HostName, LinkId, LinkState, ServiceKind};
use tokio::sync::watch;

pub use cache::{
    Held, HeldAccount, Judgement, RouteCache, RouteCacheOptions, RouteCacheStats, RouteWatch,
};
pub use file::{Reload, RouteFile, RouteFileError};
pub use none::NoRoutes;
pub use remote::{ClientOptions, Contact, RemoteOptions, RemoteRoutes};

/// What a link may reach: one account, on one cluster, under these hosts. Shared by `Arc`.
///
/// Two routes are equal when they allow the same; so a changed source can be told from a changed route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    account: Arc<Account>,
    link_limit: Option<RequestRate>,
}

/// The part of a route that all links of an account share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name of the account. For logs and limits, never for an answer to a client.
    pub name: Arc<str>,
    /// What kind of service it is.
    pub kind: ServiceKind,
    /// The ingress cluster it lives on.
    pub cluster: ClusterName,
    /// Every host name of the account.
    pub hosts: Arc<[HostName]>,
    /// Whether the customer's own key can be used.
    pub customer_key: CustomerKey,
    /// The limit of all the account's links together on one instance.
    pub limit: Option<RequestRate>,
}

/// Requests per second.
pub type RequestRate = NonZeroU32;

impl Route {
    /// The route of a link to `account`, with the link's own limit, if it has one.
    pub const fn new(account: Arc<Account>, link_limit: Option<RequestRate>) -> Self {
        Self {
            account,
            link_limit,
        }
    }

    /// The account with everything its links share.
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What kind of service answers.
    pub fn kind(&self) -> ServiceKind {
        self.account.kind
    }

    /// The ingress cluster to forward to.
    pub fn cluster(&self) -> &ClusterName {
        &self.account.cluster
    }

    /// Every host that this link may reach.
    pub fn hosts(&self) -> &Arc<[HostName]> {
        &self.account.hosts
    }

    /// Whether the customer's own key can be used.
    pub fn customer_key(&self) -> CustomerKey {
        self.account.customer_key
    }

    /// Requests per second of all the account's links together.
    pub fn account_limit(&self) -> Option<RequestRate> {
        self.account.limit
    }

    /// Requests per second of this link.
    pub const fn link_limit(&self) -> Option<RequestRate> {
        self.link_limit
    }

    /// Whether `host`, in any letter case, is one of the hosts. Allocates nothing.
    pub fn reaches(&self, host: &[u8]) -> bool {
        self.account.hosts.iter().any(|name| name.matches(host))
    }
}

/// The name of an ingress cluster, as the configuration's `upstream.clusters` has it. Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The name, as it is written in the configuration. Whether there is such a cluster is for its user to know.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ClusterName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A definite answer of account routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The link is approved for the host.
    Found(Arc<Route>),
    /// The link is known for the host's account, in a state that is not `Approved`.
    NotApproved(LinkState),
    /// No account knows this link for this host.
    Unknown,
}

/// A definite answer, and how long it may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The answer.
    pub lookup: Lookup,
    /// How long it may be used without asking again; the cache's own times hold if they are shorter, or if this
    /// is none.
    pub lifetime: Option<Duration>,
}

impl From<Lookup> for Answer {
    /// An answer that may be used for as long as the cache uses any.
    fn from(lookup: Lookup) -> Self {
        Self {
            lookup,
            lifetime: None,
        }
    }
}

/// One link of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its link id.
    pub id: LinkId,
    /// Its state; what no longer exists is `Disconnected`.
    pub state: LinkState,
    /// Requests per second of this link on one instance.
    pub limit: Option<RequestRate>,
}

/// A change of one account, with all that is needed to know the answers after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The account as it is now; none if it no longer exists.
    pub account: Option<Arc<Account>>,
    /// Hosts that were the account's before and are no more.
    pub removed_hosts: Vec<HostName>,
    /// The links whose answers may differ: all of the account's if the account itself changed.
    pub links: Vec<Link>,
}

/// Why there is no definite answer. Cloned to everybody who waited for the same lookup.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LookupError {
    /// The source did not answer in time.
    #[error("account routing did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// The source could not answer.
    #[error("account routing could not answer")]
    Source(#[source] Arc<dyn Error + Send + Sync>),
    /// The lookup ended without an answer, because the process stops or the source panicked.
    #[error("the lookup was broken off")]
    BrokenOff,
    /// The routes changed again and again while the lookup was under way.
    #[error("routes change faster than they can be looked up")]
    Unsettled,
    /// As many lookups are under way as are allowed.
    #[error("{0} lookups are under way, which is the most allowed")]
    TooMany(usize),
}

impl LookupError {
    /// The error of a source, with its cause.
    pub fn source_failed(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Source(Arc::new(cause))
    }
}

/// Who knows the routes.
#[async_trait]
pub trait RouteSource: Send + Sync + 'static {
    /// What `link` may reach as `host`.
    async fn lookup(&self, link: LinkId, host: &HostName) -> Result<Answer, LookupError>;

    /// The route of `host`, whoever asks, or [`Lookup::Unknown`]. Only for enforcement mode `audit`, which lets
    /// refused requests pass.
    async fn lookup_host(&self, host: &HostName) -> Result<Answer, LookupError>;

    /// A number that grows after all answers given before may have ceased to hold: the file was read again, or
    /// changes were missed. What is known one by one is told by [`RouteCache::apply`] instead.
    ///
    /// Whoever sees the new number gets only answers that hold under it.
    fn generation(&self) -> watch::Receiver<u64>;
}
