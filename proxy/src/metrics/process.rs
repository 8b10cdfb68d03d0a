//! What the kernel knows about this process, read from /proc when metrics are asked for.
//!
//! Promises nothing where there is no /proc: the metrics then stay as they are.

use std::fs;

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

/// What is read from /proc/self/stat and /proc/stat.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: i64,
    start_seconds: f64,
}

// The unit of times in /proc/self/stat is USER_HZ, which Linux has fixed at 100 for user space on every
// architecture that this is built for (proc_pid_stat(5), sysconf(_SC_CLK_TCK)).
const TICKS_PER_SECOND: f64 = 100.0;

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
        if let Some(kib) = read("/proc/self/status").and_then(|text| resident_kib(&text)) {
            self.resident.set(kib.saturating_mul(1024));
        }
        if let Ok(folder) = fs::read_dir("/proc/self/fd") {
            // Less the one that reads the folder.
            self.open_fds.set(
                i64::try_from(folder.count())
                    .unwrap_or(i64::MAX)
                    .saturating_sub(1),
            );
        }
        if let Some(limit) = read("/proc/self/limits").and_then(|text| open_files(&text)) {
            self.max_fds.set(limit);
        }
        let stat = read("/proc/self/stat").zip(read("/proc/stat"));
        if let Some(stat) = stat.and_then(|(own, system)| parse_stat(&own, &system)) {
            self.cpu
                .inc_by((stat.cpu_seconds - self.cpu.get()).max(0.0));
            self.threads.set(stat.threads);
            self.start_time.set(stat.start_seconds);
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn resident_kib(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn open_files(limits: &str) -> Option<i64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parse_stat(own: &str, system: &str) -> Option<Stat> {
    // The second field is the name in parentheses, which may itself have spaces and parentheses.
    let (_, fields) = own.rsplit_once(')')?;
    // Fields are numbered from 1 in proc_pid_stat(5), and the first one here is the third.
    let field = |number: usize| {
        fields
            .split_whitespace()
            .nth(number - 3)?
            .parse::<f64>()
            .ok()
    };
    let boot: f64 = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        threads: fields.split_whitespace().nth(20 - 3)?.parse().ok()?,
        start_seconds: boot + field(22)? / TICKS_PER_SECOND,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let own = "7 (po) st) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 3 0 1000 1 2 3";
        let stat = parse_stat(own, "cpu 1 2\nbtime 1700000000\n").unwrap();
        assert_eq!(
            stat,
            Stat {
                cpu_seconds: 2.0,
                threads: 3,
                start_seconds: 1_700_000_010.0
            }
        );
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1234));
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(open_files(limits), Some(1024));
        for text in ["", "7", "7 (a) S", "VmRSS: kB", "Max open files unlimited"] {
            assert_eq!(parse_stat(text, text), None);
            assert_eq!(resident_kib(text), None);
            assert_eq!(open_files(text), None);
        }
    }
}
