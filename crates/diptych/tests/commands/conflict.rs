//! Expectations of a caller, conditions that are narrower than the boundary, and other writers
//! that always append first.

use std::{convert::Infallible, marker::PhantomData, sync::Arc, time::Duration};

use diptych::{
    App, Command, CommandError, DecisionContext, EventStore, ExecuteError, Filter, Memory,
    Position, Receipt, Tag,
    command::{Conflict, Folds, Retries},
    event::BoundaryError,
    store::{FilterItem, RawEvent},
};
use diptych_store::{Append, Store, testing::WrappedStore};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::support::{
    bank::{self, Account, Banking, Deposited, Opened, deposit, open, withdraw},
    call_hooks::{Moment, around},
    manual_sync::{Rig, begin, now, positions, raw, rejected, send},
    school::{self, end, join, offer, order, visit},
};

fn conflict<R: std::error::Error>(answer: Result<Receipt, ExecuteError<R>>) -> Conflict {
    match answer {
        Err(ExecuteError::Failed(CommandError::Conflict(conflict))) => conflict,
        Err(other) => panic!("{other}"),
        Ok(receipt) => panic!("{receipt:?}"),
    }
}

fn missed(conflict: &Conflict) -> Vec<(u64, String)> {
    let event = |missed: &diptych::Recorded<RawEvent>| {
        (missed.position.get(), missed.event.event_type.to_string())
    };
    conflict.missed.iter().map(event).collect()
}

fn of(position: u64, name: &str) -> (u64, String) {
    (position, name.to_owned())
}

async fn opened() -> App {
    let app = App::over(Memory::new()).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    app.execute(open("b")).await.unwrap();
    app.execute(deposit("a", 100)).await.unwrap();
    app
}

#[tokio::test]
async fn of_two_commands_at_one_position_one_wins_and_one_gets_the_missed_events() {
    let app = opened().await;
    let seen = app.store().head().position();
    app.execute(deposit("b", 1)).await.unwrap();
    let won = app.execute(withdraw("a", 60)).unchanged_since(seen).await.unwrap();
    assert_eq!(positions(&won), (5, 5), "events outside the boundary do not count");
    app.execute(deposit("b", 1)).await.unwrap();
    app.execute(deposit("a", 7)).await.unwrap();
    let lost = conflict(app.execute(withdraw("a", 60)).unchanged_since(seen).await);
    assert_eq!((lost.after, lost.at.get(), lost.attempts), (seen, 7, 1));
    assert_eq!(missed(&lost), [of(5, "money-withdrawn"), of(7, "money-deposited")]);
    // The conflict comes first, even if the rule would reject or there is nothing to do.
    let no = app.execute(withdraw("a", 1_000)).unchanged_since(seen).await;
    assert_eq!(missed(&conflict(no)).len(), 2);
    let nothing = app.execute(deposit("a", 0)).unchanged_since(seen).await;
    assert_eq!(missed(&conflict(nothing)).len(), 2);
    // With the position of the conflict as its expectation, the command succeeds.
    app.execute(withdraw("a", 47)).unchanged_since(lost.at).await.unwrap();
}

#[tokio::test]
async fn of_two_commands_at_one_revision_one_wins_and_one_gets_the_missed_events() {
    let app = opened().await;
    app.execute(deposit("b", 1)).await.unwrap();
    for revision in [1, 3, 9] {
        let wrong = app.execute(deposit("a", 1)).expected_revision(revision).await;
        let wrong = conflict(wrong);
        let later = if revision == 1 { vec![of(3, "money-deposited")] } else { vec![] };
        assert_eq!(missed(&wrong), later, "revision {revision}");
        assert_eq!(wrong.at.get(), 3);
    }
    let won = app.execute(withdraw("a", 60)).expected_revision(2).await.unwrap();
    assert_eq!(positions(&won), (5, 5));
    let lost = conflict(app.execute(withdraw("a", 60)).expected_revision(2).await);
    assert_eq!((lost.after.get(), lost.at.get()), (3, 5));
    assert_eq!(missed(&lost), [of(5, "money-withdrawn")]);
    let fresh = conflict(app.execute(deposit("a", 1)).expected_revision(0).await);
    assert_eq!(missed(&fresh).len(), 3);
    app.execute(open("new")).expected_revision(0).await.unwrap();
    let no = app.execute(withdraw("a", 41)).expected_revision(3).await;
    assert_eq!(rejected(no), bank::No::Overdrawn { balance: 40, amount: 41 });
}

