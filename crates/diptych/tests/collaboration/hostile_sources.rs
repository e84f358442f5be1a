//! Sources that lie, stumble, or became another log.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use diptych::{
    Memory, Store,
    collaboration::{CloudEvent, FeedError, FeedHandle, FeedPage, FeedRead, FeedSource},
    store::{Epoch, LogId, LogIdentity},
};

use super::services::{orders, place, shipments, shipping, stalled, stopped, until};

/// A source that changes the pages of another one while it is wrong.
struct Wrong<C> {
    source: FeedHandle,
    is_wrong: Arc<AtomicBool>,
    change: C,
}

impl<C: Fn(&mut FeedPage) + Send + Sync + 'static> FeedSource for Wrong<C> {
    fn name(&self) -> String {
        "orders".to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        let mut page = self.source.page(read).await?;
        if self.is_wrong.load(SeqCst) {
            (self.change)(&mut page);
        }
        Ok(page)
    }
}

fn wrong<C: Fn(&mut FeedPage) + Send + Sync + 'static>(
    source: &FeedHandle,
    change: C,
) -> (Wrong<C>, Arc<AtomicBool>) {
    let is_wrong = Arc::new(AtomicBool::new(true));
    (Wrong { source: source.clone(), is_wrong: is_wrong.clone(), change }, is_wrong)
}

#[tokio::test]
async fn an_event_that_is_sent_twice_is_taken_in_once() {
    let (_ordering, feed) = orders(10).await;
    let (source, _) = wrong(&feed, |page| {
        let twice = |event: CloudEvent| [event.clone(), event];
        page.events = std::mem::take(&mut page.events).into_iter().flat_map(twice).collect();
        if let Some(first) = page.events.first().cloned() {
            page.events.push(first);
        }
    });
    let app = shipping(&Store::new(Memory::new()), source).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 10).await;
    assert_eq!(shipments(&app).await.events, 10);
}

/// A change that makes a page unusable, and a word in the reason.
type Change = (fn(&mut FeedPage), &'static str);

#[tokio::test]
async fn a_page_with_a_gap_or_out_of_order_is_not_taken_in_and_asked_again() {
    let changes: [Change; 6] = [
        (|page| drop(page.events.remove(0)), "an event is missing"),
        (|page| drop(page.events.remove(4)), "an event is missing"),
        (|page| page.events.swap(2, 3), "an event is missing"),
        (|page| page.upto = page.events[3].place().unwrap().position, "beyond its page"),
        (|page| page.events[5].id = "x".to_owned(), "malformed"),
        (|page| page.events[5].previous = "x".to_owned(), "malformed"),
    ];
    for (change, word) in changes {
        let (_ordering, feed) = orders(10).await;
        let (source, is_wrong) = wrong(&feed, move |page| {
            if page.events.len() == 10 {
                change(page);
            }
        });
        let app = shipping(&Store::new(Memory::new()), source).start().await.unwrap();
        let reason = stalled(&app, "shipments").await;
        assert!(reason.contains(word), "{reason}");
        assert_eq!(shipments(&app).await.events, 0);
        is_wrong.store(false, SeqCst);
        until(&app, "shipments", |status| status.position.get() == 10).await;
        assert_eq!(shipments(&app).await.events, 10);
    }
}

#[tokio::test]
async fn a_source_that_was_restored_stops_the_intake_with_an_answer() {
    let (ordering, feed) = orders(4).await;
    let other_epoch = |page: &mut FeedPage| page.log.epoch = Epoch::from_u64(7 << 32);
    let (source, is_wrong) = wrong(&feed, other_epoch);
    is_wrong.store(false, SeqCst);
    let app = shipping(&Store::new(Memory::new()), source).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 4).await;
    is_wrong.store(true, SeqCst);
    place(&ordering, 4).await;
    let reason = stopped(&app, "shipments").await;
    assert!(reason.contains("was restored"), "{reason}");
    assert!(reason.contains("up to 4"), "{reason}");
    assert_eq!(shipments(&app).await.events, 4);
}

#[tokio::test]
async fn another_log_behind_the_address_stops_the_intake() {
    let (ordering, feed) = orders(4).await;
    let other = LogIdentity { id: LogId::random(), epoch: Epoch::first() };
    let (source, is_wrong) = wrong(&feed, move |page| page.log = other);
    is_wrong.store(false, SeqCst);
    let store = Store::new(Memory::new());
    let app = shipping(&store, source).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 4).await;
    is_wrong.store(true, SeqCst);
    place(&ordering, 4).await;
    let reason = stopped(&app, "shipments").await;
    assert!(reason.contains("another log"), "{reason}");

    // So does a shorter history of the same log.
    app.stop().await.unwrap();
    let (_shorter, feed) = orders(2).await;
    let app = shipping(&store, feed).start().await.unwrap();
    let reason = stopped(&app, "shipments").await;
    assert!(reason.contains("above the end"), "{reason}");
}
