//! postgres-es 0.5: aggregates of cqrs-es, whose events are rows with the sequence of their
//! aggregate. There is no order over all of them, and no read across aggregates by a tag.

use std::{convert::Infallible, sync::Arc};

use cqrs_es::{
    Aggregate, AggregateError, DomainEvent,
    event_sink::EventSink,
    persist::{PersistedEventRepository, SerializedEvent},
};
use postgres_es::{PostgresCqrs, PostgresEventRepository, postgres_cqrs};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{Pool, Postgres, postgres::PgPoolOptions};

use crate::place::{Bench, EVENTS_OF_THING, Place, THINGS};

/// The table, as the crate has it in `db/init.sql`.
const TABLE: &str = "create table if not exists events (
    aggregate_type text not null, aggregate_id text not null,
    sequence bigint check (sequence >= 0) not null, event_type text not null,
    event_version text not null, payload json not null, metadata json not null,
    primary key (aggregate_type, aggregate_id, sequence))";

#[derive(Clone)]
pub(crate) struct Aggregates {
    pool: Pool<Postgres>,
    counters: Arc<PostgresCqrs<Tally>>,
    /// Aggregates of a turn have a name of its own.
    turn: Arc<str>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Count {
    number: u64,
}

impl DomainEvent for Count {
    fn event_type(&self) -> String {
        "counted".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Tally {
    const TYPE: &'static str = "counter";
    type Command = ();
    type Event = Count;
    type Error = Infallible;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), sink: &EventSink<Tally>) -> Result<(), Infallible> {
        let event = Count { number: self.0 + 1 };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Count) {
        self.0 = event.number;
    }
}

impl Aggregates {
    fn repository(&self) -> PostgresEventRepository {
        PostgresEventRepository::new(self.pool.clone())
    }
}

fn serialized(id: String, sequence: u64) -> SerializedEvent {
    SerializedEvent::new(
        id,
        sequence as usize,
        Tally::TYPE.to_owned(),
        "measured".to_owned(),
        "1".to_owned(),
        json!({ "text": "x".repeat(245) }),
        json!({}),
    )
}

impl Bench for Aggregates {
    fn open(place: &Place, callers: usize) -> Aggregates {
        place.runtime.block_on(async {
            let options = PgPoolOptions::new().max_connections(callers as u32);
            let pool = options.connect(&place.address("aggregates")).await.unwrap();
            sqlx::query(TABLE).execute(&pool).await.unwrap();
            let counters = Arc::new(postgres_cqrs(pool.clone(), Vec::new(), ()));
            let count: i64 =
                sqlx::query_scalar("select count(*) from events").fetch_one(&pool).await.unwrap();
            Aggregates { pool, counters, turn: format!("t{count}").into() }
        })
    }

    async fn append(&self, writer: u64, number: u64, events: u64) {
        // A turn goes on with the aggregates of no other one.
        let id = format!("{}-{writer}-{number}", self.turn);
        let events: Vec<_> = (1..=events).map(|at| serialized(id.clone(), at)).collect();
        // A later round has the same names with other sequences.
        static ROUND: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let round = ROUND.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let events: Vec<_> = events
            .into_iter()
            .map(|event| SerializedEvent { aggregate_id: format!("{id}-{round}"), ..event })
            .collect();
        self.repository().persist::<Tally>(&events, None).await.unwrap();
    }

    async fn decide(&self, boundary: u64) {
        let id = format!("{}-{boundary}", self.turn);
        loop {
            match self.counters.execute(&id, ()).await {
                Ok(()) => return,
                Err(AggregateError::AggregateConflict) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    async fn fill(&self, events: u64) {
        let repository = self.repository();
        let every = events / (THINGS * EVENTS_OF_THING);
        let all: Vec<u64> = (0..events).collect();
        for some in all.chunks(1_000) {
            let events: Vec<_> = some
                .iter()
                .map(|number| match number % every {
                    0 if number / every < THINGS * EVENTS_OF_THING => {
                        let number = number / every;
                        serialized(format!("thing-{}", number % THINGS), number / THINGS + 1)
                    }
                    _ => serialized(format!("other-{}", number % 50_000), number / 50_000 + 1),
                })
                .collect();
            repository.persist::<Tally>(&events, None).await.unwrap();
        }
    }

    async fn read(&self, thing: u64) -> u64 {
        let events = self.repository().get_events::<Tally>(&format!("thing-{thing}")).await;
        events.unwrap().len() as u64
    }
}
