//! Live events for subscribers.
//!
//! One task reads each commit once for all subscribers. Their filters stand in an index by tags and
//! types, so an event finds the subscribers that it matches, and wakes no others. Subscribers with
//! one filter share a page of events, which is encoded once.
//!
//! A page waits in the mailbox of each subscriber. A subscriber that is too slow loses its mailbox.
//! It then reads from the log until it has caught up again. So a slow client takes bounded memory,
//! and misses nothing.

mod filters;
mod mailbox;
mod page;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use diptych::store::{Batch, Filter, Position, Read, Store};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use self::{
    filters::{FilterIndex, MemberId},
    mailbox::Mailbox,
    page::{LivePage, PageMemory},
};

/// Events of one page.
const PAGE_EVENTS: usize = 4_096;

/// The live events of one server.
#[derive(Default)]
pub(crate) struct LiveFeeds {
    current: Mutex<Option<RunningFeed>>,
}

struct RunningFeed {
    feed: Arc<Feed>,
    task: AbortHandle,
}

/// The live events of one history of the log.
struct Feed {
    store: Store,
    state: Mutex<Dispatch>,
    /// The end of the last commit whose pages are all in their mailboxes.
    settled: AtomicU64,
    memory: PageMemory,
}

struct Dispatch {
    filters: FilterIndex,
    /// Every matching event up to here is in the mailboxes.
    dispatched: Position,
    is_ended: bool,
}

/// The place of one subscriber. It gives the matching events after [`from`](Membership::from).
pub(crate) struct Membership {
    feed: Arc<Feed>,
    id: MemberId,
    mailbox: Arc<Mailbox>,
    from: Position,
}

impl LiveFeeds {
    /// A place for a subscriber of the store's present history.
    pub(crate) fn join(&self, store: &Store, filter: &Filter) -> Membership {
        let mut current = self.current.lock();
        if let Some(RunningFeed { feed, .. }) = &*current
            && feed.store.identity() == store.identity()
            && !feed.state.lock().is_ended
        {
            return Feed::join(feed, filter);
        }
        if let Some(former) = current.take() {
            former.task.abort();
        }
        let feed = Arc::new(Feed::new(store.pinned()));
        let task = tokio::spawn(FeedTask(feed.clone()).run()).abort_handle();
        let member = Feed::join(&feed, filter);
        *current = Some(RunningFeed { feed, task });
        member
    }
}

impl Drop for LiveFeeds {
    fn drop(&mut self) {
        if let Some(running) = self.current.get_mut() {
            running.task.abort();
        }
    }
}

/// The task of a feed. The feed ends with it, however it ends.
struct FeedTask(Arc<Feed>);

impl FeedTask {
    async fn run(self) {
        let feed = &self.0;
        let head = feed.store.head();
        let mut done = feed.state.lock().dispatched;
        while head.after(done).await.is_ok() {
            match feed.advance(done).await {
                Some(upto) => done = upto,
                None => return,
            }
            // A log that is written without a pause leaves the thread to others.
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for FeedTask {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Feed {
    fn new(store: Store) -> Feed {
        let head = store.head().position();
        let state = Dispatch { filters: FilterIndex::default(), dispatched: head, is_ended: false };
        Feed {
            store,
            state: Mutex::new(state),
            // The head is the end of a commit.
            settled: AtomicU64::new(head.get()),
            memory: PageMemory::default(),
        }
    }

    /// A place for a subscriber. If the feed has ended, its mailbox is closed.
    fn join(feed: &Arc<Feed>, filter: &Filter) -> Membership {
        let mailbox = Arc::<Mailbox>::default();
        let mut state = feed.state.lock();
        if state.is_ended {
            mailbox.close();
        }
        let id = state.filters.enter(filter, mailbox.clone());
        Membership { feed: feed.clone(), id, mailbox, from: state.dispatched }
    }

    /// Takes the next page of the log. Returns how far it went, or `None` if the log cannot be
    /// read.
    async fn advance(&self, done: Position) -> Option<Position> {
        let head = self.store.head().position();
        if let Some(head) = self.pass(head) {
            return Some(head);
        }
        let read = Read::after(done).limit(PAGE_EVENTS);
        let batch = match self.store.read(&Filter::everything(), read).await {
            Ok(batch) if batch.upto() > done => batch,
            Ok(_) => return None,
            // Each subscriber finds the cause when it reads.
            Err(error) => {
                tracing::debug!(%error, "the live events of a log ended");
                return None;
            }
        };
        let upto = batch.upto();
        self.dispatch(batch);
        Some(upto)
    }

    /// Goes to the head without a read if there are no subscribers.
    fn pass(&self, head: Position) -> Option<Position> {
        let mut state = self.state.lock();
        if !state.filters.is_empty() {
            return None;
        }
        state.dispatched = head;
        self.settled.store(head.get(), Ordering::SeqCst);
        Some(head)
    }

    /// Puts the events into the mailboxes of the subscribers that they match.
    fn dispatch(&self, batch: Batch) {
        let (upto, commit_end) = (batch.upto(), batch.commit_end());
        let head = self.store.head().position();
        let batch = Arc::new(batch);
        let mut state = self.state.lock();
        state.filters.deliver(&batch, |events| {
            Arc::new(LivePage::new(batch.clone(), events, head, &self.memory))
        });
        state.dispatched = upto;
        if commit_end == upto {
            // After the pages: a subscriber that sees this position sees them.
            self.settled.store(upto.get(), Ordering::SeqCst);
        }
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.is_ended = true;
        state.filters.close();
    }
}

impl Membership {
    /// The subscriber reads the events up to here from the log.
    pub(crate) fn from(&self) -> Position {
        self.from
    }

    /// Waits for the next page. It may begin with events up to [`from`](Membership::from), or with
    /// others that the subscriber has. `None` if the subscriber has to read from the log, because
    /// it is too slow or the feed has ended. Dropping the future loses no page.
    pub(crate) async fn next(&self) -> Option<Arc<LivePage>> {
        self.mailbox.next().await
    }

    /// The position up to which the subscriber has everything, if no page waits for it.
    pub(crate) fn settled(&self) -> Option<Position> {
        // In this order: pages up to the position were put before it was stored.
        let settled = Position::new(self.feed.settled.load(Ordering::SeqCst));
        self.mailbox.is_empty().then_some(settled)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.feed.state.lock().filters.leave(&self.id);
    }
}

#[cfg(test)]
mod tests;
