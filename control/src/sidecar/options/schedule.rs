//! When to look, and whom to answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postern_chassis::log::LogLevel;
use postern_chassis::{Section, options, period};

options! {
    /// When to look.
    pub struct RestOptions {
        /// Time between looks for a new version, at most. Up to a quarter less, so that a fleet does not ask at once.
        #[serde(with = "period")]
        pub interval: Duration = Duration::from_mins(10);
        /// From this time before the published certificate ends, looks become more frequent.
        #[serde(with = "period")]
        pub near_expiry: Duration = Duration::from_hours(72);
        /// Time between looks when the published certificate is about to end.
        #[serde(with = "period")]
        pub interval_min: Duration = Duration::from_mins(1);
        /// Time after the first failure, doubled with each further one. The vault may ask for more.
        #[serde(with = "period")]
        pub backoff_min: Duration = Duration::from_secs(1);
        /// Time between looks while they fail, at most.
        #[serde(with = "period")]
        pub backoff_max: Duration = Duration::from_mins(5);
        /// First looks are spread by chance, one certificate after the other: three requests over this time, which are
        /// one look at a "trust"; at a "server" or "client" there are two, at the ticket keys five. The default keeps 100
        /// sidecars that start at once below 20 requests a second in all; it scales with their number: "4s" for 10.
        #[serde(with = "period")]
        pub start_spread: Duration = Duration::from_secs(45);
    }
}

options! {
    /// The admin listener.
    pub struct AdminOptions {
        /// Address and port to listen on: plain HTTP without authentication, so keep it on the loopback.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9091));
    }
}

options! {
    /// A listener for Event Grid's notifications of new versions.
    pub struct NotificationOptions {
        /// Required. Address and port to listen on: plain HTTP. What ends TLS stands before it, and forwards POST /events.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0)) => r#""127.0.0.1:9092""#;
        /// Required. The file with the token that a delivery must show: the subscription's URL ends in /events?token=….
        pub token_file: PathBuf = PathBuf::new() => r#""event-grid-token""#;
        /// A notified look is at a random moment of a stretch of this length, as the whole fleet is notified at once.
        #[serde(with = "period")]
        pub spread: Duration = Duration::from_secs(30);
    }
}

options! {
    /// The operational log.
    pub struct LogOptions {
        /// "off", "error", "warn", "info", "debug" or "trace".
        pub level: LogLevel = LogLevel::Info;
    }
}

// Limit: below a second, even one sidecar is a burden on a vault; tests go below, so it is a tenth.
const SHORTEST: Duration = Duration::from_millis(100);
// Limit: a certificate that is about to end is looked for every day at the least.
const LONGEST: Duration = Duration::from_hours(24);

impl RestOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.period("interval", self.interval, SHORTEST..=LONGEST);
        at.period("interval_min", self.interval_min, SHORTEST..=LONGEST);
        at.require("interval_min", self.interval_min <= self.interval, || {
            "must not be longer than rest.interval".into()
        });
        at.period("backoff_min", self.backoff_min, SHORTEST..=LONGEST);
        at.period("backoff_max", self.backoff_max, SHORTEST..=LONGEST);
        at.require("backoff_max", self.backoff_min <= self.backoff_max, || {
            "must not be shorter than rest.backoff_min".into()
        });
    }
}

impl AdminOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.port("listen", self.listen);
    }
}

impl NotificationOptions {
    pub(super) fn validate(&self, admin: &AdminOptions, mut at: Section<'_>) {
        at.port("listen", self.listen);
        at.require("listen", self.listen != admin.listen, || {
            format!("`{}` is already admin.listen", self.listen)
        });
        at.require(
            "token_file",
            !self.token_file.as_os_str().is_empty(),
            || "is required: the file with the token that a delivery must show".into(),
        );
    }
}
