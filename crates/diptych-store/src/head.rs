//! The published head of a log, and waiting for it.
//!
//! Waiters and publishers avoid the lock where they can, and still no wake-up is lost. A waiter
//! whose number is already published never takes the lock. Any other waiter
//! 1. enters its waker under the lock, and stores the number of wakers in `waker_count`;
//! 2. reads the published numbers again.
//!
//! A publisher
//! 1. stores the new numbers;
//! 2. reads `waker_count`, and takes the lock only if it is not 0.
//!
//! All four steps are sequentially consistent, so both sides see them in one order. If the
//! publisher reads `waker_count` after the waiter stored it, the publisher takes the lock and wakes
//! the waiter. If it reads `waker_count` before that, it had stored the numbers even earlier, so
//! the second read of the waiter sees them. With weaker orderings both sides could read before they
//! see the store of the other side.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::{
    error::{SyncError, Unavailable},
    position::Position,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// Sequence number of a commit since the store was opened. Commits without events count, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitNumber(pub u64);

/// The last published position of a log, and a way to wait for the next one. Clones are cheap.
#[derive(Clone)]
pub struct Head(Arc<HeadState>);

struct HeadState {
    position: AtomicU64,
    commits: AtomicU64,
    /// Number of wakers in `waiters`. It is written under that lock, and read without it.
    waker_count: AtomicUsize,
    /// Whether `waiters.ended` is set. It is read without the lock.
    is_ended: AtomicBool,
    waiters: Mutex<Waiters>,
}

impl HeadState {
    /// Stores the number of wakers. Must be called after each change of `waiters`, under its lock.
    fn count(&self, waiters: &Waiters) {
        let waker_count = waiters.by_position.len() + waiters.by_commit.len();
        self.waker_count.store(waker_count, Ordering::SeqCst);
    }
}

/// Why a store takes no commits for now, and how far that goes. For authors of stores.
#[derive(Clone, Debug)]
pub enum Pause {
    /// It accepts no commits. Those that it has accepted are written.
    Accepting(Unavailable),
    /// It also cannot write the commits that it has accepted. It keeps them, and writes them when
    /// it goes on. Until then, waits for them fail.
    Writing(Unavailable),
}

#[derive(Default)]
struct Waiters {
    ended: Option<Unavailable>,
    paused: Option<Pause>,
    next_id: u64,
    // Ordered by number, so that a publication wakes only the wakers up to its own number.
    by_position: BTreeMap<(u64, u64), Waker>,
    by_commit: BTreeMap<(u64, u64), Waker>,
}

impl Head {
    /// The last published position.
    pub fn position(&self) -> Position {
        Position::new(self.0.position.load(Ordering::Acquire))
    }

    /// The reason why this head ended, or `None` if it has not ended.
    pub fn ended(&self) -> Option<Unavailable> {
        self.0.waiters.lock().ended.clone()
    }

    /// Whether this head ended: the store publishes nothing more to it. After that,
    /// [`position`](Head::position) need not be the end of the log, because another process may
    /// have opened the log and continued it.
    ///
    /// If this returns `false`, the following holds for a [`position`](Head::position) that was
    /// read before this call: it was the end of the log at the time of that read.
    pub fn is_ended(&self) -> bool {
        self.0.is_ended.load(Ordering::SeqCst)
    }

    /// Why the store takes no commits for now, or `None` if it takes them. The head goes on when
    /// the store does. For a head that has ended see [`ended`](Head::ended).
    pub fn paused(&self) -> Option<Unavailable> {
        match self.0.waiters.lock().paused.clone() {
            Some(Pause::Accepting(why) | Pause::Writing(why)) => Some(why),
            None => None,
        }
    }

