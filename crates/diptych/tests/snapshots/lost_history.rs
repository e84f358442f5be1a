//! A user restores an older copy of a log's folder. Snapshots, tokens and rows of the newer log
//! remain. The copy has the same id and epoch and grows again, so its positions name other events.
//! The app must not take data outside the log for a part of the new history.
//!
//! Regression: a view answered 49,100 instead of 100, a decision appended a wrong event to the log,
//! and the app accepted a token of events that no log holds.

use std::{fs, path::Path, sync::Arc, time::Duration};

use diptych::{
    App, AppBuilder, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold,
    Position, Query, QueryError, Receipt, Recorded, SessionToken,
    follow::{Refresh, WaitError},
    projection::{Checkpoint, Target, TargetError},
    snapshot::SnapshotOptions,
    token::TokenError,
};
use diptych_log::{Adoption, LogOptions, adopt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::support::{counted_store::Warnings, probe::look};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("paid-in")]
struct PaidIn {
    #[tag]
    account: u64,
    amount: u64,
}

/// An event that no view here reads.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("noted")]
struct Noted {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum(u64);

impl Fold for Sum {
    type Event = PaidIn;

    fn apply(&mut self, paid: &Recorded<PaidIn>) {
        self.0 += paid.amount;
    }
}

struct Total;

impl Query for Total {
    type View = Sum;
    type Answer = u64;

    fn answer(&self, sum: &Sum) -> u64 {
        sum.0
    }
}

struct Pay(u64);

impl Command for Pay {
    type State = Sum;
    type Event = PaidIn;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        Filter::everything()
    }

    fn decide(
        &self,
        _: &Sum,
        _: &DecisionContext,
    ) -> Result<Vec<PaidIn>, std::convert::Infallible> {
        Ok(vec![PaidIn { account: 1, amount: self.0 }])
    }
}

struct Note;

impl Command for Note {
    type State = ();
    type Event = Noted;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Noted>, std::convert::Infallible> {
        Ok(vec![Noted {}])
    }
}

/// Pays in the current sum once more. A decision on a wrong state would append a wrong amount.
struct Double;

