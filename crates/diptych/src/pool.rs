//! A few threads for long computations, so that commands and views keep the other cores. On Linux
//! the threads also have a lower priority. So commands go first where all cores are busy.
//!
//! A job is a future that one thread of the pool polls until it is done. It yields often. After
//! each yield the thread checks that the caller still waits and that the pool still runs. If not,
//! it drops the job.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread::{self, JoinHandle, Thread},
};

use parking_lot::{Condvar, Mutex};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use crate::{panics::caught, wait::unless};

/// How much lower the priority of the threads is, in steps of the operating system.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Bounds on the jobs of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Jobs that run at once, each on a thread.
    pub(crate) running: NonZeroUsize,
    /// Jobs that wait for a thread.
    pub(crate) waiting: usize,
}

/// Why a pool does not take a job.
#[derive(Debug)]
pub(crate) enum PoolError {
    /// As many jobs run and wait as the limits allow.
    Full(PoolLimits),
    Stopped,
    /// The system gives no thread.
    NoThread(io::Error),
}

/// A pool of threads. They are started on demand, and stay.
pub(crate) struct ThreadPool {
    name: &'static str,
    shared: Arc<PoolState>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The state that the threads and the callers share.
struct PoolState {
    limits: PoolLimits,
    jobs: Mutex<Jobs>,
    /// Signals that a job waits, or that the pool was stopped.
    changed: Condvar,
    /// Signals that a stopped pool has no running jobs left.
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

/// One job.
struct Job {
    /// Taken by the thread that runs it.
    work: Mutex<Option<BoxedWork>>,
    turn: Mutex<Turn>,
    /// The caller's runtime, because reads of some stores need one.
    runtime: Option<Handle>,
}

type BoxedWork = Pin<Box<dyn Future<Output = SendAnswer> + Send>>;
/// Sends the answer to the caller, once the thread is free for other jobs.
type SendAnswer = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Turn {
    /// The thread that runs it.
    thread: Option<Thread>,
    /// Whether the caller gave it up.
    is_given_up: bool,
}

/// The answer of a job that waits or runs, or `None` if the pool was stopped before or the job
/// panicked. Dropping it cancels the job, and the job's thread is free after the next yield.
#[must_use = "dropping the answer cancels the job"]
pub(crate) struct PoolAnswer<T> {
    shared: Arc<PoolState>,
    job: Arc<Job>,
    answer: oneshot::Receiver<T>,
}

impl ThreadPool {
    /// A pool whose threads have this name, with a number.
    pub(crate) fn new(name: &'static str, limits: PoolLimits) -> ThreadPool {
        let (jobs, changed, ended) = (Mutex::default(), Condvar::new(), Notify::new());
        let shared = Arc::new(PoolState { limits, jobs, changed, ended });
        ThreadPool { name, shared, threads: Mutex::default() }
    }

    /// Runs a job once a thread is free. `job` is called only if the pool admits it. The job must
    /// not own the pool.
    ///
    /// # Errors
    /// [`PoolError`] if the pool does not take it.
    pub(crate) fn start<T: Send + 'static, F>(
        &self,
        job: impl FnOnce() -> F,
    ) -> Result<PoolAnswer<T>, PoolError>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut jobs = self.shared.jobs.lock();
        self.admit(&mut jobs)?;
        let (reply, answer) = oneshot::channel();
        let work = job();
        let work = async move {
            let answer = work.await;
            // The caller may have gone.
            let send: SendAnswer = Box::new(move || drop(reply.send(answer)));
            send
        };
        let job = Arc::new(Job {
            work: Mutex::new(Some(Box::pin(work))),
            turn: Mutex::default(),
            runtime: Handle::try_current().ok(),
        });
        jobs.waiting.push_back(job.clone());
        drop(jobs);
        self.shared.changed.notify_one();
        Ok(PoolAnswer { shared: self.shared.clone(), job, answer })
    }

