//! Freshness of answers. Each test queries a paused view with a guarantee, and with the same query
//! without the guarantee.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Waker},
    time::Duration,
};

use diptych::{
    App, CommandError, ExecuteError, Fold, Memory, Position, Query, QueryError, Receipt, Recorded,
    Session, SessionToken, Store,
    follow::{FollowerControl, NotYet},
    store::{Epoch, LogIdentity},
    token::{TokenError, TokenSyntaxError},
};
use diptych_store::testing::WrappedStore;
use serde::Serialize;
use tokio::time::{advance, pause, resume};

use crate::support::{
    bank::{self, Banking, deposit, withdraw},
    view_digest::view_digest,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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

/// Two replicas of one view. The view of `slow` is paused after the opening of an account.
struct Replicas {
    fast: App,
    slow: App,
    view: FollowerControl,
}

async fn replicas() -> Replicas {
    let store = Store::new(Memory::new());
    let [fast, slow] = [App::over_store(store.clone()), App::over_store(store)];
    let fast = fast.view::<Balances>().start().await.unwrap();
    let slow = slow.view::<Balances>().start().await.unwrap();
    fast.execute(bank::open("anna")).await.unwrap();
    assert_eq!(*slow.query(Balance("anna")).strong().await.unwrap(), Some(0));
    let view = slow.view::<Balances>().unwrap();
    assert_eq!(view.pause().await.unwrap(), Position::new(1));
    Replicas { fast, slow, view }
}

impl Replicas {
    async fn deposit(&self) -> Receipt {
        self.fast.execute(deposit("anna", 5)).await.unwrap()
    }
}

/// Polls the future once and returns its output if it is ready.
fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}

#[track_caller]
fn at_once<T>(future: impl IntoFuture<Output = Result<T, QueryError>>) -> T {
    poll(pin!(future.into_future())).expect("the query should not wait").unwrap()
}

#[tokio::test]
async fn eventual_answers_at_once_and_replicas_converge() {
    let replicas = replicas().await;
    let Replicas { fast, slow, view } = &replicas;
    replicas.deposit().await;
    let answer = at_once(slow.query(Balance("anna")));
    assert_eq!((answer.value, answer.position.get(), answer.stale), (Some(0), 1, None));
    assert_eq!(view.status().lag.positions, 1);
    view.resume().await.unwrap();
    slow.query(Balance("anna")).strong().await.unwrap();
    fast.query(Balance("anna")).strong().await.unwrap();
    assert_eq!(view_digest::<Balances>(slow).await, view_digest::<Balances>(fast).await);
    assert_eq!(view.status().lag.positions, 0);
}

#[tokio::test]
async fn a_query_after_a_receipt_waits_for_its_position() {
    let replicas = replicas().await;
    let Replicas { slow, view, .. } = &replicas;
    let receipt = replicas.deposit().await;
    let mut asked = pin!(slow.query(Balance("anna")).after(&receipt).into_future());
    assert!(poll(asked.as_mut()).is_none());
    // A query without the receipt does not wait.
    assert_eq!(*at_once(slow.query(Balance("anna"))), Some(0));
    let (answer, step) = tokio::join!(asked, view.step());
    assert_eq!((answer.unwrap().value, step.unwrap()), (Some(5), receipt.last()));
}

