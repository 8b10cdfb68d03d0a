//! The access tokens that an identity stand-in gave out, for a vault to check.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::Clock;

// Limit: tokens remembered; then those that ended are forgotten, and if none did, all.
const TOKENS_MAX: usize = 100_000;

/// What a token is good for.
#[derive(Debug, Clone)]
struct Grant {
    resource: String,
    not_after: i64,
}

/// Why a token is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It was not given out here, was revoked, or is for something else.
    Unknown,
    /// Its lifetime is over.
    Expired,
}

/// Tokens and the moment each ends.
#[derive(Debug)]
pub struct Tokens {
    clock: Arc<Clock>,
    given: Mutex<Given>,
}

#[derive(Debug)]
struct Given {
    lifetime: i64,
    grants: HashMap<String, Grant>,
}

impl Tokens {
    /// None yet; those to come end `lifetime` seconds after they were given out.
    pub fn new(clock: Arc<Clock>, lifetime: i64) -> Self {
        Self {
            clock,
            given: Mutex::new(Given {
                lifetime,
                grants: HashMap::new(),
            }),
        }
    }

    /// Sets the lifetime in seconds of tokens to come.
    pub fn set_lifetime(&self, seconds: i64) {
        self.given().lifetime = seconds;
    }

    /// A new token for `resource`, and the Unix time of its end.
    pub fn give(&self, resource: &str) -> (String, i64) {
        let now = self.clock.now();
        let mut given = self.given();
        if given.grants.len() >= TOKENS_MAX {
            given.grants.retain(|_, grant| grant.not_after > now);
            if given.grants.len() >= TOKENS_MAX {
                given.grants.clear();
            }
        }
        let token = format!("stand-in.{}", uuid::Uuid::new_v4().simple());
        let not_after = now.saturating_add(given.lifetime);
        let resource = resource.to_owned();
        let grant = Grant {
            resource,
            not_after,
        };
        given.grants.insert(token.clone(), grant);
        (token, not_after)
    }

    /// Whether `token` is good for `resource` now.
    pub fn check(&self, token: &str, resource: &str) -> Result<(), Unusable> {
        let now = self.clock.now();
        let given = self.given();
        let grant = given.grants.get(token).ok_or(Unusable::Unknown)?;
        if grant.resource != resource {
            Err(Unusable::Unknown)
        } else if grant.not_after <= now {
            Err(Unusable::Expired)
        } else {
            Ok(())
        }
    }

    /// Makes all tokens unusable although their lifetime is not over, as a revoked session does.
    pub fn revoke(&self) {
        self.given().grants.clear();
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_resource_until_its_end() {
        let clock = Arc::new(Clock::default());
        let tokens = Tokens::new(Arc::clone(&clock), 60);
        let (token, _) = tokens.give("https://vault.azure.net");
        let check = |resource| tokens.check(&token, resource);
        assert_eq!(check("https://vault.azure.net"), Ok(()));
        assert_eq!(
            check("https://database.windows.net"),
            Err(Unusable::Unknown)
        );
        clock.set_ahead(60);
        assert_eq!(check("https://vault.azure.net"), Err(Unusable::Expired));
        clock.set_ahead(0);
        tokens.revoke();
        assert_eq!(check("https://vault.azure.net"), Err(Unusable::Unknown));
    }
}
