//! Who may send a request when: one ticket each.
//!
//! Without a rate a ticket is there whenever a worker asks (closed loop). With a rate, tickets fall due by the
//! clock and wait for a worker (open loop); each says when it fell due.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::plan::Limit;

/// The tickets of one run.
#[derive(Debug)]
pub(super) struct Tickets {
    start: Instant,
    end: Option<Instant>,
    count: Option<u64>,
    taken: Cell<u64>,
    over: Cell<bool>,
    schedule: Option<Arc<Schedule>>,
}

#[derive(Debug)]
struct Schedule {
    rate: f64,
    due: Semaphore,
}

impl Tickets {
    /// Begins now.
    pub(super) fn new(limit: Limit, rate: Option<f64>) -> Self {
        let start = Instant::now();
        let (end, count) = match (limit, rate) {
            (Limit::Requests(count), _) => (None, Some(count)),
            (Limit::Time(length), None) => (Some(start + length), None),
            (Limit::Time(length), Some(rate)) => (None, Some(whole(length.as_secs_f64() * rate))),
        };
        let schedule = rate.map(|rate| {
            Arc::new(Schedule {
                rate,
                due: Semaphore::new(0),
            })
        });
        Self {
            start,
            end,
            count,
            taken: Cell::new(0),
            over: Cell::new(false),
            schedule,
        }
    }

    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// The next ticket: when its request is, or was, due. `None` when there will be no more.
    pub(super) async fn next(&self) -> Option<Instant> {
        if let Some(schedule) = &self.schedule {
            // Closed means that the run was called off.
            schedule.due.acquire().await.ok()?.forget();
        }
        let index = self.taken.get();
        if self.over.get() || self.count.is_some_and(|count| index >= count) {
            return None;
        }
        let now = Instant::now();
        if self.end.is_some_and(|end| now >= end) {
            return None;
        }
        self.taken.set(index + 1);
        Some(match &self.schedule {
            Some(schedule) => schedule.time(self.start, index),
            None => now,
        })
    }

    /// No more tickets.
    pub(super) fn stop(&self) {
        self.over.set(true);
        if let Some(schedule) = &self.schedule {
            schedule.due.close();
        }
    }

    /// How many were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// How many should have been taken; with a rate, more than were if the workers could not keep up.
    pub(super) fn planned(&self) -> u64 {
        match self.schedule {
            Some(_) => self.count.unwrap_or_default(),
            None => self.taken(),
        }
    }

    /// Lets tickets fall due from now on, for `workers` that wait for them. Does nothing without a rate.
    ///
    /// The clock has a thread of its own: tokio's timer counts in milliseconds, as long as most answers take.
    pub(super) fn start_clock(&self, workers: usize) -> io::Result<()> {
        let (Some(schedule), Some(count)) = (&self.schedule, self.count) else {
            return Ok(());
        };
        let (schedule, start) = (Arc::clone(schedule), self.start);
        let run = move || schedule.run(start, count, workers);
        std::thread::Builder::new()
            .name("clock".to_owned())
            .spawn(run)
            .map(drop)
    }
}

impl Schedule {
    fn time(&self, start: Instant, index: u64) -> Instant {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a day at the highest rate is below 2^53"
        )]
        let seconds = index as f64 / self.rate;
        start + Duration::from_secs_f64(seconds)
    }

    /// Releases each ticket when it is due, until all are or the run was called off.
    fn run(&self, start: Instant, count: u64, workers: usize) {
        let mut released = 0;
        while released < count && !self.due.is_closed() {
            let elapsed = start.elapsed().as_secs_f64();
            let due = whole(elapsed * self.rate).saturating_add(1).min(count);
            self.due.add_permits(permits(due - released));
            released = due;
            let next = self.time(start, due);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        // Each worker that waits finds out that there is nothing left.
        self.due.add_permits(workers);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and below 2^53"
)]
fn whole(number: f64) -> u64 {
    number.floor() as u64
}

fn permits(number: u64) -> usize {
    usize::try_from(number).unwrap_or(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_count_is_kept_without_a_rate() {
        let tickets = Tickets::new(Limit::Requests(2), None);
        assert!(tickets.next().await.is_some());
        assert!(tickets.next().await.is_some());
        assert!(tickets.next().await.is_none());
        assert_eq!(tickets.taken(), 2);
    }

    #[tokio::test]
    async fn with_a_rate_each_ticket_says_when_it_was_due_however_late_it_is_taken() {
        let tickets = Tickets::new(Limit::Time(Duration::from_millis(10)), Some(1000.0));
        tickets.start_clock(1).unwrap();
        let mut due = Vec::new();
        while let Some(time) = tickets.next().await {
            due.push(time.duration_since(tickets.start()).as_millis());
        }
        assert_eq!(due, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
