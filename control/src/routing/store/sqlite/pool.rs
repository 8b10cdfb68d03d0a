//! Connections for so many at a time, and a bounded queue before them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::StoreError;

/// Some connections.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<Connection>>,
    /// One for each connection.
    free: Arc<Semaphore>,
    /// One for each that may wait or work.
    admitted: Arc<Semaphore>,
}

impl Pool {
    /// Lets `waiting_max` wait while all connections work.
    pub(super) fn new(connections: Vec<Connection>, waiting_max: usize) -> Arc<Self> {
        let count = connections.len();
        Arc::new(Self {
            idle: Mutex::new(connections),
            free: Arc::new(Semaphore::new(count)),
            admitted: Arc::new(Semaphore::new(count + waiting_max)),
        })
    }

    /// Does `work` on a thread that may block, and gives what it comes to.
    pub(super) async fn run<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let done = self.start(work).await?.await;
        done.map_err(|error| StoreError::Unavailable(error.into()))?
    }

    /// The same, without waiting for the end.
    pub(super) async fn start<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, StoreError> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned();
        let admitted = admitted.map_err(|_| StoreError::Busy)?;
        let free = Arc::clone(&self.free).acquire_owned().await;
        let free = free.map_err(|error| StoreError::Unavailable(error.into()))?;
        let connection = self.lock().pop();
        let mut connection =
            connection.ok_or_else(|| StoreError::Unavailable("no connection".into()))?;
        let pool = Arc::clone(self);
        Ok(tokio::task::spawn_blocking(move || {
            // A panic has rolled its transaction back; the connection is as good as before.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut connection)));
            pool.lock().push(connection);
            drop((free, admitted));
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Nothing is left half done: a push or a pop.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
