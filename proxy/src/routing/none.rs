//! No routes at all: the source of mode `forward`, which never asks.

use async_trait::async_trait;
use postern_api::{HostName, LinkId};
use tokio::sync::watch;

use crate::routing::{Answer, Lookup, LookupError, RouteSource};

/// Knows nobody.
#[derive(Debug, Default)]
pub struct NoRoutes(watch::Sender<u64>);

#[async_trait]
impl RouteSource for NoRoutes {
    async fn lookup(&self, _: LinkId, _: &HostName) -> Result<Answer, LookupError> {
        Ok(Lookup::Unknown.into())
    }

    async fn lookup_host(&self, _: &HostName) -> Result<Answer, LookupError> {
        Ok(Lookup::Unknown.into())
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
