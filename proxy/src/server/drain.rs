//! Drain: not ready → wait for the probes to notice → stop accepting, ask connections to end → deadline.
//!
//! A signal drains and then ends the process; `POST /drain` drains and leaves it running, so that whoever asked
//! can see that it is done. A process whose successor has taken over drains without notice: probes meet the successor.
//!
//! Invariant: the time of a drain may become shorter while it lasts, never longer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::DrainOptions;
use crate::connection::Closing;
use crate::connection::accept::Seats;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

pub use crate::metrics::DrainPhase as Phase;

impl Serialize for Phase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

/// The drain of this process. Begins once.
pub struct Drain {
    options: ArcSwap<DrainOptions>,
    readiness: Arc<Readiness>,
    seats: Arc<Seats>,
    metrics: Arc<Metrics>,
    state: watch::Sender<State>,
    ending: watch::Sender<bool>,
    taken_over: watch::Sender<bool>,
    closing: watch::Sender<Closing>,
}

#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    plan: Option<Plan>,
}

/// When a drain that has begun comes to its next phase.
#[derive(Debug, Clone, Copy)]
struct Plan {
    began: Timestamp,
    started: Instant,
    /// From here on, nothing is accepted.
    ending: Instant,
    /// How long an HTTP/1.1 connection may then be idle.
    idle_grace: Duration,
    /// Here, what is left is cut.
    deadline: Instant,
}

/// How far a drain is, and what is left.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Connections that are open.
    pub connections: usize,
    /// Requests that are being answered.
    pub requests_in_flight: i64,
    /// Connections that were cut.
    pub connections_cut: u64,
    /// When it began (RFC 3339).
    pub began: Option<String>,
    /// Time until what is left is cut, in seconds. None before it began and after it is over.
    pub deadline_seconds: Option<f64>,
}

