//! The published end of the log, and waiting for it.
//!
//! The subtle thing is that neither side takes the lock without need, and no wake-up is lost. A
//! waiter whose number is already there never takes it. One that has to wait stands in line
//! under the lock, then says so in `standing`, then looks at the numbers again. A publisher moves
//! the numbers, then looks at `standing`, and takes the lock only if somebody stands there.
//!
//! All four steps are sequentially consistent, so they have one order that both sides agree on.
//! If the publisher's look comes after the waiter's word, it sees that somebody stands there,
//! waits for the lock, and finds the waiter in line. If it comes before, then so does its move,
//! which comes before its look; the waiter's second look comes after its word, and sees the
//! move. Weaker orders allow that both look before they see what the other did.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::{
    error::{SyncError, Unavailable},
    position::Position,
};

/// The how-many-th commit since the store was opened; commits without events count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitNumber(pub u64);

/// The last published position of a log, and waiting for the next. Cheap to clone.
#[derive(Clone)]
pub struct Head(Arc<Shared>);

/// Why nothing more will be published.
pub type Ended = Unavailable;

struct Shared {
    position: AtomicU64,
    commits: AtomicU64,
    /// How many stand in the lines of `waiting`; changed under its lock, read without it.
    standing: AtomicUsize,
    /// Whether `waiting.ended` is set, for callers that need not know why.
    is_ended: AtomicBool,
    waiting: Mutex<Waiting>,
}

