//! The workers: each takes a ticket, sends, reads, counts, until there are no more.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt as _;
use rustls::ClientConfig;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use super::connect::{Sender, Upload};
use super::plan::{Limit, Plan, Target};
use super::progress::Progress;
use super::report::Report;
use super::tally::{Failure, Tally};
use super::tickets::Tickets;
use crate::interrupted;

/// What the workers share.
struct Run {
    plan: Plan,
    tally: Tally,
    /// Connections begun, to give each its target.
    begun: Cell<usize>,
    /// Bounds the handshakes in progress.
    opening: Semaphore,
}

impl Run {
    fn new(plan: Plan) -> Rc<Self> {
        Rc::new(Self {
            plan,
            tally: Tally::new(),
            begun: Cell::new(0),
            opening: Semaphore::new(OPENING_MAX),
        })
    }

    fn next_index(&self) -> usize {
        let index = self.begun.get();
        self.begun.set(index.wrapping_add(1));
        index
    }

    async fn open(&self, target: &Target) -> Result<Sender, Failure> {
        self.open_with(self.plan.tls(), target).await
    }

    async fn open_with(&self, tls: Arc<ClientConfig>, target: &Target) -> Result<Sender, Failure> {
        // Never closed.
        let _turn = self.opening.acquire().await;
        Sender::open(&self.plan, tls, target, &self.tally).await
    }

    /// One request on an open connection, due at `intended`, with all of its answer.
    async fn exchange(
        &self,
        sender: &mut Sender,
        target: &Target,
        intended: Instant,
    ) -> Result<(), Failure> {
        let upload = self.plan.upload;
        let request = Request::from_parts(target.head.clone(), Upload::new(upload));
        let response = sender.send(request).await.map_err(|_| Failure::Send)?;
        let status = response.status();
        let mut body = response.into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Failure::Body)?;
            received += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
        }
        if status.as_u16() >= 400 {
            return Err(Failure::Status(status));
        }
        self.tally.answered(intended, upload, received);
        Ok(())
    }
}

/// One connection, or one after the other, with the workers that share it.
struct Line {
    target: Target,
    shared: Mutex<Option<Sender>>,
}

impl Line {
    /// A connection for a worker: over HTTP/2 the one that is open.
    async fn sender(&self, run: &Run) -> Result<Sender, Failure> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().and_then(Sender::share) {
            return Ok(sender);
        }
        // The first worker takes what was opened before the clock started.
        if let Some(first @ Sender::Http1(_)) = shared.take() {
            return Ok(first);
        }
        let sender = run.open(&self.target).await?;
        *shared = sender.share();
        Ok(sender)
    }
}

/// Runs the plan to its end.
pub(super) async fn run(plan: Plan) -> io::Result<Report> {
    let run = Run::new(plan);
    let lines = if run.plan.handshake.is_some() {
        Vec::new()
    } else {
        open_lines(&run).await
    };
    let tickets = Rc::new(Tickets::new(run.plan.limit, run.plan.rate));
    let mut workers = JoinSet::new();
    if run.plan.handshake.is_some() {
        for _ in 0..run.plan.connections {
            workers.spawn_local(one_each(Rc::clone(&run), Rc::clone(&tickets)));
        }
    }
    for line in lines {
        for _ in 0..run.plan.streams {
            workers.spawn_local(keep_alive(
                Rc::clone(&run),
                Rc::clone(&tickets),
                Rc::clone(&line),
            ));
        }
    }
    tickets.start_clock(workers.len())?;
    let all_done = async { while workers.join_next().await.is_some() {} };
    tokio::select! {
        () = all_done => {}
        () = watch(&run, &tickets) => {}
        () = interrupted() => {}
    }
    tickets.stop();
    let answered = run.tally.answers() + run.tally.failures();
    let missing = tickets.planned().saturating_sub(answered);
    run.tally.failed_times(Failure::Unanswered, missing);
    let elapsed = run.tally.elapsed(tickets.start());
    Ok(Report::new(&run.plan, &run.tally, elapsed))
}

