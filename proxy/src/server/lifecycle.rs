//! The signals that a process lives by: SIGTERM and SIGQUIT drain and end it; SIGINT ends it at once, even a drain.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::server::drain::Drain;

/// Decides when this process ends.
pub struct Lifecycle {
    drain: Arc<Drain>,
}

impl Lifecycle {
    /// Of a process that drains by `drain`.
    pub fn new(drain: Arc<Drain>) -> Self {
        Self { drain }
    }

    async fn fast(&self) -> ShutdownSignal {
        tracing::warn!("SIGINT: stopping at once");
        self.drain.cut().await;
        ShutdownSignal::FastShutdown
    }
}

#[async_trait]
impl ShutdownSignalWatch for Lifecycle {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut quit), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::quit()),
            signal(SignalKind::interrupt()),
        ) else {
            tracing::error!("signals cannot be watched; this process ends only by SIGKILL");
            return std::future::pending().await;
        };
        tokio::select! {
            () = first_of(&mut terminate, &mut quit) => {}
            _ = interrupt.recv() => return self.fast().await,
        }
        self.drain.begin(None);
        tokio::select! {
            () = self.drain.done() => {}
            _ = interrupt.recv() => return self.fast().await,
        }
        ShutdownSignal::FastShutdown
    }
}

async fn first_of(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
