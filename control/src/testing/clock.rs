//! What time the stand-ins believe it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The system's clock, and how far the stand-ins are ahead of it. One for a vault and its identity.
///
/// A request takes its real time whatever this says; what moves are the time stamps that a vault gives, and
/// the end of tokens.
#[derive(Debug, Default)]
pub struct Clock {
    ahead: AtomicI64,
    stopped: Mutex<Option<i64>>,
}

impl Clock {
    /// Unix time in seconds.
    pub fn now(&self) -> i64 {
        let stopped = *self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stopped) = stopped {
            return stopped;
        }
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_1970.as_secs())
            .unwrap_or(i64::MAX)
            .saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Stops this clock at a Unix time in seconds, for a test that tells the time.
    pub fn stop_at(&self, seconds: i64) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(seconds);
    }

    /// Sets how many seconds this clock is ahead of the system's; negative: behind.
    pub fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }
}
