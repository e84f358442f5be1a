//! Basic use of views and queries through an app.

use std::{collections::BTreeMap, time::Duration};

use diptych::{
    App, Event, Fold, Memory, Position, Query, QueryError, Recorded, follow::FollowState,
    store::RawEvent,
};
use diptych_store::Append;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event("counted")]
pub(crate) struct Counted {
    #[tag]
    pub(crate) what: String,
    pub(crate) by: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Fold for Counts {
    type Event = Counted;

    fn apply(&mut self, counted: &Recorded<Counted>) {
        assert!(counted.what != "poison", "it was poison");
        *self.0.entry(counted.what.clone()).or_default() += counted.by;
    }
}

pub(crate) struct CountOf(pub(crate) &'static str);

impl Query for CountOf {
    type View = Counts;
    type Answer = u64;

    fn answer(&self, counts: &Counts) -> u64 {
        counts.0.get(self.0).copied().unwrap_or(0)
    }
}

pub(crate) fn counted(what: &str, by: u64) -> RawEvent {
    Counted { what: what.to_owned(), by }.encode().unwrap()
}

pub(crate) async fn write(app: &App, event: RawEvent) -> Position {
    let accepted = app.store().append(Append::event(event)).await.unwrap();
    accepted.synced().await.unwrap().last
}

#[tokio::test]
async fn a_query_is_answered_from_what_was_written() {
    let app = App::over(Memory::new()).view::<Counts>().start().await.unwrap();
    for _ in 0..1_000 {
        write(&app, counted("apple", 2)).await;
    }
    let answer = app.query(CountOf("apple")).strong().await.unwrap();
    assert_eq!((answer.value, answer.position), (2_000, Position::new(1_000)));
    let status = app.view::<Counts>().unwrap().status();
    assert_eq!(status.events, 1_000);
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_view_is_stepped_and_resumed() {
    let app = App::over(Memory::new()).view::<Counts>().start().await.unwrap();
    let view = app.view::<Counts>().unwrap();
    view.pause().await.unwrap();
    for _ in 0..3 {
        write(&app, counted("apple", 1)).await;
    }
    assert_eq!(*app.query(CountOf("apple")).await.unwrap(), 0);
    let late = app.query(CountOf("apple")).strong().within(Duration::from_millis(50)).await;
    let Err(QueryError::NotYet(late)) = late else { panic!("{late:?}") };
    assert_eq!((late.need.get(), late.have.get()), (3, 0));
    assert_eq!(view.step().await.unwrap(), Position::new(1));
    assert_eq!(*app.query(CountOf("apple")).await.unwrap(), 1);
    view.resume().await.unwrap();
    // Tokio advances a paused clock while all tasks wait for another thread, so the query would
    // time out.
    tokio::time::resume();
    assert_eq!(*app.query(CountOf("apple")).strong().await.unwrap(), 3);
}

#[tokio::test]
async fn a_poisoned_view_stops_before_the_event() {
    let app = App::over(Memory::new()).view::<Counts>().start().await.unwrap();
    let store = app.store().clone();
    for what in ["apple", "apple", "poison", "apple"] {
        let accepted = store.append(Append::event(counted(what, 1))).await.unwrap();
        accepted.synced().await.unwrap();
    }
    let stopped = app.query(CountOf("apple")).strong().await;
    let Err(QueryError::Stopped { stopped, .. }) = stopped else { panic!("{stopped:?}") };
    assert_eq!(stopped.at, Position::new(3));
    assert!(stopped.reason.contains("it was poison"), "{}", stopped.reason);
    let answer = app.query(CountOf("apple")).await.unwrap();
    assert_eq!((answer.value, answer.position), (2, Position::new(2)));
    let status = app.view::<Counts>().unwrap().status();
    assert!(matches!(status.state, FollowState::Stopped(_)));
}
