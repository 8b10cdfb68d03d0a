//! Authorization: what a link may reach.
//!
//! [`Authorizer`] asks the route cache about (link id, SNI) and gives a [`Permit`] or a [`Refusal`]; there
//! is no third thing, and nobody else can make a permit. An error of the lookup is never a yes.
//!
//! Authorization goes on while the connection lives: [`Authorizer::watch`] tells when earlier answers may no
//! longer hold, and the connection then asks again, until it gets an answer.
//!
//! Invariant: nothing reaches `upstream` without a [`Permit`].

use std::sync::Arc;

use postern_api::{CustomerKey, HostName, LinkId, ServiceKind};

use crate::metrics::Metrics;
use crate::outcome::Refusal;
use crate::request::limits::{Limiters, Limits};
use crate::routing::{ClusterName, Lookup, Route, RouteCache, RouteWatch};

/// What to do with the answers of account routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Enforce them. The only mode for production.
    Enforce,
    /// Decide, log `would_refuse`, and let through to the route of the host.
    Audit,
    /// Do not look up: send everything to this cluster, which validates link id and client by itself.
    Forward(ClusterName),
}

impl Mode {
    /// The word in configuration, `/ready` and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Forward(_) => "forward",
        }
    }
}

/// Proof that a connection is authorized: this link may reach this host.
#[derive(Debug)]
pub struct Permit {
    link_id: LinkId,
    host: HostName,
    cluster: ClusterName,
    route: Option<Arc<Route>>,
    limits: Limits,
    would_refuse: Option<Refusal>,
}

impl Permit {
    /// The private endpoint.
    pub fn link_id(&self) -> LinkId {
        self.link_id
    }

    /// The one host that requests of this connection may name.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// Where requests go.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The account that the host belongs to; none in mode `forward`.
    pub fn account(&self) -> Option<&str> {
        self.route.as_deref().map(|route| &*route.account().name)
    }

    /// What kind of service answers; decides how error bodies look.
    pub fn kind(&self) -> Option<ServiceKind> {
        self.route.as_deref().map(Route::kind)
    }

    /// Whether the account's customer-managed key is known to be out of reach.
    pub fn customer_key_lost(&self) -> bool {
        self.route
            .as_deref()
            .is_some_and(|route| route.customer_key() == CustomerKey::NotAccessible)
    }

    /// The request rates of this link and its account.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// In mode `audit`: what `enforce` would have answered.
    pub fn would_refuse(&self) -> Option<Refusal> {
        self.would_refuse
    }

    fn same_route(&self, other: &Self) -> bool {
        self.cluster == other.cluster
            && self.route == other.route
            && self.would_refuse == other.would_refuse
    }
}

/// What a connection may do now.
pub type Standing = Result<Arc<Permit>, Refusal>;

/// What came of asking again for an open connection.
#[derive(Debug)]
pub enum Reconsidered {
    /// It may do what it did.
    Same,
    /// It may do this now.
    Changed(Standing),
    /// Account routing did not say. What the connection was told before goes on holding, and it has to ask again.
    Unanswered,
}

/// Asks account routing and decides.
pub struct Authorizer {
    mode: Mode,
    cache: RouteCache,
    limiters: Limiters,
    metrics: Arc<Metrics>,
}

impl Authorizer {
    /// Decides by what `cache` says.
    pub fn new(mode: Mode, cache: RouteCache, metrics: Arc<Metrics>) -> Self {
        Self {
            mode,
            cache,
            limiters: Limiters::default(),
            metrics,
        }
    }

    /// The mode.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// The cache in front of account routing.
    pub fn cache(&self) -> &RouteCache {
        &self.cache
    }

    /// Tells when an answer about `link_id` may no longer hold: watch first, then ask. None if nobody is asked.
    pub fn watch(&self, link_id: LinkId) -> Option<RouteWatch> {
        match self.mode {
            Mode::Forward(_) => None,
            Mode::Enforce | Mode::Audit => Some(self.cache.watch(link_id)),
        }
    }

    /// Whether `link_id` may reach `host`.
    pub async fn authorize(&self, link_id: LinkId, host: &HostName) -> Standing {
        if let Mode::Forward(cluster) = &self.mode {
            return Ok(self.permit(link_id, host, cluster.clone(), None, None));
        }
        let found = self.look_up(link_id, host).await;
        let standing = self.decide(link_id, host, found).await;
        if let Some(refusal) = standing.as_ref().ok().and_then(|one| one.would_refuse()) {
            self.metrics.would_refuse(refusal);
        }
        standing
    }

    /// The same for an operator who wants to know: what is held counts as asked for by nobody.
    pub async fn explain(&self, link_id: LinkId, host: &HostName) -> Standing {
        if matches!(self.mode, Mode::Forward(_)) {
            return self.authorize(link_id, host).await;
        }
        let found = self.look(link_id, host).await;
        self.decide(link_id, host, found).await
    }

