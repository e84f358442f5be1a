//! An app whose log has other writers, and whose store is behind. The store shows the commits of
//! another handle only after a call that asks for the end of the log. No promise of the app may
//! rest on the head that it has seen.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, AppBuilder, CommandError, EventStore, ExecuteError, Filter, Fold, Memory, Position, Query,
    QueryError, Receipt, Recorded, Store, Tag, Timestamp,
    command::Retries,
    follow::FollowState,
    snapshot::{MemorySnapshots, SnapshotOptions, Snapshots},
    token::TokenError,
};
use diptych_store::{
    Delivery, ReadError, SubscribeOptions, Unavailable,
    testing::{Call, WrappedStore},
};
use serde::{Deserialize, Serialize};

use crate::support::{
    bank::{self, Banking, No, deposit, withdraw},
    counted_store::Warnings,
    probe::look,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Balances(BTreeMap<String, u64>);

impl Fold for Balances {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        match &event.event {
            Banking::Opened(opened) => drop(self.0.insert(opened.account.clone(), 0)),
            Banking::Deposited(deposited) => {
                *self.0.entry(deposited.account.clone()).or_default() += deposited.amount;
            }
            Banking::Withdrawn(withdrawn) => {
                *self.0.entry(withdrawn.account.clone()).or_default() -= withdrawn.amount;
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Balance(&'static str);

impl Query for Balance {
    type View = Balances;
    type Answer = Option<u64>;

    fn answer(&self, balances: &Balances) -> Option<u64> {
        balances.0.get(self.0).copied()
    }
}

/// Two apps on one log. The store of `app` knows the account of `anna`, and nothing after it.
struct Two {
    other: App,
    app: App,
    is_silent: Arc<AtomicBool>,
}

/// A handle that is behind. While `is_silent`, it does not tell the end of the log.
fn behind(log: &Store, is_silent: Arc<AtomicBool>) -> WrappedStore {
    WrappedStore::over(log.clone()).behind().before(move |call| {
        // The pulse asks once a second, which is no promise of the app.
        let is_pulse = thread::current().name() == Some("diptych pulse");
        let refuses = is_pulse || is_silent.load(Ordering::SeqCst);
        let refused = matches!(call, Call::FreshHead) && refuses;
        async move {
            match refused {
                true => Err(ReadError::Unavailable(Unavailable::Closed)),
                false => Ok(()),
            }
        }
    })
}

async fn start(store: impl EventStore) -> App {
    App::over(store).view::<Balances>().start().await.unwrap()
}

async fn two() -> Two {
    let log = Store::new(Memory::new());
    let other = App::over_store(log.clone()).view::<Balances>().start().await.unwrap();
    other.execute(bank::open("anna")).await.unwrap();
    let is_silent = Arc::new(AtomicBool::new(false));
    let app = start(behind(&log, is_silent.clone())).await;
    // The state of the account is in the cache from here on.
    let overdrawn = app.execute(withdraw("anna", 1)).await.unwrap_err();
    assert!(matches!(overdrawn, ExecuteError::Rejected(No::Overdrawn { .. })), "{overdrawn:?}");
    Two { other, app, is_silent }
}

impl Two {
    /// Waits until the view has read all it knows, because a view that reads on asks for the end of
    /// the log.
    async fn settled(&self) {
        let view = self.app.view::<Balances>().unwrap();
        for _ in 0..2_000 {
            if view.status().state == FollowState::Live && view.position() >= self.app.head() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Deposits 5 through the other handle.
    async fn deposit(&self) -> Receipt {
        self.settled().await;
        let receipt = self.other.execute(deposit("anna", 5)).await.unwrap();
        assert!(self.app.head() < receipt.last(), "the store of the app is not behind");
        receipt
    }
}

#[tokio::test]
async fn a_strong_answer_has_the_events_of_other_writers() {
    let two = two().await;
    let receipt = two.deposit().await;
    let answer = two.app.query(Balance("anna")).strong().await.unwrap();
    assert_eq!((*answer, answer.position), (Some(5), receipt.last()));
}

#[tokio::test]
async fn a_receipt_under_a_key_of_another_writer_is_found() {
    let two = two().await;
    two.settled().await;
    let receipt = two.other.execute(deposit("anna", 5)).key("k").await.unwrap();
    assert!(two.app.head() < receipt.last(), "the store of the app is not behind");
    assert_eq!(two.app.receipt_under("k").await.unwrap(), Some(receipt));
    assert_eq!(two.app.receipt_under("other").await.unwrap(), None);
    // Without the end of the log, absence is not known.
    two.is_silent.store(true, Ordering::SeqCst);
    let unknown = two.app.receipt_under("other").await.unwrap_err();
    assert!(matches!(unknown, CommandError::Unavailable(_)), "{unknown}");
}

#[tokio::test]
async fn an_answer_of_bounded_age_has_the_events_of_other_writers() {
    let two = two().await;
    two.deposit().await;
    let answer = two.app.query(Balance("anna")).at_most(Duration::ZERO).await.unwrap();
    assert_eq!(*answer, Some(5));
}

#[tokio::test]
async fn without_the_end_of_the_log_a_strong_answer_is_an_error_or_marked() {
    let two = two().await;
    two.deposit().await;
    two.is_silent.store(true, Ordering::SeqCst);
    let error = two.app.query(Balance("anna")).strong().await.unwrap_err();
    assert!(
        matches!(error, QueryError::Unavailable { .. } | QueryError::Ended { .. }),
        "{error:?}"
    );
    let answer = two.app.query(Balance("anna")).strong().or_stale().await.unwrap();
    assert_eq!((*answer, answer.stale.is_some()), (Some(0), true));
}

#[tokio::test]
async fn a_view_that_caught_up_has_the_events_of_other_writers() {
    let two = two().await;
    let receipt = two.deposit().await;
    let view = two.app.view::<Balances>().unwrap();
    assert_eq!(view.caught_up(Duration::from_secs(30)).await.unwrap(), receipt.last());
    assert_eq!(*two.app.query(Balance("anna")).await.unwrap(), Some(5));
}

#[tokio::test]
async fn a_view_is_complete_at_its_start() {
    let log = Store::new(Memory::new());
    let store = behind(&log, Arc::default());
    let other = App::over_store(log).start().await.unwrap();
    other.execute(bank::open("anna")).await.unwrap();
    let app = start(store).await;
    assert_eq!(*app.query(Balance("anna")).await.unwrap(), Some(0));
}

/// No view asks for the end of the log here.
#[tokio::test]
async fn the_head_of_an_app_has_everything_that_was_committed_before_its_start() {
    let log = Store::new(Memory::new());
    let store = behind(&log, Arc::default());
    let other = App::over_store(log).start().await.unwrap();
    let receipt = other.execute(bank::open("anna")).await.unwrap();
    let app = App::over(store).start().await.unwrap();
    assert_eq!(app.head(), receipt.last());
}

#[tokio::test]
async fn a_rejection_does_not_rest_on_a_stale_state() {
    let two = two().await;
    two.deposit().await;
    two.app.execute(withdraw("anna", 5)).await.unwrap();
    // A state that is read for the first time must not be stale either.
    two.other.execute(bank::open("ben")).await.unwrap();
    two.app.execute(deposit("ben", 1)).await.unwrap();
}

#[tokio::test]
async fn an_empty_outcome_does_not_rest_on_a_stale_state() {
    let two = two().await;
    let receipt = two.deposit().await;
    let done = two.app.execute(deposit("anna", 0)).await.unwrap();
    assert_eq!(done.last(), receipt.last(), "the decision should be at the end of the log");
}

#[tokio::test]
async fn a_command_after_a_conflict_with_another_writer_is_decided_once_more() {
    let two = two().await;
    two.deposit().await;
    two.app.execute(deposit("anna", 1)).await.unwrap();
    assert_eq!(two.app.stats().conflicts, 1);
    assert_eq!(*two.app.query(Balance("anna")).strong().await.unwrap(), Some(6));
}

/// A conflict with an event from before the command would be its last attempt.
#[tokio::test]
async fn a_command_with_one_attempt_sees_the_events_of_other_writers() {
    let log = Store::new(Memory::new());
    let once = Retries { attempts: 1, ..Retries::default() };
    let app = App::over(behind(&log, Arc::default())).retries(once).start().await.unwrap();
    let other = App::over_store(log).start().await.unwrap();
    app.execute(bank::open("anna")).await.unwrap();
    let receipt = other.execute(deposit("anna", 5)).await.unwrap();
    assert!(app.head() < receipt.last(), "the store of the app is not behind");
    app.execute(deposit("anna", 1)).await.unwrap();
    assert_eq!(app.stats().conflicts, 0);
}

#[tokio::test]
async fn an_expectation_is_compared_with_the_end_of_the_log() {
    let two = two().await;
    let receipt = two.deposit().await;
    // The other handle has shown the position.
    let since = two.app.execute(deposit("anna", 0)).unchanged_since(receipt.last()).await;
    assert_eq!(since.unwrap().last(), receipt.last());
    two.deposit().await;
    let changed = two.app.execute(withdraw("anna", 99)).unchanged_since(receipt.last()).await;
    let changed = changed.unwrap_err();
    assert!(matches!(changed, ExecuteError::Failed(CommandError::Conflict(_))), "{changed:?}");
    two.deposit().await;
    let revision = two.app.execute(withdraw("anna", 99)).expected_revision(3).await.unwrap_err();
    assert!(matches!(revision, ExecuteError::Failed(CommandError::Conflict(_))), "{revision:?}");
}

#[tokio::test]
async fn a_key_of_another_writer_is_found() {
    let two = two().await;
    let receipt = two.other.execute(deposit("anna", 5)).key("sent twice").await.unwrap();
    let again = two.app.execute(deposit("anna", 5)).key("sent twice").await.unwrap();
    assert_eq!((again.first(), again.last()), (receipt.first(), receipt.last()));
    two.other.execute(deposit("anna", 6)).key("used").await.unwrap();
    // An invalid command is not decided, and its key is looked up all the same.
    let reused = two.app.execute(deposit("anna", 2_000_000)).key("used").await.unwrap_err();
    assert!(matches!(reused, ExecuteError::Failed(CommandError::KeyReused(_))), "{reused:?}");
}

#[tokio::test]
async fn a_token_of_another_writer_is_waited_for() {
    let two = two().await;
    let receipt = two.deposit().await;
    let answer = two.app.query(Balance("anna")).after(&receipt).await.unwrap();
    assert_eq!(*answer, Some(5));
    let receipt = two.deposit().await;
    let view = two.app.view::<Balances>().unwrap();
    assert!(view.after(&receipt, Duration::from_secs(30)).await.unwrap() >= receipt.last());
    let session = two.other.session();
    let written = two.other.execute(deposit("anna", 5)).session(&session).await.unwrap();
    let token = session.token().await.unwrap();
    let resumed = two.app.resume_session(&token).await.unwrap();
    let answer = two.app.query(Balance("anna")).session(&resumed).await.unwrap();
    assert_eq!((*answer, answer.position), (Some(15), written.last()));
    let receipt = two.deposit().await;
    two.app.execute(withdraw("anna", 20)).after(&receipt).await.unwrap();
}

#[tokio::test]
async fn a_token_above_the_end_of_the_log_is_an_error() {
    let Two { other, app, .. } = two().await;
    let ahead = other.execute(deposit("anna", 5)).await.unwrap();
    let short = Store::new(Memory::new());
    let log = other.identity();
    let short = WrappedStore::over(short).identity(move || log).behind();
    let short = start(short).await;
    let error = short.query(Balance("anna")).after(&ahead).await.unwrap_err();
    let expected = TokenError::AboveHead { position: ahead.last(), head: Position::START };
    assert!(matches!(error, QueryError::Token(error) if error == expected), "{error:?}");
    drop(app);
}

#[tokio::test]
async fn a_point_of_the_past_is_of_the_whole_log() {
    let two = two().await;
    let receipt = two.deposit().await;
    let answer = two.app.query(Balance("anna")).as_of(receipt.last()).await.unwrap();
    assert_eq!(*answer, Some(5));
    let receipt = two.deposit().await;
    let later = Timestamp::from_micros(Timestamp::now().as_micros() + 1_000_000);
    assert_eq!(two.app.position_before(later).await.unwrap(), receipt.last());
}

#[tokio::test]
async fn a_subscription_may_begin_at_a_position_of_another_writer() {
    let two = two().await;
    let receipt = two.deposit().await;
    let options = SubscribeOptions::default();
    let everything = Filter::everything();
    let mut events = two.app.store().subscribe(everything, receipt.last(), options);
    let first = events.next().await.unwrap();
    assert!(matches!(first, Delivery::CaughtUp { upto } if upto == receipt.last()), "{first:?}");
}

/// The snapshot is above everything that the store of the app has shown. It is not useless.
#[tokio::test]
async fn a_decision_snapshot_of_another_writer_is_used() {
    let (warnings, _listening) = Warnings::listen();
    let (log, place) = (Store::new(Memory::new()), Arc::new(MemorySnapshots::default()));
    let every = SnapshotOptions::every(1);
    let with_snapshots =
        |app: AppBuilder| app.snapshots_in(place.clone()).snapshots::<Balances>(every);
    let app = with_snapshots(App::over(behind(&log, Arc::default()))).start().await.unwrap();
    let other = with_snapshots(App::over_store(log)).start().await.unwrap();
    // The first command of an app asks for the end of the log, to look for missing tags.
    app.execute(bank::open("ben")).await.unwrap();
    other.execute(bank::open("anna")).await.unwrap();
    other.execute(deposit("anna", 5)).await.unwrap();
    let account = Filter::tag(Tag::new("account", "anna"));
    look::<Balances>(&other, &account).await.unwrap();
    waits_until(|| !place.names("").unwrap().is_empty(), "a snapshot is made").await;
    assert_eq!(app.head(), Position::new(1), "the store of the app is not behind");
    assert_eq!(look::<Balances>(&app, &account).await.unwrap().0["anna"], 5);
    assert_eq!(warnings.take(), [""; 0]);
}

/// Nothing asks the app for the end of the log, except its pulse.
#[tokio::test]
async fn a_view_follows_other_writers_without_a_question() {
    let log = Store::new(Memory::new());
    let app = start(WrappedStore::over(log.clone()).behind()).await;
    let other = App::over_store(log).start().await.unwrap();
    other.execute(bank::open("anna")).await.unwrap();
    let view = app.view::<Balances>().unwrap();
    waits_until(|| view.position() == Position::new(1), "the view has the event").await;
}

/// Waits until `holds` answers true. This takes about a second at most.
async fn waits_until(mut holds: impl FnMut() -> bool, what: &str) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "it takes too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
