//! Holds accepting back until the process may accept, and tells when it does.
//!
//! A process that takes over has everything running, but accepts nothing before it has proven that it is ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Whether the listeners may accept, and how many of them do. Cloning copies pointers.
#[derive(Debug, Clone)]
pub struct Opening {
    open: Arc<watch::Sender<bool>>,
    accepting: Arc<watch::Sender<usize>>,
    services: usize,
}

impl Opening {
    /// For so many services that accept.
    pub fn new(services: usize) -> Self {
        Self {
            open: Arc::new(watch::Sender::new(false)),
            accepting: Arc::new(watch::Sender::new(0)),
            services,
        }
    }

    /// A service that accepts waits for this first.
    pub async fn opened(&self) {
        let mut open = self.open.subscribe();
        // The sender lives as long as `self`.
        let _ = open.wait_for(|open| *open).await;
    }

    /// One more service accepts.
    pub fn accepting(&self) {
        self.accepting.send_modify(|number| *number += 1);
    }

    /// Lets all of them accept, and waits until they do. `false`: one of them does not.
    pub async fn open(&self) -> bool {
        self.open.send_replace(true);
        let mut accepting = self.accepting.subscribe();
        let all = accepting.wait_for(|number| *number >= self.services);
        timeout(ACCEPT_TIMEOUT, all).await.is_ok()
    }
}

// Limit: taking a socket is one turn of a thread that has nothing else to do yet.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_open_when_every_service_accepts() {
        let opening = Opening::new(2);
        for _ in 0..2 {
            let opening = opening.clone();
            tokio::spawn(async move {
                opening.opened().await;
                opening.accepting();
            });
        }
        tokio::task::yield_now().await;
        assert_eq!(*opening.accepting.borrow(), 0);
        assert!(opening.open().await);
        assert!(!Opening::new(1).open().await);
    }
}