impl Shared {
    /// Says how many stand in line now. Whoever changed a line calls it before unlocking.
    fn count(&self, waiting: &Waiting) {
        let standing = waiting.by_position.len() + waiting.by_commit.len();
        self.standing.store(standing, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Waiting {
    ended: Option<Ended>,
    next_id: u64,
    // Ordered, so that a publication wakes those whose number it reached and no one else.
    by_position: BTreeMap<(u64, u64), Waker>,
    by_commit: BTreeMap<(u64, u64), Waker>,
}

impl Head {
    /// The last published position.
    pub fn position(&self) -> Position {
        Position::new(self.0.position.load(Ordering::Acquire))
    }

    /// Why nothing more will be published, if so.
    pub fn ended(&self) -> Option<Ended> {
        self.0.waiting.lock().ended.clone()
    }

    /// Whether nothing more will be published here. Then [`position`](Head::position) says nothing
    /// about the log any more: another process may have opened it and gone on.
    ///
    /// A position that was read before this answered `false` was the end of the log at that time.
    pub fn is_ended(&self) -> bool {
        self.0.is_ended.load(Ordering::SeqCst)
    }

    /// Waits until something after `position` is published, and says up to where.
    ///
    /// # Errors
    /// [`Ended`] once everything is published that ever will be.
    pub fn after(
        &self,
        position: Position,
    ) -> impl Future<Output = Result<Position, Ended>> + Send + Unpin + use<> {
        let wanted = position.plus(1).get();
        WaitFor { shared: self.0.clone(), line: Line::Position, wanted, id: None }
    }

    /// Whether this commit is published.
    pub(crate) fn is_published(&self, commit: CommitNumber) -> bool {
        self.0.commits.load(Ordering::Acquire) >= commit.0
    }

    /// Waits until this commit is published.
    pub(crate) fn synced(
        &self,
        commit: CommitNumber,
    ) -> impl Future<Output = Result<(), SyncError>> + Send + Unpin + use<> {
        let wait =
            WaitFor { shared: self.0.clone(), line: Line::Commit, wanted: commit.0, id: None };
        Sync(wait)
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Head").field(&self.position().get()).finish()
    }
}

/// The store's side of a [`Head`]; for authors of stores.
#[derive(Debug)]
pub struct HeadPublisher(Head);

impl HeadPublisher {
    /// A log whose last durable position is this.
    pub fn new(position: Position) -> HeadPublisher {
        HeadPublisher(Head(Arc::new(Shared {
            position: AtomicU64::new(position.get()),
            commits: AtomicU64::new(0),
            standing: AtomicUsize::new(0),
            is_ended: AtomicBool::new(false),
            waiting: Mutex::default(),
        })))
    }

    /// What readers hold.
    pub fn head(&self) -> Head {
        self.0.clone()
    }

    /// Everything up to this position and this commit is durable: readers may see it.
    ///
    /// Numbers that are not above what was published before change nothing.
    pub fn publish(&self, position: Position, commit: CommitNumber) {
        let shared = &self.0.0;
        shared.position.fetch_max(position.get(), Ordering::SeqCst);
        shared.commits.fetch_max(commit.0, Ordering::SeqCst);
        if shared.standing.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut woken = Vec::new();
        {
            let mut waiting = shared.waiting.lock();
            take_upto(&mut waiting.by_position, position.get(), &mut woken);
            take_upto(&mut waiting.by_commit, commit.0, &mut woken);
            shared.count(&waiting);
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Nothing more will be published: whoever waits for more gets `why`. The first call counts.
    pub fn end(&self, why: Ended) {
        let mut woken = Vec::new();
        {
            let mut waiting = self.0.0.waiting.lock();
            waiting.ended.get_or_insert(why);
            self.0.0.is_ended.store(true, Ordering::SeqCst);
            take_upto(&mut waiting.by_position, u64::MAX, &mut woken);
            take_upto(&mut waiting.by_commit, u64::MAX, &mut woken);
            self.0.0.count(&waiting);
        }
        woken.into_iter().for_each(Waker::wake);
    }
}

/// A publisher that is dropped ends its head: nobody waits for a store that is gone.
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
    Position,
    Commit,
}

struct WaitFor {
    shared: Arc<Shared>,
    line: Line,
    wanted: u64,
    /// The waker's place in the line, once it stands there.
    id: Option<u64>,
}

impl WaitFor {
    fn reached(&self) -> Option<Position> {
        let number = match self.line {
            Line::Position => &self.shared.position,
            Line::Commit => &self.shared.commits,
        };
        (number.load(Ordering::SeqCst) >= self.wanted)
            .then(|| Position::new(self.shared.position.load(Ordering::Acquire)))
    }
}

impl Future for WaitFor {
    type Output = Result<Position, Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(position) = self.reached() {
            return Poll::Ready(Ok(position));
        }
        let shared = self.shared.clone();
        let mut waiting = shared.waiting.lock();
        if let Some(position) = self.reached() {
            return Poll::Ready(Ok(position));
        }
        if let Some(why) = &waiting.ended {
            return Poll::Ready(Err(why.clone()));
        }
        let id = *self.id.get_or_insert_with(|| {
            waiting.next_id += 1;
            waiting.next_id
        });
        let place = (self.wanted, id);
        waiting.line(self.line).insert(place, context.waker().clone());
        shared.count(&waiting);
        // Again: a publisher that moved the number before it saw somebody here wakes nobody.
        let Some(position) = self.reached() else {
            return Poll::Pending;
        };
        waiting.line(self.line).remove(&place);
        shared.count(&waiting);
        Poll::Ready(Ok(position))
    }
}

impl Drop for WaitFor {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut waiting = self.shared.waiting.lock();
            waiting.line(self.line).remove(&(self.wanted, id));
            self.shared.count(&waiting);
        }
    }
}

impl Waiting {
    fn line(&mut self, line: Line) -> &mut BTreeMap<(u64, u64), Waker> {
        match line {
            Line::Position => &mut self.by_position,
            Line::Commit => &mut self.by_commit,
        }
    }
}

struct Sync(WaitFor);

impl Future for Sync {
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
    fn a_waiter_sees_what_is_published_while_it_waits() {
        let publisher = HeadPublisher::new(Position::new(4));
        let head = publisher.head();
        let waiter = thread::spawn(move || block_on(head.after(Position::new(6))));
        for number in 5..=7 {
            publisher.publish(Position::new(number), CommitNumber(number - 4));
        }
        assert_eq!(waiter.join().unwrap().unwrap(), Position::new(7));
    }

    #[test]
    fn every_one_of_many_waiters_is_woken() {
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
        assert!(publisher.head().0.waiting.lock().by_commit.is_empty());
    }

    /// Two threads answer each other, so that each publication meets a waiter that is about to
    /// stand in line, has just done so, or already sleeps. A lost wake-up ends it for good.
    #[test]
    fn no_wake_up_is_lost_between_two_that_answer_each_other() {
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
        assert_eq!(ours.0.0.standing.load(Ordering::SeqCst), 0, "nobody stands there any more");
    }

    #[test]
    fn what_was_published_counts_after_the_end_and_nothing_else() {
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
    fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let publisher = HeadPublisher::new(Position::START);
        let head = publisher.head();
        let mut wait = head.after(Position::START);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut wait).poll(&mut context).is_pending());
        assert_eq!(head.0.waiting.lock().by_position.len(), 1);
        drop(wait);
        assert!(head.0.waiting.lock().by_position.is_empty());
    }
}
