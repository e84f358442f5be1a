//! Views that fold no more events: which queries they answer, which they refuse, and how the
//! answer reports it.

use std::time::Duration;

use diptych::{
    Answer, App, Command, CommandError, DecisionContext, ExecuteError, Filter, Log, LogOptions,
    Memory, Point, Position, QueryError, StartError, Store, Tag, follow::FollowState,
};
use diptych_store::Append;

use crate::{
    basics::{CountOf, Counted, Counts, counted, write},
    support::ledger::comes,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Counts an apple, and is rejected if an apple is already counted.
struct CountFirst;

#[derive(Debug, thiserror::Error)]
#[error("there is one")]
struct ThereIsOne;

impl Command for CountFirst {
    type State = Counts;
    type Event = Counted;
    type Rejection = ThereIsOne;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("what", "apple"))
    }

    fn decide(&self, counts: &Counts, _: &DecisionContext) -> Result<Vec<Counted>, ThereIsOne> {
        match *counts == Counts::default() {
            true => Ok(vec![Counted { what: "apple".to_owned(), by: 1 }]),
            false => Err(ThereIsOne),
        }
    }
}

#[track_caller]
fn standstill<T>(answer: &Answer<T>) -> &FollowState {
    &answer.standstill.as_ref().expect("the view stands still").state
}

/// Regression: an app was stopped, and another app opened its folder and wrote to it. The view of
/// the stopped app had folded its whole log. It therefore answered `strong` and `at_most` at once
/// and for ever, as if no later event existed.
#[tokio::test]
async fn a_stopped_app_refuses_queries_that_require_freshness() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path()).unwrap().view::<Counts>().start().await.unwrap();
    let receipt = app.execute(CountFirst).await.unwrap();
    assert_eq!(*app.query(CountOf("apple")).strong().at_most(HOUR).await.unwrap(), 1);
    assert!(!app.is_stopped());
    app.clone().stop().await.unwrap();
    assert!(app.is_stopped());
    let other = App::open(folder.path()).unwrap().start().await.unwrap();
    write(&other, counted("apple", 1)).await;

    let ask = || app.query(CountOf("apple"));
    for fresh in [ask().strong(), ask().at_most(HOUR), ask().at_most(HOUR).after(&receipt)] {
        assert_eq!(fresh.await.unwrap_err(), QueryError::AppStopped);
    }
    // The stopped app does not know the end of the log, so `Point::now` fails too.
    let now = ask().at(Point::now()).await.unwrap_err();
    assert!(matches!(now, QueryError::Ended { .. }), "{now}");
    // The view has reached these positions, so it answers. The answer reports the standstill.
    for answer in [ask().await, ask().after(&receipt).await] {
        let answer = answer.unwrap();
        assert_eq!((answer.value, answer.position, answer.stale), (1, Position::new(1), None));
        assert_eq!(*standstill(&answer), FollowState::Closed);
    }
    let stale = ask().strong().or_stale().await.unwrap();
    assert_eq!((stale.value, stale.stale), (1, Some(Position::new(1))));
    assert_eq!(*standstill(&stale), FollowState::Closed);
    let mut watch = app.watch(CountOf("apple"));
    assert_eq!(*standstill(&watch.next().await.unwrap()), FollowState::Closed);
    assert_eq!(watch.next().await.unwrap_err(), QueryError::AppStopped);
    other.stop().await.unwrap();
}