#[tokio::test]
async fn a_revision_is_found_in_a_long_stream() {
    let app = opened().await;
    for _ in 0..300 {
        app.execute(deposit("a", 1)).await.unwrap();
        app.execute(deposit("b", 1)).await.unwrap();
    }
    for revision in [0, 1, 2, 3, 17, 150, 301] {
        let lost = conflict(app.execute(deposit("a", 1)).expected_revision(revision).await);
        let events = missed(&lost);
        assert_eq!(events.len() as u64, (302 - revision).min(100), "revision {revision}");
        let first = if revision == 0 { 1 } else { 3 + 2 * revision.saturating_sub(1) - 1 };
        let first = if revision == 1 { 3 } else { first };
        assert_eq!(events[0].0, first, "revision {revision}");
    }
    app.execute(deposit("a", 1)).expected_revision(302).await.unwrap();
}

#[tokio::test]
async fn a_revision_needs_a_boundary_of_one_stream() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let not_one = |answer: Result<Receipt, ExecuteError<school::No>>| {
        let error = answer.unwrap_err();
        let boundary = matches!(
            error,
            ExecuteError::Failed(CommandError::Boundary(BoundaryError::NotOneStream))
        );
        assert!(boundary, "{error}");
    };
    not_one(app.execute(offer("x", 1)).expected_revision(0).await);
    not_one(app.execute(join("x", "ann")).expected_revision(0).await);
    not_one(app.execute(order("x", "ann")).expected_revision(0).await);
    assert_eq!(app.store().head().position().get(), 0);
    app.execute(offer("x", 1)).await.unwrap();
    app.execute(end("x")).expected_revision(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_of_many_with_the_same_expectation_wins() {
    for by_revision in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        app.execute(open("a")).await.unwrap();
        for round in 1..20 {
            let seen = app.store().head().position();
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let execute = app.execute(deposit("a", 1));
                    let execute = match by_revision {
                        true => execute.expected_revision(round),
                        false => execute.unchanged_since(seen),
                    };
                    tokio::spawn(execute.into_future())
                })
                .collect();
            let mut won = Vec::new();
            let mut lost = Vec::new();
            for task in tasks {
                match task.await.unwrap() {
                    Ok(receipt) => won.push(positions(&receipt)),
                    answer => lost.push(missed(&conflict(answer))),
                }
            }
            let at = seen.get() + 1;
            assert_eq!(won, [(at, at)]);
            assert_eq!(lost, vec![vec![of(at, "money-deposited")]; 7]);
        }
        app.stop().await.unwrap();
    }
}

/// The winner is accepted but not durable. The loser gets the conflict once the winner is durable.
#[test]
fn a_conflict_is_reported_when_the_winner_is_durable() {
    let rig = Rig::new();
    let mut opened = send(rig.app.execute(open("a")));
    rig.flush();
    let seen = opened.done().unwrap().last();
    for by_revision in [false, true] {
        let head = rig.head();
        let expecting = || {
            let execute = rig.app.execute(deposit("a", 1));
            match by_revision {
                true => execute.expected_revision(1),
                false => execute.unchanged_since(seen),
            }
        };
        let mut won = send(rig.app.execute(deposit("a", 5)));
        let mut lost = send(expecting());
        lost.waits();
        rig.flush();
        let lost = conflict(lost.done());
        assert_eq!(lost.at.get(), head + 1);
        won.done().unwrap();
    }
    // If the sync of the winner fails, its outcome is unknown, and the loser gets no conflict.
    let mut won = send(rig.app.execute(deposit("a", 5)));
    let head = Position::new(rig.head());
    let mut lost = send(rig.app.execute(deposit("a", 1)).unchanged_since(head));
    rig.fail();
    assert!(matches!(won.done(), Err(ExecuteError::Failed(CommandError::OutcomeUnknown(_)))));
    assert!(matches!(lost.done(), Err(ExecuteError::Failed(CommandError::Unavailable(_)))));
}

#[tokio::test]
async fn a_position_that_the_log_has_not_reached_is_no_expectation() {
    let app = opened().await;
    let answer = app.execute(deposit("a", 1)).unchanged_since(Position::new(9)).await;
    assert!(
        matches!(answer, Err(ExecuteError::Failed(CommandError::InvalidRequest(_)))),
        "{answer:?}"
    );
    assert_eq!(app.store().head().position().get(), 3);
}

