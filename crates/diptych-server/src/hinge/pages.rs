//! Pages of live events that subscribers share.
//!
//! Subscribers of one filter that have caught up ask for the same page after each commit. It is
//! read and encoded once for all of them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
};

use diptych::store::{Batch, Filter, LogIdentity, Position, Read, ReadError, Store};
use diptych_remote::wire::{self, messages::EncodedEvents};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// Pages that are kept for slower subscribers.
const PAGES: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Bytes of the largest page that is kept. All kept pages have at most 16 MiB.
const PAGE_BYTES: usize = 256 << 10;
/// Events of one page.
const PAGE_EVENTS: usize = 4_096;

/// The pages of one server.
pub(crate) struct LivePages {
    pages: Mutex<LruCache<PageKey, Arc<OnceCell<Arc<LivePage>>>>>,
}

/// The events after a position that match a filter.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PageKey {
    log: LogIdentity,
    filter: Filter,
    after: Position,
}

/// Some events in order.
pub(crate) struct LivePage {
    pub(crate) batch: Batch,
    encoded: OnceLock<EncodedEvents>,
}

impl LivePage {
    fn new(batch: Batch) -> LivePage {
        LivePage { batch, encoded: OnceLock::new() }
    }

    /// The events in the encoding of the log. The bytes are shared.
    pub(crate) fn encoded(&self) -> EncodedEvents {
        self.encoded.get_or_init(|| wire::encoded_events(self.batch.iter())).clone()
    }

    fn is_small(&self) -> bool {
        self.batch.iter().map(|event| event.bytes().len()).sum::<usize>() <= PAGE_BYTES
    }
}

impl Default for LivePages {
    fn default() -> LivePages {
        LivePages { pages: Mutex::new(LruCache::new(PAGES)) }
    }
}

impl LivePages {
    /// The next page of a subscriber that has caught up.
    pub(crate) async fn shared(
        &self,
        store: &Store,
        filter: &Filter,
        after: Position,
    ) -> Result<Arc<LivePage>, ReadError> {
        let key = PageKey { log: store.identity(), filter: filter.clone(), after };
        let cell = self.pages.lock().get_or_insert(key.clone(), Arc::default).clone();
        let page = cell.get_or_try_init(async || read(store, filter, after).await).await?.clone();
        // A page that goes nowhere would stop its subscribers.
        if page.batch.upto() <= after || !page.is_small() {
            self.pages.lock().pop(&key);
        }
        Ok(page)
    }
}

/// Reads a page for one subscriber.
pub(crate) async fn read(
    store: &Store,
    filter: &Filter,
    after: Position,
) -> Result<Arc<LivePage>, ReadError> {
    let batch = store.read(filter, Read::after(after).limit(PAGE_EVENTS)).await?;
    Ok(Arc::new(LivePage::new(batch)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use diptych::store::{Append, Memory, RawEvent, Tag};
    use diptych_store::testing::{Call, WrappedStore};

    use super::*;

    #[tokio::test]
    async fn subscribers_at_one_position_share_one_read() {
        let reads = Arc::new(AtomicU64::new(0));
        let counter = reads.clone();
        let store = Store::new(WrappedStore::new(Memory::new()).before(move |call| {
            if let Call::Read(..) = call {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            async { Ok(()) }
        }));
        let event = RawEvent::new("a", "1").tag(Tag::new("k", 1));
        store.append(Append::event(event)).await.unwrap().synced().await.unwrap();
        let (pages, filter) = (LivePages::default(), Filter::tag(Tag::new("k", 1)));
        let page = || pages.shared(&store, &filter, Position::START);
        let (one, two) = tokio::join!(page(), page());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!((one.batch.len(), one.encoded().sizes.len()), (1, 1));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        // Another position, or another filter, is another page.
        let other = Filter::tag(Tag::new("k", 2));
        pages.shared(&store, &other, Position::START).await.unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 2);
    }
}
