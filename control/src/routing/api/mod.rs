//! What can be asked over HTTP, and the answers.
//!
//! ```text
//!   gate: role ▸ seat ▸ deadline ──▶ lookup · changes · snapshot    the data plane       (role "read")
//!                                    authorize                      an ingress           (role "authorize")
//!                                    books: workspaces ▸ accounts ▸ connections          (role "write")
//! ```
//!
//! Promises: whatever is refused has changed nothing, and is answered in Azure Resource Manager's shape with the part of
//! the request that is to blame. Any status but 200 and 304 is no answer to a data plane.
//!
//! * `operation`: what there is. `gate`: what every request passes. `request` and `object`: reading one, strictly. `error`: the shape.
//! * `lookup`, `changes` over `feed`, `snapshot`; `authorize`; `resources` and `books`; `openapi`: all of it as a document.

mod authorize;
mod books;
mod changes;
mod error;
mod feed;
mod gate;
mod lookup;
mod object;
mod openapi;
mod operation;
mod outlet;
mod request;
mod resources;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::middleware::from_fn_with_state;
use bytes::Bytes;
use tokio::sync::Semaphore;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use super::metrics::Metrics;
use super::options::{ChangesOptions, Config, LimitOptions};
use super::store::{Store, StoreError};
pub(super) use authorize::JUDGEMENTS;
use books::{accounts, connections, workspaces};
use error::ApiError;
pub(super) use feed::Feed;
pub use openapi::print_openapi;
pub(super) use operation::Operation;

/// What handlers work with.
pub(super) struct Api {
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    limits: LimitOptions,
    changes: ChangesOptions,
    /// Of a lookup, in seconds.
    max_age: u32,
    seats: Semaphore,
    subscribers: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
    health: Arc<Health>,
    document: Bytes,
}

/// Whether the store has done what it should, the last time that it was asked: one line in the log when that changes.
#[derive(Debug, Default)]
pub(super) struct Health {
    is_failing: AtomicBool,
}

impl Health {
    /// Notes what the store said, and counts what is its fault.
    pub(super) fn note<T>(&self, said: &Result<T, StoreError>, metrics: &Metrics) {
        match said {
            Err(error @ (StoreError::Busy | StoreError::Unavailable(_))) => {
                metrics.store_failed(error);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    let error = postern_chassis::whole(error);
                    tracing::error!(error, "the store does not do what it should");
                }
            }
            // Looked at before it is written, as this is every request's.
            _ if self.is_failing.load(Ordering::Relaxed)
                && self.is_failing.swap(false, Ordering::Relaxed) =>
            {
                tracing::info!("the store works again");
            }
            _ => {}
        }
    }
}

impl Api {
    pub(super) fn new(
        config: &Config,
        store: Arc<dyn Store>,
        feed: Arc<Feed>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            store,
            feed,
            metrics,
            limits: config.limits.clone(),
            changes: config.changes.clone(),
            max_age: config.lookup.seconds(),
            seats: Semaphore::new(config.limits.requests_max),
            subscribers: Arc::new(Semaphore::new(config.changes.subscribers_max)),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            health,
            document: print_openapi().into(),
        }
    }

    /// Everything that can be asked.
    pub(super) fn router(self) -> Router {
        let api = Arc::new(self);
        let operations = operations(|operation, routes| {
            routes.layer(from_fn_with_state(
                (Arc::clone(&api), operation),
                gate::pass,
            ))
        });
        let (router, _) = operations.split_for_parts();
        router
            .fallback(gate::nothing)
            .method_not_allowed_fallback(gate::no_method)
            .with_state(api)
    }

    /// What the store said, noted.
    fn kept<T>(&self, said: Result<T, StoreError>) -> Result<T, ApiError> {
        self.health.note(&said, &self.metrics);
        said.map_err(ApiError::from)
    }
}

// Limit: each holds a read transaction, which keeps the write-ahead log from being emptied. Who comes meanwhile waits.
const SNAPSHOTS_MAX: usize = 8;

/// A handler, or what has become of it.
type Routes = UtoipaMethodRouter<Arc<Api>>;

/// Every operation with its handler, which is put behind the gate by `on`.
fn operations(on: impl Fn(Operation, Routes) -> Routes) -> OpenApiRouter<Arc<Api>> {
    openapi::document()
        .routes(on(Operation::Lookup, routes!(lookup::lookup)))
        .routes(on(Operation::Changes, routes!(changes::changes)))
        .routes(on(Operation::Snapshot, routes!(snapshot::snapshot)))
        .routes(on(Operation::Authorize, routes!(authorize::authorize)))
        .routes(on(Operation::ListWorkspaces, routes!(workspaces::list)))
        .routes(on(Operation::GetWorkspace, routes!(workspaces::get)))
        .routes(on(Operation::PutWorkspace, routes!(workspaces::put)))
        .routes(on(Operation::DeleteWorkspace, routes!(workspaces::delete)))
        .routes(on(Operation::ListAccounts, routes!(accounts::list)))
        .routes(on(Operation::GetAccount, routes!(accounts::get)))
        .routes(on(Operation::PutAccount, routes!(accounts::put)))
        .routes(on(Operation::DeleteAccount, routes!(accounts::delete)))
        .routes(on(
            Operation::ListLinkResources,
            routes!(accounts::link_resources),
        ))
        .routes(on(Operation::ListConnections, routes!(connections::list)))
        .routes(on(Operation::GetConnection, routes!(connections::get)))
        .routes(on(Operation::PutConnection, routes!(connections::put)))
        .routes(on(
            Operation::DeleteConnection,
            routes!(connections::delete),
        ))
        .routes(on(
            Operation::ApproveConnection,
            routes!(connections::approve),
        ))
        .routes(on(
            Operation::RejectConnection,
            routes!(connections::reject),
        ))
        .routes(on(Operation::OpenApi, routes!(openapi::openapi)))
}
