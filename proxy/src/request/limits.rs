//! Request rates of links and accounts.
//!
//! One token bucket (GCRA) for each limited link and account of the whole process, shared by all their
//! connections and kept as long as one of them lives. Taking a token is one compare-and-swap.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use postern_api::LinkId;

use crate::routing::Route;

/// The buckets that a request of one permit takes from.
#[derive(Default)]
pub struct Limits {
    link: Option<Arc<Bucket>>,
    account: Option<Arc<Bucket>>,
}

struct Bucket {
    rate: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
}

impl Limits {
    /// Takes a token of each bucket. `false`: over one of the limits.
    pub fn admit(&self) -> bool {
        [&self.link, &self.account]
            .into_iter()
            .flatten()
            .all(|bucket| bucket.limiter.check().is_ok())
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits")
            .field("link", &self.link.as_ref().map(|bucket| bucket.rate))
            .field("account", &self.account.as_ref().map(|bucket| bucket.rate))
            .finish()
    }
}

/// All buckets in use.
#[derive(Default)]
pub struct Limiters(Mutex<HashMap<Key, Weak<Bucket>>>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Link(LinkId, Arc<str>),
    Account(Arc<str>),
}

impl Limiters {
    /// The buckets for requests that come by `link_id` for `route`. Called once a connection, not a request.
    pub fn of(&self, link_id: LinkId, route: &Route) -> Limits {
        let account = &route.account().name;
        let link = route.link_limit();
        Limits {
            link: link.map(|rate| self.bucket(Key::Link(link_id, Arc::clone(account)), rate)),
            account: route
                .account_limit()
                .map(|rate| self.bucket(Key::Account(Arc::clone(account)), rate)),
        }
    }

    fn bucket(&self, key: Key, rate: NonZeroU32) -> Arc<Bucket> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets
            .get(&key)
            .and_then(Weak::upgrade)
            .filter(|b| b.rate == rate)
        {
            return bucket;
        }
        let limiter = RateLimiter::direct(Quota::per_second(rate));
        let bucket = Arc::new(Bucket { rate, limiter });
        buckets.insert(key, Arc::downgrade(&bucket));
        // Limit: dead entries never outnumber the live ones by more than a doubling.
        if buckets.len() == buckets.capacity() {
            buckets.retain(|_, bucket| bucket.strong_count() > 0);
        }
        bucket
    }
}