impl Drain {
    /// A drain that has not begun.
    pub fn new(
        options: DrainOptions,
        readiness: Arc<Readiness>,
        seats: Arc<Seats>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            options: ArcSwap::from_pointee(options),
            readiness,
            seats,
            metrics,
            state: watch::Sender::new(State {
                phase: Phase::Serving,
                plan: None,
            }),
            ending: watch::Sender::new(false),
            taken_over: watch::Sender::new(false),
            closing: watch::Sender::new(Closing::Nothing),
        }
    }

    /// A drain that has not begun goes by these.
    pub fn set_options(&self, options: DrainOptions) {
        self.options.store(Arc::new(options));
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    /// How far it is, and what is left.
    pub fn progress(&self) -> Progress {
        let State { phase, plan } = *self.state.borrow();
        let to_come = plan.filter(|_| phase != Phase::Drained);
        let left = |plan: Plan| plan.deadline.saturating_duration_since(Instant::now());
        Progress {
            phase,
            connections: self.seats.taken(),
            requests_in_flight: self.metrics.requests_in_flight(),
            connections_cut: self.metrics.lifecycle().connections_cut(),
            began: plan.map(|plan| format!("{:.3}", plan.began)),
            deadline_seconds: to_come.map(|plan| (left(plan).as_secs_f64() * 10.0).round() / 10.0),
        }
    }

    /// Turns true when connections are to end.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Turns true when another process answers probes and operators.
    pub fn taken_over(&self) -> watch::Receiver<bool> {
        self.taken_over.subscribe()
    }

    /// Tells which open connections are not waited for any more.
    pub fn closing(&self) -> watch::Receiver<Closing> {
        self.closing.subscribe()
    }

    /// Begins, unless it has begun. The whole is to take no longer than `within`, a fifth of that at most before the
    /// process stops accepting; that holds for one that has begun, too. Must be called inside a runtime that outlives
    /// the drain.
    pub fn begin(self: &Arc<Self>, within: Option<Duration>) {
        let options = self.options.load();
        let whole = options.notice.saturating_add(options.timeout);
        let plan = Plan::new(&options, options.notice, whole);
        self.start(Phase::Noticing, plan, within);
    }

    /// Begins, unless it has begun, and accepts nothing more from here on: another process does.
    pub fn hand_over(self: &Arc<Self>) {
        let options = self.options.load();
        let plan = Plan::new(&options, Duration::ZERO, options.timeout);
        self.start(Phase::Ending, plan, None);
    }

    fn start(self: &Arc<Self>, phase: Phase, plan: Plan, within: Option<Duration>) {
        let now = Instant::now();
        let mut first = false;
        self.state.send_if_modified(|state| {
            first = state.plan.is_none();
            if first {
                state.phase = phase;
            }
            let plan = state.plan.get_or_insert(plan);
            within.is_some_and(|within| plan.shorten(now, within)) || first
        });
        if first {
            let drain = Arc::clone(self);
            tokio::spawn(async move { drain.run(phase).await });
        }
    }

    /// Resolves when it has begun.
    pub async fn begun(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.plan.is_some()).await;
    }

    /// Resolves when it is over.
    pub async fn done(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| state.phase == Phase::Drained).await;
    }

    async fn run(&self, first: Phase) {
        self.enter(first);
        let connections = || self.seats.taken();
        if first == Phase::Noticing {
            self.readiness.drain();
            self.metrics.ready(false);
            tracing::info!(
                notice_seconds = self.seconds(|plan| plan.ending - plan.started),
                connections = connections(),
                "drain: not ready; waiting for the probes to notice"
            );
            self.reach(|plan| plan.ending).await;
            self.enter(Phase::Ending);
        } else {
            self.taken_over.send_replace(true);
        }
        self.ending.send_replace(true);
        tracing::info!(
            timeout_seconds = self.seconds(|plan| plan.deadline - plan.ending),
            connections = connections(),
            "drain: not accepting; connections are asked to end"
        );
        let idle = async {
            self.reach(Plan::idle_until).await;
            self.closing.send_replace(Closing::Idle);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.empty() => {}
            () = self.reach(|plan| plan.deadline) => {}
            () = idle => {}
        }
        if connections() == 0 {
            tracing::info!("drain: done");
        } else {
            tracing::warn!(
                connections = connections(),
                "drain: deadline; these connections are cut"
            );
            self.cut().await;
        }
        self.enter(Phase::Drained);
    }

    fn enter(&self, phase: Phase) {
        self.state.send_modify(|state| state.phase = phase);
        self.metrics.lifecycle().drain(phase);
    }

    /// Resolves at a point of the plan, which may come nearer meanwhile.
    async fn reach(&self, point: impl Fn(&Plan) -> Instant) {
        let mut state = self.state.subscribe();
        loop {
            let Some(at) = state.borrow_and_update().plan.as_ref().map(&point) else {
                return;
            };
            tokio::select! {
                () = sleep_until(at) => return,
                _ = state.changed() => {}
            }
        }
    }

    /// A length of time of the plan, in seconds.
    fn seconds(&self, of: impl Fn(&Plan) -> Duration) -> f64 {
        let plan = self.state.borrow().plan;
        plan.as_ref().map_or(Duration::ZERO, of).as_secs_f64()
    }

    async fn empty(&self) {
        let mut told = Instant::now();
        while self.seats.taken() > 0 {
            sleep(LOOK_INTERVAL).await;
            if told.elapsed() >= TELL_INTERVAL {
                told = Instant::now();
                tracing::info!(connections = self.seats.taken(), "drain: waiting");
            }
        }
    }

    /// Cuts whatever is open, so that each request in flight gets its line in the access log.
    pub async fn cut(&self) {
        self.metrics.lifecycle().cut(self.seats.taken());
        self.closing.send_replace(Closing::Everything);
        let deadline = Instant::now() + CUT_TIMEOUT;
        while self.seats.taken() > 0 && Instant::now() < deadline {
            sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Plan {
    fn new(options: &DrainOptions, notice: Duration, whole: Duration) -> Self {
        let now = Instant::now();
        Self {
            began: Timestamp::now(),
            started: now,
            ending: now + notice,
            idle_grace: options.idle_grace,
            deadline: now + whole,
        }
    }

    /// Keeps to `within` from now, if that is less. Whether it is.
    fn shorten(&mut self, now: Instant, within: Duration) -> bool {
        let before = self.deadline;
        self.ending = self.ending.min(now + within / NOTICE_SHARE);
        self.deadline = self.deadline.min(now + within);
        self.deadline < before
    }

    /// Until here, connections without a request are kept: early enough for them to be gone by the deadline.
    fn idle_until(&self) -> Instant {
        let all = self.deadline.saturating_duration_since(self.ending);
        self.ending + self.idle_grace.min(all / 5 * 4)
    }
}

// Limit: of a drain that is to take so long as a whole, the part until nothing is accepted: one in five.
const NOTICE_SHARE: u32 = 5;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const TELL_INTERVAL: Duration = Duration::from_secs(5);
// Limit: a cut connection is gone as soon as its thread comes round to it.
const CUT_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::AccessLog;
    use crate::config::Mode;

    fn drain() -> (Arc<Drain>, Arc<Seats>) {
        let options = DrainOptions {
            notice: Duration::from_secs(10),
            timeout: Duration::from_mins(5),
            idle_grace: Duration::from_secs(30),
        };
        let metrics = Arc::new(Metrics::new(Mode::Enforce, AccessLog::off()).unwrap());
        let seats = Seats::new(9);
        let drain = Drain::new(options, Arc::default(), Arc::clone(&seats), metrics);
        (Arc::new(drain), seats)
    }

    /// Seconds from `began` to when each of these comes.
    async fn times(drain: &Drain, began: Instant) -> [u64; 3] {
        let (mut ending, mut closing) = (drain.ending(), drain.closing());
        ending.wait_for(|ending| *ending).await.unwrap();
        let ended = began.elapsed();
        closing
            .wait_for(|what| *what >= Closing::Idle)
            .await
            .unwrap();
        let idle = began.elapsed();
        let everything = closing.wait_for(|what| *what == Closing::Everything);
        everything.await.unwrap();
        [ended, idle, began.elapsed()].map(|time| time.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_comes_in_its_time() {
        for (within, expected) in [
            (None, [10, 40, 310]),
            (Some(25), [5, 21, 25]),
            (Some(1000), [10, 40, 310]),
        ] {
            let (drain, seats) = drain();
            let _left = seats.take().unwrap();
            let began = Instant::now();
            assert_eq!(drain.progress().deadline_seconds, None);
            drain.begin(within.map(Duration::from_secs));
            let whole = within.unwrap_or(310).min(310);
            let left = drain.progress().deadline_seconds.unwrap();
            assert_eq!(Duration::from_secs_f64(left).as_secs(), whole);
            assert_eq!(times(&drain, began).await, expected, "{within:?}");
            drain.done().await;
            let progress = drain.progress();
            assert_eq!(
                (progress.phase, progress.connections_cut),
                (Phase::Drained, 1)
            );
            assert!(progress.began.is_some() && progress.deadline_seconds.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_has_begun_can_be_shortened_and_not_lengthened() {
        let (drain, seats) = drain();
        let _left = seats.take().unwrap();
        let began = Instant::now();
        drain.begin(None);
        sleep(Duration::from_secs(2)).await;
        drain.begin(Some(Duration::from_secs(20)));
        drain.begin(Some(Duration::from_secs(1000)));
        drain.begin(None);
        assert_eq!(times(&drain, began).await, [6, 18, 22]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_replaced_stops_accepting_at_once_and_stays_ready_for_probes_on_their_way() {
        let (drain, seats) = drain();
        let seat = seats.take().unwrap();
        let began = Instant::now();
        drain.hand_over();
        drain.taken_over().wait_for(|over| *over).await.unwrap();
        drain.ending().wait_for(|ending| *ending).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(drain.readiness.is_ready());
        drop(seat);
        drain.done().await;
        assert_eq!(drain.progress().connections_cut, 0);
    }
}
