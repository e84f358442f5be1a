//! A private field of an event gets another name, and the report does not notice.

use diptych::{
    Event, Filter, Fold, Position, Recorded, Tag, Upcasters,
    event::{Codec, Json},
    projection::{Checkpoint, Target},
    store::{LogIdentity, RawEvent},
    testing::nothing_given,
};
use diptych_sqlite::{Projection, Sqlite, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::shop::reader;

/// An event before and after a private field of it got another name.
mod old {
    use super::*;

    #[derive(Clone, Event, Serialize, Deserialize)]
    #[event("ticket-sold")]
    pub(super) struct TicketSold {
        #[tag]
        pub(super) film: String,
        pub(super) price: i64,
    }
}

#[derive(Clone, Event, Serialize, Deserialize)]
#[event("ticket-sold", version = 2)]
struct TicketSold {
    #[tag]
    film: String,
    price_in_cents: i64,
}

struct Films<E>(fn(&E) -> (&str, i64));

impl<E: Event> Projection for Films<E> {
    type Event = E;

    fn name(&self) -> &str {
        "films"
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        Ok(tx.execute_batch("CREATE TABLE film (title TEXT PRIMARY KEY, cents INTEGER)")?)
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<E>) -> diptych_sqlite::Result {
        let mut add = tx.prepare_cached(
            "INSERT INTO film VALUES (?1, ?2)
             ON CONFLICT (title) DO UPDATE SET cents = cents + excluded.cents",
        )?;
        add.execute((self.0)(&event.event))?;
        Ok(())
    }
}

/// The events of a log as the program reads them now, upcasters and all.
struct All<E>(Vec<Recorded<E>>);

impl<E> Default for All<E> {
    fn default() -> All<E> {
        All(Vec::new())
    }
}

impl<E: Event + Clone> Fold for All<E> {
    type Event = E;

    fn apply(&mut self, event: &Recorded<E>) {
        self.0.push(event.clone());
    }
}

#[test]
fn a_field_of_an_event_that_is_renamed_leaves_the_report_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let log = LogIdentity::random();
    let stored = |film: &str, price: i64| {
        let payload = Json::encode(&json!({ "film": film, "price": price })).unwrap();
        RawEvent::new("ticket-sold", payload).tag(Tag::new("film", film))
    };
    let given = || {
        let given = nothing_given().and_stored(stored("Alien", 900));
        given.and_stored(stored("Brazil", 700)).and_stored(stored("Alien", 850))
    };
    let upcasters = Upcasters::new().object("ticket-sold", 1, |payload| {
        payload.rename("price", "price_in_cents")?;
        Ok(())
    });
    let before: All<old::TicketSold> = given().state(Filter::everything());
    let after: All<TicketSold> = given().upcasters(upcasters).state(Filter::everything());

    let files = ["before.db", "after.db"].map(|name| folder.path().join(name));
    let to = Checkpoint { log, position: Position::new(3), checksum: None };
    let films = Films(|sold: &old::TicketSold| (&sold.film, sold.price));
    Sqlite::at(&files[0]).projection(films).apply(&before.0, None, to).unwrap();
    let films = Films(|sold: &TicketSold| (&sold.film, sold.price_in_cents));
    Sqlite::at(&files[1]).projection(films).apply(&after.0, None, to).unwrap();

    let told = |file| {
        let report = reader(file);
        let all = |sql: &str| -> Vec<(String, String)> {
            let mut asked = report.prepare(sql).unwrap();
            asked.query_map((), |row| row.try_into()).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let schema = all("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name");
        (schema, all("SELECT title, cast(cents AS TEXT) FROM film ORDER BY title"))
    };
    assert_eq!(told(&files[0]), told(&files[1]));
    let rows = [("Alien", "1750"), ("Brazil", "700")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(told(&files[1]).1, rows);

    // The program after the change goes on where the one before it stopped.
    let mut films = Sqlite::at(&files[0])
        .projection(Films(|sold: &TicketSold| (&sold.film, sold.price_in_cents)));
    assert_eq!(films.checkpoint().unwrap(), Some(to));
}
