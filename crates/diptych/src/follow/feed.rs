//! Reading for all followers of an app.
//!
//! A follower asks for the page after its position. If other running followers are at that position
//! or just behind it, the page is read with the events that any follower needs, and kept for them.
//! Otherwise it is read with the filter of this follower alone. So followers that are close
//! together share reading and decoding, and a follower that is far behind slows down no other.
//!
//! A page ends where a commit ends, so that no follower shows half of a commit. The head is such a
//! place. Below it, each batch tells where its commit ends, and the page is read up to there.

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
    page::{End, Failures, Page, Slice},
    progress::unless_ending,
};
use crate::{
    event::{Event, Reading},
    lineage::Lineage,
};

/// Maximum number of shared pages that are kept.
const PAGES: usize = 8;
/// Approximate number of events in a page.
pub(crate) const PAGE_EVENTS: usize = 1_024;

pub(crate) struct FollowerFeed {
    lineage: Arc<Lineage>,
    head: Head,
    /// All events that any follower needs.
    all: Filter,
    pages: Mutex<VecDeque<Arc<SharedPage>>>,
    followers: RwLock<Vec<Weak<Progress>>>,
}

/// A page for several followers. It is read, or one of them reads it now.
struct SharedPage {
    after: Position,
    /// The end of the page, 0 until it is read.
    upto: AtomicU64,
    page: OnceLock<Result<Arc<Page>, ReadError>>,
}

impl FollowerFeed {
    /// `filters` are the filters of all followers.
    pub(crate) fn new(
        lineage: Arc<Lineage>,
        filters: impl IntoIterator<Item = Filter>,
    ) -> FollowerFeed {
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
        FollowerFeed { head: store.head(), lineage, all, pages, followers }
    }

    /// The history of the log.
    pub(crate) fn lineage(&self) -> &Arc<Lineage> {
        &self.lineage
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn join(&self, follower: &Arc<Progress>) {
        self.followers.write().push(Arc::downgrade(follower));
    }

    /// The page after this position, for a follower with this filter. Waits for the store, on the
    /// calling thread.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub(super) fn next<E: Event>(
        &self,
        who: &Progress,
        reading: &Reading<E>,
        filter: &Filter,
        after: Position,
        failures: Failures,
    ) -> Result<Slice<E>, ReadError> {
        if let Some(shared) = self.shared(who, after) {
            let page = shared.page.get_or_init(|| {
                let page = self.read(who, &self.all, shared.after)?;
                shared.upto.store(page.upto.get(), Ordering::Release);
                Ok(Arc::new(page))
            });
            // An error of the shared read need not concern this follower, so it reads again for
            // itself. It also does so if the event right after `after` could not be decoded.
            if let Ok(page) = page {
                let slice = page.slice(reading, after, failures);
                if slice.upto > after {
                    return Ok(slice);
                }
            }
            self.pages.lock().retain(|other| !Arc::ptr_eq(other, &shared));
        }
        let page = self.read(who, filter, after)?;
        Ok(Arc::new(page).slice(reading, after, failures))
    }

    /// The events of this filter above `after` and up to `upto`, for a follower that applies held
    /// events. All of them are in memory then.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub(super) fn held<E: Event>(
        &self,
        who: &Progress,
        reading: &Reading<E>,
        filter: &Filter,
        (mut after, upto): (Position, Position),
    ) -> Result<Vec<Slice<E>>, ReadError> {
        let mut slices = Vec::new();
        while after < upto {
            let page = Arc::new(self.read(who, filter, after)?);
            let slice = page.slice(reading, after, Failures::Contain).before(upto.plus(1));
            if slice.upto <= after {
                break;
            }
            after = slice.upto;
            slices.push(slice);
        }
        Ok(slices)
    }

    /// The shared page at this position. It is created if another follower is near.
    fn shared(&self, who: &Progress, after: Position) -> Option<Arc<SharedPage>> {
        let mut pages = self.pages.lock();
        let covers = |page: &&Arc<SharedPage>| {
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
        let shared = Arc::new(SharedPage { after, upto, page });
        pages.push_back(shared.clone());
        while pages.len() > PAGES {
            pages.pop_front();
        }
        Some(shared)
    }

    fn read(&self, who: &Progress, filter: &Filter, after: Position) -> Result<Page, ReadError> {
        let page = unless_ending(who, read(self.lineage.store(), filter, after));
        let page = page.unwrap_or(Err(ReadError::Unavailable(Unavailable::Closed)))?;
        // Answers at the end of the page have a token also while the server of the log is away.
        if self.lineage.store().has_other_writers()
            && let Some(checksum) = page.end_checksum()
        {
            self.lineage.note(page.upto, checksum);
        }
        Ok(page)
    }
}

/// Reads a page that ends where a commit ends.
async fn read(store: &Store, filter: &Filter, after: Position) -> Result<Page, ReadError> {
    let asked = Instant::now();
    // The page tells when the follower had the whole log, so it needs the true end of the log.
    let head = store.known_head().await?;
    let wanted = Read::after(after).upto(head).limit(PAGE_EVENTS).takes_replica();
    let mut batches = vec![store.read(filter, wanted).await?];
    let end = batches.first().map_or(after, Batch::commit_end);
    loop {
        let cursor = batches.last().map_or(end, Batch::upto);
        if cursor >= end {
            // The log can have more than a replica of it.
            let is_whole = cursor >= head && !store.is_replica();
            let end = if is_whole { End::Head(asked) } else { End::Commit };
            return Ok(Page::new(cursor, end, batches));
        }
        let rest = Read::after(cursor).upto(end).takes_replica();
        batches.push(store.read(filter, rest).await?);
    }
}
