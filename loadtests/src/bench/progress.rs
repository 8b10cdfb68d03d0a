//! A progress bar for whoever watches; nothing when standard error is not a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::Limit;

/// How far a run is.
pub(super) struct Progress {
    bar: ProgressBar,
    limit: Limit,
}

impl Progress {
    pub(super) fn new(limit: Limit) -> Self {
        let length = match limit {
            Limit::Time(length) => millis(length),
            Limit::Requests(count) => count,
        };
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        Self { bar, limit }
    }

    pub(super) fn show(&self, elapsed: Duration, answers: u64, failures: u64) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_position(match self.limit {
            Limit::Time(_) => millis(elapsed),
            Limit::Requests(_) => answers + failures,
        });
        let per_second = answers * 1000 / millis(elapsed).max(1);
        self.bar.set_message(format!(
            "{answers} answers, {per_second}/s, {failures} failed"
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