impl Command for Double {
    type State = Sum;
    type Event = PaidIn;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        Filter::everything()
    }

    fn decide(
        &self,
        sum: &Sum,
        _: &DecisionContext,
    ) -> Result<Vec<PaidIn>, std::convert::Infallible> {
        Ok(vec![PaidIn { account: 1, amount: sum.0 }])
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// A log and an older copy of its folder.
struct Logs {
    folder: tempfile::TempDir,
}

impl Logs {
    /// Creates a log with three payments of 1, and copies it.
    async fn new() -> Logs {
        let logs = Logs { folder: tempfile::tempdir().unwrap() };
        let app = logs.open().start().await.unwrap();
        pay(&app, &[1, 1, 1]).await;
        app.stop().await.unwrap();
        copy(&logs.path("log"), &logs.path("copy"));
        logs
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> AppBuilder {
        App::open(self.path("log")).unwrap()
    }

    /// Replaces the log by the older copy. Snapshots remain.
    fn put_back(&self) {
        let (log, aside) = (self.path("log"), self.path("aside"));
        fs::rename(&log, &aside).unwrap();
        copy(&self.path("copy"), &log);
        if aside.join("snapshots").exists() {
            fs::rename(aside.join("snapshots"), log.join("snapshots")).unwrap();
        }
        fs::remove_dir_all(aside).unwrap();
        adopt(log, Adoption::Moved, &LogOptions::default()).unwrap();
    }

    /// Replaces the log by the older copy and appends other events to it.
    async fn went_another_way(&self) {
        self.put_back();
        let app = self.open().start().await.unwrap();
        pay(&app, &[10; 9]).await;
        app.stop().await.unwrap();
    }

    fn snapshots(&self) -> usize {
        fs::read_dir(self.path("log").join("snapshots")).unwrap().count()
    }

    /// Returns the positions of the view snapshots. Names of decision snapshots have no dash.
    fn positions(&self) -> Vec<u64> {
        let names = fs::read_dir(self.path("log").join("snapshots")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| name.contains('-'));
        names.map(|name| name.rsplit('-').next().unwrap().parse().unwrap()).collect()
    }
}

async fn pay(app: &App, amounts: &[u64]) -> Receipt {
    let mut last = None;
    for amount in amounts {
        last = Some(app.execute(Pay(*amount)).await.unwrap());
    }
    last.unwrap()
}

fn with_view(builder: AppBuilder) -> AppBuilder {
    builder.view::<Sum>().snapshots::<Sum>(SnapshotOptions::every(2))
}

fn with_states(builder: AppBuilder) -> AppBuilder {
    builder.snapshots::<Sum>(SnapshotOptions::every(1))
}

#[tokio::test]
async fn a_view_uses_no_snapshot_of_a_lost_history() {
    let logs = Logs::new().await;
    let app = with_view(logs.open()).start().await.unwrap();
    pay(&app, &[1_000; 5]).await;
    assert_eq!(*app.query(Total).strong().await.unwrap(), 5_003);
    app.stop().await.unwrap();
    assert!(logs.positions().contains(&8));

    logs.went_another_way().await;
    let app = with_view(logs.open()).start().await.unwrap();
    assert_eq!(*app.query(Total).strong().await.unwrap(), 93);
    // Queries of the past do not use the old snapshots either.
    for (position, sum) in [(3, 3), (8, 53), (12, 93)] {
        let past = app.query(Total).as_of(Position::new(position)).await.unwrap();
        assert_eq!(past.value, sum, "as of {position}");
    }
    app.stop().await.unwrap();
    // The remaining snapshots belong to this history.
    let positions = logs.positions();
    assert!(positions.contains(&12), "{positions:?}");
    assert!(!positions.iter().any(|at| (4..12).contains(at)), "{positions:?}");
}

#[tokio::test]
async fn a_view_snapshot_above_the_head_is_removed_unused() {
    let logs = Logs::new().await;
    let app = with_view(logs.open()).start().await.unwrap();
    pay(&app, &[1_000; 5]).await;
    assert_eq!(*app.query(Total).strong().await.unwrap(), 5_003);
    app.stop().await.unwrap();
    logs.put_back();
    let app = with_view(logs.open()).start().await.unwrap();
    assert_eq!(*app.query(Total).strong().await.unwrap(), 3);
    drop(app);
    // No snapshot above the head is left to be used once the log has grown.
    let positions = logs.positions();
    assert!(positions.iter().all(|at| *at <= 3), "{positions:?}");
}

#[tokio::test]
async fn a_decision_uses_no_snapshot_of_a_lost_history() {
    let (warnings, _listening) = Warnings::listen();
    let logs = Logs::new().await;
    let app = with_states(logs.open()).start().await.unwrap();
    pay(&app, &[1_000; 5]).await;
    app.stop().await.unwrap();
    assert_eq!(logs.snapshots(), 1);

    logs.went_another_way().await;
    warnings.take();
    let app = with_states(logs.open()).start().await.unwrap();
    app.execute(Double).await.unwrap();
    assert_eq!(look::<Sum>(&app, &Filter::everything()).await.unwrap(), Sum(186));
    let warned = warnings.take();
    assert!(warned.iter().any(|said| said.contains("there is another event")), "{warned:?}");
    app.stop().await.unwrap();
    let app = with_states(logs.open()).start().await.unwrap();
    assert_eq!(look::<Sum>(&app, &Filter::everything()).await.unwrap(), Sum(186));
    assert_eq!(warnings.take(), [""; 0]);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_decision_snapshot_above_the_head_is_reported_and_removed() {
    let (warnings, _listening) = Warnings::listen();
    let logs = Logs::new().await;
    let app = with_states(logs.open()).start().await.unwrap();
    pay(&app, &[1_000; 5]).await;
    app.stop().await.unwrap();
    logs.put_back();
    warnings.take();
    // The app finds the old snapshot and saves no new snapshot over it.
    let never = SnapshotOptions::every(u64::MAX);
    let app = logs.open().snapshots::<Sum>(never).start().await.unwrap();
    assert_eq!(look::<Sum>(&app, &Filter::everything()).await.unwrap(), Sum(3));
    let warned = warnings.take();
    assert!(warned.iter().any(|said| said.contains("the log ends at 3")), "{warned:?}");
    app.stop().await.unwrap();
    assert_eq!(logs.snapshots(), 0);
}

/// Returns a receipt, a session token and a position token of the history that is then lost.
async fn held(logs: &Logs) -> (Receipt, SessionToken, SessionToken) {
    let app = logs.open().view::<Sum>().start().await.unwrap();
    let session = app.session();
    pay(&app, &[1_000; 4]).await;
    let receipt = app.execute(Pay(1_000)).session(&session).await.unwrap();
    app.query(Total).session(&session).await.unwrap();
    let token = session.token().await.unwrap();
    let at = app.token_at(Position::new(7)).await.unwrap();
    // A client carries tokens as text.
    let held = (receipt.to_string(), token.to_string(), at.to_string());
    app.stop().await.unwrap();
    (held.0.parse().unwrap(), held.1.parse().unwrap(), held.2.parse().unwrap())
}

fn of_query<T: std::fmt::Debug>(answer: Result<T, QueryError>) -> TokenError {
    match answer {
        Err(QueryError::Token(error)) => error,
        other => panic!("the token should be refused: {other:?}"),
    }
}

fn of_command(answer: Result<Receipt, ExecuteError<std::convert::Infallible>>) -> TokenError {
    match answer {
        Err(ExecuteError::Failed(CommandError::Token(error))) => error,
        other => panic!("the token should be refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_of_a_lost_history_is_refused_everywhere() {
    let logs = Logs::new().await;
    let (receipt, token, at) = held(&logs).await;
    logs.went_another_way().await;
    let app = logs.open().view::<Sum>().start().await.unwrap();
    let gone = |position: u64| TokenError::HistoryGone { position: Position::new(position) };

    assert_eq!(of_query(app.query(Total).after(&receipt).await), gone(8));
    assert_eq!(of_query(app.query(Total).token(&token).or_stale().await), gone(8));
    assert_eq!(of_query(app.query(Total).token(&at).await), gone(7));
    assert_eq!(of_query(app.query(Total).after(&receipt).as_of(Position::new(1)).await), gone(8));
    let mut watch = app.watch(Total).token(&token);
    assert_eq!(of_query(watch.next().await), gone(8));
    assert_eq!(of_query(watch.next().await), gone(8));
    assert_eq!(of_query(app.resume_session(&token).await), gone(8));
    let head = app.head();
    assert_eq!(of_command(app.execute(Pay(1)).after(&receipt).await), gone(8));
    assert_eq!(of_command(app.execute(Pay(1)).token(&token).await), gone(8));
    assert_eq!(of_command(app.execute(Pay(1)).token(&at).submit().await.await), gone(7));
    assert_eq!(app.head(), head, "refused commands must write nothing");
    let said = gone(8).to_string();
    assert!(said.contains("older copy") && said.contains("begin a new session"), "{said}");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_token_above_the_head_is_refused() {
    let logs = Logs::new().await;
    let (receipt, token, _) = held(&logs).await;
    logs.put_back();
    let app = logs.open().view::<Sum>().start().await.unwrap();
    let above = TokenError::AboveHead { position: Position::new(8), head: Position::new(3) };
    assert_eq!(of_query(app.query(Total).after(&receipt).await), above);
    assert_eq!(of_query(app.resume_session(&token).await), above);
    assert_eq!(of_command(app.execute(Pay(1)).token(&token).await), above);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_token_of_an_event_in_both_histories_is_accepted() {
    let logs = Logs::new().await;
    let app = logs.open().start().await.unwrap();
    let token = app.token_at(Position::new(3)).await.unwrap();
    let nothing = app.session().token().await.unwrap();
    app.stop().await.unwrap();
    logs.went_another_way().await;
    let app = logs.open().view::<Sum>().start().await.unwrap();
    assert_eq!(*app.query(Total).token(&token).strong().await.unwrap(), 93);
    app.resume_session(&token).await.unwrap();
    app.execute(Pay(1)).token(&token).token(&nothing).await.unwrap();
    app.stop().await.unwrap();
}

/// A program may hold a session object after its app stopped and another app started.
#[tokio::test]
async fn a_session_of_another_app_is_compared_with_the_log() {
    let logs = Logs::new().await;
    let before = logs.open().view::<Sum>().start().await.unwrap();
    let session = before.session();
    before.execute(Pay(1_000)).session(&session).await.unwrap();
    before.clone().stop().await.unwrap();
    logs.went_another_way().await;
    let app = logs.open().view::<Sum>().start().await.unwrap();
    assert!(matches!(
        of_query(app.query(Total).session(&session).await),
        TokenError::HistoryGone { .. }
    ));
    assert!(matches!(
        of_command(app.execute(Pay(1)).session(&session).await),
        TokenError::HistoryGone { .. }
    ));
    app.stop().await.unwrap();
}

/// Two receipts come from commands that wrote nothing: a repeated key and an empty decision.
#[tokio::test]
async fn every_receipt_names_the_event_at_its_position() {
    let logs = Logs::new().await;
    let app = logs.open().view::<Sum>().start().await.unwrap();
    #[derive(Serialize)]
    struct KeyedCommand;
    impl Command for KeyedCommand {
        type State = Sum;
        type Event = PaidIn;
        type Rejection = std::convert::Infallible;

        fn boundary(&self) -> Filter {
            Filter::everything()
        }

        fn decide(
            &self,
            sum: &Sum,
            _: &DecisionContext,
        ) -> Result<Vec<PaidIn>, std::convert::Infallible> {
            Ok((sum.0 < 10).then_some(PaidIn { account: 1, amount: 10 }).into_iter().collect())
        }
    }
    let first = app.execute(KeyedCommand).key("k").await.unwrap();
    let again = app.execute(KeyedCommand).key("k").await.unwrap();
    let nothing = app.execute(KeyedCommand).await.unwrap();
    assert_eq!((first, nothing.is_empty()), (again, true));
    app.stop().await.unwrap();
    // A new app has no receipts in memory and reads their events from the log.
    let app = logs.open().view::<Sum>().start().await.unwrap();
    for receipt in [first, again, nothing] {
        let receipt: Receipt = receipt.to_string().parse().unwrap();
        assert_eq!(*app.query(Total).after(&receipt).await.unwrap(), 13);
    }
    app.stop().await.unwrap();
}

/// Rows in memory that remain after their app stops.
#[derive(Clone, Default)]
struct Rows(Arc<Mutex<(Vec<u64>, Option<Checkpoint>)>>);

impl Target for Rows {
    type Event = PaidIn;

    fn name(&self) -> &str {
        "rows"
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        Ok(self.0.lock().1)
    }

    fn apply(
        &mut self,
        events: &[Recorded<PaidIn>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        let mut rows = self.0.lock();
        if rows.1 != from {
            return Err(TargetError::Moved { found: rows.1 });
        }
        rows.0.extend(events.iter().map(|event| event.event.amount));
        rows.1 = Some(to);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        *self.0.lock() = (Vec::new(), None);
        Ok(())
    }
}

const LONG: Duration = Duration::from_secs(10);

/// The last event is once an event of the projection and once an event that it does not read.
#[tokio::test]
async fn a_projection_of_a_lost_history_stops_until_it_is_reset() {
    for ends_with_another in [false, true] {
        let (logs, rows) = (Logs::new().await, Rows::default());
        let app = logs.open().projection(rows.clone()).start().await.unwrap();
        let mut last = pay(&app, &[1_000; 5]).await;
        if ends_with_another {
            last = app.execute(Note).await.unwrap();
        }
        app.projection("rows").unwrap().after(&last, LONG).await.unwrap();
        app.stop().await.unwrap();
        let stored = rows.0.lock().1.unwrap();
        assert_eq!((stored.position, stored.checksum.is_some()), (last.last(), true));

        logs.went_another_way().await;
        let app = logs.open().projection_with(rows.clone(), Refresh::Live).start().await.unwrap();
        let projection = app.projection("rows").unwrap();
        let error = projection.caught_up(LONG).await.unwrap_err();
        assert!(error.to_string().contains("a history that the log no longer has"), "{error}");
        assert!(error.to_string().contains("rebuild the projection"), "{error}");
        let receipt = projection.after(&last, LONG).await.unwrap_err();
        assert!(matches!(receipt, WaitError::Token(TokenError::HistoryGone { .. })), "{receipt}");
        projection.rebuild().await.unwrap();
        projection.caught_up(LONG).await.unwrap();
        assert_eq!(rows.0.lock().0, [&[1; 3][..], &[10; 9]].concat());
        app.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_without_a_checksum_gets_one() {
    let (logs, rows) = (Logs::new().await, Rows::default());
    let app = logs.open().start().await.unwrap();
    let (log, position) = (app.identity(), Position::new(2));
    app.stop().await.unwrap();
    *rows.0.lock() = (vec![1, 1], Some(Checkpoint { log, position, checksum: None }));
    let app = logs.open().projection(rows.clone()).start().await.unwrap();
    app.projection("rows").unwrap().caught_up(LONG).await.unwrap();
    assert_eq!(rows.0.lock().0, [1, 1, 1]);
    let expected = app.store().checksum(Position::new(3)).await.unwrap();
    assert_eq!(rows.0.lock().1.unwrap().checksum, expected);
    app.stop().await.unwrap();
}

/// At the head, no further event replaces the checkpoint without a checksum. The rows would then
/// accept any other history.
#[tokio::test]
async fn a_checkpoint_without_a_checksum_gets_one_at_the_head_too() {
    let (logs, rows) = (Logs::new().await, Rows::default());
    let app = logs.open().start().await.unwrap();
    let position = pay(&app, &[1_000; 5]).await.last();
    let (log, checksum) = (app.identity(), app.store().checksum(position).await.unwrap());
    app.stop().await.unwrap();
    let amounts = [&[1; 3][..], &[1_000; 5]].concat();
    *rows.0.lock() = (amounts.clone(), Some(Checkpoint { log, position, checksum: None }));
    let app = logs.open().projection(rows.clone()).start().await.unwrap();
    app.projection("rows").unwrap().caught_up(LONG).await.unwrap();
    app.stop().await.unwrap();
    assert!(checksum.is_some());
    assert_eq!(*rows.0.lock(), (amounts.clone(), Some(Checkpoint { log, position, checksum })));

    logs.went_another_way().await;
    let app = logs.open().projection(rows.clone()).start().await.unwrap();
    let error = app.projection("rows").unwrap().caught_up(LONG).await.unwrap_err();
    assert!(error.to_string().contains("a history that the log no longer has"), "{error}");
    assert_eq!(rows.0.lock().0, amounts);
    app.stop().await.unwrap();
}
