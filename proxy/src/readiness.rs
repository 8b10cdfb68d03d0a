//! Readiness: earned condition by condition, lost the moment one no longer holds or a drain begins.
//!
//! Each condition is held by the part that knows; nobody else can set it. Not ready says what is missing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether this process should be given traffic.
#[derive(Debug, Default)]
pub struct Readiness {
    draining: AtomicBool,
    conditions: Mutex<Vec<(&'static str, Arc<AtomicBool>)>>,
}

/// One thing that must hold. Does not, until it is set.
#[derive(Debug, Clone)]
pub struct Condition(Arc<AtomicBool>);

impl Condition {
    /// Sets whether it holds.
    pub fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::Relaxed);
    }
}

impl Readiness {
    /// Adds a condition under the name that an operator reads while it does not hold.
    pub fn condition(&self, name: &'static str) -> Condition {
        let holds = Arc::new(AtomicBool::new(false));
        let mut conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions.push((name, Arc::clone(&holds)));
        Condition(holds)
    }

    /// The names of the conditions that do not hold.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .filter(|(_, holds)| !holds.load(Ordering::Relaxed))
            .map(|(name, _)| *name)
            .collect()
    }

    /// No traffic from now on. There is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether every condition holds and no drain has begun.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.waiting_for().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_everything_holds_and_nothing_drains() {
        let readiness = Readiness::default();
        let routes = readiness.condition("routes");
        let ingress = readiness.condition("ingress");
        routes.set(true);
        assert_eq!(readiness.waiting_for(), ["ingress"]);
        assert!(!readiness.is_ready());
        ingress.set(true);
        assert!(readiness.is_ready());
        routes.set(false);
        assert!(!readiness.is_ready());
        routes.set(true);
        readiness.drain();
        assert!(!readiness.is_ready());
    }
}
