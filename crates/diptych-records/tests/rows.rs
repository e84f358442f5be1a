//! Rows of a record that is implemented by hand: changes, rules, lists, history.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::cell::Cell;

use diptych::{
    App, CommandError, Event, ExecuteError, Fold, Invalid, Memory, Metadata, Position, Query,
    QueryError, Recorded, Timestamp, Uuid, snapshot::SnapshotOptions,
};
use diptych_records::{
    EventNames, Field, List, NoIntents, Page, Record, RecordEvent, RecordView, Records, Refusal,
    Row, UpdateError, WithRecords, check_record, event_names,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Customer {
    id: u64,
    email: Option<String>,
    city: String,
    age: u32,
    note: String,
}

impl Record for Customer {
    type Key = u64;
    type Intents = NoIntents;
    const NAME: &'static str = "customer";
    const EVENTS: EventNames = event_names!("customer");
    const TAGS: &'static [&'static str] = &["customer", "customer-email"];
    const KEY_FIELD: &'static str = "id";
    const FIELDS: &'static [Field] = &[
        Field::new("id"),
        Field::new("email").unique("customer-email"),
        Field::new("city").indexed(),
        Field::new("age").indexed(),
        Field::new("note"),
    ];

    fn key(&self) -> u64 {
        self.id
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.city.is_empty() {
            true => Err(Invalid::new("city", "is empty: name one")),
            false => Ok(()),
        }
    }
}

fn customer(id: u64, city: &str, age: u32) -> Customer {
    let email = Some(format!("c{id}@example.org"));
    Customer { id, email, city: city.to_owned(), age, note: String::new() }
}

async fn started() -> (App, Records<Customer>) {
    let app = App::over(Memory::new()).records::<Customer>().start().await.unwrap();
    let customers = app.records::<Customer>();
    (app, customers)
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, ExecuteError<Refusal>>) -> Refusal {
    match answer {
        Err(ExecuteError::Rejected(refusal)) => refusal,
        other => panic!("no refusal: {other:?}"),
    }
}

fn invalid<T: std::fmt::Debug>(answer: Result<T, ExecuteError<Refusal>>) -> String {
    match answer {
        Err(ExecuteError::Failed(CommandError::Invalid(invalid))) => invalid.field,
        other => panic!("not invalid: {other:?}"),
    }
}

#[tokio::test]
async fn a_row_is_created_once_changed_and_deleted_and_its_key_is_free_again() {
    let (_app, customers) = started().await;
    let first = customers.create(customer(1, "Rome", 30)).await.unwrap();
    let exists = Refusal::Exists { record: "customer", key: "1".to_owned() };
    assert_eq!(refusal(customers.create(customer(1, "Oslo", 30)).await), exists);

    let read = customers.get(1).after(&first).await.unwrap().value.unwrap();
    assert_eq!((read.position(), &read.row), (first.last(), &customer(1, "Rome", 30)));

    let patched = customers.patch(1, json!({ "city": "Oslo" })).await.unwrap();
    let read = customers.get(1).after(&patched).await.unwrap().value.unwrap();
    assert_eq!((read.position(), read.row.city.as_str()), (patched.last(), "Oslo"));

    let deleted = customers.delete(1).await.unwrap();
    assert_eq!(customers.get(1).after(&deleted).await.unwrap().value, None);
    let missing = Refusal::Missing { record: "customer", key: "1".to_owned() };
    assert_eq!(refusal(customers.delete(1).await), missing);
    assert_eq!(refusal(customers.patch(1, json!({ "age": 1 })).await), missing);
    assert_eq!(refusal(customers.replace(customer(1, "Rome", 1)).await), missing);

    let again = customers.create(customer(1, "Bern", 31)).await.unwrap();
    let read = customers.get(1).after(&again).await.unwrap().value.unwrap();
    assert_eq!(read.position(), again.last(), "a revision never comes again");
}

