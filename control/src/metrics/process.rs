//! What the kernel knows about this process, read from /proc when metrics are asked for.

use prometheus::{Counter, Gauge, IntGauge};

use super::{Maker, MetricsError};

pub(super) struct Process {
    resident: IntGauge,
    cpu: Counter,
    open_fds: IntGauge,
    start_time: Gauge,
}

impl Process {
    pub(super) fn new(maker: &Maker) -> Result<Self, MetricsError> {
        let gauge = |name| maker.options(name, "gauge").map(|(options, _)| options);
        let cpu = maker.options("process_cpu_seconds_total", "counter")?.0;
        Ok(Self {
            resident: maker.add(IntGauge::with_opts(gauge(
                "process_resident_memory_bytes",
            )?)?)?,
            cpu: maker.add(Counter::with_opts(cpu)?)?,
            open_fds: maker.add(IntGauge::with_opts(gauge("process_open_fds")?)?)?,
            start_time: maker.add(Gauge::with_opts(gauge("process_start_time_seconds")?)?)?,
        })
    }

    /// Reads them. What is not known stays as it is.
    pub(super) fn sample(&self) {
        let process = postern_chassis::process::sample();
        if let Some(bytes) = process.resident_bytes {
            self.resident.set(bytes);
        }
        if let Some(open) = process.open_fds {
            self.open_fds.set(open);
        }
        if let Some(stat) = process.stat {
            self.cpu
                .inc_by((stat.cpu_seconds - self.cpu.get()).max(0.0));
            self.start_time.set(stat.start_seconds);
        }
    }
}
