use diptych::{
    Memory, Query,
    testing::{check_determinism, given, nothing_given},
};

use super::*;
use crate::commands::{Account, Refused};

fn opened() -> Banking {
    Banking::Opened { account: "a".to_owned() }
}

fn deposited(cents: u64) -> Banking {
    Banking::Deposited { account: "a".to_owned(), cents }
}

fn deposit(cents: u64) -> Deposit {
    Deposit { account: "a".to_owned(), cents }
}

fn withdraw(cents: u64) -> Withdraw {
    Withdraw { account: "a".to_owned(), cents }
}

#[test]
fn an_account_is_opened_once() {
    let open = || Open { account: "a".to_owned() };
    let open_account = nothing_given().when(open()).then([opened()]);
    open_account.when(open()).then_rejected(Refused::AlreadyOpen);
}

#[test]
fn only_an_open_account_takes_deposits() {
    nothing_given().when(deposit(5)).then_rejected(Refused::NotOpen);
    given([opened()]).when(deposit(5)).with_unseen_events().then([deposited(5)]);
}

#[test]
fn an_account_is_not_overdrawn() {
    let rich = given([opened(), deposited(70)]);
    let poor =
        rich.when(withdraw(50)).then([Banking::Withdrawn { account: "a".to_owned(), cents: 50 }]);
    let refused = Refused::Overdrawn { balance_cents: 20, cents: 21 };
    poor.when(withdraw(21)).then_rejected(refused);
}

/// Regression test: the balance was too narrow for two of the largest deposits. The second one
/// could not be folded, so the account no longer accepted commands.
#[test]
fn the_largest_deposits_do_not_overflow_the_balance() {
    let rich = given([opened(), deposited(u64::MAX), deposited(u64::MAX)]);
    let state: Account = rich.state(account("a"));
    assert_eq!(state.balance_cents, 2 * u128::from(u64::MAX));
}

#[test]
fn an_account_ignores_events_of_other_accounts() {
    let others = Banking::Deposited { account: "b".to_owned(), cents: 1_000 };
    let state: Account = given([opened(), others, deposited(7)]).state(account("a"));
    assert_eq!(state.balance_cents, 7);
}

#[test]
fn the_richest_accounts_come_first() {
    let in_b = Banking::Deposited { account: "b".to_owned(), cents: 9 };
    let balances: Balances = given([opened(), deposited(7), in_b]).state(Filter::everything());
    let richest = [("b".to_owned(), 9), ("a".to_owned(), 7)];
    assert_eq!(Richest { top: 5 }.answer(&balances), richest);
    assert_eq!(Richest { top: 1 }.answer(&balances), richest[..1]);
}

#[test]
fn the_same_events_give_the_same_balances() {
    check_determinism::<Balances>([opened(), deposited(7)]);
}

#[tokio::test]
async fn a_balance_depends_on_its_own_account_alone() {
    let app = App::over(Memory::new()).view::<Balances>().start().await.unwrap();
    for account in ["a", "b"] {
        app.execute(Open { account: account.to_owned() }).await.unwrap();
    }
    let receipt = app.execute(deposit(70)).await.unwrap();
    let balance = || Balance { account: "a".to_owned() };
    assert_eq!(*app.query(balance()).after(&receipt).await.unwrap(), Some(70));
    assert_eq!(*app.query(balance()).as_of(Position::new(2)).await.unwrap(), Some(0));
    app.check_scope(&balance(), app.head()).await.unwrap();
}
