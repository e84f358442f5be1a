//! The right panel: the view, and the queries to it.

use std::{cmp::Reverse, collections::BTreeMap};

use diptych::{Filter, Fold, Query, Recorded};

use crate::{Banking, account};

/// The balance of each account.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Balances {
    cents: BTreeMap<String, u128>,
}

impl Fold for Balances {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        match &event.event {
            Banking::Opened { account } => drop(self.cents.insert(account.clone(), 0)),
            Banking::Deposited { account, cents } => *self.of(account) += u128::from(*cents),
            Banking::Withdrawn { account, cents } => *self.of(account) -= u128::from(*cents),
        }
    }
}

impl Balances {
    fn of(&mut self, account: &str) -> &mut u128 {
        self.cents.entry(account.to_owned()).or_default()
    }
}

/// The balance of one account, if there is such an account.
pub(crate) struct Balance {
    pub(crate) account: String,
}

impl Query for Balance {
    type View = Balances;
    type Answer = Option<u128>;

    fn answer(&self, balances: &Balances) -> Option<u128> {
        balances.cents.get(&self.account).copied()
    }

    /// Only this account affects the answer, so a query of the past reads only its events.
    fn scope(&self) -> Filter {
        account(&self.account)
    }
}

/// The accounts with the highest balances.
pub(crate) struct Richest {
    pub(crate) top: usize,
}

impl Query for Richest {
    type View = Balances;
    type Answer = Vec<(String, u128)>;

    fn answer(&self, balances: &Balances) -> Vec<(String, u128)> {
        let mut accounts: Vec<_> = balances.cents.iter().collect();
        accounts.sort_by_key(|(_, cents)| Reverse(**cents));
        accounts.into_iter().take(self.top).map(|(name, cents)| (name.clone(), *cents)).collect()
    }
}
