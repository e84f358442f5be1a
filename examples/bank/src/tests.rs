use diptych::testing::{given, nothing_given};

use super::*;

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
    given([opened()]).when(deposit(5)).then([deposited(5)]);
}

#[test]
fn an_account_is_not_overdrawn() {
    let rich = given([opened(), deposited(70)]);
    let poor =
        rich.when(withdraw(50)).then([Banking::Withdrawn { account: "a".to_owned(), cents: 50 }]);
    let refused = Refused::Overdrawn { balance_cents: 20, cents: 21 };
    poor.when(withdraw(21)).then_rejected(refused);
}

/// Once, the second of these could not be folded any more, and the account was out of order.
#[test]
fn an_account_takes_whatever_is_deposited() {
    let rich = given([opened(), deposited(u64::MAX), deposited(u64::MAX)]);
    let state: Account = rich.state(account("a"));
    assert_eq!(state.balance_cents, 2 * u128::from(u64::MAX));
}

#[test]
fn accounts_do_not_know_of_each_other() {
    let others = Banking::Deposited { account: "b".to_owned(), cents: 1_000 };
    let state: Account = given([opened(), others, deposited(7)]).state(account("a"));
    assert_eq!(state.balance_cents, 7);
}