    async fn decide(
        &self,
        link_id: LinkId,
        host: &HostName,
        found: Result<Arc<Route>, Refusal>,
    ) -> Standing {
        let refusal = match found {
            Ok(route) => {
                let cluster = route.cluster().clone();
                return Ok(self.permit(link_id, host, cluster, Some(route), None));
            }
            Err(refusal) => refusal,
        };
        if self.mode == Mode::Audit {
            // Let through to the route of the host, if any account has it.
            if let Ok(Some(route)) = self.cache.get_host(host).await {
                let cluster = route.cluster().clone();
                return Ok(self.permit(link_id, host, cluster, Some(route), Some(refusal)));
            }
        }
        Err(refusal)
    }

    /// Asks again for an open connection.
    pub async fn reconsider(
        &self,
        link_id: LinkId,
        host: &HostName,
        before: &Standing,
    ) -> Reconsidered {
        let now = self.authorize(link_id, host).await;
        match (before, &now) {
            // An outage of account routing ends no connection that it once approved.
            (_, Err(Refusal::LookupFailed)) => Reconsidered::Unanswered,
            (Ok(old), Ok(new)) if old.same_route(new) => self.same(link_id, host),
            (Err(old), Err(new)) if old == new => self.same(link_id, host),
            _ => Reconsidered::Changed(now),
        }
    }

    /// The answer is what it was. If it was given only because there was no newer one, that says nothing.
    fn same(&self, link_id: LinkId, host: &HostName) -> Reconsidered {
        if self.cache.is_current(link_id, host) {
            Reconsidered::Same
        } else {
            Reconsidered::Unanswered
        }
    }

    /// Why a request for `other` cannot be served on a connection for another host: 421 if this link may
    /// reach it through the same certificate, 403 otherwise.
    pub async fn judge_other_host(
        &self,
        link_id: LinkId,
        other: &HostName,
        same_certificate: bool,
    ) -> Refusal {
        let asked = same_certificate && !matches!(self.mode, Mode::Forward(_));
        misdirected(asked && self.look_up(link_id, other).await.is_ok())
    }

    /// The same for an operator who wants to know.
    pub async fn explain_other_host(
        &self,
        link_id: LinkId,
        other: &HostName,
        same_certificate: bool,
    ) -> Refusal {
        let asked = same_certificate && !matches!(self.mode, Mode::Forward(_));
        misdirected(asked && self.look(link_id, other).await.is_ok())
    }

    /// What is held, which counts as asked for by nobody; if nothing is, it is asked for.
    async fn look(&self, link_id: LinkId, host: &HostName) -> Result<Arc<Route>, Refusal> {
        match self.cache.peek(link_id, host) {
            Some(lookup) => route_of(lookup),
            None => self.look_up(link_id, host).await,
        }
    }

    async fn look_up(&self, link_id: LinkId, host: &HostName) -> Result<Arc<Route>, Refusal> {
        match self.cache.get(link_id, host).await {
            Ok(lookup) => route_of(lookup),
            Err(error) => {
                tracing::warn!(%link_id, %host, %error, "route lookup failed");
                Err(Refusal::LookupFailed)
            }
        }
    }

    fn permit(
        &self,
        link_id: LinkId,
        host: &HostName,
        cluster: ClusterName,
        route: Option<Arc<Route>>,
        would_refuse: Option<Refusal>,
    ) -> Arc<Permit> {
        let limits = match &route {
            Some(route) => self.limiters.of(link_id, route),
            None => Limits::default(),
        };
        Arc::new(Permit {
            link_id,
            host: host.clone(),
            cluster,
            route,
            limits,
            would_refuse,
        })
    }
}

fn misdirected(reachable: bool) -> Refusal {
    if reachable {
        Refusal::Misdirected
    } else {
        Refusal::HostNotPermitted
    }
}