/// Regression: a rejection or an empty outcome appends nothing, so the store never checked the
/// position. The caller was told that its expectation held.
#[tokio::test]
async fn a_position_above_the_head_is_refused_even_if_nothing_is_appended() {
    let app = opened().await;
    for amount in [0, 1_000] {
        let answer = app.execute(withdraw("a", amount)).unchanged_since(Position::new(9)).await;
        assert!(
            matches!(answer, Err(ExecuteError::Failed(CommandError::InvalidRequest(_)))),
            "{answer:?}"
        );
    }
    let nothing = app.execute(deposit("a", 0)).unchanged_since(Position::new(9)).await;
    assert!(
        matches!(nothing, Err(ExecuteError::Failed(CommandError::InvalidRequest(_)))),
        "{nothing:?}"
    );
    assert_eq!(app.store().head().position().get(), 3);
}

/// Sets the owner of an account, whatever the current owner is.
#[derive(Serialize)]
struct Rename<S> {
    owner: &'static str,
    #[serde(skip)]
    state: PhantomData<fn() -> S>,
}

trait Blind: Folds {
    fn boundary() -> Self::Boundary;
}

impl Blind for () {
    fn boundary() {}
}

impl Blind for Account {
    fn boundary() -> Filter {
        Filter::nothing()
    }
}

impl Blind for (Account, Account) {
    fn boundary() -> (Filter, Filter) {
        (Filter::nothing(), Filter::nothing())
    }
}

impl<S: Blind> Command for Rename<S> {
    type State = S;
    type Event = Banking;
    type Rejection = Infallible;

    fn boundary(&self) -> S::Boundary {
        S::boundary()
    }

    fn decide(&self, _: S::Ref<'_>, _: &DecisionContext) -> Result<Vec<Banking>, Infallible> {
        let (account, owner) = ("a".to_owned(), self.owner.to_owned());
        Ok(vec![Banking::Opened(Opened { account, owner })])
    }
}

/// Regression: two callers saw the same position, and both set the owner. The second caller
/// overwrote the first and got a receipt, because the command has no boundary and so nothing
/// checked the expectation.
#[tokio::test]
async fn an_expectation_of_a_command_without_boundary_is_refused() {
    async fn refused<S: Blind>() {
        let rename = |owner| Rename::<S> { owner, state: PhantomData };
        let app = opened().await;
        let (seen, lane) = (app.head(), app.lane());
        app.execute(rename("ann")).await.unwrap();
        let lost = [
            app.execute(rename("ben")).unchanged_since(seen).await,
            app.execute(rename("ben")).key("k").unchanged_since(seen).await,
            lane.execute(rename("ben")).unchanged_since(seen).await,
            app.execute(rename("ben")).unchanged_since(app.head()).submit().await.await,
        ];
        for lost in lost {
            let error = lost.unwrap_err();
            let ExecuteError::Failed(CommandError::Boundary(BoundaryError::NoBoundary { .. })) =
                error
            else {
                panic!("{error}")
            };
            assert!(error.to_string().contains("unchanged_since"), "{error}");
        }
        let revision = app.execute(rename("ben")).expected_revision(0).await.unwrap_err();
        let not_one = matches!(
            revision,
            ExecuteError::Failed(CommandError::Boundary(BoundaryError::NotOneStream))
        );
        assert!(not_one, "{revision}");
        assert_eq!(app.head(), seen.plus(1), "a failed command wrote events");
    }
    refused::<()>().await;
    refused::<Account>().await;
    refused::<(Account, Account)>().await;
}

fn deposited() -> RawEvent {
    let event = Deposited { account: "a".to_owned(), amount: 1 };
    raw("money-deposited", &event, &["account:a"])
}

