//! Reading for all followers of an app.
//!
//! A follower asks for the page after its position. If others are at that place or just behind
//! it, the page is read with what any of them wants and kept for them; if not, it is read with
//! what this follower wants, for it alone. So followers in step share reading and decoding, and
//! one that is far behind costs nobody but itself.
//!
//! A page ends where a commit ends, so that nobody shows half of one. The end of what is
//! published is such a place. Short of it, it is where `recorded_at` changes, because all events
//! of one commit have the same. Where that does not change for more events than one commit can
//! have, the page says that it may end within one.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use diptych_store::{Batch, Filter, Head, Position, Read, ReadError, Store, Unavailable};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::{
    Progress,
    page::{End, Page, Slice},
    worker::unless_ending,
};
use crate::{
    event::{Event, Reading},
    lineage::Lineage,
};

/// Pages that are kept for others.
const PAGES: usize = 8;
/// Events that a page has about.
pub(crate) const PAGE_EVENTS: usize = 1_024;

pub(crate) struct Feed {
    lineage: Arc<Lineage>,
    head: Head,
    /// Everything that any follower wants.
    all: Filter,
    pages: Mutex<VecDeque<Arc<Shared>>>,
    followers: RwLock<Vec<Weak<Progress>>>,
}

/// A page that is there for several, or is being read for them.
struct Shared {
    after: Position,
    /// The end of the page, 0 as long as it is not read.
    upto: AtomicU64,
    page: OnceLock<Result<Arc<Page>, ReadError>>,
}

impl Feed {
    /// `filters` are what each follower wants.
    pub(crate) fn new(lineage: Arc<Lineage>, filters: impl IntoIterator<Item = Filter>) -> Feed {
        let store = lineage.store();
        let names = filters.into_iter().flat_map(|filter| {
            filter.items().iter().flat_map(|item| item.types.clone()).collect::<Vec<_>>()
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names.dedup();
        let all = match Filter::types(names) {
            types if types.check(&store.limits()).is_ok() => types,
            _ => Filter::everything(),
        };
        let (pages, followers) = (Mutex::default(), RwLock::default());
        Feed { head: store.head(), lineage, all, pages, followers }
    }

    /// Which history the log has.
    pub(crate) fn lineage(&self) -> &Arc<Lineage> {
        &self.lineage
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn join(&self, follower: &Arc<Progress>) {
        self.followers.write().push(Arc::downgrade(follower));
    }

    /// The page after this position, for a follower that wants `filter`. Waits for the store, on
    /// the calling thread.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn next<E: Event>(
        &self,
        who: &Progress,
        reading: &Reading<E>,
        filter: &Filter,
        after: Position,
    ) -> Result<Slice<E>, ReadError> {
        if let Some(shared) = self.shared(who, after) {
            let page = shared.page.get_or_init(|| {
                let page = self.read(who, &self.all, shared.after)?;
                shared.upto.store(page.upto.get(), Ordering::Release);
                Ok(Arc::new(page))
            });
            // Another's trouble need not be this one's; and what could not be decoded right here
            // is tried again.
            if let Ok(page) = page {
                let slice = page.slice(reading, after);
                if slice.upto > after {
                    return Ok(slice);
                }
            }
            self.pages.lock().retain(|other| !Arc::ptr_eq(other, &shared));
        }
        let page = self.read(who, filter, after)?;
        Ok(Arc::new(page).slice(reading, after))
    }

    /// The page that others want too, if it is there or should be.
    fn shared(&self, who: &Progress, after: Position) -> Option<Arc<Shared>> {
        let mut pages = self.pages.lock();
        let covers = |page: &&Arc<Shared>| {
            page.after == after
                || page.after < after && after.get() < page.upto.load(Ordering::Acquire)
        };
        if let Some(page) = pages.iter().rev().find(covers) {
            return Some(page.clone());
        }
        let reach = (PAGES * PAGE_EVENTS) as u64;
        let is_near = |other: &Progress| {
            let behind = after.get().checked_sub(other.position().get());
            other.is_running() && behind.is_some_and(|events| events < reach)
        };
        let followers = self.followers.read();
        let mut others = followers.iter().filter_map(Weak::upgrade);
        if !others.any(|other| !std::ptr::eq(&*other, who) && is_near(&other)) {
            return None;
        }
        let (upto, page) = (AtomicU64::new(0), OnceLock::new());
        let shared = Arc::new(Shared { after, upto, page });
        pages.push_back(shared.clone());
        while pages.len() > PAGES {
            pages.pop_front();
        }
        Some(shared)
    }

    fn read(&self, who: &Progress, filter: &Filter, after: Position) -> Result<Page, ReadError> {
        let page = unless_ending(who, read(self.lineage.store(), &self.head, filter, after));
        page.unwrap_or(Err(ReadError::Unavailable(Unavailable::Closed)))
    }
}

/// Reads a page that ends where a commit ends.
async fn read(
    store: &Store,
    head: &Head,
    filter: &Filter,
    after: Position,
) -> Result<Page, ReadError> {
    let (asked, head) = (Instant::now(), head.position());
    let (mut batches, mut cursor, mut events) = (Vec::new(), after, 0);
    loop {
        let wanted = Read::after(cursor).upto(head).limit(PAGE_EVENTS);
        let batch = store.read(filter, wanted).await?;
        cursor = batch.upto();
        events += batch.len();
        batches.push(batch);
        if cursor >= head {
            return Ok(Page::new(cursor, End::Head(asked), batches));
        }
        if let Some(upto) = last_change(&batches) {
            return Ok(Page::new(upto, End::Commit, batches));
        }
        // More than one commit can have: a clock that stands still says nothing.
        if events == 0 || events > store.limits().commit_events {
            return Ok(Page::new(cursor, End::Anywhere, batches));
        }
    }
}

/// The last position of which the events say that a commit ends there.
fn last_change(batches: &[Batch]) -> Option<Position> {
    let mut events = batches.iter().rev().flat_map(|batch| batch.iter().rev());
    let mut first = events.next()?;
    for event in events {
        if event.recorded_at() != first.recorded_at() {
            return Some(first.position().before());
        }
        first = event;
    }
    None
}
