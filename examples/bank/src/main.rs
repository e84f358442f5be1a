//! A bank account: one tag is the boundary of every rule, as with a classic aggregate.
//! `cargo run -p example-bank`
#![allow(clippy::print_stdout)] // It shows something.

#[cfg(test)]
mod tests;

use diptych::{App, Command, Event, ExecuteError, Filter, FilterItem, Fold, Invalid, Recorded, Tag};
use serde::Serialize;

#[derive(Debug, PartialEq, Event)]
enum Banking {
    #[event("account-opened")]
    Opened { #[tag] account: String, owner: String },
    #[event("money-deposited")]
    Deposited { #[tag] account: String, cents: u64 },
    #[event("money-withdrawn")]
    Withdrawn { #[tag] account: String, cents: u64 },
    #[event("account-closed")]
    Closed { #[tag] account: String },
}

/// What the rules know of an account.
#[derive(Default)]
struct Account {
    is_open: bool,
    balance_cents: u64,
}

impl Fold for Account {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        match &event.event {
            Banking::Opened { .. } => self.is_open = true,
            Banking::Deposited { cents, .. } => self.balance_cents += cents,
            Banking::Withdrawn { cents, .. } => self.balance_cents -= cents,
            Banking::Closed { .. } => self.is_open = false,
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
    Overdrawn { balance_cents: u64, cents: u64 },
}

/// Everything about one account.
fn account(account: &str) -> Filter {
    Filter::tag(Tag::new("account", account))
}

#[derive(Serialize)]
struct Open {
    account: String,
    owner: String,
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
        Ok(vec![Banking::Opened { account: self.account.clone(), owner: self.owner.clone() }])
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

    /// Another deposit meanwhile does no harm; that the account is closed does.
    fn conflicts_with(&self) -> Option<Filter> {
        let closed = FilterItem::everything().or_type("account-closed");
        Some(closed.and_tag(Tag::new("account", &self.account)).into())
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.cents {
            0 => Err(Invalid::new("cents", "a deposit is at least one cent")),
            _ => Ok(()),
        }
    }

    fn decide(&self, account: &Account) -> Result<Vec<Banking>, Refused> {
        if !account.is_open {
            return Err(Refused::NotOpen);
        }
        Ok(vec![Banking::Deposited { account: self.account.clone(), cents: self.cents }])
    }
}

#[derive(Serialize)]
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
        let (balance_cents, cents) = (account.balance_cents, self.cents);
        if balance_cents < cents {
            return Err(Refused::Overdrawn { balance_cents, cents });
        }
        Ok(vec![Banking::Withdrawn { account: self.account.clone(), cents }])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let app = App::open(folder.path())?.start().await?;
    let account = || "ann-1".to_owned();
    app.execute(Open { account: account(), owner: "Ann".to_owned() }).actor("teller").await?;
    // Sent twice under one key, for want of an answer: it is carried out once.
    let receipt = app.execute(Deposit { account: account(), cents: 500 }).key("slip-7").await?;
    let again = app.execute(Deposit { account: account(), cents: 500 }).key("slip-7").await?;
    println!("deposited at position {}, and again at {}", receipt.last(), again.last());
    match app.execute(Withdraw { account: account(), cents: 501 }).await {
        Err(ExecuteError::Rejected(reason)) => println!("refused: {reason}"),
        answer => println!("a bank that gives too much: {answer:?}"),
    }
    app.stop().await?;
    Ok(())
}
