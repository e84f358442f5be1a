//! The left panel: the commands, and the rules that decide about them.

use diptych::{Command, DecisionContext, Filter, Fold, Recorded};
use serde::Serialize;

use crate::{Banking, account};

#[derive(Default)]
pub(crate) struct Account {
    is_open: bool,
    /// Wider than an amount, so that no sum of deposits overflows it.
    pub(crate) balance_cents: u128,
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
pub(crate) enum Refused {
    #[error("the account is open already")]
    AlreadyOpen,
    #[error("the account is not open")]
    NotOpen,
    #[error("there are {balance_cents} cents, less than {cents}")]
    Overdrawn { balance_cents: u128, cents: u64 },
}

pub(crate) struct Open {
    pub(crate) account: String,
}

impl Command for Open {
    type State = Account;
    type Event = Banking;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, Refused> {
        if account.is_open {
            return Err(Refused::AlreadyOpen);
        }
        Ok(vec![Banking::Opened { account: self.account.clone() }])
    }
}

#[derive(Serialize)]
pub(crate) struct Deposit {
    pub(crate) account: String,
    pub(crate) cents: u64,
}

impl Command for Deposit {
    type State = Account;
    type Event = Banking;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    /// No other event can invalidate a deposit, because an account never closes.
    fn conflicts_with(&self) -> Option<Filter> {
        Some(Filter::nothing())
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, Refused> {
        if !account.is_open {
            return Err(Refused::NotOpen);
        }
        Ok(vec![Banking::Deposited { account: self.account.clone(), cents: self.cents }])
    }
}

pub(crate) struct Withdraw {
    pub(crate) account: String,
    pub(crate) cents: u64,
}

impl Command for Withdraw {
    type State = Account;
    type Event = Banking;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, Refused> {
        let Account { balance_cents, .. } = *account;
        if balance_cents < self.cents.into() {
            return Err(Refused::Overdrawn { balance_cents, cents: self.cents });
        }
        Ok(vec![Banking::Withdrawn { account: self.account.clone(), cents: self.cents }])
    }
}
