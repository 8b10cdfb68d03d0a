//! What Azure plans for this machine, and what is done about it.

use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use postern_chassis::{Section, Setting, options, period};

use super::super::events::EventKind;

options! {
    /// Scheduled Events of the virtual machine that this runs on.
    pub struct ScheduledEventsOptions {
        /// Where the instance metadata service is: plain HTTP, never through a proxy.
        pub endpoint: String = "http://169.254.169.254".into();
        /// The name of this machine, as events have it: SCALESET_ID in a scale set. Without it, the metadata service is
        /// asked once.
        pub vm_name: Option<String> = None => r#""postern-weu_3""#;
        /// The admin listener of the Postern on this machine, which is asked to drain.
        pub postern_admin: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9090));
        /// Which events drain: "Terminate", "Preempt", "Reboot", "Redeploy", "Freeze". A freeze is over in seconds, and
        /// connections outlive it.
        pub kinds: Vec<EventKind> = EventKind::DRAINING.into();
        /// Time between looks, and between steps of a drain. Azure advises a second.
        #[serde(with = "period")]
        pub interval: Duration = Duration::from_secs(1);
        /// Time before an event begins by which its drain must be over, so that the acknowledgement still counts.
        #[serde(with = "period")]
        pub margin: Duration = Duration::from_secs(5);
    }
}

impl Setting for EventKind {}

// Limit: a look a second is what Azure advises; tests look ten times as often.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
// Limit: of the 30 seconds' notice of a preemption, a look may cost a third.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
// Limit: the last look at the drain, and one request to acknowledge.
const MARGIN_MIN: Duration = Duration::from_secs(2);
// Limit: of the 30 seconds' notice of a preemption, ten are left to drain.
const MARGIN_MAX: Duration = Duration::from_secs(20);
// Limit: what Azure allows a Windows name or a scale set's is far shorter.
const NAME_BYTES_MAX: usize = 128;

impl ScheduledEventsOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.require("endpoint", is_origin(&self.endpoint), || {
            format!(
                "`{}` is not as http://169.254.169.254: plain HTTP, without a path",
                self.endpoint
            )
        });
        let named = |name: &String| (1..=NAME_BYTES_MAX).contains(&name.len());
        at.require("vm_name", self.vm_name.as_ref().is_none_or(named), || {
            format!(
                "has 1 to {NAME_BYTES_MAX} bytes; leave it out to have the metadata service asked"
            )
        });
        at.port("postern_admin", self.postern_admin);
        at.require("kinds", !self.kinds.is_empty(), || {
            "is empty: leave out the section to do nothing".into()
        });
        at.period("interval", self.interval, INTERVAL_MIN..=INTERVAL_MAX);
        at.period("margin", self.margin, MARGIN_MIN..=MARGIN_MAX);
    }
}

fn is_origin(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let bare = uri.path() == "/" && uri.query().is_none();
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let plain = authority.is_some_and(|it| !it.is_empty() && !it.contains('@'));
    uri.scheme_str() == Some("http") && bare && plain
}
