//! The framework as a contender: an app executes commands, over a store in memory or over a log.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use ::diptych::{
    App, AppBuilder, Command, DecisionContext, Event, EventType, Filter, Fold, Log, Memory,
    Recorded, Tag,
    event::{Codec, EncodedEvent, Json, SchemaError},
    store::RawEvent,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::{
    bank::{self, Account, Bank, BankEvent},
    workload::{Balance, Entry, Numbers, TYPES, Watch},
};

/// Commands of the bank, over a store in memory.
pub(crate) struct InMemory(App);

impl Bank for InMemory {
    fn fresh() -> InMemory {
        InMemory(started(App::over(Memory::new())))
    }

    async fn execute(&self, account: &str, command: bank::Command) {
        let account = account.to_owned();
        self.0.execute(BankCommand { account, command }).await.unwrap();
    }
}

struct BankCommand {
    account: String,
    command: bank::Command,
}

impl Command for BankCommand {
    type State = Account;
    type Event = BankEvent;
    type Rejection = bank::Refusal;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", &self.account))
    }

    fn decide(
        &self,
        account: &Account,
        _: &DecisionContext,
    ) -> Result<Vec<BankEvent>, bank::Refusal> {
        Ok(vec![account.decide(self.command.clone())?])
    }
}

impl Event for BankEvent {
    fn types() -> Vec<EventType> {
        ["account-opened", "money-deposited"]
            .map(|name| EventType::new(name).tags(&["account"]))
            .to_vec()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let (BankEvent::Opened { account, .. } | BankEvent::Deposited { account, .. }) = self;
        Ok(RawEvent::new(self.name(), Json::encode(self)?).tag(Tag::new("account", account)))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<BankEvent, SchemaError> {
        encoded.read::<Json, _>()
    }
}

impl Fold for Account {
    type Event = BankEvent;

    fn apply(&mut self, event: &Recorded<BankEvent>) {
        Account::apply(self, &event.event);
    }
}

/// The workload's event as a typed event.
pub(crate) struct Movement {
    event_type: &'static str,
    tenant: u64,
    payload: MovementPayload,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MovementPayload {
    account: String,
    amount: u64,
    note: String,
}

impl Event for Movement {
    fn types() -> Vec<EventType> {
        TYPES.map(|name| EventType::new(name).tags(&["account", "tenant"])).to_vec()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let event = RawEvent::new(self.event_type, Json::encode(&self.payload)?);
        let event = event.tag(Tag::new("account", &self.payload.account));
        Ok(event.tag(Tag::new("tenant", self.tenant)))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Movement, SchemaError> {
        let known = TYPES.iter().find(|name| **name == encoded.event_type);
        let event_type = known.ok_or_else(|| encoded.unknown::<Movement>())?;
        Ok(Movement { event_type, tenant: 0, payload: encoded.read::<Json, _>()? })
    }
}

/// The state of a decision, as a fold of the framework.
#[derive(Default)]
struct State(Balance);

impl Fold for State {
    type Event = Movement;

    fn apply(&mut self, event: &Recorded<Movement>) {
        self.0.events += 1;
        self.0.amount += event.payload.amount;
    }
}

/// Appends one event to an account. Its boundary is every event of the account.
struct Move(Entry);

impl Command for Move {
    type State = State;
    type Event = Movement;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", self.0.account))
    }

    fn decide(&self, _: &State, _: &DecisionContext) -> Result<Vec<Movement>, Infallible> {
        let Entry { event_type, account, tenant, amount } = self.0;
        let account = account.to_string();
        let payload = MovementPayload { account, amount, note: self.0.note() };
        Ok(vec![Movement { event_type, tenant, payload }])
    }
}

fn started(builder: AppBuilder) -> App {
    pollster::block_on(builder.start()).unwrap()
}

/// An app over a log that other contenders use too.
pub(crate) fn over(log: &Log, cache_bytes: usize) -> App {
    started(App::over(log.clone()).cache_bytes(cache_bytes))
}

/// Decides once on every account, so that the app has the state of each in its cache.
pub(crate) fn warm(runtime: &Runtime, app: &App, accounts: u64) {
    runtime.block_on(async {
        for account in 0..accounts {
            let entry = Entry { account, ..Entry::random(&mut Numbers::new(account)) };
            app.execute(Move(entry)).await.unwrap();
        }
    });
}

/// A task that makes one decision after another, each on a random account.
pub(crate) async fn decide(app: App, mut numbers: Numbers, watch: Arc<Watch>) {
    while watch.goes_on() {
        app.execute(Move(Entry::random(&mut numbers))).await.unwrap();
        watch.did(1);
    }
}

/// A task that makes one decision after another, all on account 0. Every such task uses it.
pub(crate) async fn decide_on_one_account(app: App, mut numbers: Numbers, watch: Arc<Watch>) {
    while watch.goes_on() {
        let entry = Entry { account: 0, ..Entry::random(&mut numbers) };
        app.execute(Move(entry)).await.unwrap();
        watch.did(1);
    }
}

/// Decisions per second of one lane that keeps `in_flight` commands in flight.
pub(crate) fn lane(
    runtime: &Runtime,
    app: &App,
    in_flight: usize,
    round: u64,
    turn: Duration,
    one_account: bool,
) -> f64 {
    let (app, mut numbers) = (app.clone(), Numbers::of_caller(round, 0));
    let run = async move {
        let (lane, mut waiting) = (app.lane(), VecDeque::new());
        let (mut count, start) = (0_u64, Instant::now());
        while start.elapsed() < turn {
            let mut entry = Entry::random(&mut numbers);
            if one_account {
                entry.account = 0;
            }
            waiting.push_back(lane.execute(Move(entry)).submit().await);
            if waiting.len() >= in_flight
                && let Some(first) = waiting.pop_front()
            {
                first.await.unwrap();
            }
            count += 1;
        }
        for pending in waiting {
            pending.await.unwrap();
        }
        count as f64 / start.elapsed().as_secs_f64()
    };
    runtime.block_on(runtime.spawn(run)).unwrap()
}
