//! What the kernel knows about this process, read from /proc.
//!
//! Promises nothing where there is no /proc: the answers are then `None`.

use std::fs;

/// What is known now.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Resident memory.
    pub resident_bytes: Option<i64>,
    /// Open file descriptors.
    pub open_fds: Option<i64>,
    /// File descriptors that may be open.
    pub max_fds: Option<i64>,
    /// What the scheduler counts.
    pub stat: Option<Stat>,
}

/// What the scheduler counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Stat {
    /// User and system CPU time.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: i64,
    /// When the process started, in seconds since 1970.
    pub start_seconds: f64,
}

// The unit of times in /proc/self/stat is USER_HZ, which Linux has fixed at 100 for user space on every
// architecture that this is built for (proc_pid_stat(5), sysconf(_SC_CLK_TCK)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads it. A few files; a millisecond at most.
pub fn sample() -> Sample {
    let status = read("/proc/self/status");
    let stat = read("/proc/self/stat").zip(read("/proc/stat"));
    Sample {
        resident_bytes: status
            .and_then(|text| resident_kib(&text))
            .map(|kib| kib.saturating_mul(1024)),
        // Less the one that reads the folder.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|folder| {
            i64::try_from(folder.count())
                .unwrap_or(i64::MAX)
                .saturating_sub(1)
        }),
        max_fds: read("/proc/self/limits").and_then(|text| open_files(&text)),
        stat: stat.and_then(|(own, system)| parse_stat(&own, &system)),
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