/// A store in which another writer deposits before each append, while the head is at positions 1 to
/// `times`. The second value holds the instants of the appends.
fn contended(times: u64) -> (WrappedStore, Arc<Mutex<Vec<Instant>>>) {
    let store = Store::new(Memory::new());
    let (inner, tries) = (store.clone(), Arc::new(Mutex::new(Vec::new())));
    let noted = tries.clone();
    let store = around(store, move |moment| {
        let (inner, noted) = (inner.clone(), noted.clone());
        async move {
            if moment == Moment::BeforeAppend {
                noted.lock().push(Instant::now());
                let before = inner.head().position().get();
                if before > 0 && before <= times {
                    let append = Append::event(deposited());
                    let _ = inner.append(append).await.unwrap();
                }
            }
        }
    });
    (store, tries)
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_the_last_names_the_winner() {
    for attempts in [0, 1, 2, 7, 32] {
        let (store, tries) = contended(u64::MAX);
        let (first_wait, longest_wait) = (Duration::from_millis(10), Duration::from_millis(100));
        let retries = Retries { attempts, first_wait, longest_wait };
        let app = App::over(store).retries(retries).start().await.unwrap();
        app.execute(open("a")).await.unwrap();
        let begun = Instant::now();
        let lost = conflict(app.execute(deposit("a", 1)).await);
        let attempts = attempts.max(1);
        assert_eq!(lost.attempts, attempts);
        // The log has the account, and one deposit of the other writer for each attempt.
        let at = 1 + u64::from(attempts);
        assert_eq!((lost.at.get(), lost.after.get()), (at, at - 1));
        assert_eq!(missed(&lost), [of(at, "money-deposited")]);
        assert_eq!(app.store().head().position().get(), at, "a failed command wrote events");
        assert_eq!(app.stats().conflicts, u64::from(attempts));
        assert!(lost.to_string().contains(&format!("position {at}")), "{lost}");
        waits_are_bounded(&tries.lock()[1..], retries);
        assert!(begun.elapsed() <= longest_wait * attempts);
    }
}

/// The second attempt follows at once. Each later attempt follows a wait, whose bound doubles up to
/// a maximum.
fn waits_are_bounded(tries: &[Instant], retries: Retries) {
    let mut most = retries.first_wait;
    for (number, pair) in tries.windows(2).enumerate() {
        let waited = pair[1] - pair[0];
        if number == 0 {
            assert_eq!(waited, Duration::ZERO);
            continue;
        }
        // The clock of the runtime has a resolution of a millisecond.
        assert!(waited <= most + Duration::from_millis(1), "attempt {number}: {waited:?}");
        most = (most * 2).min(retries.longest_wait);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_decides_again_after_each_conflict() {
    let (store, _) = contended(4);
    let app = App::over(store).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    // The account is empty, and four deposits conflict with the withdrawal.
    let drawn = app.execute(withdraw("a", 0)).await.unwrap();
    assert_eq!(positions(&drawn), (6, 6));
    assert_eq!(app.stats().conflicts, 4);
    let over = app.execute(withdraw("a", 5)).await;
    assert_eq!(rejected(over), bank::No::Overdrawn { balance: 4, amount: 5 });
}

/// A command with an expectation is not decided again, because its caller wants to see the new
/// events first.
#[tokio::test(start_paused = true)]
async fn a_command_with_an_expectation_fails_at_the_first_conflict() {
    for by_revision in [false, true] {
        let (store, tries) = contended(u64::MAX);
        let app = App::over(store).start().await.unwrap();
        app.execute(open("a")).await.unwrap();
        let execute = app.execute(deposit("a", 1));
        let execute = match by_revision {
            true => execute.expected_revision(1),
            false => execute.unchanged_since(Position::new(1)),
        };
        let lost = conflict(execute.await);
        assert_eq!((lost.at.get(), lost.after.get()), (2, 1));
        assert_eq!(missed(&lost), [of(2, "money-deposited")]);
        assert_eq!(tries.lock().len(), 2, "one append for the account, one for the deposit");
    }
}

/// The expectation of a caller covers the whole boundary, even if the condition of the command is
/// narrower.
#[tokio::test]
async fn an_expectation_is_not_narrowed() {
    let store = Store::new(Memory::new());
    let (inner, visits) = (store.clone(), Arc::new(Mutex::new(false)));
    let comes = visits.clone();
    let store = around(store, move |moment| {
        let comes = moment == Moment::BeforeAppend && *comes.lock();
        let inner = inner.clone();
        async move {
            if comes {
                let course = school::Course { course: "x".to_owned() };
                let visited = raw("course-visited", &course, &["course:x"]);
                let _ = inner.append(Append::event(visited)).await.unwrap();
            }
        }
    });
    let app = App::over(store).start().await.unwrap();
    app.execute(offer("x", 1)).await.unwrap();
    *visits.lock() = true;
    app.execute(visit("x")).await.unwrap();
    assert_eq!((app.store().head().position().get(), app.stats().conflicts), (3, 0));
    let lost = app.execute(visit("x")).unchanged_since(Position::new(3)).await;
    assert_eq!(missed(&conflict(lost)), [of(4, "course-visited")]);
    let lost = app.execute(visit("x")).expected_revision(4).await;
    assert_eq!(missed(&conflict(lost)), [of(5, "course-visited")]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_leaves_its_key_free() {
    let (store, _) = contended(3);
    let retries = Retries { attempts: 2, ..Retries::default() };
    let app = App::over(store).retries(retries).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    conflict(app.execute(deposit("a", 1)).key("k").await);
    let receipt = app.execute(deposit("a", 1)).key("k").await.unwrap();
    assert_eq!(app.execute(deposit("a", 1)).key("k").await.unwrap(), receipt);
}

#[test]
fn only_events_that_match_a_narrower_condition_conflict() {
    let rig = Rig::new();
    let mut sent = send(rig.app.execute(offer("x", 9)));
    rig.flush();
    sent.done().unwrap();
    let visited =
        || raw("course-visited", &school::Course { course: "x".to_owned() }, &["course:x"]);
    for _ in 0..3 {
        rig.write(visited());
        let mut visit = send(rig.app.execute(visit("x")));
        rig.flush();
        visit.done().unwrap();
    }
    assert_eq!(rig.app.stats().conflicts, 0);
    // Another writer ends the course. The commit is accepted, and the app does not know it.
    let ended = raw("course-ended", &school::Course { course: "x".to_owned() }, &["course:x"]);
    rig.write(ended);
    let mut late = begin(rig.app.execute(visit("x")));
    assert_eq!(rejected(late.done()), school::No::NotOpen);
    assert_eq!(rig.app.stats().conflicts, 1);
}

/// Deposits the balance while the account has at most three events. Its conflict filter names none
/// of the events that change its decision.
struct Gift;

impl Command for Gift {
    type State = Account;
    type Event = Banking;
    type Rejection = bank::No;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", "a"))
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, bank::No> {
        if account.events > 3 {
            return Err(bank::No::AlreadyOpen);
        }
        let deposited = Deposited { account: "a".to_owned(), amount: account.balance };
        Ok(vec![Banking::Deposited(deposited)])
    }

    fn conflicts_with(&self) -> Option<Filter> {
        let opened = FilterItem::everything().or_type("account-opened");
        Some(opened.and_tag(Tag::new("account", "a")).into())
    }
}

/// The store would not detect a stale state, so the state must not be stale.
#[tokio::test]
async fn a_narrowed_command_sees_everything_published_before_it_began() {
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone()).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    app.execute(deposit("a", 2)).await.unwrap();
    // The app caches the current state. Then another writer deposits.
    let _ = store.append(Append::event(deposited())).await.unwrap();
    let receipt = app.execute(Gift).await.unwrap();
    let read = diptych_store::Read::after(receipt.first().before());
    let batch = store.read(&Filter::everything(), read).await.unwrap();
    let payload = batch.get(0).map(|event| event.payload().to_vec()).unwrap();
    assert_eq!(String::from_utf8(payload).unwrap(), r#"{"account":"a","amount":3}"#);
    let other = App::over_store(store.clone()).start().await.unwrap();
    assert_eq!(rejected(other.execute(Gift).await), bank::No::AlreadyOpen);
    assert_eq!(rejected(app.execute(Gift).await), bank::No::AlreadyOpen);
    assert_eq!(app.stats().conflicts, 0);
}

/// Visits have a narrowed condition, so they do not conflict with each other. This also holds for
/// visits of two apps, without a sync.
#[test]
fn narrowed_commands_of_two_apps_are_accepted_without_a_sync() {
    let rig = Rig::new();
    let other = now(App::over(rig.log.clone()).start()).unwrap();
    let mut sent = send(rig.app.execute(offer("x", 9)));
    rig.flush();
    sent.done().unwrap();
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(send(other.execute(visit("x"))));
    }
    let mut own = send(rig.app.execute(visit("x")));
    assert_eq!((rig.head(), rig.app.stats().conflicts, other.stats().conflicts), (1, 0, 0));
    rig.flush();
    sent.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
    own.done().unwrap();
    assert_eq!(EventStore::head(&rig.log).position().get(), 7);
    let mut ended = begin(rig.app.execute(end("x")));
    if ended.poll().is_pending() {
        rig.flush();
        ended.done().unwrap();
    }
    let mut late = begin(other.execute(visit("x")));
    assert_eq!(rejected(late.done()), school::No::NotOpen);
}
