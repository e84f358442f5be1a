//! A bank account: one tag is the boundary, as with an aggregate. `cargo run -p example-bank`
#![allow(clippy::print_stdout)] // It shows something.

#[cfg(test)]
mod tests;

use diptych::{App, Command, Event, ExecuteError, Filter, Fold, Recorded, Tag};
use serde::Serialize;

#[derive(Debug, PartialEq, Event)]
enum Banking {
    #[event("account-opened")]
    Opened {
        #[tag]
        account: String,
    },
    #[event("money-deposited")]
    Deposited {
        #[tag]
        account: String,
        cents: u64,
    },
    #[event("money-withdrawn")]
    Withdrawn {
        #[tag]
        account: String,
        cents: u64,
    },
}

#[derive(Default)]
struct Account {
    is_open: bool,
    balance_cents: u128, // Wider than an amount: no number of deposits is too much for it.
}

impl Fold for Account {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        match &event.event {
            Banking::Opened { .. } => self.is_open = true,
            Banking::Deposited { cents, .. } => self.balance_cents += u128::from(*cents),
            Banking::Withdrawn { cents, .. } => self.balance_cents -= u128::from(*cents),
        }
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("the account is open already")]
    AlreadyOpen,
    #[error("the account is not open")]
    NotOpen,
    #[error("there are {balance_cents} cents, less than {cents}")]
    Overdrawn { balance_cents: u128, cents: u64 },
}

fn account(account: &str) -> Filter {
    Filter::tag(Tag::new("account", account))
}

struct Open {
    account: String,
}

impl Command for Open {
    type State = Account;
    type Event = Banking;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    fn decide(&self, account: &Account) -> Result<Vec<Banking>, Refused> {
        if account.is_open {
            return Err(Refused::AlreadyOpen);
        }
        Ok(vec![Banking::Opened { account: self.account.clone() }])
    }
}

#[derive(Serialize)]
struct Deposit {
    account: String,
    cents: u64,
}

impl Command for Deposit {
    type State = Account;
    type Event = Banking;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    /// An account stays open: whatever comes meanwhile does a deposit no harm.
    fn conflicts_with(&self) -> Option<Filter> {
        Some(Filter::nothing())
    }

    fn decide(&self, account: &Account) -> Result<Vec<Banking>, Refused> {
        if !account.is_open {
            return Err(Refused::NotOpen);
        }
        Ok(vec![Banking::Deposited { account: self.account.clone(), cents: self.cents }])
    }
}

struct Withdraw {
    account: String,
    cents: u64,
}

impl Command for Withdraw {
    type State = Account;
    type Event = Banking;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    fn decide(&self, account: &Account) -> Result<Vec<Banking>, Refused> {
        let Account { balance_cents, .. } = *account;
        if balance_cents < self.cents.into() {
            return Err(Refused::Overdrawn { balance_cents, cents: self.cents });
        }
        Ok(vec![Banking::Withdrawn { account: self.account.clone(), cents: self.cents }])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let app = App::open(folder.path())?.start().await?;
    app.execute(Open { account: "ann-1".into() }).actor("teller").await?;
    // Sent twice under one key: it is carried out once.
    let deposit = || app.execute(Deposit { account: "ann-1".into(), cents: 500 }).key("slip-7");
    let (receipt, again) = (deposit().await?, deposit().await?);
    println!("deposited at position {}, and again at {}", receipt.last(), again.last());
    let withdraw = Withdraw { account: "ann-1".into(), cents: 501 };
    if let Err(ExecuteError::Rejected(reason)) = app.execute(withdraw).await {
        println!("refused: {reason}");
    }
    Ok(app.stop().await?)
}
