//! The domain of the part `framework`: a bank that every contender uses.

use std::{fmt, future::Future};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Open { account: String, holder: String },
    Deposit { account: String, amount: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum BankEvent {
    Opened { account: String, holder: String },
    Deposited { account: String, amount: u64 },
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    open: bool,
    balance: u64,
}

#[derive(Debug)]
pub(crate) struct Refusal(&'static str);

impl BankEvent {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            BankEvent::Opened { .. } => "account-opened",
            BankEvent::Deposited { .. } => "money-deposited",
        }
    }
}

impl Account {
    pub(crate) fn apply(&mut self, event: &BankEvent) {
        match event {
            BankEvent::Opened { .. } => self.open = true,
            BankEvent::Deposited { amount, .. } => self.balance += amount,
        }
    }

    pub(crate) fn decide(&self, command: Command) -> Result<BankEvent, Refusal> {
        match command {
            Command::Open { .. } if self.open => Err(Refusal("the account is open")),
            Command::Deposit { .. } if !self.open => Err(Refusal("there is no such account")),
            Command::Open { account, holder } => Ok(BankEvent::Opened { account, holder }),
            Command::Deposit { account, amount } => Ok(BankEvent::Deposited { account, amount }),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refusal {}

/// A contender of the part `framework`: executes a command on an account and keeps its event.
pub(crate) trait Bank {
    /// A bank without accounts.
    fn fresh() -> Self;

    fn execute(&self, account: &str, command: Command) -> impl Future<Output = ()>;
}
