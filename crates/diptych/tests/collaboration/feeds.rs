//! The events that a feed publishes, and their order.

use std::time::{Duration, Instant};

use diptych::{
    Memory, Position,
    collaboration::{EventPlace, FeedCursor, FeedError, FeedName, FeedPage, FeedRead},
};

use super::services::{Ordering, ordering, orders, place, write};

fn after(position: u64) -> FeedRead {
    FeedRead::after(FeedCursor::Position(Position::new(position)))
}

fn ids(page: &FeedPage) -> Vec<&str> {
    page.events.iter().map(|event| event.id.trim_start_matches('0')).collect()
}

#[tokio::test]
async fn a_feed_has_the_public_events_of_the_whole_log_in_order() {
    let app = ordering(Memory::new()).await;
    place(&app, 7).await;
    write(&app, Ordering::Checked { order: 7 }).await;
    write(&app, Ordering::Split { order: 8, parts: 3 }).await;
    write(&app, Ordering::Checked { order: 8 }).await;
    let page = app.feed("orders").unwrap().page(after(0)).await.unwrap();

    assert_eq!(ids(&page), ["1", "3", "3-1", "3-2"]);
    assert_eq!((page.upto.get(), page.head.get()), (4, 4));
    let previous: Vec<_> =
        page.events.iter().map(|event| event.previous_position().unwrap().get()).collect();
    assert_eq!(previous, [0, 1, 1, 1]);
    let first = &page.events[0];
    assert_eq!(first.event_type, "order-accepted.v1");
    assert_eq!(first.subject.as_deref(), Some("order:7"));
    assert_eq!(first.data.get(), r#"{"order":7,"cents":107}"#);
    let name = FeedName { log: app.identity(), feed: "orders".to_owned() };
    assert_eq!(FeedName::parse(&first.source), Some(name));
    assert!(first.time.is_some() && first.eventid.is_some());
}

#[tokio::test]
async fn a_page_goes_on_after_a_position_or_after_an_event() {
    let app = ordering(Memory::new()).await;
    write(&app, Ordering::Split { order: 1, parts: 2 }).await;
    write(&app, Ordering::Split { order: 2, parts: 2 }).await;
    let feed = app.feed("orders").unwrap();
    // A page ends with a whole position.
    let page = feed.page(after(0).limit(1)).await.unwrap();
    assert_eq!((ids(&page), page.upto.get()), (vec!["1", "1-1"], 1));
    let page = feed.page(after(1).limit(1)).await.unwrap();
    assert_eq!((ids(&page), page.upto.get()), (vec!["2", "2-1"], 2));
    assert_eq!(page.events[0].previous_position().unwrap().get(), 1);
    let last = EventPlace { position: Position::new(1), part: 0 };
    let page = feed.page(FeedRead::after(FeedCursor::Event(last))).await.unwrap();
    assert_eq!(ids(&page), ["1-1", "2", "2-1"]);
    let page = feed.page(FeedRead::after(FeedCursor::End)).await.unwrap();
    assert_eq!((ids(&page), page.upto.get()), (vec![], 2));
}

#[tokio::test]
async fn a_reader_waits_for_an_event_that_is_for_the_feed() {
    let (app, feed) = orders(1).await;
    let waits = tokio::spawn({
        let feed = feed.clone();
        async move { feed.page(after(1).wait(Duration::from_secs(60))).await.unwrap() }
    });
    for _ in 0..3 {
        write(&app, Ordering::Checked { order: 0 }).await;
        tokio::task::yield_now().await;
    }
    place(&app, 9).await;
    assert_eq!(ids(&waits.await.unwrap()), ["5"]);

    // Without an event it returns as far as it looked.
    write(&app, Ordering::Checked { order: 9 }).await;
    let asked = Instant::now();
    let page = feed.page(after(5).wait(Duration::from_millis(30))).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(30));
    assert_eq!((ids(&page), page.upto.get()), (vec![], 6));
}

#[tokio::test]
async fn many_waiting_readers_all_get_the_next_event() {
    let (app, feed) = orders(2).await;
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..200 {
        let feed = feed.clone();
        readers.spawn(async move {
            let mut at = 2;
            for _ in 0..3 {
                let page = feed.page(after(at).wait(Duration::from_secs(60))).await.unwrap();
                assert!(!page.events.is_empty(), "reader {reader} woke for nothing");
                at = page.upto.get();
            }
        });
    }
    while !readers.is_empty() {
        write(&app, Ordering::Checked { order: 1 }).await;
        place(&app, 1).await;
        let _ = tokio::time::timeout(Duration::from_millis(1), readers.join_next()).await;
    }
}

#[tokio::test]
async fn a_place_above_the_end_is_an_error() {
    let (_app, feed) = orders(3).await;
    let error = feed.page(after(4)).await.unwrap_err();
    let FeedError::AboveHead { after, head } = error else { panic!("{error}") };
    assert_eq!((after.get(), head.get()), (4, 3));
    assert!(feed.page(self::after(3)).await.unwrap().events.is_empty());
}
