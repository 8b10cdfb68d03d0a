//! Other places: what a reload does to credentials.
//!
//! Every place that is new is proven before any of those in use is given up. A place that stays keeps what is in use
//! from it, and with it the connections to the ingress: a new generation is begun only by another identity or trust.

use std::sync::{Arc, PoisonError};

use postern_certs::UnixTime;

use super::{Credentials, Options, Pair, Rejected, Source, Watched};
use crate::metrics::Metrics;

impl Credentials {
    /// Reads from these places from now on, and takes at once what is there. If anything in a new place is not good,
    /// nothing changes. Blocks on files.
    ///
    /// Whether account routing has credentials of its own cannot change.
    pub fn replace(&self, options: Options, now: UnixTime) -> Result<(), Vec<Rejected>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Watched::new(options);
        let rejected = next.prove_new(&watched, now);
        if !rejected.is_empty() {
            return Err(rejected);
        }
        next.take_over(&mut watched);
        let client_changed = next.client.is_new();
        let routing_changed = next.routing.as_ref().is_some_and(Pair::is_new);
        next.tell(&watched, &self.metrics);
        self.server.store(Arc::new(self.server_set(&next.server)));
        if client_changed && let Some(client) = self.renew(&mut next.client) {
            self.metrics.credential_generation(client.generation);
            self.client.store(Some(Arc::new(client)));
        }
        if let (true, Some(pair), Some(routing)) =
            (routing_changed, &mut next.routing, &self.routing)
            && let Some(client) = self.renew(pair)
        {
            routing.store(Some(Arc::new(client)));
        }
        match next.ticket_keys.as_ref().map(Source::current) {
            Some(Some(keys)) => self.tickets.share(Arc::clone(keys)),
            Some(None) => {}
            None => {
                self.tickets.share_no_more();
                self.metrics.tickets_shared(false);
            }
        }
        *watched = next;
        drop(watched);
        // The metrics of what is in use now. What was not good a moment ago was refused.
        let _ = self.refresh(now);
        Ok(())
    }
}

impl Watched {
    /// Reads each place that `before` does not have.
    fn prove_new(&mut self, before: &Self, now: UnixTime) -> Vec<Rejected> {
        let is_new = |source: &&mut Source| !before.sources().any(|known| known.is(source));
        let sources = self.sources_mut().filter(is_new);
        let mut rejected: Vec<_> = sources.filter_map(|source| source.prove(now)).collect();
        if let Some(keys) = &mut self.ticket_keys
            && !before
                .ticket_keys
                .as_ref()
                .is_some_and(|known| known.is(keys))
        {
            rejected.extend(keys.prove(now));
        }
        rejected
    }

    /// What both have goes on as it is here. There, what is in use no longer is left.
    fn take_over(&mut self, before: &mut Self) {
        for source in self
            .sources_mut()
            .filter(|source| source.current().is_none())
        {
            if let Some(known) = before.sources_mut().find(|known| known.is(source)) {
                std::mem::swap(known, source);
            }
        }
        if let (Some(keys), Some(known)) = (&mut self.ticket_keys, &mut before.ticket_keys)
            && known.is(keys)
        {
            std::mem::swap(known, keys);
        }
        self.client.generation = before.client.generation;
        if let (Some(pair), Some(known)) = (&mut self.routing, &before.routing) {
            pair.generation = known.generation;
        }
    }

    fn tell(&mut self, before: &Self, metrics: &Metrics) {
        let gone = before.sources().filter(|source| source.was_used());
        gone.for_each(|source| source.leave(metrics));
        let new = self.sources_mut().filter(|source| !source.was_used());
        new.for_each(|source| source.take(metrics));
        if let Some(keys) = before.ticket_keys.as_ref().filter(|keys| keys.was_used()) {
            keys.leave(metrics);
        }
        if let Some(keys) = self.ticket_keys.as_mut().filter(|keys| !keys.was_used()) {
            keys.take(metrics);
        }
    }

    fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        let pairs = std::iter::once(&mut self.client).chain(&mut self.routing);
        let pairs = pairs.flat_map(|pair| [&mut pair.identity, &mut pair.trust]);
        self.server.iter_mut().chain(pairs)
    }
}

impl Pair {
    /// Whether what is in use from one of its places is not the one of before.
    fn is_new(&self) -> bool {
        [&self.identity, &self.trust]
            .iter()
            .any(|source| !source.was_used())
    }
}