#[tokio::test]
async fn a_change_keeps_old_and_new_of_the_changed_fields_and_nothing_else() {
    let (_app, customers) = started().await;
    customers.create(customer(1, "Rome", 30)).await.unwrap();
    let changed = Customer { city: "Oslo".to_owned(), email: None, ..customer(1, "Rome", 30) };
    customers.replace(changed.clone()).actor("ann").await.unwrap();
    let unchanged = customers.replace(changed).await.unwrap();
    assert_eq!(unchanged.events(), 0);
    customers.delete(1).await.unwrap();

    let changes = customers.history(1).await.unwrap().value;
    let told: Vec<_> = changes.iter().map(|change| change.event.as_str()).collect();
    assert_eq!(told, ["customer-created", "customer-changed", "customer-deleted"]);
    let change = &changes[1];
    assert_eq!(change.actor.as_deref(), Some("ann"));
    assert_eq!(json!(change.old), json!({ "city": "Rome", "email": "c1@example.org" }));
    assert_eq!(json!(change.new), json!({ "city": "Oslo", "email": null }));
    assert_eq!(json!(changes[2].old)["city"], "Oslo");
    assert!(changes[2].new.is_empty());
    assert_eq!(customers.history(2).await.unwrap().value, []);
}

#[tokio::test]
async fn the_value_of_a_unique_field_belongs_to_one_row_until_that_row_gives_it_up() {
    let (_app, customers) = started().await;
    let with = |id, email: Option<&str>| Customer {
        email: email.map(str::to_owned),
        ..customer(id, "Rome", 1)
    };
    let taken = Refusal::Taken { record: "customer", field: "email" };
    customers.create(with(1, Some("a@x"))).await.unwrap();
    assert_eq!(refusal(customers.create(with(2, Some("a@x"))).await), taken);
    customers.create(with(2, Some("b@x"))).await.unwrap();
    assert_eq!(refusal(customers.patch(2, json!({ "email": "a@x" })).await), taken);
    assert_eq!(refusal(customers.replace(with(2, Some("a@x"))).await), taken);
    // Its own value is no conflict.
    customers.patch(2, json!({ "email": "b@x", "age": 2 })).await.unwrap();

    customers.patch(1, json!({ "email": "c@x" })).await.unwrap();
    customers.patch(2, json!({ "email": "a@x" })).await.unwrap();
    assert_eq!(refusal(customers.patch(1, json!({ "email": "a@x" })).await), taken);
    customers.delete(2).await.unwrap();
    customers.patch(1, json!({ "email": "a@x" })).await.unwrap();

    // Rows without a value do not compete.
    customers.create(with(3, None)).await.unwrap();
    customers.create(with(4, None)).await.unwrap();
    // Long values are told apart, too.
    let (long, longer) = ("l".repeat(5_000), "l".repeat(5_001));
    customers.create(with(5, Some(&long))).await.unwrap();
    assert_eq!(refusal(customers.create(with(6, Some(&long))).await), taken);
    customers.create(with(6, Some(&longer))).await.unwrap();
}

