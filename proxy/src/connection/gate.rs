//! A future that is polled only when it was woken.
//!
//! A connection's task is woken by every byte; the reasons to end it come once in its life. [`Gate`] gives the
//! future inside a waker of its own, a [`Bell`], so that a wake-up by traffic costs it one relaxed load.

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

/// Remembers that it was rung, and wakes the task that listens.
#[derive(Default)]
pub struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    /// Rings it.
    pub fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Whether it was rung since this was last asked.
    pub fn was_rung(&self) -> bool {
        self.rung.swap(false, Ordering::Acquire)
    }

    /// From here on it wakes this task. What rang before does not: ask.
    pub fn wake_task(&self, task: &Waker) {
        self.task.register(task);
    }

    /// From here on it wakes nobody: the task is awake and asks by itself.
    pub fn wake_nobody(&self) {
        self.task.take();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl<F: Future> Gate<F> {
    /// Puts a future behind a gate. It is polled when the gate first is.
    pub fn new(inner: F) -> Self {
        let bell = Arc::<Bell>::default();
        bell.ring();
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
        self.bell.wake_task(cx.waker());
        if !self.bell.was_rung() {
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
