//! Single flight: one call of the source for a key at a time, and everybody who waits for it.
//!
//! A flight belongs to the generation it began under. Whoever comes under a newer one starts another flight,
//! which takes the older one's place; the older one still answers those who wait for it. A flight that a change
//! has overtaken answers nobody: who waits for it asks again at once.
//!
//! Invariant: only the flight that is in its key's place may write into the cache, and a flight leaves its
//! place when it ends, however it ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use postern_api::{HostName, LinkId};
use tokio::sync::watch;

use super::table::Key;
use crate::routing::{Lookup, LookupError};

type Answer = Result<Lookup, LookupError>;

/// Who asks for which host, kept for as long as it is asked.
pub(super) type Asked = (Option<LinkId>, HostName);

/// All flights under way.
pub(super) struct Flights {
    table: Arc<Mutex<Table>>,
    flights_max: usize,
}

#[derive(Default)]
struct Table {
    flights: HashMap<Asked, Flight>,
    last_number: u64,
}

struct Flight {
    number: u64,
    generation: u64,
    outcome: watch::Sender<Option<Outcome>>,
}

/// What comes of a flight for those who wait.
#[derive(Clone)]
enum Outcome {
    Answered(Answer),
    Overtaken,
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
    asked: Asked,
    generation: u64,
    number: u64,
    outcome: watch::Sender<Option<Outcome>>,
}

/// The answer to come.
pub(super) struct Landing {
    /// The generation under which the source is asked.
    pub(super) generation: u64,
    outcome: watch::Receiver<Option<Outcome>>,
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
    pub(super) fn join(&self, key: Key<'_>, generation: u64) -> Result<Ticket, LookupError> {
        let asked = (key.link, key.host.clone());
        let mut guard = self.table.lock();
        let table = &mut *guard;
        let full = table.flights.len() >= self.flights_max;
        let number = table.last_number + 1;
        let flight = || Flight {
            number,
            generation,
            outcome: watch::Sender::new(None),
        };
        let flight = match table.flights.entry(asked.clone()) {
            Entry::Occupied(other) if other.get().generation >= generation => {
                let Flight {
                    generation,
                    ref outcome,
                    ..
                } = *other.get();
                return Ok(Ticket::Wait(Landing {
                    generation,
                    outcome: outcome.subscribe(),
                }));
            }
            Entry::Occupied(mut older) => {
                older.insert(flight());
                older.into_mut()
            }
            Entry::Vacant(_) if full => return Err(LookupError::TooMany(self.flights_max)),
            Entry::Vacant(place) => place.insert(flight()),
        };
        let outcome = flight.outcome.clone();
        table.last_number = number;
        Ok(Ticket::Lead(Lead {
            table: Arc::clone(&self.table),
            asked,
            generation,
            number,
            outcome,
        }))
    }

    /// Something else than a flight answers `key`: `write` brings the cache up to date, and what a flight under
    /// way will say is taken by nobody. As with [`Flights::hold`], it must be short.
    pub(super) fn overtake(&self, key: Key<'_>, write: impl FnOnce()) {
        let mut table = self.table.lock();
        // Hardly ever is anybody asking: then the key need not be made.
        let overtaken = if table.flights.is_empty() {
            None
        } else {
            table.flights.remove(&(key.link, key.host.clone()))
        };
        write();
        drop(table);
        if let Some(flight) = overtaken {
            flight.outcome.send_replace(Some(Outcome::Overtaken));
        }
    }

    /// Runs `write` while no flight can begin or end: it must be short.
    pub(super) fn hold(&self, write: impl FnOnce()) {
        let _table = self.table.lock();
        write();
    }
}

impl Lead {
    /// A place among those who wait for this flight.
    pub(super) fn landing(&self) -> Landing {
        Landing {
            generation: self.generation,
            outcome: self.outcome.subscribe(),
        }
    }

    /// The key that the source is asked about.
    pub(super) const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The generation under which the source is asked.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Ends the flight with what `conclude` makes of it. It is told whether it may write into the cache, and
    /// while it runs no other flight can begin or end: it must be short.
    pub(super) fn land(self, conclude: impl FnOnce(bool) -> Answer) {
        let mut table = self.table.lock();
        let answer = conclude(self.leave(&mut table));
        drop(table);
        self.end(Outcome::Answered(answer));
    }

    /// Ends the flight, since it turned out that there is nothing to ask: who waits looks again.
    pub(super) fn abandon(self) {
        self.leave(&mut self.table.lock());
        self.end(Outcome::Overtaken);
    }

    /// The first outcome counts.
    fn end(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(outcome);
            }
            first
        });
    }

    /// Leaves the key's place, if this flight has it.
    fn leave(&self, table: &mut Table) -> bool {
        let in_place = table
            .flights
            .get(&self.asked)
            .is_some_and(|flight| flight.number == self.number);
        if in_place {
            table.flights.remove(&self.asked);
        }
        in_place
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.outcome.borrow().is_none() {
            self.leave(&mut self.table.lock());
        }
    }
}

impl Landing {
    /// Waits for the answer. `None`: it was overtaken, ask again.
    pub(super) async fn wait(&mut self) -> Option<Answer> {
        match self.outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Outcome::Answered(answer))) => Some(answer.clone()),
            Ok(Some(Outcome::Overtaken)) => None,
            Ok(None) | Err(_) => Some(Err(LookupError::BrokenOff)),
        }
    }
}