    /// Checks that one more job may wait, and starts a thread for it if needed.
    fn admit(&self, jobs: &mut Jobs) -> Result<(), PoolError> {
        let limits = self.shared.limits;
        let PoolLimits { running, waiting } = limits;
        if jobs.is_stopped {
            return Err(PoolError::Stopped);
        }
        if jobs.running.len() + jobs.waiting.len() >= running.get().saturating_add(waiting) {
            return Err(PoolError::Full(limits));
        }
        let idle = jobs.threads - jobs.running.len();
        if idle > jobs.waiting.len() || jobs.threads == running.get() {
            return Ok(());
        }
        match self.start_thread(jobs.threads) {
            Ok(()) => jobs.threads += 1,
            // Without another thread the job waits for the existing ones.
            Err(_) if jobs.threads > 0 => {}
            Err(error) => return Err(PoolError::NoThread(error)),
        }
        Ok(())
    }

    fn start_thread(&self, number: usize) -> io::Result<()> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name(format!("{} {number}", self.name));
        let work = move || {
            lower_priority();
            shared.work();
        };
        self.threads.lock().push(thread.spawn(work)?);
        Ok(())
    }

    /// Starts no further jobs, cancels the running ones, and waits until they have ended. Their
    /// callers get no answer.
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

/// Lowers the priority of this thread.
///
/// A process in which all cores are busy then gives the thread about a tenth of the time that it
/// gives any other. The thread holds no lock for long, so nobody waits for it.
fn lower_priority() {
    // On Linux this is about the calling thread, and elsewhere about the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread of a pool keeps its priority");
    }
}

/// Ends all threads, so that none of them reads the log after its app is gone.
impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.end();
        let own = thread::current().id();
        // A job may own the last handle of an app, so a thread of the pool can drop the pool.
        let others = self.threads.get_mut().drain(..).filter(|other| other.thread().id() != own);
        others.for_each(|thread| drop(thread.join()));
    }
}

impl PoolState {
    /// The loop of a thread.
    fn work(&self) {
        while let Some(job) = self.next() {
            let run = caught(|| job.run());
            self.end_of(&job);
            if let Err(panic) = run.and_then(|send| caught(|| send.map_or((), |send| send()))) {
                tracing::warn!(panic, "a job of a pool panicked when it was dropped");
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
    /// Runs to the end, or until the caller gives up.
    fn run(&self) -> Option<SendAnswer> {
        let _entered = self.runtime.as_ref().map(Handle::enter);
        let mut work = self.work.lock().take()?;
        self.turn.lock().thread = Some(thread::current());
        unless(|| self.turn.lock().is_given_up, work.as_mut())
    }

    fn give_up(&self) {
        let mut turn = self.turn.lock();
        turn.is_given_up = true;
        if let Some(thread) = &turn.thread {
            thread.unpark();
        }
    }

    /// Drops a job that has not begun. Its caller then gets no answer.
    fn discard(&self) {
        drop(self.work.lock().take());
    }
}

impl<T> Future for PoolAnswer<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A job ends without an answer if the pool was stopped, or if it panicked.
        Pin::new(&mut self.answer).poll(context).map(Result::ok)
    }
}

impl<T> Drop for PoolAnswer<T> {
    fn drop(&mut self) {
        self.job.give_up();
        self.shared.jobs.lock().waiting.retain(|other| !Arc::ptr_eq(other, &self.job));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_job_has_a_lower_priority_than_its_caller() {
        let limits = PoolLimits { running: NonZeroUsize::MIN, waiting: 0 };
        let pool = ThreadPool::new("lower", limits);
        let of_job = pool.start(|| async { getpriority_process(None).unwrap() }).unwrap();
        let of_job = pollster::block_on(of_job).unwrap();
        let own = getpriority_process(None).unwrap();
        // The operating system has no lower priority than 19.
        assert_eq!(of_job, (own + NICENESS).min(19));
    }
}
