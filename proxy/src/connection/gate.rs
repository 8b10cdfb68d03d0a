//! A future that is polled only when it was woken.
//!
//! A connection's task is woken by every byte; the reasons to end it come once in its life. [`Gate`] gives the
//! future inside a waker of its own, so that a wake-up by traffic costs it one relaxed load.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future behind a gate. Pin-projected by boxing: made once a connection.
pub struct Gate<F> {
    inner: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Gate<F> {
    /// Puts a future behind a gate. It is polled when the gate first is.
    pub fn new(inner: F) -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        Self {
            inner: Box::pin(inner),
            bell,
            waker,
        }
    }
}

impl<F: Future> Future for Gate<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.bell.task.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let this = &mut *self;
        this.inner
            .as_mut()
            .poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn the_future_inside_is_polled_when_woken_and_not_when_its_neighbour_is() {
        let polls = Arc::new(AtomicUsize::new(0));
        let bell = Arc::new(Notify::new());
        let inner = {
            let (polls, bell) = (Arc::clone(&polls), Arc::clone(&bell));
            async move {
                let mut notified = std::pin::pin!(bell.notified());
                std::future::poll_fn(|cx| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    notified.as_mut().poll(cx)
                })
                .await;
            }
        };
        let mut gate = Gate::new(inner);
        for _ in 0..5 {
            assert!(futures_util::poll!(&mut gate).is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        bell.notify_one();
        gate.await;
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
