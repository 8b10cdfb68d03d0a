//! The top of the page: whether this process serves, and if not, what it waits for or how far its drain is.

use std::fmt::{self, Formatter};
use std::time::Duration;

use jiff::Timestamp;

use super::Page;
use super::html::{Escaped, Tone, grouped, span};
use crate::server::Phase;

impl Page {
    /// In one word or two.
    pub(super) fn state(&self) -> (Tone, &'static str) {
        match (self.progress.phase, self.ready) {
            (Phase::Serving, true) => (Tone::Good, "Ready"),
            (Phase::Serving, false) => (Tone::Bad, "Not ready"),
            (Phase::Noticing | Phase::Ending, _) => (Tone::Warn, "Draining"),
            (Phase::Drained, _) => (Tone::Warn, "Drained"),
        }
    }

    pub(super) fn write_state(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (tone, state) = self.state();
        writeln!(
            f,
            "<header class=\"state {}\">\n<h1>{state}</h1>",
            tone.class()
        )?;
        match self.progress.phase {
            Phase::Serving if self.ready => {}
            Phase::Serving => self.write_missing(f)?,
            _ => self.write_drain(f)?,
        }
        writeln!(
            f,
            "<p><small>Postern {} · mode {} · up for {} · {:.0}</small></p>\n</header>",
            env!("CARGO_PKG_VERSION"),
            Escaped(self.mode),
            span(self.up),
            self.at()
        )?;
        self.write_mode(f)?;
        if let Some(refused) = &self.configuration.refusal {
            writeln!(
                f,
                "<div class=\"note bad\"><b>The reload at {:.0} was refused</b>; the configuration before stays in force.<pre>{}</pre></div>",
                refused.at,
                Escaped(&refused.why)
            )?;
        }
        Ok(())
    }

    fn write_mode(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let about_mode = match self.mode {
            "enforce" => return Ok(()),
            "forward" => "nothing is looked up here; the back end decides who may reach what.",
            _ => "decisions are made and not enforced: whoever should be refused is let through.",
        };
        let mode = Escaped(self.mode);
        writeln!(
            f,
            "<div class=\"note warn\"><b>Mode {mode}</b>: {about_mode}</div>"
        )
    }

    fn write_missing(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<p>Missing:</p>\n<ul>\n")?;
        for condition in &self.waiting_for {
            let about = match *condition {
                "listeners" => "the listeners are not bound yet.",
                "credentials" => {
                    "a certificate is missing, was refused, or has ended: see <a href=#certificates>certificates</a>."
                }
                "routes" => {
                    "no route file was read, or account routing has not been heard of in time: see <a href=#now>account routing</a>."
                }
                "ingress" => "no address of the ingress answers: see <a href=#ingress>ingress</a>.",
                _ => "see the operational log.",
            };
            writeln!(f, "<li><b>{}</b>: {about}", Escaped(condition))?;
        }
        f.write_str("</ul>\n")
    }

    fn write_drain(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let progress = &self.progress;
        let connections = grouped(progress.connections as u64);
        let requests = progress.requests_in_flight;
        match progress.phase {
            Phase::Noticing => writeln!(
                f,
                "<p>Not ready, and still accepting until the probes have noticed. Open: {connections} connections, {requests} requests in flight.</p>"
            )?,
            Phase::Drained => writeln!(
                f,
                "<p>Open: {connections} connections. Cut: {}. It serves nobody until it is started again.</p>",
                progress.connections_cut
            )?,
            _ => writeln!(
                f,
                "<p>Not accepting. Left: {connections} connections, {requests} requests in flight.</p>"
            )?,
        }
        let Some(left) = progress.deadline_seconds else {
            return Ok(());
        };
        let left = Duration::try_from_secs_f64(left).unwrap_or_default();
        let began = progress
            .began
            .as_deref()
            .and_then(|at| at.parse::<Timestamp>().ok());
        let now = Timestamp::from_second(self.now).unwrap_or_default();
        let gone = began.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
        let gone = gone.unwrap_or_default();
        writeln!(
            f,
            "<p>What has not ended in <b>{}</b> is cut.</p>\n<progress max={} value={}></progress>",
            span(left),
            gone.as_secs() + left.as_secs(),
            gone.as_secs(),
        )
    }
}
