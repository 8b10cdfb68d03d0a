//! The admin listener.
use crate::config::Config;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
/// x
pub struct Admin {
    metrics: Arc<crate::metrics::Metrics>,
}
impl Admin {
    /// x
    pub fn new(
        _config: &Config,
        metrics: Arc<crate::metrics::Metrics>,
        _level: crate::telemetry::LevelHandle,
    ) -> Self {
        Self { metrics }
    }
    /// x
    pub async fn serve(&self, _io: impl AsyncRead + AsyncWrite + Unpin) {
        let _ = self.metrics.render();
    }
}
