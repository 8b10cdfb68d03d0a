//! What a run came to, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::tally::Tally;

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `h1` or `h2`.
    pub protocol: String,
    /// Connections at a time, or held.
    pub connections: usize,
    /// Requests at a time on each.
    pub streams: usize,
    /// `full` or `resumed` if each request had a connection of its own.
    pub handshake: Option<String>,
    /// Requests a second that were due, if not as many as were answered.
    pub rate: Option<f64>,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Whole answers with a status below 400.
    pub answers: u64,
    /// The same a second.
    pub requests_per_second: f64,
    /// Bytes of their bodies.
    pub bytes_received: u64,
    /// Bytes of the bodies of their requests.
    pub bytes_sent: u64,
    /// TLS handshakes done.
    pub handshakes: u64,
    /// Those that were resumed.
    pub handshakes_resumed: u64,
    /// Microseconds from when a request was due to the end of its answer.
    pub latency_us: Latency,
    /// Requests that were not answered well, by kind.
    pub errors: BTreeMap<String, u64>,
}

/// A distribution of latencies, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// The least.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// Half of them are below.
    pub p50: f64,
    /// 90 % are.
    pub p90: f64,
    /// 99 % are.
    pub p99: f64,
    /// 99.9 % are.
    pub p99_9: f64,
    /// The most.
    pub max: f64,
}

impl Latency {
    fn new(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            min: micros(histogram.min()),
            mean: rounded(histogram.mean() / 1000.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(histogram.max()),
        }
    }
}

impl Report {
    pub(super) fn new(plan: &Plan, tally: &Tally, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let answers = tally.answers();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let per_second = answers as f64 / seconds.max(f64::EPSILON);
        let held = plan.idle > 0;
        Self {
            protocol: plan.protocol.label().to_owned(),
            connections: if held { plan.idle } else { plan.connections },
            streams: plan.streams,
            handshake: plan.handshake.map(|handshake| handshake.label().to_owned()),
            rate: plan.rate,
            seconds: rounded(seconds),
            answers,
            requests_per_second: rounded(per_second),
            bytes_received: tally.received(),
            bytes_sent: tally.sent(),
            handshakes: tally.connections(),
            handshakes_resumed: tally.resumed(),
            latency_us: tally.latency(Latency::new),
            errors: tally.failures_by_kind(),
        }
    }

    /// Requests that were not answered well.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// As JSON, indented.
    pub fn json(&self) -> String {
        // A struct of numbers and texts can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people.
    pub fn text(&self) -> String {
        let Self {
            protocol,
            connections,
            streams,
            seconds,
            answers,
            ..
        } = self;
        let mut text =
            format!("{protocol}, {connections} connections × {streams}, {seconds:.2} s\n");
        let per_second = self.requests_per_second;
        let (received, sent) = (self.bytes_received, self.bytes_sent);
        let (full, resumed) = (
            self.handshakes - self.handshakes_resumed,
            self.handshakes_resumed,
        );
        let Latency {
            min,
            mean,
            p50,
            p90,
            p99,
            p99_9,
            max,
        } = self.latency_us;
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "answers    {answers} ({per_second:.1}/s)");
        let _ = writeln!(text, "bodies     {received} bytes received, {sent} sent");
        let _ = writeln!(text, "handshakes {full} full, {resumed} resumed");
        let _ = writeln!(
            text,
            "latency    min {min:.0}  mean {mean:.0}  p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  \
             p99.9 {p99_9:.0}  max {max:.0} µs"
        );
        let _ = write!(text, "failed     {}", self.failed());
        for (kind, count) in &self.errors {
            let _ = write!(text, "  {kind} {count}");
        }
        text
    }
}

/// Nanoseconds as microseconds.
fn micros(nanos: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "latencies are below 2^53 ns")]
    rounded(nanos as f64 / 1000.0)
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