#[tokio::test]
async fn a_timeout_reports_the_required_and_the_reached_position() {
    let replicas = replicas().await;
    let Replicas { slow, .. } = &replicas;
    for _ in 0..3 {
        replicas.deposit().await;
    }
    let receipt = replicas.deposit().await;
    pause();
    for milliseconds in [0, 1, 50] {
        let within = Duration::from_millis(milliseconds);
        let asked = slow.query(Balance("anna")).after(&receipt).within(within);
        let late = asked.await.unwrap_err();
        let (need, have) = (Position::new(5), Position::new(1));
        assert_eq!(late, QueryError::NotYet(NotYet { need, have, within }));
        assert!(
            late.to_string().contains("at position 1, and did not reach the required position 5"),
            "{late}"
        );

        let asked = slow.query(Balance("anna")).after(&receipt).within(within).or_stale();
        let stale = asked.await.unwrap();
        assert_eq!((stale.value, stale.position, stale.stale), (Some(0), have, Some(need)));
    }
    let before = tokio::time::Instant::now();
    slow.query(Balance("anna")).strong().await.unwrap_err();
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_session_sees_its_own_writes_and_not_those_of_another() {
    let replicas = replicas().await;
    let Replicas { fast, slow, view } = &replicas;
    let (session, other) = (slow.session(), slow.session());
    let receipt = fast.execute(deposit("anna", 5)).session(&session).await.unwrap();
    assert_eq!((session.written(), session.seen()), (receipt.last(), Position::START));
    let asks = [
        slow.query(Balance("anna")).session(&session),
        slow.query(Balance("anna")).own_writes(&session),
        slow.query(Balance("anna")).session(&session.clone()),
        slow.query(Balance("anna")).session(&other).session(&session),
    ];
    let mut asks = asks.map(|ask| Box::pin(ask.into_future()));
    assert!(asks.iter_mut().all(|ask| poll(ask.as_mut()).is_none()));
    // `monotonic` covers the reads of the session, not its writes.
    assert_eq!(*at_once(slow.query(Balance("anna")).monotonic(&session)), Some(0));
    assert_eq!(*at_once(slow.query(Balance("anna")).session(&other)), Some(0));
    assert_eq!((other.seen().get(), other.written().get()), (1, 0));
    view.resume().await.unwrap();
    for ask in asks {
        assert_eq!(*ask.await.unwrap(), Some(5));
    }
    assert_eq!((session.seen(), session.written()), (receipt.last(), receipt.last()));
}

#[tokio::test]
async fn monotonic_reads_never_go_back_to_a_slower_replica() {
    let replicas = replicas().await;
    let Replicas { fast, slow, view } = &replicas;
    replicas.deposit().await;
    let session = fast.session();
    let seen = fast.query(Balance("anna")).strong().monotonic(&session).await.unwrap();
    assert_eq!((*seen, session.seen().get(), session.written().get()), (Some(5), 2, 0));
    let mut asked = pin!(slow.query(Balance("anna")).monotonic(&session).into_future());
    assert!(poll(asked.as_mut()).is_none());
    // The session has written nothing, so `own_writes` does not wait.
    assert_eq!(*at_once(slow.query(Balance("anna")).own_writes(&session)), Some(0));
    view.resume().await.unwrap();
    assert_eq!(*asked.await.unwrap(), Some(5));
}

#[tokio::test]
async fn a_session_token_orders_reads_and_writes_of_its_receiver() {
    let replicas = replicas().await;
    let Replicas { fast, slow, view } = &replicas;
    let anna = fast.session();
    let told = fast.execute(deposit("anna", 5)).session(&anna).await.unwrap();
    let message = anna.token().await.unwrap().to_string();

    let token: SessionToken = message.parse().unwrap();
    let mut asked = pin!(slow.query(Balance("anna")).token(&token).into_future());
    assert!(poll(asked.as_mut()).is_none());
    let ben = slow.resume_session(&token).await.unwrap();
    assert_eq!((ben.written(), ben.seen()), (anna.written(), anna.seen()));
    let mut also_asked = pin!(slow.query(Balance("anna")).session(&ben).into_future());
    assert!(poll(also_asked.as_mut()).is_none());
    // A session without the token does not wait.
    assert_eq!(*at_once(slow.query(Balance("anna")).session(&slow.session())), Some(0));

    // Commands do not wait for the view, because a decision reads up to the head of the log.
    let by_token = slow.execute(withdraw("anna", 3)).token(&token).await.unwrap();
    let by_receipt = slow.execute(withdraw("anna", 1)).after(&told).await.unwrap();
    let in_session = slow.execute(withdraw("anna", 1)).session(&ben).await.unwrap();
    assert!(told.last() < by_token.first() && by_token.last() < by_receipt.first());
    assert_eq!(ben.written(), in_session.last());

    view.step().await.unwrap();
    assert_eq!(*asked.await.unwrap(), Some(5));
    assert_eq!(*also_asked.await.unwrap(), Some(5));
    let mut asked = pin!(slow.query(Balance("anna")).session(&ben).into_future());
    assert!(poll(asked.as_mut()).is_none());
    view.resume().await.unwrap();
    assert_eq!(*asked.await.unwrap(), Some(0));
}

#[tokio::test]
async fn strong_includes_every_acknowledged_event_of_any_writer() {
    let replicas = replicas().await;
    let Replicas { slow, view, .. } = &replicas;
    assert_eq!(*at_once(slow.query(Balance("anna")).strong()), Some(0));
    let unpolled = slow.query(Balance("anna")).strong();
    replicas.deposit().await;
    let mut asked = pin!(unpolled.into_future());
    assert!(poll(asked.as_mut()).is_none());
    // The answer need not include an event that is written after the first poll.
    replicas.deposit().await;
    view.step().await.unwrap();
    assert_eq!(poll(asked).unwrap().unwrap().value, Some(5));
    let mut asked = pin!(slow.query(Balance("anna")).strong().into_future());
    assert!(poll(asked.as_mut()).is_none());
    view.resume().await.unwrap();
    assert_eq!(*asked.await.unwrap(), Some(10));
}

#[tokio::test]
async fn at_most_limits_the_time_since_the_view_was_known_to_be_current() {
    let replicas = replicas().await;
    let Replicas { slow, view, .. } = &replicas;
    let at_most = |age| slow.query(Balance("anna")).at_most(Duration::from_secs(age));
    pause();
    // The view is at the head, so its answer is current, however long ago it got there.
    advance(Duration::from_secs(100)).await;
    assert_eq!(*at_once(at_most(0)), Some(0));
    resume();
    replicas.deposit().await;
    pause();
    advance(Duration::from_secs(7)).await;
    assert_eq!(*at_once(at_most(10)), Some(0));
    advance(Duration::from_secs(4)).await;
    let mut asked = pin!(at_most(10).into_future());
    assert!(poll(asked.as_mut()).is_none());
    // The lower of two limits applies. Other guarantees apply as well.
    assert!(poll(pin!(at_most(1_000).at_most(Duration::ZERO).into_future())).is_none());
    assert!(poll(pin!(at_most(1_000).strong().into_future())).is_none());
    assert_eq!(*at_once(at_most(1_000)), Some(0));
    resume();
    view.resume().await.unwrap();
    assert_eq!(*asked.await.unwrap(), Some(5));
}

#[tokio::test]
async fn a_session_records_commands_however_they_are_sent() {
    let app = App::over(Memory::new()).view::<Balances>().start().await.unwrap();
    let session = app.session();
    let known = |session: &Session| (session.written().get(), session.seen().get());
    let _ = app.execute(bank::open("anna")).session(&session).submit().await.await.unwrap();
    assert_eq!(known(&session), (1, 0));
    let lane = app.lane();
    lane.execute(deposit("anna", 5)).session(&session).await.unwrap();
    assert_eq!(known(&session), (2, 0));
    let pending = lane.execute(deposit("anna", 5)).session(&session).submit().await;
    pending.await.unwrap();
    assert_eq!(known(&session), (3, 0));

    // A command that writes nothing records the position that its decision has seen.
    let empty = app.execute(deposit("anna", 0)).session(&session).await.unwrap();
    assert_eq!((known(&session), empty.is_empty()), ((3, 3), true));
    let other = app.session();
    for _ in 0..2 {
        let rejected = app.execute(withdraw("anna", 11)).session(&other).await;
        assert!(matches!(rejected, Err(ExecuteError::Rejected(_))), "{rejected:?}");
        assert_eq!(known(&other), (0, 3));
    }
    let other = app.session();
    let rejected = app.execute(withdraw("anna", 11)).session(&other).submit().await.await;
    assert!(matches!(rejected, Err(ExecuteError::Rejected(_))), "{rejected:?}");
    assert_eq!(known(&other), (0, 3));

    // The second command with a key gets the receipt of the first, and its session records it.
    let (first, second) = (app.session(), app.session());
    let keyed = |session| app.execute(deposit("anna", 1)).key("k").session(session);
    let receipts = [keyed(&first).await.unwrap(), keyed(&second).await.unwrap()];
    assert_eq!((receipts[0], known(&first), known(&second)), (receipts[1], (4, 0), (4, 0)));
}

/// Regression: after a rejection, a slower view answered the same user from a state without the
/// reason of the rejection.
#[tokio::test]
async fn a_session_query_waits_for_the_state_behind_a_rejection() {
    let Replicas { fast, slow, .. } = replicas().await;
    fast.execute(bank::open("ben")).await.unwrap();
    let session = slow.session();
    let rejected = slow.execute(bank::open("ben")).session(&session).await;
    assert!(matches!(rejected, Err(ExecuteError::Rejected(bank::No::AlreadyOpen))));
    assert!(poll(pin!(slow.query(Balance("ben")).session(&session).into_future())).is_none());
    assert_eq!(*at_once(slow.query(Balance("ben"))), None);
}

#[tokio::test]
async fn tokens_of_another_log_or_epoch_or_above_the_head_are_refused() {
    let app = App::over(Memory::new()).view::<Balances>().start().await.unwrap();
    let [session, stranger] = [app.session(), replicas().await.fast.session()];
    app.execute(bank::open("anna")).session(&session).await.unwrap();
    let Replicas { fast: there, .. } = replicas().await;
    let foreign = there.execute(bank::open("eve")).session(&stranger).await;
    // A command with the session of another log is refused before anything is written.
    assert!(matches!(
        foreign,
        Err(ExecuteError::Failed(CommandError::Token(TokenError::OtherLog { .. })))
    ));
    assert_eq!(there.head(), Position::new(1));
    let foreign = there.session();
    let receipt = there.execute(bank::open("eve")).session(&foreign).await.unwrap();

    let refused = |error: QueryError| match error {
        QueryError::Token(error) => error,
        error => panic!("{error}"),
    };
    let ask = || app.query(Balance("anna"));
    let token = foreign.token().await.unwrap();
    let asks = [ask().after(&receipt), ask().session(&foreign), ask().token(&token)];
    for ask in asks {
        let error = refused(ask.or_stale().await.unwrap_err());
        assert_eq!(error, TokenError::OtherLog { token: there.identity(), log: app.identity() });
    }
    assert!(app.resume_session(&token).await.is_err());
    let sent = app.execute(bank::open("ben")).after(&receipt).await;
    assert!(
        matches!(sent, Err(ExecuteError::Failed(CommandError::Token(TokenError::OtherLog { .. })))),
        "{sent:?}"
    );
    assert_eq!(app.head(), Position::new(1));

    // `restored` is this log with the next epoch, as after a restored backup. `behind` is this log
    // without any events.
    let log = app.identity();
    let restored = LogIdentity { epoch: Epoch::next(log.epoch), ..log };
    let known = session.token().await.unwrap();
    let restored = WrappedStore::over(app.store().clone()).identity(move || restored);
    let restored = App::over(restored).view::<Balances>().start().await.unwrap();
    let error = refused(restored.query(Balance("anna")).token(&known).await.unwrap_err());
    assert_eq!(error, TokenError::OtherEpoch { token: log, log: restored.identity() });
    let behind = WrappedStore::new(Memory::new()).identity(move || log);
    let behind = App::over(behind).view::<Balances>().start().await.unwrap();
    let error = refused(behind.query(Balance("anna")).token(&known).await.unwrap_err());
    assert_eq!(error, TokenError::AboveHead { position: Position::new(1), head: Position::START });
    assert!(behind.resume_session(&known).await.is_err());
}

#[tokio::test]
async fn a_session_token_parses_only_from_its_own_text() {
    let replicas = replicas().await;
    let session = replicas.fast.session();
    let nothing = session.token().await.unwrap();
    assert_eq!(nothing.to_string().parse(), Ok(nothing.clone()));
    let receipt = replicas.fast.execute(deposit("anna", 1)).session(&session).await.unwrap();
    replicas.fast.query(Balance("anna")).session(&session).await.unwrap();
    let token = session.token().await.unwrap();
    let text = token.to_string();
    assert_eq!(text.parse(), Ok(token.clone()));
    assert_eq!(serde_json::to_string(&token).unwrap(), format!("{text:?}"));
    assert_eq!(serde_json::from_str::<SessionToken>(&format!("{text:?}")).unwrap(), token);
    let packed = rmp_serde::to_vec(&token).unwrap();
    assert_eq!(rmp_serde::from_slice::<SessionToken>(&packed).unwrap(), token);
    assert_ne!(token, nothing);

    let read = |text: &str| text.parse::<SessionToken>();
    assert_eq!(read(&receipt.to_string()), Err(TokenSyntaxError::Kind { found: "receipt" }));
    let found = text.parse::<Receipt>().unwrap_err();
    assert!(matches!(found, TokenSyntaxError::Kind { found: "session" }), "{found}");
    for at in 0..text.len() {
        assert!(read(&text[..at]).is_err(), "{at}");
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(read(&String::from_utf8(changed).unwrap()).is_err(), "{at}");
    }
    assert!(matches!(read(&"A".repeat(2_000)), Err(TokenSyntaxError::TooLong { .. })));
    assert_eq!(read("no token"), Err(TokenSyntaxError::Characters));
}

/// A command and a query own what they need of the app, also while the app is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn commands_and_queries_are_tasks_as_they_are() {
    let app = App::over(Memory::new()).view::<Balances>().start().await.unwrap();
    let opened = tokio::spawn(app.execute(bank::open("a"))).await.unwrap().unwrap();
    let tasks = (
        tokio::spawn(app.query(Balance("a")).after(&opened)),
        tokio::spawn(app.query(Balance("a")).as_of(opened.last())),
        tokio::spawn(app.explain(Balance("a"))),
        tokio::spawn(app.execute(deposit("a", 5))),
    );
    drop(app);
    // The deposit may come before the answer.
    assert!(tasks.0.await.unwrap().unwrap().position >= opened.last());
    assert_eq!(tasks.1.await.unwrap().unwrap().position, opened.last());
    assert!(!tasks.2.await.unwrap().unwrap().events.is_empty());
    assert_eq!(tasks.3.await.unwrap().unwrap().events(), 1);
}
