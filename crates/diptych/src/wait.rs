//! Waiting for a future: for a limited time in a task, or on a plain thread.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

/// Waits for `what`, at most `longest`. Without a runtime there is no clock, so the wait is not
/// limited.
pub(crate) async fn within<T>(longest: Duration, what: impl Future<Output = T>) -> Option<T> {
    match Handle::try_current() {
        Ok(_) => tokio::time::timeout(longest, what).await.ok(),
        Err(_) => Some(what.await),
    }
}

/// Waits for this time. Without a runtime the thread of the caller sleeps.
pub(crate) async fn pause(time: Duration) {
    match Handle::try_current() {
        Ok(_) => tokio::time::sleep(time).await,
        Err(_) => thread::sleep(time),
    }
}

/// Waits for `what` on the calling thread, or until `is_over` returns true. The code that makes it
/// true must unpark the thread.
pub(crate) fn unless<T>(is_over: impl Fn() -> bool, what: impl Future<Output = T>) -> Option<T> {
    let waker = unpark_this_thread();
    let mut context = Context::from_waker(&waker);
    let mut what = pin!(what);
    loop {
        if let Poll::Ready(answer) = what.as_mut().poll(&mut context) {
            return Some(answer);
        }
        if is_over() {
            return None;
        }
        thread::park();
    }
}

/// Waits for `what` on the calling thread, at most `longest`.
pub(crate) fn at_most<T>(longest: Duration, what: impl Future<Output = T>) -> Option<T> {
    let waker = unpark_this_thread();
    let mut context = Context::from_waker(&waker);
    let mut what = pin!(what);
    let until = Instant::now() + longest;
    loop {
        if let Poll::Ready(answer) = what.as_mut().poll(&mut context) {
            return Some(answer);
        }
        match until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return None,
            left => thread::park_timeout(left),
        }
    }
}

/// A waker that unparks the calling thread.
pub(crate) fn unpark_this_thread() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
