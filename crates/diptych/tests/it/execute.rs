//! Execute: fold, decide, append; what the answers are.

use diptych::{App, ExecuteError, Memory};

use crate::bank::{No, deposit, open, withdraw};

#[tokio::test]
async fn a_command_writes_what_it_decides_and_a_rule_can_say_no() {
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
    assert!(matches!(invalid, ExecuteError::Invalid(_)), "{invalid}");
    assert_eq!(app.store().head().position().get(), 3);
}
