//! disintegrate-postgres 4.0: events of several streams in one table, with a column for each
//! identifier. Its decisions are serializable transactions.

use std::sync::Arc;

use disintegrate::{
    Decision, DecisionError, Event, EventStore, NoSnapshot, StateMutate, StateQuery, StreamItem,
    query, serde::json::Json,
};
use disintegrate_postgres::{Error, PgDecisionMaker, PgEventId, PgEventStore, decision_maker};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use crate::place::{Bench, EVENTS_OF_THING, Place, THINGS};

#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize)]
#[stream(Counting, [Counted])]
#[stream(Measuring, [Measured])]
enum Happening {
    Counted {
        #[id]
        counter: i64,
        number: u64,
    },
    Measured {
        #[id]
        writer: i64,
        #[id]
        thing: i64,
        text: String,
    },
}

#[derive(Default, StateQuery, Clone, Serialize, Deserialize)]
#[state_query(Counting)]
struct Counter {
    #[id]
    counter: i64,
    number: u64,
}

impl StateMutate for Counter {
    fn mutate(&mut self, event: Counting) {
        let Counting::Counted { number, .. } = event;
        self.number = number;
    }
}

struct CountOne {
    counter: i64,
}

impl Decision for CountOne {
    type Event = Happening;
    type StateQuery = Counter;
    type Error = std::convert::Infallible;

    fn state_query(&self) -> Counter {
        Counter { counter: self.counter, number: 0 }
    }

    fn process(&self, state: &Counter) -> Result<Vec<Happening>, std::convert::Infallible> {
        Ok(vec![Happening::Counted { counter: self.counter, number: state.number + 1 }])
    }
}

type Serde = Json<Happening>;

#[derive(Clone)]
pub(crate) struct Streams {
    store: PgEventStore<Happening, Serde>,
    maker: Arc<PgDecisionMaker<Happening, Serde, NoSnapshot>>,
}

/// Whether another decision came first. A serializable transaction may fail before its commit.
fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref() {
        Some(Error::Concurrency) => true,
        Some(Error::Database(error)) => {
            error.as_database_error().and_then(|error| error.code()).as_deref() == Some("40001")
        }
        _ => false,
    }
}

/// Things that are read begin after those that are not.
const FIRST_THING: i64 = 1_000_000;

fn measured(writer: u64, thing: i64) -> Happening {
    Happening::Measured { writer: writer as i64, thing, text: "x".repeat(245) }
}

impl Bench for Streams {
    fn open(place: &Place, callers: usize) -> Streams {
        place.runtime.block_on(async {
            let options = PgPoolOptions::new().max_connections(callers as u32);
            let pool = options.connect(&place.address("streams")).await.unwrap();
            let store = PgEventStore::try_new(pool, Serde::default()).await.unwrap();
            let maker = Arc::new(decision_maker(store.clone(), NoSnapshot));
            Streams { store, maker }
        })
    }

    async fn append(&self, writer: u64, number: u64, events: u64) {
        let of = |at| measured(writer, ((number * events + at) % 50_000) as i64);
        let events: Vec<_> = (0..events).map(of).collect();
        self.store.append_without_validation(events).await.unwrap();
    }

    async fn decide(&self, boundary: u64) {
        loop {
            match self.maker.make(CountOne { counter: boundary as i64 }).await {
                Ok(_) => return,
                Err(DecisionError::EventStore(error) | DecisionError::StateStore(error))
                    if is_conflict(&*error) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    async fn fill(&self, events: u64) {
        let every = events / (THINGS * EVENTS_OF_THING);
        let all: Vec<u64> = (0..events).collect();
        for some in all.chunks(1_000) {
            let events = some.iter().map(|number| match number % every {
                0 if number / every < THINGS * EVENTS_OF_THING => {
                    measured(number % 64, FIRST_THING + (number / every % THINGS) as i64)
                }
                _ => measured(number % 64, (number % 50_000) as i64),
            });
            self.store.append_without_validation(events.collect()).await.unwrap();
        }
    }

    async fn read(&self, thing: u64) -> u64 {
        let thing = FIRST_THING + thing as i64;
        let query = query!(Measuring; thing == thing);
        let query: disintegrate::StreamQuery<PgEventId, Measuring> = query;
        let mut events = 0;
        let mut stream = self.store.stream(&query);
        while let Some(item) = stream.next().await {
            if matches!(item.unwrap(), StreamItem::Event(_)) {
                events += 1;
            }
        }
        events
    }
}
