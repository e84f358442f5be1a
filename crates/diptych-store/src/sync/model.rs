//! Locks, atomics, threads and a clock that Shuttle controls. It runs one thread at a time, and
//! chooses another one before each operation on them.
//!
//! Locks and atomics are those of Shuttle. It has no condition variable for these locks, no word to
//! sleep on, and no time, so these are here. A thread that waits with a limit may give up at any
//! moment, and the clock then shows the end of its wait.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    ops::Add,
    pin::pin,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use shuttle::{rand, rand::Rng};
pub use shuttle::{sync::atomic, thread};
pub use shuttle_parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

/// A wait with a limit gives up with this chance each time that its thread could run.
const GIVES_UP: f64 = 0.25;

/// A thread that sleeps until it is woken. A wake-up that comes before is kept, whatever else the
/// thread waits for meanwhile.
///
/// Neither field is one of Shuttle. No other thread can run while they are changed.
#[derive(Debug, Default)]
struct Sleeper {
    is_woken: AtomicBool,
    thread: std::sync::Mutex<Option<Waker>>,
}

impl Sleeper {
    fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
    }

    /// Sleeps until it is woken, and forgets that.
    fn sleep(&self) {
        shuttle::future::block_on(poll_fn(|context| {
            if self.is_woken.swap(false, Ordering::SeqCst) {
                return Poll::Ready(());
            }
            *lock(&self.thread) = Some(context.waker().clone());
            Poll::Pending
        }));
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Sleeper>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Sleeper>) {
        self.is_woken.store(true, Ordering::SeqCst);
        let thread = lock(&self.thread).take();
        thread.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a future on this thread. The one of Shuttle would lose a wake-up of the future that
/// comes while the future itself waits for a lock.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, sleeper) = (pin!(future), Arc::<Sleeper>::default());
    let waker = Waker::from(sleeper.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        sleeper.sleep();
    }
}

/// A condition variable with the methods of the one of `parking_lot`.
#[derive(Debug, Default)]
pub struct Condvar {
    /// A lock of the system, which no thread holds while another one can run.
    sleepers: std::sync::Mutex<Vec<Arc<Sleeper>>>,
}

/// Whether a wait with a limit gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it gave up.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable that no thread waits for.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    fn enter(&self) -> Arc<Sleeper> {
        let sleeper = Arc::<Sleeper>::default();
        lock(&self.sleepers).push(sleeper.clone());
        sleeper
    }

    /// Leaves the lock and sleeps until this is notified.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let sleeper = self.enter();
        MutexGuard::unlocked(guard, || sleeper.sleep());
    }

    /// Leaves the lock and sleeps until this is notified, or gives up.
    pub fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Instant,
    ) -> WaitTimeoutResult {
        let sleeper = self.enter();
        MutexGuard::unlocked(guard, || {
            while !sleeper.is_woken() && !rand::thread_rng().gen_bool(GIVES_UP) {
                thread::yield_now();
            }
        });
        if sleeper.is_woken() {
            return WaitTimeoutResult(false);
        }
        lock(&self.sleepers).retain(|other| !Arc::ptr_eq(other, &sleeper));
        NOW.set(NOW.get().max(until.0));
        WaitTimeoutResult(true)
    }

    /// Wakes any one of the threads that wait.
    pub fn notify_one(&self) {
        let woken = {
            let mut sleepers = lock(&self.sleepers);
            let most = sleepers.len();
            (most > 0).then(|| sleepers.swap_remove(rand::thread_rng().gen_range(0..most)))
        };
        woken.into_iter().for_each(Sleeper::wake);
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        let woken = std::mem::take(&mut *lock(&self.sleepers));
        woken.into_iter().for_each(Sleeper::wake);
    }
}

/// Sleeping on a word, as a futex does.
pub mod atomic_wait {
    use super::{Arc, BTreeMap, RefCell, Sleeper, Wake, atomic};

    std::thread_local! {
        /// The sleeping threads, by the address of the word. All threads of Shuttle run on one
        /// thread of the system.
        static SLEEPERS: RefCell<BTreeMap<usize, Vec<Arc<Sleeper>>>> = RefCell::default();
    }

    /// Sleeps until the word is woken, if it has this value.
    pub fn wait(word: &atomic::AtomicU32, value: u32) {
        if word.load(atomic::Ordering::SeqCst) != value {
            return;
        }
        let sleeper = Arc::<Sleeper>::default();
        SLEEPERS.with_borrow_mut(|sleepers| {
            sleepers.entry(address(word)).or_default().push(sleeper.clone());
        });
        sleeper.sleep();
    }

    /// Wakes all threads that sleep on the word.
    pub fn wake_all(word: *const atomic::AtomicU32) {
        let woken = SLEEPERS.with_borrow_mut(|sleepers| sleepers.remove(&address(word)));
        woken.into_iter().flatten().for_each(Sleeper::wake);
    }

    fn address(word: *const atomic::AtomicU32) -> usize {
        word.addr()
    }
}

std::thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static FLAW: Cell<Option<Flaw>> = const { Cell::new(None) };
}

/// An instant of a clock that goes on by a microsecond with each look at it, and to the end of each
/// wait that gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// The time now.
    pub fn now() -> Instant {
        NOW.set(NOW.get() + Duration::from_micros(1));
        Instant(NOW.get())
    }

    /// The time since this instant.
    pub fn elapsed(&self) -> Duration {
        Instant::now().0.saturating_sub(self.0)
    }

    /// This instant and a time after it.
    pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(duration).map(Instant)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

/// A mistake in a hand-over, which the exploration must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A wait for the head does not look again after it entered its waker.
    OneLook,
    /// The head is published before the batch is written.
    EarlyHead,
    /// The threads of a batch are woken before it is marked as done.
    EarlyWake,
    /// A caller ends its turn to write without a look at the queue.
    ForgottenQueue,
    /// A condition is checked only before the lock.
    StaleCheck,
    /// A look-up does not add the deferred commits first.
    HiddenCommits,
    /// A part is taken out of the catalog before another one takes its place.
    CatalogGap,
}

impl Flaw {
    /// From now on the code has this mistake, or none, on this thread of the system.
    pub fn set(flaw: Option<Flaw>) {
        FLAW.set(flaw);
    }

    /// Whether the code has this mistake.
    pub fn is_set(self) -> bool {
        FLAW.get() == Some(self)
    }
}
