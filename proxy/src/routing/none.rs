//! No routes at all: the source of mode `forward`, which never asks.

use std::sync::Arc;

use async_trait::async_trait;
use postern_api::{HostName, LinkId};
use tokio::sync::watch;

use crate::routing::{Lookup, LookupError, Route, RouteSource};

/// Knows nobody.
#[derive(Debug, Default)]
pub struct NoRoutes(watch::Sender<u64>);

#[async_trait]
impl RouteSource for NoRoutes {
    async fn lookup(&self, _: LinkId, _: &HostName) -> Result<Lookup, LookupError> {
        Ok(Lookup::Unknown)
    }

    async fn lookup_host(&self, _: &HostName) -> Result<Option<Arc<Route>>, LookupError> {
        Ok(None)
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
