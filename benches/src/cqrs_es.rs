//! cqrs-es 0.5 over three stores in memory.
//!
//! - `PrintingStore` is cqrs-es' own `MemStore`, which keeps each event as a value (an envelope in
//!   a map under a lock) and serialises nothing. For each command it copies the whole history of an
//!   account twice: to load the history, and to add to it. It also prints two lines for each
//!   command.
//! - `SilentStore` takes these steps without the prints, because serious users of cqrs-es do not
//!   pay for prints.
//! - `JsonStore` is cqrs-es' own persistence layer, which is made for databases. Here it stores
//!   texts in a map. It does all the work that a store of JSON has to do.

use std::{collections::HashMap, sync::RwLock};

use cqrs_es::{
    Aggregate, AggregateError, CqrsFramework, DomainEvent, EventEnvelope, EventStore,
    event_sink::EventSink,
    mem_store::{MemStore, MemStoreAggregateContext},
    persist::{
        PersistedEventRepository, PersistedEventStore, PersistenceError, ReplayStream,
        SerializedEvent, SerializedSnapshot,
    },
};
use serde_json::Value;

use crate::{
    bank::{Account, Bank, BankEvent, Command, Refusal},
    quiet::LedAway,
};

impl DomainEvent for BankEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Account {
    const TYPE: &'static str = "account";
    type Command = Command;
    type Event = BankEvent;
    type Error = Refusal;
    type Services = ();

    async fn handle(
        &mut self,
        command: Command,
        (): &(),
        sink: &EventSink<Account>,
    ) -> Result<(), Refusal> {
        let event = self.decide(command)?;
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: BankEvent) {
        Account::apply(self, &event);
    }
}

/// cqrs-es over its own `MemStore`. The standard output goes to `/dev/null` while this value
/// exists.
pub(crate) struct PrintingStore {
    framework: CqrsFramework<Account, MemStore<Account>>,
    _led_away: LedAway,
}

impl Bank for PrintingStore {
    fn fresh() -> PrintingStore {
        let framework = CqrsFramework::new(MemStore::default(), Vec::new(), ());
        PrintingStore { framework, _led_away: LedAway::new() }
    }

    async fn execute(&self, account: &str, command: Command) {
        self.framework.execute(account, command).await.unwrap();
    }
}

/// cqrs-es over a store that does what `MemStore` does, without its prints.
pub(crate) struct SilentStore(CqrsFramework<Account, Values>);

impl Bank for SilentStore {
    fn fresh() -> SilentStore {
        SilentStore(CqrsFramework::new(Values::default(), Vec::new(), ()))
    }

    async fn execute(&self, account: &str, command: Command) {
        self.0.execute(account, command).await.unwrap();
    }
}

#[derive(Default)]
struct Values {
    events: RwLock<HashMap<String, Vec<EventEnvelope<Account>>>>,
}

impl Values {
    fn copied(&self, account: &str) -> Vec<EventEnvelope<Account>> {
        self.events.read().unwrap().get(account).into_iter().flatten().cloned().collect()
    }
}

type CqrsError = AggregateError<Refusal>;

impl EventStore<Account> for Values {
    type AC = MemStoreAggregateContext<Account>;

    async fn load_events(&self, account: &str) -> Result<Vec<EventEnvelope<Account>>, CqrsError> {
        Ok(self.copied(account))
    }

    async fn load_aggregate(&self, account: &str) -> Result<Self::AC, CqrsError> {
        let (mut aggregate, mut current_sequence) = (Account::default(), 0);
        for envelope in self.load_events(account).await? {
            current_sequence = envelope.sequence;
            Aggregate::apply(&mut aggregate, envelope.payload);
        }
        let aggregate_id = account.to_owned();
        Ok(MemStoreAggregateContext { aggregate_id, aggregate, current_sequence })
    }

    async fn commit(
        &self,
        events: Vec<BankEvent>,
        context: Self::AC,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<Account>>, CqrsError> {
        let MemStoreAggregateContext { aggregate_id, current_sequence, .. } = context;
        let wrapped = events.into_iter().zip(current_sequence + 1..);
        let wrapped = wrapped.map(|(payload, sequence)| EventEnvelope {
            aggregate_id: aggregate_id.clone(),
            sequence,
            payload,
            metadata: metadata.clone(),
        });
        let wrapped: Vec<_> = wrapped.collect();
        let mut all = self.copied(&aggregate_id);
        all.extend(wrapped.iter().cloned());
        self.events.write().unwrap().insert(aggregate_id, all);
        Ok(wrapped)
    }
}

/// cqrs-es over its persistence, which reads and writes JSON.
pub(crate) struct JsonStore(CqrsFramework<Account, PersistedEventStore<Texts, Account>>);

impl Bank for JsonStore {
    fn fresh() -> JsonStore {
        let store = PersistedEventStore::new_event_store(Texts::default());
        JsonStore(CqrsFramework::new(store, Vec::new(), ()))
    }

    async fn execute(&self, account: &str, command: Command) {
        self.0.execute(account, command).await.unwrap();
    }
}

/// Rows as a database holds them for cqrs-es: payload and metadata are text.
#[derive(Default)]
struct Texts {
    rows: RwLock<HashMap<String, Vec<Text>>>,
}

struct Text {
    sequence: usize,
    event_type: String,
    event_version: String,
    payload: String,
    metadata: String,
}

impl Text {
    fn to_event<A: Aggregate>(&self, account: &str) -> serde_json::Result<SerializedEvent> {
        Ok(SerializedEvent {
            aggregate_id: account.to_owned(),
            sequence: self.sequence,
            aggregate_type: A::TYPE.to_owned(),
            event_type: self.event_type.clone(),
            event_version: self.event_version.clone(),
            payload: serde_json::from_str(&self.payload)?,
            metadata: serde_json::from_str(&self.metadata)?,
        })
    }
}

impl PersistedEventRepository for Texts {
    async fn get_events<A: Aggregate>(
        &self,
        account: &str,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        self.get_last_events::<A>(account, 0).await
    }

    async fn get_last_events<A: Aggregate>(
        &self,
        account: &str,
        last_sequence: usize,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        let rows = self.rows.read().unwrap();
        let rows = rows.get(account).into_iter().flatten();
        let after = rows.filter(|row| row.sequence > last_sequence);
        Ok(after.map(|row| row.to_event::<A>(account)).collect::<Result<_, _>>()?)
    }

    async fn get_snapshot<A: Aggregate>(
        &self,
        _: &str,
    ) -> Result<Option<SerializedSnapshot>, PersistenceError> {
        Ok(None)
    }

    async fn persist<A: Aggregate>(
        &self,
        events: &[SerializedEvent],
        _: Option<(String, Value, usize)>,
    ) -> Result<(), PersistenceError> {
        let mut rows = self.rows.write().unwrap();
        for event in events {
            let row = Text {
                sequence: event.sequence,
                event_type: event.event_type.clone(),
                event_version: event.event_version.clone(),
                payload: event.payload.to_string(),
                metadata: event.metadata.to_string(),
            };
            rows.entry(event.aggregate_id.clone()).or_default().push(row);
        }
        Ok(())
    }

    async fn stream_events<A: Aggregate>(&self, _: &str) -> Result<ReplayStream, PersistenceError> {
        Ok(ReplayStream::new(1).1)
    }

    async fn stream_all_events<A: Aggregate>(&self) -> Result<ReplayStream, PersistenceError> {
        Ok(ReplayStream::new(1).1)
    }
}
