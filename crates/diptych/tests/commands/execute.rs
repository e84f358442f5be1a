//! Execute folds, decides and appends. These tests cover its answers.

use diptych::{
    App, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Memory, Tag,
    command::Retries,
};
use diptych_store::Append;

use crate::support::{
    bank::{Account, Banking, Deposited, No, deposit, open, withdraw},
    counted_store::{CountedStore, now},
};

#[tokio::test]
async fn a_command_writes_its_decision_and_a_rule_can_reject_it() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let receipt = app.execute(open("a")).await.unwrap();
    assert_eq!((receipt.first().get(), receipt.last().get()), (1, 1));
    app.execute(deposit("a", 100)).await.unwrap();
    app.execute(withdraw("a", 30)).await.unwrap();
    let refused = app.execute(withdraw("a", 71)).await.unwrap_err();
    let ExecuteError::Rejected(reason) = refused else { panic!("{refused}") };
    assert_eq!(reason, No::Overdrawn { balance: 70, amount: 71 });
    assert!(app.execute(deposit("a", 0)).await.unwrap().is_empty());
    let invalid = app.execute(deposit("a", 2_000_000)).await.unwrap_err();
    assert!(matches!(invalid, ExecuteError::Failed(CommandError::Invalid(_))), "{invalid}");
    assert_eq!(app.store().head().position().get(), 3);
}

/// Another writer appends during every decision of this command.
struct Overtaken(CountedStore);

impl Command for Overtaken {
    type State = Account;
    type Event = Banking;
    type Rejection = No;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", "a"))
    }

    fn decide(&self, _: &Account, _: &DecisionContext) -> Result<Vec<Banking>, No> {
        let event = Banking::Deposited(Deposited { account: "a".to_owned(), amount: 1 });
        self.0.write(Append::event(event.encode().unwrap()));
        Ok(vec![event])
    }
}

/// Regression: without a runtime, the wait between two attempts panicked, and so did the closing
/// of the log.
#[test]
fn commands_run_without_a_runtime() {
    let store = CountedStore::new(Memory::new());
    let app = now(App::over(store.store()).start()).unwrap();
    let conflict = pollster::block_on(app.execute(Overtaken(store)).into_future()).unwrap_err();
    let ExecuteError::Failed(CommandError::Conflict(conflict)) = conflict else {
        panic!("{conflict}")
    };
    assert_eq!(conflict.attempts, Retries::default().attempts);
    let folder = tempfile::tempdir().unwrap();
    let app = now(App::open(folder.path()).unwrap().start()).unwrap();
    pollster::block_on(app.execute(open("a")).into_future()).unwrap();
    pollster::block_on(app.stop()).unwrap();
    pollster::block_on(App::open(folder.path()).unwrap().start()).unwrap();
}
