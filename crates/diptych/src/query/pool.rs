//! The threads that fold the past: few, so that commands and views keep the other cores.
//!
//! A fold is a future that one thread of the pool polls until it is done. It yields after each page
//! of events. After each yield the thread checks that the caller still waits and that the app still
//! runs. If not, it drops the fold.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    thread::{self, JoinHandle, Thread},
};

use parking_lot::{Condvar, Mutex};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use super::{QueryError, QueryPanicked};
use crate::{
    fold::{caught, panic_text},
    follow::unless,
};

/// Bounds on the folds of the past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Folds that run at once, each on a thread.
    pub(crate) folds: NonZeroUsize,
    /// Folds that wait for a thread.
    pub(crate) waiting: usize,
}

/// The threads that fold the past for one app. They are started on demand, and stay.
pub(crate) struct FoldPool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// State shared by the threads and the callers.
struct Shared {
    limits: PoolLimits,
    jobs: Mutex<Jobs>,
    /// A job waits, or the pool was stopped.
    changed: Condvar,
    /// Signals that a stopped pool has no running folds left.
    ended: Notify,
}

#[derive(Default)]
struct Jobs {
    /// In the order in which they came.
    waiting: VecDeque<Arc<Job>>,
    running: Vec<Arc<Job>>,
    /// Threads that were started.
    threads: usize,
    is_stopped: bool,
}

/// One fold.
struct Job {
    /// Taken by the thread that runs it.
    fold: Mutex<Option<BoxedFold>>,
    turn: Mutex<Turn>,
    /// The caller's runtime, because reads of some stores need one.
    runtime: Option<Handle>,
}

type BoxedFold = Pin<Box<dyn Future<Output = Tell> + Send>>;
/// Sends the answer to the caller, once the thread is free for other folds.
type Tell = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Turn {
    /// The thread that runs it.
    thread: Option<Thread>,
    /// No caller waits for it any more.
    is_given_up: bool,
}

/// A running or waiting fold. Dropping it cancels the fold, and its thread is free again within a
/// page.
#[must_use = "a fold that is dropped is given up"]
pub(super) struct Folding<T> {
    shared: Arc<Shared>,
    job: Arc<Job>,
    answer: oneshot::Receiver<Result<T, QueryError>>,
}

impl FoldPool {
    pub(crate) fn new(limits: PoolLimits) -> FoldPool {
        let (jobs, changed, ended) = (Mutex::default(), Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { limits, jobs, changed, ended });
        FoldPool { shared, threads: Mutex::default() }
    }

