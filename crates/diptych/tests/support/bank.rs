//! A bank without the derive: a domain whose event code is written by hand.

use diptych::{
    Command, DecisionContext, Event, EventType, Filter, Fold, Invalid, Recorded, Tag,
    event::{Codec, EncodedEvent, Json, SchemaError},
    store::RawEvent,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) account: String,
    pub(crate) owner: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deposited {
    pub(crate) account: String,
    pub(crate) amount: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Withdrawn {
    pub(crate) account: String,
    pub(crate) amount: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Banking {
    Opened(Opened),
    Deposited(Deposited),
    Withdrawn(Withdrawn),
}

fn encode<T: Serialize>(
    name: &'static str,
    event: &T,
    account: &str,
) -> Result<RawEvent, SchemaError> {
    Ok(RawEvent::new(name, Json::encode(event)?).tag(Tag::new("account", account)))
}

impl Event for Banking {
    fn types() -> Vec<EventType> {
        let names = ["account-opened", "money-deposited", "money-withdrawn"];
        names.map(|name| EventType::new(name).tags(&["account"])).to_vec()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        match self {
            Banking::Opened(event) => encode("account-opened", event, &event.account),
            Banking::Deposited(event) => encode("money-deposited", event, &event.account),
            Banking::Withdrawn(event) => encode("money-withdrawn", event, &event.account),
        }
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Banking, SchemaError> {
        match encoded.event_type {
            "account-opened" => encoded.read::<Json, _>().map(Banking::Opened),
            "money-deposited" => encoded.read::<Json, _>().map(Banking::Deposited),
            "money-withdrawn" => encoded.read::<Json, _>().map(Banking::Withdrawn),
            _ => Err(encoded.unknown::<Banking>()),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Account {
    pub(crate) open: bool,
    pub(crate) balance: u64,
    pub(crate) events: u64,
}

impl Fold for Account {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        self.events += 1;
        match &event.event {
            Banking::Opened(_) => self.open = true,
            Banking::Deposited(event) => self.balance += event.amount,
            Banking::Withdrawn(event) => self.balance -= event.amount,
        }
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum No {
    #[error("the account is open already")]
    AlreadyOpen,
    #[error("there is no such account")]
    NotOpen,
    #[error("the balance is {balance}, less than {amount}")]
    Overdrawn { balance: u64, amount: u64 },
}

fn account(account: &str) -> Filter {
    Filter::tag(Tag::new("account", account))
}

#[derive(Clone, Serialize)]
pub(crate) struct Open {
    pub(crate) account: String,
    pub(crate) owner: String,
}

impl Command for Open {
    type State = Account;
    type Event = Banking;
    type Rejection = No;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, No> {
        if account.open {
            return Err(No::AlreadyOpen);
        }
        let Open { account, owner } = self.clone();
        Ok(vec![Banking::Opened(Opened { account, owner })])
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct Deposit {
    pub(crate) account: String,
    pub(crate) amount: u64,
}

impl Command for Deposit {
    type State = Account;
    type Event = Banking;
    type Rejection = No;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.amount > 1_000_000 {
            true => Err(Invalid::new("amount", "at most 1000000")),
            false => Ok(()),
        }
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, No> {
        if !account.open {
            return Err(No::NotOpen);
        }
        if self.amount == 0 {
            return Ok(Vec::new());
        }
        let Deposit { account, amount } = self.clone();
        Ok(vec![Banking::Deposited(Deposited { account, amount })])
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct Withdraw {
    pub(crate) account: String,
    pub(crate) amount: u64,
}

impl Command for Withdraw {
    type State = Account;
    type Event = Banking;
    type Rejection = No;

    fn boundary(&self) -> Filter {
        account(&self.account)
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, No> {
        let (balance, amount) = (account.balance, self.amount);
        if balance < amount {
            return Err(No::Overdrawn { balance, amount });
        }
        let account = self.account.clone();
        Ok(vec![Banking::Withdrawn(Withdrawn { account, amount })])
    }
}

pub(crate) fn open(account: &str) -> Open {
    Open { account: account.to_owned(), owner: "ann".to_owned() }
}

pub(crate) fn deposit(account: &str, amount: u64) -> Deposit {
    Deposit { account: account.to_owned(), amount }
}

pub(crate) fn withdraw(account: &str, amount: u64) -> Withdraw {
    Withdraw { account: account.to_owned(), amount }
}