/// Regression: a log that was closed under its app may be open in another process. The app still
/// returned rejections and answers of views, as if its state held every durable event.
#[tokio::test]
async fn an_app_over_a_closed_log_refuses_what_it_cannot_verify() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let app = App::over(log.clone()).view::<Counts>().start().await.unwrap();
    app.execute(CountFirst).await.unwrap();
    assert!(matches!(app.execute(CountFirst).await, Err(ExecuteError::Rejected(_))));
    app.query(CountOf("apple")).strong().await.unwrap();
    let long_ago = Point::now().recorded_before(diptych::Timestamp::from_micros(0));
    log.close().unwrap();
    for fresh in [app.query(CountOf("apple")).strong(), app.query(CountOf("apple")).at_most(HOUR)] {
        let error = fresh.await.unwrap_err();
        assert!(matches!(error, QueryError::Ended { .. }), "{error}");
    }
    let rejected = app.execute(CountFirst).await;
    assert!(
        matches!(rejected, Err(ExecuteError::Failed(CommandError::Unavailable(_)))),
        "{rejected:?}"
    );
    let past = app.query(CountOf("apple")).at(long_ago).await;
    assert!(matches!(past, Err(QueryError::Unavailable { .. })), "{past:?}");
    comes("its end", || matches!(app.views()[0].state, FollowState::Ended { .. }));
    let answer = app.query(CountOf("apple")).await.unwrap();
    assert!(matches!(standstill(&answer), FollowState::Ended { .. }));
}

/// Regression: a view that had stopped before a poisoned event answered as before. A board showed
/// the same hour for days, and its answer looked like the answer of a quiet day.
#[tokio::test]
async fn an_answer_of_a_stopped_or_paused_view_reports_the_standstill() {
    let app = App::over(Memory::new()).view::<Counts>().start().await.unwrap();
    let view = app.view::<Counts>().unwrap();
    write(&app, counted("apple", 1)).await;
    let live = app.query(CountOf("apple")).strong().await.unwrap();
    assert_eq!(live.standstill, None);
    view.pause().await.unwrap();
    write(&app, counted("apple", 1)).await;
    let paused = app.query(CountOf("apple")).await.unwrap();
    assert_eq!((paused.value, standstill(&paused)), (1, &FollowState::Paused));
    view.resume().await.unwrap();
    let live = app.query(CountOf("apple")).strong().await.unwrap();
    assert_eq!((live.value, live.standstill), (2, None));

    let before = diptych::Timestamp::now();
    for what in ["poison", "apple"] {
        write(&app, counted(what, 1)).await;
    }
    comes("a stop", || matches!(view.status().state, FollowState::Stopped(_)));
    let mut watch = app.watch(CountOf("apple"));
    for answer in [app.query(CountOf("apple")).await, watch.next().await] {
        let answer = answer.unwrap();
        assert_eq!((answer.value, answer.position.get()), (2, 2));
        let FollowState::Stopped(stopped) = standstill(&answer) else { panic!("{answer:?}") };
        assert_eq!(stopped.at, Position::new(3));
        let since = answer.standstill.as_ref().unwrap().since;
        assert!(since >= before && since == view.status().since, "{since}");
    }
    // A query of the past does not depend on the live view.
    let past = app.query(CountOf("apple")).as_of(Position::new(2)).await.unwrap();
    assert_eq!((past.value, past.standstill), (2, None));
    let strong = app.query(CountOf("apple")).strong().await.unwrap_err();
    assert!(matches!(strong, QueryError::Stopped { .. }), "{strong}");
}

#[tokio::test]
async fn an_app_that_requires_its_views_does_not_start_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let open = || App::open(folder.path()).unwrap().view::<Counts>();
    let app = open().require_views().start().await.unwrap();
    write(&app, counted("apple", 1)).await;
    write(&app, counted("poison", 1)).await;
    app.stop().await.unwrap();
    let error = open().require_views().start().await.unwrap_err();
    let StartError::RequiredView { view, state: FollowState::Stopped(stopped) } = &error else {
        panic!("{error}")
    };
    assert!(view.ends_with("Counts") && stopped.at == Position::new(2), "{error}");
    assert!(error.to_string().contains("it was poison"), "{error}");
    // The failed start released the folder. An app that does not require the view starts.
    let app = open().start().await.unwrap();
    assert_eq!(*app.query(CountOf("apple")).await.unwrap(), 1);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn an_app_that_requires_its_views_starts_when_they_catch_up() {
    let store = Store::new(Memory::new());
    store.append(Append::event(counted("apple", 1))).await.unwrap().synced().await.unwrap();
    let app = App::over_store(store).view::<Counts>().require_views().start().await.unwrap();
    assert_eq!(*app.query(CountOf("apple")).await.unwrap(), 1);
}