    /// Runs a fold for a query of this Rust type, once a thread is free. `fold` is called only if
    /// the pool admits it. The fold must not keep the app alive.
    ///
    /// # Errors
    /// [`QueryError::Busy`] if the queue is full, [`QueryError::AppStopped`], or
    /// [`QueryError::NoThread`].
    pub(super) fn start<T: Send + 'static, F>(
        &self,
        query: &'static str,
        fold: impl FnOnce() -> F,
    ) -> Result<Folding<T>, QueryError>
    where
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let mut jobs = self.shared.jobs.lock();
        self.admit(&mut jobs)?;
        let (reply, answer) = oneshot::channel();
        let fold = caught_fold(query, fold());
        let fold = async move {
            let answer = fold.await;
            // The caller may have gone.
            let tell: Tell = Box::new(move || drop(reply.send(answer)));
            tell
        };
        let job = Arc::new(Job {
            fold: Mutex::new(Some(Box::pin(fold))),
            turn: Mutex::default(),
            runtime: Handle::try_current().ok(),
        });
        jobs.waiting.push_back(job.clone());
        drop(jobs);
        self.shared.changed.notify_one();
        Ok(Folding { shared: self.shared.clone(), job, answer })
    }

    /// Checks that one more fold may wait, and starts a thread for it if needed.
    fn admit(&self, jobs: &mut Jobs) -> Result<(), QueryError> {
        let PoolLimits { folds, waiting } = self.shared.limits;
        if jobs.is_stopped {
            return Err(QueryError::AppStopped);
        }
        if jobs.running.len() + jobs.waiting.len() >= folds.get().saturating_add(waiting) {
            return Err(QueryError::Busy { folds: folds.get(), waiting });
        }
        let idle = jobs.threads - jobs.running.len();
        if idle > jobs.waiting.len() || jobs.threads == folds.get() {
            return Ok(());
        }
        match self.start_thread(jobs.threads) {
            Ok(()) => jobs.threads += 1,
            // Without another thread the fold waits for the existing ones.
            Err(_) if jobs.threads > 0 => {}
            Err(error) => return Err(QueryError::NoThread { reason: error.to_string() }),
        }
        Ok(())
    }

    fn start_thread(&self, number: usize) -> io::Result<()> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name(format!("diptych past {number}"));
        self.threads.lock().push(thread.spawn(move || shared.work())?);
        Ok(())
    }

    /// Starts no further folds, cancels the running ones, and waits until they have ended. Their
    /// callers get [`QueryError::AppStopped`].
    pub(crate) async fn stop(&self) {
        self.shared.end();
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.jobs.lock().running.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// Ends all threads, so that none of them reads the log after the app is gone.
impl Drop for FoldPool {
    fn drop(&mut self) {
        self.shared.end();
        let own = thread::current().id();
        // A query may own its app, so a thread of the pool can be the one to drop the pool.
        let others = self.threads.get_mut().drain(..).filter(|other| other.thread().id() != own);
        others.for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    /// The loop of a thread.
    fn work(&self) {
        while let Some(job) = self.next() {
            let run = caught(|| job.run());
            self.end_of(&job);
            if let Err(panic) = run.and_then(|tell| caught(|| tell.map_or((), |tell| tell()))) {
                tracing::warn!(panic, "a fold of the past could not be dropped in order");
            }
        }
    }

    fn end_of(&self, job: &Arc<Job>) {
        let mut jobs = self.jobs.lock();
        jobs.running.retain(|other| !Arc::ptr_eq(other, job));
        if jobs.is_stopped && jobs.running.is_empty() {
            self.ended.notify_waiters();
        }
    }

    /// Waits for a job. Returns `None` once the pool was stopped.
    fn next(&self) -> Option<Arc<Job>> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.is_stopped {
                return None;
            }
            if let Some(job) = jobs.waiting.pop_front() {
                jobs.running.push(job.clone());
                return Some(job);
            }
            self.changed.wait(&mut jobs);
        }
    }

    fn end(&self) {
        let waiting = {
            let mut jobs = self.jobs.lock();
            jobs.is_stopped = true;
            jobs.running.iter().for_each(|job| job.give_up());
            std::mem::take(&mut jobs.waiting)
        };
        self.changed.notify_all();
        waiting.iter().for_each(|job| job.discard());
    }
}

impl Job {
    /// Folds to the end, or until the caller gives up.
    fn run(&self) -> Option<Tell> {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        let mut fold = self.fold.lock().take()?;
        self.turn.lock().thread = Some(thread::current());
        unless(|| self.turn.lock().is_given_up, fold.as_mut())
    }

    fn give_up(&self) {
        let mut turn = self.turn.lock();
        turn.is_given_up = true;
        if let Some(thread) = &turn.thread {
            thread.unpark();
        }
    }

    /// Drops a fold that has not begun. Its caller then gets an error.
    fn discard(&self) {
        drop(self.fold.lock().take());
    }
}

impl<T> Future for Folding<T> {
    type Output = Result<T, QueryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Only a stopped pool drops a fold without an answer.
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or(Err(QueryError::AppStopped)))
    }
}

impl<T> Drop for Folding<T> {
    fn drop(&mut self) {
        self.job.give_up();
        self.shared.jobs.lock().waiting.retain(|other| !Arc::ptr_eq(other, &self.job));
    }
}

/// Turns a panic of the application's code or of the store into an error of the query.
async fn caught_fold<T>(
    query: &'static str,
    fold: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    let mut fold = pin!(fold);
    let polled =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| fold.as_mut().poll(context))) {
            Ok(polled) => polled,
            Err(panic) => {
                let message = panic_text(&*panic);
                Poll::Ready(Err(QueryError::Panicked(QueryPanicked { query, message })))
            }
        });
    polled.await
}