fn route_of(lookup: Lookup) -> Result<Arc<Route>, Refusal> {
    match lookup {
        Lookup::Found(route) => Ok(route),
        Lookup::NotApproved(_) => Err(Refusal::LinkNotApproved),
        Lookup::Unknown => Err(Refusal::LinkUnknown),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::sync::watch;

    use super::*;
    use crate::access_log::AccessLog;
    use crate::config;
    use crate::routing::{Account, Answer, LookupError, RouteCacheOptions, RouteSource};

    /// Account routing that is out of reach.
    #[derive(Default)]
    struct Unreachable(watch::Sender<u64>);

    #[async_trait]
    impl RouteSource for Unreachable {
        async fn lookup(&self, _: LinkId, _: &HostName) -> Result<Answer, LookupError> {
            Err(LookupError::source_failed(std::io::Error::other(
                "unreachable",
            )))
        }

        async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
            Err(LookupError::source_failed(std::io::Error::other(
                "unreachable",
            )))
        }

        fn generation(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }

    fn authorizer(mode: Mode) -> Authorizer {
        let cache = RouteCache::new(
            Arc::new(Unreachable::default()),
            RouteCacheOptions::default(),
        );
        let metrics = Metrics::new(config::Mode::Enforce, AccessLog::off()).unwrap();
        Authorizer::new(mode, cache, Arc::new(metrics))
    }

    #[tokio::test]
    async fn an_outage_of_account_routing_is_never_a_yes() {
        let host = HostName::parse("a.example").unwrap();
        for mode in [Mode::Enforce, Mode::Audit] {
            let standing = authorizer(mode).authorize(LinkId::new(7), &host).await;
            assert_eq!(standing.unwrap_err(), Refusal::LookupFailed);
        }
        let (status, word) = match Refusal::LookupFailed.answer() {
            crate::outcome::Answer::Status { status, .. } => {
                (status, Refusal::LookupFailed.label())
            }
            answer => panic!("{answer:?}"),
        };
        assert_eq!((status.as_u16(), word), (503, "lookup_failed"));
    }

    #[tokio::test]
    async fn an_outage_ends_no_connection_that_was_approved_before() {
        let host = HostName::parse("a.example").unwrap();
        let authorizer = authorizer(Mode::Enforce);
        let link_id = LinkId::new(7);
        let approved = authorizer.permit(link_id, &host, ClusterName::new("dicom"), None, None);
        assert!(matches!(
            authorizer.reconsider(link_id, &host, &Ok(approved)).await,
            Reconsidered::Unanswered
        ));
    }

    /// Account routing that answers while it is told what.
    struct Told {
        answer: Mutex<Option<Lookup>>,
        generation: watch::Sender<u64>,
    }

    #[async_trait]
    impl RouteSource for Told {
        async fn lookup(&self, _: LinkId, _: &HostName) -> Result<Answer, LookupError> {
            let answer = self.answer.lock().unwrap().clone();
            answer.map(Answer::from).ok_or(LookupError::BrokenOff)
        }

        async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
            Err(LookupError::BrokenOff)
        }

        fn generation(&self) -> watch::Receiver<u64> {
            self.generation.subscribe()
        }
    }

    fn found(host: &HostName) -> Lookup {
        let account = Account {
            name: "a".into(),
            kind: ServiceKind::Dicom,
            cluster: ClusterName::new("dicom"),
            hosts: Arc::new([host.clone()]),
            customer_key: CustomerKey::Accessible,
            limit: None,
        };
        Lookup::Found(Arc::new(Route::new(Arc::new(account), None)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_answer_after_everything_may_have_changed_is_asked_for_again_until_there_is_a_new_one()
     {
        let host = HostName::parse("a.example").unwrap();
        let link_id = LinkId::new(7);
        let source = Arc::new(Told {
            answer: Mutex::new(Some(found(&host))),
            generation: watch::Sender::new(1),
        });
        let asked: Arc<dyn RouteSource> = Arc::<Told>::clone(&source);
        let cache = RouteCache::new(asked, RouteCacheOptions::default());
        let metrics = Arc::new(Metrics::new(config::Mode::Enforce, AccessLog::off()).unwrap());
        let authorizer = Authorizer::new(Mode::Enforce, cache, metrics);
        let standing = authorizer.authorize(link_id, &host).await;
        let again = async || authorizer.reconsider(link_id, &host, &standing).await;
        assert!(matches!(again().await, Reconsidered::Same));

        let mut watch = authorizer.watch(link_id).unwrap();
        *source.answer.lock().unwrap() = None;
        source.generation.send_modify(|number| *number += 1);
        for _ in 0..5 {
            assert!(matches!(again().await, Reconsidered::Unanswered));
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        // It answers again: asked in the background first, which wakes the connection.
        *source.answer.lock().unwrap() = Some(Lookup::Unknown);
        assert!(matches!(again().await, Reconsidered::Unanswered));
        watch.changed().await;
        let Reconsidered::Changed(now) = again().await else {
            panic!("not revoked")
        };
        assert_eq!(now.unwrap_err(), Refusal::LinkUnknown);
    }

    #[tokio::test]
    async fn another_host_is_never_misdirected_to_while_account_routing_is_out_of_reach() {
        let other = HostName::parse("b.example").unwrap();
        let refusal = authorizer(Mode::Enforce)
            .judge_other_host(LinkId::new(7), &other, true)
            .await;
        assert_eq!(refusal, Refusal::HostNotPermitted);
    }
}
