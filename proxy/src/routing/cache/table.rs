//! The table behind the cache: keys to values, bounded, read by every connection.
//!
//! Shards, each a hash table behind a lock that is held for a few instructions and never across an await. The
//! key and the value stand side by side in 128 bytes, two neighbouring cache lines, so that finding one among a
//! million waits for memory once. A table grows with what it holds, and when it is full each new key takes the
//! place of one that was not asked for lately (CLOCK: second chance).
//!
//! Hashes are keyed by a secret, since host names come from whoever connects.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;
use postern_api::{HostName, LinkId};

/// Who asks for which host. No link is "whoever asks".
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) link: Option<LinkId>,
    pub(super) host: &'a HostName,
    hash: u64,
}

/// The secret of the hashes.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(RandomState);

impl Keys {
    pub(super) fn key<'a>(&self, link: Option<LinkId>, host: &'a HostName) -> Key<'a> {
        let hash = self.hash(link, host.as_str().as_bytes());
        Key { link, host, hash }
    }

    fn hash(&self, link: Option<LinkId>, host: &[u8]) -> u64 {
        // One number for the link: whoever asks is none of the 32-bit ones.
        let link = link.map_or(u64::MAX, |link| u64::from(link.get()));
        self.0.hash_one((link, host))
    }
}

/// Keys to values.
pub(super) struct Table<V> {
    keys: Keys,
    shards: Box<[RwLock<Shard<V>>]>,
    entries_max: usize,
    entries: AtomicUsize,
    evictions: AtomicU64,
}

struct Shard<V> {
    slots: HashTable<Slot<V>>,
    /// Where the search for one to push out goes on.
    hand: usize,
}

/// Two cache lines, which processors fetch together.
#[repr(align(128))]
struct Slot<V> {
    value: V,
    link: Option<LinkId>,
    host: Host,
    /// Whether it was asked for since the hand passed.
    used: AtomicBool,
}

/// A host name beside its value, unless it is a long one.
enum Host {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(HostName),
}

// As much as fits beside a route. Names of Azure's health services are shorter but for the longest of theirs.
const SHORT_MAX: usize = 62;

// A full shard fills three quarters of 4096 places, so that a little more than its share makes it no larger. To
// grow takes a lock for as long as these are copied: half a megabyte, a tenth of a millisecond.
const SHARD_ENTRIES: u64 = 3072;

// Limit: how many that are in use the hand passes for one new key. What is asked for again and again is marked
// again before the hand comes back.
const PASSES_MAX: usize = 32;

/// What becomes of a value.
pub(super) enum Then<V> {
    /// It stays, or there is still none.
    Keep,
    /// There is this one now.
    Put(V),
    /// There is none now.
    Remove,
}

impl<V> Table<V> {
    /// An empty table for so many keys, give or take one for each three thousand.
    pub(super) fn new(entries_max: u64, keys: Keys) -> Self {
        let shards = entries_max.div_ceil(SHARD_ENTRIES).max(1);
        let shard = || {
            RwLock::new(Shard {
                slots: HashTable::new(),
                hand: 0,
            })
        };
        Self {
            keys,
            shards: (0..shards).map(|_| shard()).collect(),
            entries_max: usize::try_from(entries_max).unwrap_or(usize::MAX).max(1),
            entries: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// What `read` makes of the value, which counts as asked for. `read` must be short.
    pub(super) fn read<R>(&self, key: Key<'_>, read: impl FnOnce(&V) -> R) -> Option<R> {
        let shard = self.shard(key.hash).read();
        let slot = shard.slots.find(key.hash, |slot| slot.is(key))?;
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        Some(read(&slot.value))
    }

    /// The same, which counts as nothing.
    pub(super) fn look<R>(&self, key: Key<'_>, look: impl FnOnce(&V) -> R) -> Option<R> {
        let shard = self.shard(key.hash).read();
        let slot = shard.slots.find(key.hash, |slot| slot.is(key))?;
        Some(look(&slot.value))
    }

    /// Does what `decide` says, which is told the value, if there is one. `decide` must be short.
    pub(super) fn update(&self, key: Key<'_>, decide: impl FnOnce(Option<&V>) -> Then<V>) {
        let mut guard = self.shard(key.hash).write();
        let shard = &mut *guard;
        let is = |slot: &Slot<V>| slot.is(key);
        let held = shard.slots.find_entry(key.hash, is);
        let then = decide(held.as_ref().ok().map(|slot| &slot.get().value));
        match (then, held) {
            (Then::Keep, _) | (Then::Remove, Err(_)) => {}
            (Then::Put(value), Ok(mut held)) => held.get_mut().value = value,
            (Then::Remove, Ok(held)) => {
                held.remove();
                self.entries.fetch_sub(1, Ordering::Relaxed);
            }
            (Then::Put(value), Err(_)) => {
                self.make_room(shard);
                let rehash = |slot: &Slot<V>| self.keys.hash(slot.link, slot.host.as_bytes());
                if let Entry::Vacant(place) = shard.slots.entry(key.hash, is, rehash) {
                    place.insert(Slot::new(key, value));
                }
            }
        }
    }

    /// Looks at everything, one shard after the other, each locked for reading meanwhile.
    pub(super) fn each(&self, mut look: impl FnMut(Option<LinkId>, &V)) {
        for shard in &self.shards {
            for slot in &shard.read().slots {
                look(slot.link, &slot.value);
            }
        }
    }

    /// How many there are.
    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed) as u64
    }

    /// How many were pushed out so far.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Room for how many was ever made.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        let places = |shard: &RwLock<Shard<V>>| shard.read().slots.num_buckets();
        self.shards.iter().map(places).sum()
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard<V>> {
        // Neither the bits that choose the place in the shard (the lowest) nor those kept there (the highest).
        let bits = (hash >> 20) & 0xffff_ffff;
        let index = (bits * self.shards.len() as u64) >> 32;
        &self.shards[usize::try_from(index).unwrap_or(0)]
    }

    /// Counts one more, and pushes one out of the shard if there are too many in all.
    fn make_room(&self, shard: &mut Shard<V>) {
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.entries_max && shard.push_out() {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<V> Shard<V> {
    /// Removes one that was not asked for lately; `false` if there is none at all.
    fn push_out(&mut self) -> bool {
        let places = self.slots.num_buckets();
        let mut passes = 0;
        // Each place twice at most: the first time around may only take marks away.
        for _ in 0..2 * places {
            self.hand = (self.hand + 1) % places;
            let Ok(mut held) = self.slots.get_bucket_entry(self.hand) else {
                continue;
            };
            let used = std::mem::take(held.get_mut().used.get_mut());
            if used && passes < PASSES_MAX {
                passes += 1;
                continue;
            }
            held.remove();
            return true;
        }
        false
    }
}

impl<V> Slot<V> {
    fn new(key: Key<'_>, value: V) -> Self {
        Self {
            value,
            link: key.link,
            host: Host::of(key.host),
            used: AtomicBool::new(false),
        }
    }

    fn is(&self, key: Key<'_>) -> bool {
        self.link == key.link && self.host.as_bytes() == key.host.as_str().as_bytes()
    }
}

impl Host {
    fn of(host: &HostName) -> Self {
        let name = host.as_str().as_bytes();
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(name);
                Self::Short { length, bytes }
            }
            _ => Self::Long(host.clone()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length).min(SHORT_MAX)],
            Self::Long(host) => host.as_str().as_bytes(),
        }
    }
}
