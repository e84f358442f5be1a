//! Futures that are no longer polled, commands that are repeated under a key after the program
//! changed, and revisions.

use std::sync::Arc;

use diptych::{
    App, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold, Log,
    LogOptions, Memory, Recorded, Tag, testing::nothing_given,
};
use diptych_log::{Background, disk::simulated::SimulatedDisk};
use serde::Serialize;

use crate::support::{
    bank::{Account, Banking, deposit, open},
    manual_sync::{HeldFuture, begin},
    probe::look,
};

/// A second fold over accounts. No command has put its state in the cache.
#[derive(Clone, Debug, Default)]
struct Count(u64);

impl Fold for Count {
    type Event = Banking;

    fn apply(&mut self, _: &Recorded<Banking>) {
        self.0 += 1;
    }
}

/// Regression: a command waited inside its gate, and its future was no longer polled. It blocked
/// every other command on its boundary for ever.
#[tokio::test(start_paused = true)]
async fn a_future_that_nobody_polls_does_not_hold_up_its_boundary() {
    let disk = Arc::new(SimulatedDisk::new(1));
    let options = LogOptions { background: Background::Inline, disk, ..LogOptions::default() };
    let log = Log::open("/data/log", options).unwrap();
    let app = App::over(log.clone()).start().await.unwrap();
    let mut opened = begin(app.execute(open("a")));
    opened.waits();
    log.blocking().flush().unwrap();
    opened.done().unwrap();
    // A commit of another app is a gap. A fold without a cached state needs the commit above it.
    let other = App::over(log.clone()).start().await.unwrap();
    begin(other.execute(open("z"))).waits();
    begin(app.execute(deposit("a", 1))).waits();
    let filter = Filter::tag(Tag::new("account", "a"));
    let begun = app.clone();
    let mut begun = HeldFuture::new(async move { look::<Count>(&begun, &filter).await });
    assert!(begun.poll().is_pending(), "the command should wait inside the gate");
    log.blocking().flush().unwrap();
    let next = tokio::spawn(app.execute(deposit("a", 1)).into_future());
    while !next.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        log.blocking().flush().unwrap();
    }
    assert_eq!(next.await.unwrap().unwrap().last().get(), 4);
    assert_eq!(begun.done().unwrap().0, 3);
}

#[derive(Serialize)]
struct Note {
    #[serde(skip)]
    breaks: bool,
}

impl Command for Note {
    type State = Account;
    type Event = Banking;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", "a"))
    }

    fn decide(&self, _: &Account, _: &DecisionContext) -> Result<Vec<Banking>, Self::Rejection> {
        assert!(!self.breaks, "this program can no longer decide the command");
        let opened =
            crate::support::bank::Opened { account: "a".to_owned(), owner: "ann".to_owned() };
        Ok(vec![Banking::Opened(opened)])
    }
}

/// Regression: a command succeeded and was sent again to a program that could no longer decide it.
/// The caller got an error instead of the receipt.
#[tokio::test]
async fn a_key_returns_its_receipt_even_if_the_command_panics_now() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let receipt = app.execute(Note { breaks: false }).key("k").await.unwrap();
    assert_eq!(app.execute(Note { breaks: true }).key("k").await.unwrap(), receipt);
    let broken = app.execute(Note { breaks: true }).key("other").await.unwrap_err();
    assert!(matches!(broken, ExecuteError::Failed(CommandError::Panicked(_))), "{broken}");
}

struct Mistaken;

impl Command for Mistaken {
    type State = Account;
    type Event = Banking;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", "a"))
    }

    fn decide(&self, _: &Account, _: &DecisionContext) -> Result<Vec<Banking>, Self::Rejection> {
        Ok(Vec::new())
    }

    fn conflicts_with(&self) -> Option<Filter> {
        Some(Filter::tag(Tag::new("acount", "a")))
    }
}

/// Regression: a wrong tag key in `conflicts_with` passed every test of the rule.
#[test]
#[should_panic(expected = "acount")]
fn given_when_then_checks_the_conflict_filter() {
    nothing_given().when(Mistaken).then_nothing();
}

/// Regression: the command read all events above the revision.
#[tokio::test]
async fn a_revision_is_found_in_a_long_stream() {
    let app = App::over(Memory::new()).start().await.unwrap();
    app.execute(open("b")).await.unwrap();
    app.execute(open("a")).await.unwrap();
    for _ in 0..300 {
        app.execute(deposit("a", 1)).await.unwrap();
        app.execute(deposit("b", 0)).await.unwrap();
    }
    for (revision, missed) in [(0, 100), (1, 100), (250, 51), (300, 1)] {
        let conflict = app.execute(deposit("a", 1)).expected_revision(revision).await;
        let Err(ExecuteError::Failed(CommandError::Conflict(conflict))) = conflict else {
            panic!("{conflict:?}")
        };
        assert_eq!(conflict.missed.len(), missed, "{revision}");
        // The first event is of account b. The events of account a follow it without a gap.
        assert_eq!(conflict.missed[0].position.get(), revision + 2);
        let encoded = &conflict.missed[0].event;
        assert!(Banking::types().iter().any(|known| known.name == encoded.event_type));
    }
    let beyond = app.execute(deposit("a", 1)).expected_revision(302).await.unwrap_err();
    assert!(beyond.to_string().contains("before the expected revision"), "{beyond}");
    app.execute(deposit("a", 1)).expected_revision(301).await.unwrap();
}
