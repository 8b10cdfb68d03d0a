//! The connections that are open, for whoever asks.
//!
//! One mutex, taken once when a connection has finished its handshake and once when it is gone, never by a
//! request. A connection leaves by being dropped: nothing can be forgotten here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Every connection (or whatever `T` is) that speaks HTTP now, or did and is a tunnel now.
pub struct Registry<T>(Mutex<Open<T>>);

struct Open<T> {
    next: u64,
    connections: BTreeMap<u64, Weak<T>>,
}

/// A connection's place among the open ones, given back on drop.
pub struct Entry<T> {
    registry: Arc<Registry<T>>,
    number: u64,
}

impl<T> Registry<T> {
    /// Makes a connection that is listed until it is dropped.
    pub fn enter(self: &Arc<Self>, connection: impl FnOnce(Entry<T>) -> T) -> Arc<T> {
        Arc::new_cyclic(|weak| {
            let mut open = self.open();
            let number = open.next;
            open.next += 1;
            open.connections.insert(number, Weak::clone(weak));
            drop(open);
            connection(Entry {
                registry: Arc::clone(self),
                number,
            })
        })
    }

    /// The oldest connections, at most `max` of them.
    pub fn oldest(&self, max: usize) -> Vec<Arc<T>> {
        let open = self.open();
        let alive = open.connections.values().filter_map(Weak::upgrade);
        // Whatever is dropped of these takes the lock again, so nothing is before it is released.
        alive.take(max).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open().connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn open(&self) -> MutexGuard<'_, Open<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self(Mutex::new(Open {
            next: 0,
            connections: BTreeMap::new(),
        }))
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        self.registry.open().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(
        u8,
        #[expect(dead_code, reason = "leaves when dropped")] Entry<Numbered>,
    );

    fn listed(registry: &Registry<Numbered>, max: usize) -> Vec<u8> {
        registry.oldest(max).iter().map(|one| one.0).collect()
    }

    #[test]
    fn who_is_dropped_is_not_listed_and_the_oldest_come_first() {
        let registry = Arc::new(Registry::default());
        let [one, two, three] = [1, 2, 3].map(|n| registry.enter(|entry| Numbered(n, entry)));
        assert_eq!(listed(&registry, 9), [1, 2, 3]);
        assert_eq!(listed(&registry, 2), [1, 2]);
        drop(two);
        assert_eq!(listed(&registry, 9), [1, 3]);
        drop((one, three));
        assert!(registry.is_empty());
    }

    #[test]
    fn who_asks_may_be_the_last_to_hold_one() {
        let registry = Arc::new(Registry::default());
        let one = registry.enter(|entry| Numbered(1, entry));
        let held = registry.oldest(1);
        drop(one);
        assert_eq!(registry.len(), 1);
        drop(held);
        assert_eq!(registry.len(), 0);
    }
}