    /// Ends the head for all its readers: waits for a later position or commit fail with `why`.
    /// Only the first call has an effect.
    pub(crate) fn end(&self, why: Unavailable) {
        let mut woken = Vec::new();
        {
            let mut waiters = self.0.waiters.lock();
            waiters.ended.get_or_insert(why);
            self.0.is_ended.store(true, Ordering::SeqCst);
            take_upto(&mut waiters.by_position, u64::MAX, &mut woken);
            take_upto(&mut waiters.by_commit, u64::MAX, &mut woken);
            self.0.count(&waiters);
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until the log is published beyond `position`, and returns the published position.
    ///
    /// # Errors
    /// [`Unavailable`] if the head ended at or before `position`.
    pub fn after(
        &self,
        position: Position,
    ) -> impl Future<Output = Result<Position, Unavailable>> + Send + Unpin + use<> {
        let wanted = position.plus(1).get();
        HeadWait { shared: self.0.clone(), line: Line::Position, wanted, id: None }
    }

    /// Waits until the log is published up to `position`, which the store has accepted.
    ///
    /// # Errors
    /// [`Unavailable`] if the head ended before `position`, or the store cannot write for now the
    /// commits that it has accepted.
    pub fn upto(
        &self,
        position: Position,
    ) -> impl Future<Output = Result<Position, Unavailable>> + Send + Unpin + use<> {
        let wanted = position.get();
        HeadWait { shared: self.0.clone(), line: Line::Accepted, wanted, id: None }
    }

    /// Whether the commit with this number is published.
    pub(crate) fn is_published(&self, commit: CommitNumber) -> bool {
        self.0.commits.load(Ordering::Acquire) >= commit.0
    }

    /// Waits until the commit with this number is published.
    pub(crate) fn synced(
        &self,
        commit: CommitNumber,
    ) -> impl Future<Output = Result<(), SyncError>> + Send + Unpin + use<> {
        let wait =
            HeadWait { shared: self.0.clone(), line: Line::Commit, wanted: commit.0, id: None };
        SyncWait(wait)
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Head").field(&self.position().get()).finish()
    }
}

/// The publishing side of a [`Head`]. For authors of stores.
#[derive(Debug)]
pub struct HeadPublisher(Head);

impl HeadPublisher {
    /// The head of a log whose last durable position is `position`.
    pub fn new(position: Position) -> HeadPublisher {
        HeadPublisher(Head(Arc::new(HeadState {
            position: AtomicU64::new(position.get()),
            commits: AtomicU64::new(0),
            waker_count: AtomicUsize::new(0),
            is_ended: AtomicBool::new(false),
            waiters: Mutex::default(),
        })))
    }

    /// A head for readers.
    pub fn head(&self) -> Head {
        self.0.clone()
    }

    /// Publishes all events up to this position and all commits up to this number. They must be
    /// durable, because readers see them from now on.
    ///
    /// Numbers at or below the published ones change nothing.
    pub fn publish(&self, position: Position, commit: CommitNumber) {
        let shared = &self.0.0;
        shared.position.fetch_max(position.get(), Ordering::SeqCst);
        shared.commits.fetch_max(commit.0, Ordering::SeqCst);
        if shared.waker_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut woken = Vec::new();
        {
            let mut waiters = shared.waiters.lock();
            take_upto(&mut waiters.by_position, position.get(), &mut woken);
            take_upto(&mut waiters.by_commit, commit.0, &mut woken);
            shared.count(&waiters);
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// The store takes no commits for now. Readers can see that, and go on to wait for later
    /// positions. After [`Pause::Writing`], waits for commits that are not published fail.
    pub fn pause(&self, pause: Pause) {
        let mut woken = Vec::new();
        {
            let mut waiters = self.0.0.waiters.lock();
            if matches!(pause, Pause::Writing(_)) {
                take_upto(&mut waiters.by_commit, u64::MAX, &mut woken);
                // Those that wait for any later position find nothing new, and wait again.
                take_upto(&mut waiters.by_position, u64::MAX, &mut woken);
                self.0.0.count(&waiters);
            }
            waiters.paused = Some(pause);
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// The store takes commits again.
    pub fn resume(&self) {
        self.0.0.waiters.lock().paused = None;
    }

    /// Ends the head: waits for a later position or commit fail with `why`. Only the first call has
    /// an effect.
    pub fn end(&self, why: Unavailable) {
        self.0.end(why);
    }
}

/// Dropping the publisher ends its head, so that no reader waits for a store that is gone.
impl Drop for HeadPublisher {
    fn drop(&mut self) {
        self.end(Unavailable::Closed);
    }
}

fn take_upto(line: &mut BTreeMap<(u64, u64), Waker>, number: u64, woken: &mut Vec<Waker>) {
    while let Some(first) = line.first_entry() {
        if first.key().0 > number {
            break;
        }
        woken.push(first.remove());
    }
}

#[derive(Clone, Copy)]
enum Line {
    /// Any position, however long it takes.
    Position,
    /// A position that the store has accepted.
    Accepted,
    /// A commit that the store has accepted.
    Commit,
}

struct HeadWait {
    shared: Arc<HeadState>,
    line: Line,
    wanted: u64,
    /// Id of the waker, once it is in the line.
    id: Option<u64>,
}

impl HeadWait {
    fn reached(&self) -> Option<Position> {
        let number = match self.line {
            Line::Position | Line::Accepted => &self.shared.position,
            Line::Commit => &self.shared.commits,
        };
        (number.load(Ordering::SeqCst) >= self.wanted)
            .then(|| Position::new(self.shared.position.load(Ordering::Acquire)))
    }
}

impl Future for HeadWait {
    type Output = Result<Position, Unavailable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(position) = self.reached() {
            return Poll::Ready(Ok(position));
        }
        let shared = self.shared.clone();
        let mut waiters = shared.waiters.lock();
        if let Some(position) = self.reached() {
            return Poll::Ready(Ok(position));
        }
        if let Some(why) = &waiters.ended {
            return Poll::Ready(Err(why.clone()));
        }
        if let (Some(Pause::Writing(why)), Line::Accepted | Line::Commit) =
            (&waiters.paused, self.line)
        {
            return Poll::Ready(Err(why.clone()));
        }
        let id = *self.id.get_or_insert_with(|| {
            waiters.next_id += 1;
            waiters.next_id
        });
        let place = (self.wanted, id);
        waiters.line(self.line).insert(place, context.waker().clone());
        shared.count(&waiters);
        #[cfg(diptych_model)]
        if crate::sync::Flaw::OneLook.is_set() {
            return Poll::Pending;
        }
        // A publisher that stored its numbers before it saw this waker does not wake it.
        let Some(position) = self.reached() else {
            return Poll::Pending;
        };
        waiters.line(self.line).remove(&place);
        shared.count(&waiters);
        Poll::Ready(Ok(position))
    }
}

impl Drop for HeadWait {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut waiters = self.shared.waiters.lock();
            waiters.line(self.line).remove(&(self.wanted, id));
            self.shared.count(&waiters);
        }
    }
}

impl Waiters {
    fn line(&mut self, line: Line) -> &mut BTreeMap<(u64, u64), Waker> {
        match line {
            Line::Position | Line::Accepted => &mut self.by_position,
            Line::Commit => &mut self.by_commit,
        }
    }
}

struct SyncWait(HeadWait);

impl Future for SyncWait {
    type Output = Result<(), SyncError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reached = Pin::new(&mut self.0).poll(context);
        reached.map(|reached| match reached {
            Ok(_) => Ok(()),
            Err(cause) => Err(SyncError { cause }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use pollster::block_on;

    use super::*;

    #[test]
    fn a_waiter_wakes_once_its_position_is_published() {
        let publisher = HeadPublisher::new(Position::new(4));
        let head = publisher.head();
        let waiter = thread::spawn(move || block_on(head.after(Position::new(6))));
        for number in 5..=7 {
            publisher.publish(Position::new(number), CommitNumber(number - 4));
        }
        assert_eq!(waiter.join().unwrap().unwrap(), Position::new(7));
    }

    #[test]
    fn all_of_many_waiters_wake() {
        let publisher = HeadPublisher::new(Position::START);
        let waiters: Vec<_> = (1..=200)
            .map(|number| {
                let head = publisher.head();
                thread::spawn(move || block_on(head.synced(CommitNumber(number))))
            })
            .collect();
        for number in 1..=200 {
            publisher.publish(Position::new(number), CommitNumber(number));
        }
        for waiter in waiters {
            waiter.join().unwrap().unwrap();
        }
        assert!(publisher.head().0.waiters.lock().by_commit.is_empty());
    }

    /// Two threads answer each other. So each publication meets a waiter that is about to enter its
    /// waker, has just entered it, or already sleeps. A lost wake-up would block both for ever.
    #[test]
    fn two_threads_that_wake_each_other_lose_no_wake_up() {
        const ROUNDS: u64 = 20_000;
        let [ours, theirs] = [0, 0].map(|at| HeadPublisher::new(Position::new(at)));
        let (our_head, their_head) = (ours.head(), theirs.head());
        let other = thread::spawn(move || {
            for number in 1..=ROUNDS {
                let reached = block_on(our_head.after(Position::new(number - 1)));
                assert_eq!(reached.unwrap(), Position::new(number));
                theirs.publish(Position::new(number), CommitNumber(number));
            }
        });
        for number in 1..=ROUNDS {
            ours.publish(Position::new(number), CommitNumber(number));
            block_on(their_head.synced(CommitNumber(number))).unwrap();
        }
        other.join().unwrap();
        assert_eq!(ours.0.0.waker_count.load(Ordering::SeqCst), 0, "a waker is left");
    }

    #[test]
    fn after_the_end_only_published_numbers_are_reached() {
        let publisher = HeadPublisher::new(Position::START);
        publisher.publish(Position::new(1), CommitNumber(1));
        let head = publisher.head();
        drop(publisher);
        assert!(block_on(head.synced(CommitNumber(1))).is_ok());
        assert!(matches!(
            block_on(head.synced(CommitNumber(2))),
            Err(SyncError { cause: Unavailable::Closed })
        ));
        assert!(matches!(block_on(head.after(Position::new(1))), Err(Unavailable::Closed)));
    }

    #[test]
    fn while_nothing_is_written_waits_for_accepted_commits_fail_and_others_go_on() {
        let publisher = HeadPublisher::new(Position::START);
        let head = publisher.head();
        let mut context = Context::from_waker(Waker::noop());
        let mut later = head.after(Position::START);
        let mut commit = head.synced(CommitNumber(1));
        assert!(Pin::new(&mut later).poll(&mut context).is_pending());
        assert!(Pin::new(&mut commit).poll(&mut context).is_pending());
        publisher.pause(Pause::Accepting(Unavailable::Closed));
        assert!(matches!(head.paused(), Some(Unavailable::Closed)));
        assert!(Pin::new(&mut commit).poll(&mut context).is_pending());
        publisher.pause(Pause::Writing(Unavailable::Closed));
        assert!(matches!(Pin::new(&mut commit).poll(&mut context), Poll::Ready(Err(_))));
        assert!(block_on(head.upto(Position::new(1))).is_err());
        assert!(Pin::new(&mut later).poll(&mut context).is_pending());
        publisher.publish(Position::new(1), CommitNumber(1));
        assert!(block_on(head.synced(CommitNumber(1))).is_ok());
        assert!(block_on(head.upto(Position::new(1))).is_ok());
        assert!(Pin::new(&mut later).poll(&mut context).is_ready());
        publisher.resume();
        assert!(head.paused().is_none() && head.ended().is_none());
        assert!(Pin::new(&mut head.synced(CommitNumber(2))).poll(&mut context).is_pending());
    }

    #[test]
    fn a_dropped_wait_removes_its_waker() {
        let publisher = HeadPublisher::new(Position::START);
        let head = publisher.head();
        let mut wait = head.after(Position::START);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut wait).poll(&mut context).is_pending());
        assert_eq!(head.0.waiters.lock().by_position.len(), 1);
        drop(wait);
        assert!(head.0.waiters.lock().by_position.is_empty());
    }
}
