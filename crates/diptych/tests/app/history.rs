//! A store whose history changes under a running app, and a store that returns unchanged.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use diptych::{
    App, CommandError, ExecuteError, Memory, Position, QueryError, Store, follow::FollowState,
    store::Unavailable,
};
use diptych_store::{
    Append, AppendError, HistoryChanged, RawEvent,
    testing::{Call, Reply, WrappedStore},
};
use parking_lot::Mutex;

use crate::support::{
    bank::{deposit, open},
    distant::{DistantStore, restore},
    ledger::{HookedLedger, Ledger, Look, Mirror, comes, write},
};

/// Extracts the change of history that a command failed with.
fn failed_with<R: std::error::Error>(error: ExecuteError<R>) -> HistoryChanged {
    match error {
        ExecuteError::Failed(CommandError::Unavailable(Unavailable::HistoryChanged(changed))) => {
            changed
        }
        error => panic!("{error}"),
    }
}

fn is_unreachable<R: std::error::Error>(error: &ExecuteError<R>) -> bool {
    let ExecuteError::Failed(CommandError::Unavailable(cause)) = error else { return false };
    matches!(cause, Unavailable::Backend(_))
}

fn have_stopped(app: &App, changed: HistoryChanged) -> bool {
    app.views().iter().all(|view| view.state == FollowState::HistoryChanged(changed))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_change_of_history_commands_and_queries_fail_and_followers_stop() {
    let (distant, ledger) = (DistantStore::new(), HookedLedger::new());
    let app = App::over(distant.connect()).view::<Ledger>().view::<Mirror>();
    let app = app.start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    write(&distant.store, ledger.commit(&[1]));
    app.query(Look).strong().await.unwrap();

    let changed = distant.restore();
    // The cached state would reject the first command and accept the second.
    assert_eq!(failed_with(app.execute(open("a")).await.unwrap_err()), changed);
    assert_eq!(failed_with(app.execute(deposit("a", 1)).await.unwrap_err()), changed);
    assert_eq!(distant.store.head().position(), Position::new(2), "a command wrote events");
    comes("the views stop", || have_stopped(&app, changed));
    let queries = [app.query(Look), app.query(Look).strong(), app.query(Look).strong().or_stale()];
    for query in queries {
        assert_eq!(query.await.unwrap_err(), QueryError::HistoryChanged(changed));
    }
    let past = app.query(Look).as_of(Position::new(1)).await;
    assert_eq!(past.unwrap_err(), QueryError::HistoryChanged(changed));

    // The first history comes back, but the app has seen another one.
    *distant.identity.lock() = changed.was;
    assert_eq!(failed_with(app.execute(deposit("a", 1)).await.unwrap_err()), changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strong_query_notices_a_change_of_history_first() {
    let distant = DistantStore::new();
    let app = App::over(distant.connect()).view::<Ledger>().start().await.unwrap();
    let changed = distant.restore();
    let answer = app.query(Look).strong().await;
    assert_eq!(answer.unwrap_err(), QueryError::HistoryChanged(changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_app_notices_a_change_of_history() {
    let distant = DistantStore::new();
    let app = App::over(distant.connect()).view::<Ledger>().start().await.unwrap();
    let changed = distant.restore();
    comes("the view stops", || have_stopped(&app, changed));
    assert_eq!(app.query(Look).await.unwrap_err(), QueryError::HistoryChanged(changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_of_the_same_history_everything_goes_on() {
    let (distant, ledger) = (DistantStore::new(), HookedLedger::new());
    let app = App::over(distant.connect()).view::<Ledger>().start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    distant.is_out.store(true, Ordering::SeqCst);
    write(&distant.store, ledger.commit(&[1]));
    let failed = app.execute(deposit("a", 1)).await.unwrap_err();
    assert!(is_unreachable(&failed), "{failed}");
    let is_stalled = || matches!(app.views()[0].state, FollowState::Stalled { .. });
    comes("the view stalls", is_stalled);

    distant.is_out.store(false, Ordering::SeqCst);
    app.execute(deposit("a", 1)).await.unwrap();
    assert_eq!(app.query(Look).strong().await.unwrap().position, Position::new(3));
    comes("the view is live", || app.views()[0].state == FollowState::Live);
}

/// The commit may be in the old history or in the new one.
#[tokio::test]
async fn a_commit_during_a_change_of_history_has_an_unknown_outcome() {
    let store = Store::new(Memory::new());
    let identity = Arc::new(Mutex::new(store.identity()));
    let now = identity.clone();
    let distant = WrappedStore::over(store).identity(move || *now.lock()).after(move |reply| {
        if let Reply::Append(_) = reply {
            restore(&identity);
        }
        async {}
    });
    let app = App::over(distant).start().await.unwrap();
    let failed = app.execute(open("a")).await.unwrap_err();
    assert!(matches!(failed, ExecuteError::Failed(CommandError::OutcomeUnknown(_))), "{failed}");
}

/// Regression: the new history refused the append for reasons of its own. The caller took them for
/// reasons of the old history.
#[tokio::test]
async fn a_refusal_during_a_change_of_history_says_that_the_history_changed() {
    let store = Store::new(Memory::new());
    let identity = Arc::new(Mutex::new(store.identity()));
    let now = identity.clone();
    let distant = WrappedStore::over(store).identity(move || *now.lock()).after(move |reply| {
        if let Reply::Append(_) = reply {
            restore(&identity);
        }
        async {}
    });
    let nameless = Append::event(RawEvent::new("", "1"));
    let refused = Store::new(distant).pinned().append(nameless).await.unwrap_err();
    let is_told = matches!(refused, AppendError::Unavailable(Unavailable::HistoryChanged(_)));
    assert!(is_told, "{refused}");
}

#[tokio::test]
async fn a_stop_closes_a_store_that_the_app_owns_and_no_other() {
    let closed = Arc::new(AtomicU64::new(0));
    let counter = closed.clone();
    let store = WrappedStore::new(Memory::new()).before(move |call| {
        counter.fetch_add(u64::from(matches!(call, Call::Close)), Ordering::SeqCst);
        async { Ok(()) }
    });
    App::over(store.clone()).start().await.unwrap().stop().await.unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 0);
    let owner = App::over(store).close_store().start().await.unwrap();
    owner.beside().start().await.unwrap().stop().await.unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 0);
    owner.stop().await.unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 1);
}
