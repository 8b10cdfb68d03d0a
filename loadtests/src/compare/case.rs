//! What is compared: each case with its load, what is looked at, and where Postern must be.

use super::ingress::{LARGE, LARGE_BYTES, MEDIUM, SMALL, UPLOAD};

/// A case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Case {
    /// HTTP/1.1, answers of 100 bytes, 16 connections that stay.
    H1Small,
    /// HTTP/2, answers of 100 bytes, 8 connections with 16 requests at a time.
    H2Small,
    /// HTTP/1.1, answers of 64 KiB, 16 connections.
    #[value(name = "h1-64k")]
    H1Medium,
    /// HTTP/1.1, answers of 16 MiB, 4 connections.
    #[value(name = "h1-16m")]
    H1Large,
    /// HTTP/1.1, uploads of 16 MiB, 4 connections.
    #[value(name = "upload-16m")]
    Upload,
    /// A new connection with a full handshake for each request.
    Handshake,
    /// A new connection with a resumed handshake for each request.
    Resume,
    /// Memory of an idle connection after one request; as many as can be opened, up to 10,000.
    IdleMemory,
    /// Latency that the proxy adds at half of the load that the slowest proxy can bear.
    LatencyHalfLoad,
    /// CPU that writing an access log adds.
    AccessLog,
}

/// What is measured, by its name in the JSON report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Metric {
    /// Its name.
    pub(super) key: &'static str,
    /// In words, with its unit.
    pub(super) title: &'static str,
    /// Less than this cannot be told from nothing.
    pub(super) floor: f64,
}

/// CPU of the proxy.
pub(super) const CPU: Metric = Metric {
    key: "cpu_us_per_request",
    title: "µs of CPU per request",
    floor: 0.01,
};
/// CPU that the access log adds.
pub(super) const ADDED_CPU: Metric = Metric {
    key: "added_cpu_us_per_request",
    title: "µs of CPU added per request",
    // The difference of two slices of some 20 µs a request scatters by half a microsecond, in which nothing shows.
    floor: 0.5,
};
/// Memory of a connection.
pub(super) const IDLE: Metric = Metric {
    key: "idle_kib_per_connection",
    title: "KiB resident per idle connection",
    floor: 0.1,
};
/// Added latency, median.
pub(super) const ADDED_P50: Metric = Metric {
    key: "added_p50_us",
    title: "µs added to the median",
    floor: 1.0,
};
/// Added latency, 99th percentile.
pub(super) const ADDED_P99: Metric = Metric {
    key: "added_p99_us",
    title: "µs added to the 99th percentile",
    floor: 1.0,
};
/// Answers a second.
pub(super) const RATE: Metric = metric("requests_per_second", "answers per second");
/// Latency, median.
pub(super) const P50: Metric = metric("p50_us", "µs, median");
/// Latency, 99th percentile.
pub(super) const P99: Metric = metric("p99_us", "µs, 99th percentile");
/// Memory of the process.
pub(super) const RESIDENT: Metric = metric("rss_kib", "KiB resident");
/// Whole answers.
pub(super) const ANSWERS: Metric = metric("answers", "answers");
/// TLS handshakes that were resumed, of a hundred.
pub(super) const RESUMED: Metric = metric("resumed_percent", "% of handshakes resumed");
/// Requests without a good answer.
pub(super) const FAILED: Metric = metric("failed", "failed");

const fn metric(key: &'static str, title: &'static str) -> Metric {
    Metric {
        key,
        title,
        floor: 0.0,
    }
}

impl Case {
    /// All, in the order of a report.
    pub(super) const ALL: [Self; 10] = [
        Self::H1Small,
        Self::H2Small,
        Self::H1Medium,
        Self::H1Large,
        Self::Upload,
        Self::Handshake,
        Self::Resume,
        Self::IdleMemory,
        Self::LatencyHalfLoad,
        Self::AccessLog,
    ];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::H1Small => "h1-small",
            Self::H2Small => "h2-small",
            Self::H1Medium => "h1-64k",
            Self::H1Large => "h1-16m",
            Self::Upload => "upload-16m",
            Self::Handshake => "handshake",
            Self::Resume => "resume",
            Self::IdleMemory => "idle-memory",
            Self::LatencyHalfLoad => "latency-half-load",
            Self::AccessLog => "access-log",
        }
    }

    /// In words.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::H1Small => "HTTP/1.1, 100-byte answers",
            Self::H2Small => "HTTP/2, 100-byte answers",
            Self::H1Medium => "HTTP/1.1, 64 KiB answers",
            Self::H1Large => "HTTP/1.1, 16 MiB answers",
            Self::Upload => "HTTP/1.1, 16 MiB uploads",
            Self::Handshake => "new connection, full handshake",
            Self::Resume => "new connection, resumed handshake",
            Self::IdleMemory => "memory of an idle connection",
            Self::LatencyHalfLoad => "latency added at half load",
            Self::AccessLog => "access log",
        }
    }

    /// Whether it may be measured in slices of a second, with everybody else's in between: what disturbs the machine
    /// for a while then disturbs all alike.
    pub(super) const fn sliced(self) -> bool {
        !matches!(self, Self::IdleMemory | Self::LatencyHalfLoad)
    }

    /// What Postern is judged by: the worst of these.
    pub(super) const fn judged_by(self) -> &'static [Metric] {
        match self {
            Self::IdleMemory => &[IDLE],
            Self::LatencyHalfLoad => &[ADDED_P50, ADDED_P99],
            Self::AccessLog => &[ADDED_CPU],
            _ => &[CPU],
        }
    }

    /// The most that Postern may need, as a ratio to the best of the others.
    pub(super) const fn goal(self) -> f64 {
        match self {
            Self::H1Small => 0.85,
            Self::H2Small => 0.65,
            Self::H1Medium => 0.80,
            Self::H1Large | Self::Upload => 0.90,
            Self::Handshake | Self::Resume => 0.75,
            Self::IdleMemory | Self::LatencyHalfLoad | Self::AccessLog => 1.0,
        }
    }

    /// Arguments for the load generator.
    pub(super) fn load(self) -> Vec<String> {
        let words = match self {
            Self::H1Small | Self::LatencyHalfLoad | Self::AccessLog => {
                format!("--connections 16 --path {SMALL}")
            }
            Self::H2Small => {
                format!("--protocol h2 --connections 8 --streams 16 --path {SMALL}")
            }
            Self::H1Medium => format!("--connections 16 --path {MEDIUM}"),
            Self::H1Large => format!("--connections 4 --path {LARGE}"),
            Self::Upload => {
                format!("--connections 4 --method POST --upload {LARGE_BYTES} --path {UPLOAD}")
            }
            Self::Handshake => format!("--connections 16 --handshake full --path {SMALL}"),
            Self::Resume => format!("--connections 16 --handshake resumed --path {SMALL}"),
            Self::IdleMemory => format!("--path {SMALL}"),
        };
        words.split(' ').map(ToOwned::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_names_on_the_command_line_are_those_in_the_report() {
        for case in Case::ALL {
            let value = case.to_possible_value().unwrap();
            assert_eq!(value.get_name(), case.name());
        }
        assert_eq!(Case::ALL.len(), Case::value_variants().len());
    }
}