#[tokio::test]
async fn of_many_creations_with_one_value_at_one_time_one_succeeds() {
    let (_app, customers) = started().await;
    let create = |id| {
        let row = Customer { email: Some("one@x".to_owned()), ..customer(id, "Rome", 1) };
        tokio::spawn(customers.create(row).into_future())
    };
    let tasks: Vec<_> = (0..32).map(create).collect();
    let mut created = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => created += 1,
            other => assert!(matches!(refusal(other), Refusal::Taken { .. })),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn a_change_of_an_older_revision_is_refused() {
    let (_app, customers) = started().await;
    let first = customers.create(customer(1, "Rome", 30)).await.unwrap().last();
    let second = customers.patch(1, json!({ "age": 31 })).await.unwrap().last();
    let old = customers.expecting(first);
    let stale = Refusal::Stale {
        record: "customer",
        key: "1".to_owned(),
        expected: first.get(),
        actual: second.get(),
    };
    assert_eq!(refusal(old.patch(1, json!({ "age": 32 })).await), stale);
    assert_eq!(refusal(old.replace(customer(1, "Bern", 1)).await), stale);
    assert_eq!(refusal(old.delete(1).await), stale);
    let refused = old.update(1, |row| row.age += 1).await;
    assert!(matches!(refused, Err(UpdateError::Refused(Refusal::Stale { .. }))));
    customers.expecting(second).delete(1).await.unwrap();
}

#[tokio::test]
async fn updates_by_a_function_at_one_time_lose_no_change() {
    let (_app, customers) = started().await;
    customers.create(customer(1, "Rome", 0)).await.unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let customers = customers.clone();
            tokio::spawn(async move { customers.update(1, |row| row.age += 1).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(customers.get(1).strong().await.unwrap().value.unwrap().row.age, 32);
    let missing = customers.update(2, |row| row.age += 1).await;
    assert!(matches!(missing, Err(UpdateError::Refused(Refusal::Missing { .. }))));
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_refused_with_its_field_and_changes_nothing() {
    let (app, customers) = started().await;
    assert_eq!(invalid(customers.create(customer(1, "", 1)).await), "city");
    customers.create(customer(1, "Rome", 1)).await.unwrap();
    let head = app.head();
    let unfit = |answer| match refusal(answer) {
        Refusal::Unfit { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(unfit(customers.patch(1, json!({ "city": "" })).await), "city");
    assert_eq!(unfit(customers.patch(1, json!({ "age": "old" })).await), "age");
    assert_eq!(unfit(customers.patch(1, json!({ "id": 2 })).await), "id");
    assert_eq!(unfit(customers.patch(1, json!({ "note": null })).await), "customer");
    assert_eq!(invalid(customers.patch(1, json!({ "agee": 2 })).await), "agee");
    assert_eq!(invalid(customers.patch(1, json!({ "email": { "a": 1 } })).await), "email");
    invalid(customers.patch(1, json!([1])).await);
    assert_eq!(app.head(), head);
}

#[tokio::test]
async fn a_repeat_under_its_key_is_carried_out_once() {
    let (app, customers) = started().await;
    let create = || customers.create(customer(1, "Rome", 1)).key("k");
    let (first, again) = (create().await.unwrap(), create().await.unwrap());
    assert_eq!((first.last(), app.head()), (again.last(), again.last()));
    let other = customers.create(customer(2, "Rome", 1)).key("k").await;
    assert!(matches!(other, Err(ExecuteError::Failed(CommandError::KeyReused(_)))));
}

#[tokio::test]
async fn the_past_of_a_row_and_of_a_list_can_be_asked() {
    let (_app, customers) = started().await;
    let first = customers.create(customer(1, "Rome", 30)).await.unwrap().last();
    customers.patch(1, json!({ "city": "Oslo" })).await.unwrap();
    let last = customers.delete(1).await.unwrap().last();
    let at = async |position| customers.get(1).as_of(position).await.unwrap().value;
    assert_eq!(at(first).await.unwrap().row.city, "Rome");
    assert_eq!(at(last.before()).await.unwrap().row.city, "Oslo");
    assert_eq!(at(last).await, None);
    assert_eq!(at(Position::START).await, None);
    let above = customers.get(1).as_of(last.plus(1)).await;
    assert!(matches!(above, Err(QueryError::AboveHead { .. })));

    let in_rome = || customers.list(List::new().equal("city", "Rome")).unwrap();
    assert_eq!(in_rome().as_of(first).await.unwrap().items.len(), 1);
    assert_eq!(in_rome().as_of(last.before()).await.unwrap().items.len(), 0);
}

fn ids(page: &Page<Customer>) -> Vec<u64> {
    page.items.iter().map(|entry| entry.row.id).collect()
}

#[tokio::test]
async fn rows_are_listed_by_filters_and_orders_of_indexed_fields() {
    let (_app, customers) = started().await;
    let rows =
        [(1, "Rome", 30), (2, "Oslo", 20), (3, "Rome", 10), (4, "Bern", 30), (5, "Rome", 30)];
    for (id, city, age) in rows {
        customers.create(customer(id, city, age)).await.unwrap();
    }
    let list = async |list| ids(&customers.list(list).unwrap().strong().await.unwrap());
    let all = List::new;
    assert_eq!(list(all()).await, [1, 2, 3, 4, 5]);
    assert_eq!(list(all().descending()).await, [5, 4, 3, 2, 1]);
    assert_eq!(list(all().equal("city", "Rome")).await, [1, 3, 5]);
    assert_eq!(list(all().equal("city", "Rome").order_by("age")).await, [3, 1, 5]);
    assert_eq!(list(all().equal("city", "Rome").order_by("age").descending()).await, [5, 1, 3]);
    assert_eq!(list(all().equal("city", "Rome").equal("age", 30)).await, [1, 5]);
    assert_eq!(list(all().order_by("city")).await, [4, 2, 1, 3, 5]);
    assert_eq!(list(all().order_by("age").from("age", 20)).await, [2, 1, 4, 5]);
    assert_eq!(list(all().order_by("age").to("age", 20)).await, [3, 2]);
    assert_eq!(list(all().from("id", 2).to("id", 4)).await, [2, 3, 4]);
    assert_eq!(list(all().from("age", "20")).await, [] as [u64; 0], "another type");
    assert_eq!(list(all().equal("id", 4)).await, [4]);
    let both = all().one_of("city", ["Oslo".into(), "Bern".into(), "Oslo".into()]);
    assert_eq!(list(both).await, [2, 4]);

    // An index follows changes and deletions.
    customers.patch(3, json!({ "city": "Oslo" })).await.unwrap();
    customers.delete(5).await.unwrap();
    assert_eq!(list(all().equal("city", "Rome")).await, [1]);
    assert_eq!(list(all().order_by("city")).await, [4, 2, 3, 1]);
}

#[tokio::test]
async fn pages_hold_every_row_once_also_if_rows_come_and_go_between_them() {
    let (_app, customers) = started().await;
    for id in 0..40 {
        customers
            .create(customer(id * 10, ["Rome", "Oslo", "Bern"][id as usize % 3], id as u32 / 7))
            .await
            .unwrap();
    }
    let lists: [fn() -> List<Customer>; 6] = [
        List::new,
        || List::new().descending(),
        || List::new().order_by("age"),
        || List::new().order_by("age").descending(),
        || List::new().equal("city", "Rome").order_by("age"),
        || List::new().equal("city", "Rome").order_by("age").descending(),
    ];
    for (number, list) in lists.into_iter().enumerate() {
        let ask = async |list| customers.list(list).unwrap().strong().await.unwrap().value;
        let whole = ids(&ask(list().limit(1_000)).await);
        let (mut paged, mut next) = (Vec::new(), None::<String>);
        loop {
            let page = list().limit(7);
            let page = match &next {
                Some(next) => page.after(next),
                None => page,
            };
            let page = ask(page).await;
            paged.extend(ids(&page));
            let Some(more) = page.next else { break };
            // The last row of the page goes, and the next page begins where it was.
            let gone = page.items.last().unwrap().row.clone();
            customers.delete(gone.id).await.unwrap();
            customers.create(gone).await.unwrap();
            next = Some(more);
        }
        assert_eq!(paged, whole, "list {number}");
    }
}

#[tokio::test]
async fn a_list_without_an_index_or_of_another_order_is_refused() {
    let (_app, customers) = started().await;
    for id in 0..3 {
        customers.create(customer(id, "Rome", 1)).await.unwrap();
    }
    let fault = |list| customers.list(list).unwrap_err();
    assert_eq!(fault(List::new().equal("note", "x")).field, "note");
    assert!(fault(List::new().order_by("note")).problem.contains("id, email, city, age"));
    assert_eq!(fault(List::new().limit(0)).field, "limit");
    assert_eq!(fault(List::new().limit(1_001)).field, "limit");
    assert_eq!(fault(List::new().after("nonsense")).field, "after");
    let page = customers.list(List::new().limit(1)).unwrap().strong().await.unwrap();
    let next = page.next.clone().unwrap();
    assert_eq!(fault(List::new().order_by("age").after(&next)).field, "after");
    assert_eq!(fault(List::new().descending().after(&next)).field, "after");
}

/// A second view over the events of the record.
#[derive(Clone, Default)]
struct PerCity(std::collections::BTreeMap<String, i64>);

impl Fold for PerCity {
    type Event = RecordEvent<Customer>;

    fn apply(&mut self, event: &Recorded<RecordEvent<Customer>>) {
        let (old, new) = event.event.sides();
        for (side, by) in [(old, -1), (new, 1)] {
            if let Some(city) = side.get("city").and_then(|city| city.as_str()) {
                *self.0.entry(city.to_owned()).or_default() += by;
            }
        }
    }
}

struct Count(&'static str);

impl diptych::Query for Count {
    type View = PerCity;
    type Answer = i64;

    fn answer(&self, cities: &PerCity) -> i64 {
        cities.0.get(self.0).copied().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_second_view_folds_the_events_of_the_record() {
    let builder = App::over(Memory::new()).records::<Customer>().view::<PerCity>();
    let app = builder.start().await.unwrap();
    let customers = app.records::<Customer>();
    for id in 0..4 {
        customers.create(customer(id, "Rome", 1)).await.unwrap();
    }
    customers.patch(1, json!({ "city": "Oslo", "age": 2 })).await.unwrap();
    customers.delete(2).await.unwrap();
    let count = async |city| app.query(Count(city)).strong().await.unwrap().value;
    assert_eq!((count("Rome").await, count("Oslo").await), (2, 1));
}

#[tokio::test]
async fn rows_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || App::open(folder.path()).unwrap().records::<Customer>();
    let app = open().start().await.unwrap();
    app.records::<Customer>().create(customer(1, "Rome", 1)).await.unwrap();
    app.stop().await.unwrap();
    let app = open().start().await.unwrap();
    let row = app.records::<Customer>().get(1).strong().await.unwrap().value.unwrap().row;
    assert_eq!(row, customer(1, "Rome", 1));
    app.stop().await.unwrap();
}

#[test]
fn an_event_is_read_as_it_was_written_with_the_tags_of_its_row() {
    let row = customer(1, "Rome", 1);
    let raw = RecordEvent::Created(row.clone()).encode().unwrap();
    let tags: Vec<_> = raw.tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(tags, ["customer:1", "customer-email:c1@example.org"]);
    let encoded = diptych::event::EncodedEvent {
        event_type: &raw.event_type,
        version: raw.version,
        payload: &raw.payload,
    };
    assert_eq!(RecordEvent::decode(&encoded).unwrap(), RecordEvent::Created(row));
    check_record::<Customer>().unwrap();
}

#[tokio::test]
async fn a_view_is_read_from_a_snapshot_with_its_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let options = SnapshotOptions::every(1);
        let builder = App::open(folder.path()).unwrap().records::<Customer>();
        builder.snapshots::<RecordView<Customer>>(options).snapshots::<Row<Customer>>(options)
    };
    for round in 0..3 {
        let app = open().start().await.unwrap();
        let customers = app.records::<Customer>();
        for id in 0..4 {
            customers.create(customer(10 * round + id, "Rome", 1)).await.unwrap();
        }
        customers.patch(10 * round, json!({ "city": "Oslo" })).await.unwrap();
        let list = |city| customers.list(List::new().equal("city", city)).unwrap().strong();
        let rows = 1 + round as usize;
        assert_eq!(list("Oslo").await.unwrap().items.len(), rows);
        assert_eq!(list("Rome").await.unwrap().items.len(), 3 * rows);
        app.stop().await.unwrap();
    }
}

/// The record of an older program, whose rows need not fit into that of today.
mod older {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
    #[record("customer")]
    pub(super) struct Customer {
        #[key]
        pub(super) id: u64,
        pub(super) email: Option<String>,
        pub(super) city: String,
        pub(super) age: i64,
        pub(super) note: String,
    }
}

#[tokio::test]
async fn a_row_that_no_longer_fits_holds_back_itself_and_no_other_row() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path()).unwrap().records::<older::Customer>();
    let app = app.start().await.unwrap();
    let customers = app.records::<older::Customer>();
    for (id, age) in [(1, -1), (2, 30), (3, 40)] {
        let (city, note) = ("Rome".to_owned(), String::new());
        customers.create(older::Customer { id, email: None, city, age, note }).await.unwrap();
    }
    customers.patch(2, json!({ "age": -2 })).await.unwrap();
    app.stop().await.unwrap();

    let app = App::open(folder.path())
        .unwrap()
        .records::<Customer>()
        .accept_untagged("customer-created", "customer-email");
    let app = app.start().await.unwrap();
    let customers = app.records::<Customer>();
    // A creation that does not fit, and a change that does not.
    for id in [1, 2] {
        let poisoned = customers.get(id).strong().await;
        assert!(matches!(poisoned, Err(QueryError::Poisoned { .. })), "{id}: {poisoned:?}");
        assert!(customers.patch(id, json!({ "city": "Oslo" })).await.is_err());
    }
    customers.patch(3, json!({ "city": "Oslo" })).await.unwrap();
    let row = customers.get(3).strong().await.unwrap().value.unwrap().row;
    assert_eq!(row.city, "Oslo");
    let marked = customers.list(List::new()).unwrap().or_poisoned().strong().await.unwrap();
    assert_eq!((ids(&marked), marked.poisoned.len()), (vec![2, 3], 2));
    app.stop().await.unwrap();
}

#[tokio::test]
async fn rare_and_frequent_values_of_a_large_record_are_listed_alike() {
    let (_app, customers) = started().await;
    let lane = customers.app().lane();
    for id in 0..3_000_u64 {
        let row = customer(id, if id % 100 == 0 { "Oslo" } else { "Rome" }, (id % 90) as u32);
        lane.execute(diptych_records::Create { row }).await.unwrap();
    }
    let list = async |list: List<Customer>| customers.list(list).unwrap().strong().await.unwrap();
    let all = || List::new().limit(10);
    assert_eq!(ids(&*list(all().equal("city", "Oslo")).await)[..3], [0, 100, 200]);
    assert_eq!(ids(&*list(all().equal("city", "Rome")).await)[..3], [1, 2, 3]);
    let by_age = all().equal("city", "Rome").order_by("age").descending();
    let page = list(by_age).await;
    assert!(page.items.iter().all(|entry| entry.row.age == 89));
    let few = list(all().equal("city", "Oslo").order_by("age").from("age", 80)).await;
    let ages: Vec<_> = few.items.iter().map(|entry| entry.row.age).collect();
    assert!(ages.is_sorted() && ages.iter().all(|age| *age >= 80), "{ages:?}");
}

thread_local! {
    /// How often this thread has made JSON of a row.
    static WRITTEN: Cell<u64> = const { Cell::new(0) };
}

/// A text that counts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct CountedText(String);

impl Serialize for CountedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WRITTEN.set(WRITTEN.get() + 1);
        serializer.serialize_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Thing<const IS_INDEXED: bool> {
    id: u64,
    kind: u64,
    text: CountedText,
}

impl<const IS_INDEXED: bool> Record for Thing<IS_INDEXED> {
    type Key = u64;
    type Intents = NoIntents;
    const NAME: &'static str = "thing";
    const EVENTS: EventNames = event_names!("thing");
    const TAGS: &'static [&'static str] = &["thing"];
    const KEY_FIELD: &'static str = "id";
    const FIELDS: &'static [Field] = match IS_INDEXED {
        true => &[Field::new("id"), Field::new("kind").indexed(), Field::new("text")],
        false => &[Field::new("id"), Field::new("kind"), Field::new("text")],
    };

    fn key(&self) -> u64 {
        self.id
    }
}

/// A view after the creation of a row and two changes, and how often each event made JSON.
fn changed_twice<const IS_INDEXED: bool>() -> (RecordView<Thing<IS_INDEXED>>, [u64; 3]) {
    let change = |old: serde_json::Value, new: serde_json::Value| {
        let [old, new] = [old, new].map(|json| json.as_object().unwrap().clone());
        RecordEvent::Changed { key: 1, old, new, origin: None }
    };
    let row = Thing { id: 1, kind: 2, text: CountedText("a".to_owned()) };
    let events = [
        RecordEvent::Created(row),
        change(json!({ "text": "a" }), json!({ "text": "b" })),
        change(json!({ "kind": 2 }), json!({ "kind": 3 })),
    ];
    let mut view = RecordView::default();
    let mut position = 0;
    let written = events.map(|event| {
        position += 1;
        let (recorded_at, id) = (Timestamp::from_micros(0), Uuid::from_u128(1));
        let (position, metadata) = (Position::new(position), Metadata::default());
        let before = WRITTEN.get();
        view.apply(&Recorded { position, recorded_at, id, metadata, event });
        WRITTEN.get() - before
    });
    (view, written)
}

#[test]
fn the_view_makes_json_of_rows_only_for_the_indexes_that_an_event_names() {
    // A change itself makes JSON of the row once, and an index of the rows before and after.
    let (view, written) = changed_twice::<false>();
    assert_eq!(written, [0, 1, 1]);
    let entry = view.get(&1).unwrap();
    assert_eq!((entry.row.kind, entry.row.text.0.as_str()), (3, "b"));

    let (view, written) = changed_twice::<true>();
    assert_eq!(written, [1, 1, 3]);
    let of = |kind: u64| List::new().equal("kind", kind).answer(&view).items.len();
    assert_eq!((of(2), of(3)), (0, 1));
}

#[test]
fn a_list_makes_json_of_rows_only_for_conditions_and_orders() {
    let (view, _) = changed_twice::<true>();
    let written = |list: List<Thing<true>>| {
        let before = WRITTEN.get();
        assert_eq!(list.answer(&view).items.len(), 1);
        WRITTEN.get() - before
    };
    assert_eq!(written(List::new()), 0);
    assert_eq!(written(List::new().descending()), 0);
    assert_eq!(written(List::new().from("id", 1_u64)), 1, "a range of the key tests each row");
    assert_eq!(written(List::new().order_by("kind")), 1);
}