/// Shows progress. Ends when nothing was answered for long, or the run should long be over.
async fn watch(run: &Run, tickets: &Tickets) {
    let progress = Progress::new(run.plan.limit);
    let end = match run.plan.limit {
        Limit::Time(length) => Some(tickets.start() + length + GRACE),
        Limit::Requests(_) => None,
    };
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let (answers, failures) = (run.tally.answers(), run.tally.failures());
        progress.show(tickets.start().elapsed(), answers, failures);
        if answers + failures != seen {
            (seen, moved) = (answers + failures, Instant::now());
        }
        if moved.elapsed() > STALL_TIMEOUT || end.is_some_and(|end| Instant::now() > end) {
            return;
        }
    }
}

/// Opens all connections before the clock starts.
async fn open_lines(run: &Rc<Run>) -> Vec<Rc<Line>> {
    let opening = (0..run.plan.connections).map(|_| async {
        let target = run.plan.target(run.next_index()).clone();
        // One that fails is tried again, and counted, by whoever needs it.
        let first = run.open(&target).await.ok();
        Rc::new(Line {
            target,
            shared: Mutex::new(first),
        })
    });
    futures_util::future::join_all(opening).await
}

async fn keep_alive(run: Rc<Run>, tickets: Rc<Tickets>, line: Rc<Line>) {
    let mut mine: Option<Sender> = None;
    while let Some(intended) = tickets.next().await {
        // A server may end a connection between two requests: no fault, a new one is opened.
        let mut open = match mine.take() {
            Some(mut sender) => sender.ready().await.then_some(sender),
            None => None,
        };
        if open.is_none() {
            match line.sender(&run).await {
                Ok(sender) => open = Some(sender),
                Err(failure) => {
                    run.tally.failed(failure);
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
            }
        }
        let Some(mut sender) = open else { continue };
        if let Err(failure) = run.exchange(&mut sender, &line.target, intended).await {
            run.tally.failed(failure);
        }
        mine = Some(sender);
    }
}

/// A connection for each request.
async fn one_each(run: Rc<Run>, tickets: Rc<Tickets>) {
    let tls = run.plan.tls();
    while let Some(intended) = tickets.next().await {
        let target = run.plan.target(run.next_index());
        let outcome = match run.open_with(Arc::clone(&tls), target).await {
            Ok(mut sender) => run.exchange(&mut sender, target, intended).await,
            Err(failure) => {
                tokio::time::sleep(CONNECT_PAUSE).await;
                Err(failure)
            }
        };
        if let Err(failure) = outcome {
            run.tally.failed(failure);
        }
    }
}

/// Connections that are open and silent.
pub(super) struct Held {
    /// What opening them came to.
    pub(super) report: Report,
    _senders: Vec<Sender>,
}

/// Opens as many connections as the plan says, sends one request on each, and holds them.
pub(super) async fn hold(plan: Plan) -> Held {
    let run = Run::new(plan);
    let count = run.plan.idle;
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..OPENING_MAX {
        let run = Rc::clone(&run);
        workers.spawn_local(async move {
            let mut senders = Vec::new();
            while run.begun.get() < count {
                let target = run.plan.target(run.next_index());
                let intended = Instant::now();
                let outcome = match run.open(target).await {
                    Ok(mut sender) => {
                        let outcome = run.exchange(&mut sender, target, intended).await;
                        outcome.map(|()| senders.push(sender))
                    }
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = outcome {
                    run.tally.failed(failure);
                }
            }
            senders
        });
    }
    let mut senders = Vec::with_capacity(count);
    while let Some(opened) = workers.join_next().await {
        senders.extend(opened.unwrap_or_default());
    }
    let tried = run.tally.answers() + run.tally.failures();
    let missing = (count as u64).saturating_sub(tried);
    run.tally.failed_times(Failure::Unanswered, missing);
    let report = Report::new(&run.plan, &run.tally, start.elapsed());
    Held {
        report,
        _senders: senders,
    }
}

// Limit: handshakes in progress at a time, well below any listener's backlog.
const OPENING_MAX: usize = 64;
// Limit: a server that refuses connections is not asked more often than this by one worker.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
// Limit: a run in which nothing was answered for so long is over.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
// Limit: what is still in flight at the end of the time gets so long.
const GRACE: Duration = Duration::from_secs(10);
