//! Single flight: one call of the source for a key at a time, and everybody who waits for it.
//!
//! A flight belongs to the generation it began under. Whoever comes under a newer one starts another flight,
//! which takes the older one's place; the older one still answers those who wait for it.
//!
//! Invariant: only the flight that is in its key's place may write into the cache, and a flight leaves its
//! place when it ends, however it ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Key;
use crate::routing::{Lookup, LookupError};

type Answer = Result<Lookup, LookupError>;

/// All flights under way.
pub(super) struct Flights {
    table: Arc<Mutex<Table>>,
    flights_max: usize,
}

#[derive(Default)]
struct Table {
    flights: HashMap<Key, Flight>,
    last_number: u64,
}

struct Flight {
    number: u64,
    generation: u64,
    answer: watch::Receiver<Option<Answer>>,
}

/// What to do about a key.
pub(super) enum Ticket {
    /// Nobody is asking: ask the source, and [`Lead::land`].
    Lead(Lead),
    /// Somebody is asking.
    Wait(Landing),
}

/// The duty to end a flight. Dropped without an answer, it ends as broken off.
pub(super) struct Lead {
    table: Arc<Mutex<Table>>,
    key: Key,
    generation: u64,
    number: u64,
    answer: watch::Sender<Option<Answer>>,
}

/// The answer to come.
pub(super) struct Landing {
    /// The generation under which the source is asked.
    pub(super) generation: u64,
    answer: watch::Receiver<Option<Answer>>,
}

impl Flights {
    /// At most `flights_max` at a time.
    pub(super) fn new(flights_max: usize) -> Self {
        Self {
            table: Arc::default(),
            flights_max,
        }
    }

    /// The flight for `key` that began under `generation` or later; a new one if there is none.
    pub(super) fn join(&self, key: &Key, generation: u64) -> Result<Ticket, LookupError> {
        let mut guard = lock(&self.table);
        let table = &mut *guard;
        let full = table.flights.len() >= self.flights_max;
        let number = table.last_number + 1;
        let (sender, receiver) = watch::channel(None);
        let flight = Flight {
            number,
            generation,
            answer: receiver,
        };
        match table.flights.entry(key.clone()) {
            Entry::Occupied(other) if other.get().generation >= generation => {
                let Flight {
                    generation,
                    ref answer,
                    ..
                } = *other.get();
                return Ok(Ticket::Wait(Landing {
                    generation,
                    answer: answer.clone(),
                }));
            }
            Entry::Occupied(mut older) => {
                older.insert(flight);
            }
            Entry::Vacant(_) if full => return Err(LookupError::TooMany(self.flights_max)),
            Entry::Vacant(place) => {
                place.insert(flight);
            }
        }
        table.last_number = number;
        let table = Arc::clone(&self.table);
        Ok(Ticket::Lead(Lead {
            table,
            key: key.clone(),
            generation,
            number,
            answer: sender,
        }))
    }
}

impl Lead {
    /// A place among those who wait for this flight.
    pub(super) fn landing(&self) -> Landing {
        Landing {
            generation: self.generation,
            answer: self.answer.subscribe(),
        }
    }

    /// The key that the source is asked about.
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// The generation under which the source is asked.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Ends the flight with what `conclude` makes of it. It is told whether it may write into the cache, and
    /// while it runs no other flight can begin or end: it must be short.
    pub(super) fn land(self, conclude: impl FnOnce(bool) -> Answer) {
        let mut table = lock(&self.table);
        let answer = conclude(self.leave(&mut table));
        drop(table);
        self.answer.send_replace(Some(answer));
    }

    /// Leaves the key's place, if this flight has it.
    fn leave(&self, table: &mut Table) -> bool {
        let in_place = table
            .flights
            .get(&self.key)
            .is_some_and(|flight| flight.number == self.number);
        if in_place {
            table.flights.remove(&self.key);
        }
        in_place
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.answer.borrow().is_none() {
            let mut table = lock(&self.table);
            self.leave(&mut table);
        }
    }
}

impl Landing {
    /// Waits for the answer.
    pub(super) async fn wait(&mut self) -> Answer {
        match self.answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(answer)) => answer.clone(),
            Ok(None) | Err(_) => Err(LookupError::BrokenOff),
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // Nothing in here is left half done by a panic: every change is one call of the map.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
