//! What the kernel knows about this process, read from /proc when metrics are asked for.
//!
//! Promises nothing where there is no /proc: the metrics then stay as they are.

use prometheus::{Counter, Gauge, IntGauge};

use super::MetricsError;
use super::families::Maker;

pub(super) struct Process {
    resident: IntGauge,
    cpu: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    start_time: Gauge,
}

impl Process {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            resident: maker.gauge("process_resident_memory_bytes")?,
            cpu: maker.float_counter("process_cpu_seconds_total")?,
            open_fds: maker.gauge("process_open_fds")?,
            max_fds: maker.gauge("process_max_fds")?,
            threads: maker.gauge("process_threads")?,
            start_time: maker.float_gauge("process_start_time_seconds")?,
        })
    }

    /// Reads them. One caller at a time, since a counter can only be told its difference.
    pub(super) fn sample(&self) {
        let process = postern_chassis::process::sample();
        if let Some(bytes) = process.resident_bytes {
            self.resident.set(bytes);
        }
        if let Some(open) = process.open_fds {
            self.open_fds.set(open);
        }
        if let Some(limit) = process.max_fds {
            self.max_fds.set(limit);
        }
        if let Some(stat) = process.stat {
            self.cpu
                .inc_by((stat.cpu_seconds - self.cpu.get()).max(0.0));
            self.threads.set(stat.threads);
            self.start_time.set(stat.start_seconds);
        }
    }
}
