//! The derive writes what a person would write; intents and retired fields.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use diptych::testing::{given, nothing_given};
use diptych::{
    App, Command, DecisionContext, Event, ExecuteError, Filter, Invalid, Memory, Position,
};
use diptych_records::{
    EventNames, Field, NoIntents, Record, RecordEvent, RecordIntents, Refusal, Row, WithRecords,
    check_record,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("order-line", validate = check, version = 2)]
struct Line {
    #[key]
    #[serde(rename = "number")]
    id: String,
    #[unique]
    code: Option<u32>,
    #[index]
    r#type: String,
    #[retired("discount")]
    cents: u64,
    #[serde(default)]
    note: String,
}

fn check(line: &Line) -> Result<(), Invalid> {
    match line.cents {
        0 => Err(Invalid::new("cents", "is 0: name a price")),
        _ => Ok(()),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("plain")]
struct Plain {
    #[key]
    id: u64,
}

#[test]
fn the_derive_gives_names_tags_and_fields() {
    let events = EventNames {
        created: "order-line-created",
        changed: "order-line-changed",
        deleted: "order-line-deleted",
        imported: "order-line-imported",
    };
    assert_eq!((Line::NAME, Line::EVENTS, Line::VERSION), ("order-line", events, 2));
    assert_eq!(Line::TAGS, ["order-line", "order-line-code"]);
    assert_eq!(Line::KEY_FIELD, "number");
    let fields = [
        Field::new("number"),
        Field::new("code").unique("order-line-code"),
        Field::new("type").indexed(),
        Field::new("cents").retired("discount"),
        Field::new("note"),
    ];
    assert_eq!(Line::FIELDS, fields);
    assert_eq!(Line::SHAPE[1], ("code", "Option<u32>"));
    let line = Line { id: "a".into(), code: None, r#type: "x".into(), cents: 0, note: "".into() };
    assert_eq!((line.key(), line.validate().unwrap_err().field), ("a".into(), "cents".into()));
    assert_eq!((Plain::TAGS, Plain::VERSION), (["plain"].as_slice(), 1));
    Plain { id: 1 }.validate().unwrap();
    let _: Option<<Plain as Record>::Intents> = None::<NoIntents>;
    check_record::<Line>().unwrap();
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("customer", intents = Life)]
struct Customer {
    #[key]
    id: u64,
    name: String,
    #[retired("move-house")]
    #[index]
    address: String,
}

/// An event with a meaning, beside those about rows.
#[derive(Clone, Debug, PartialEq, Event)]
enum Life {
    #[event("customer-moved")]
    Moved {
        #[tag]
        customer: u64,
        to: String,
    },
}

impl RecordIntents<Customer> for Life {
    fn key(&self) -> u64 {
        let Life::Moved { customer, .. } = self;
        *customer
    }

    fn apply(&self, row: &mut Customer) {
        let Life::Moved { to, .. } = self;
        row.address = to.clone();
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the customer lives there already, or there is none")]
struct StaysThere;

struct MoveHouse {
    customer: u64,
    to: &'static str,
}

impl Command for MoveHouse {
    type State = Row<Customer>;
    type Event = Life;
    type Rejection = StaysThere;

    fn boundary(&self) -> Filter {
        Row::<Customer>::filter(&self.customer)
    }

    fn decide(&self, row: &Row<Customer>, _: &DecisionContext) -> Result<Vec<Life>, StaysThere> {
        match row.get() {
            Some(row) if row.address != self.to => {
                Ok(vec![Life::Moved { customer: self.customer, to: self.to.to_owned() }])
            }
            _ => Err(StaysThere),
        }
    }
}

fn ann(address: &str) -> Customer {
    Customer { id: 1, name: "Ann".to_owned(), address: address.to_owned() }
}

#[tokio::test]
async fn a_plain_change_of_a_retired_field_is_refused_with_the_name_of_the_command() {
    let app = App::over(Memory::new()).records::<Customer>().start().await.unwrap();
    let customers = app.records::<Customer>();
    // A row is still created with a value.
    customers.create(ann("Rome")).await.unwrap();
    let retired = Refusal::Retired { record: "customer", field: "address", command: "move-house" };
    for refused in [
        customers.patch(1, json!({ "address": "Oslo" })).await.map(drop),
        customers.replace(ann("Oslo")).await.map(drop),
    ] {
        let Err(ExecuteError::Rejected(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal, retired);
        assert!(refusal.to_string().contains("move-house"));
    }
    // The other fields, and the same value, are as free as before.
    customers.patch(1, json!({ "name": "Anna", "address": "Rome" })).await.unwrap();
    customers.replace(Customer { name: "Ann".to_owned(), ..ann("Rome") }).await.unwrap();
}

#[tokio::test]
async fn the_view_the_rules_and_the_history_follow_both_kinds_of_events() {
    let app = App::over(Memory::new()).records::<Customer>().start().await.unwrap();
    let customers = app.records::<Customer>();
    let created = customers.create(ann("Rome")).await.unwrap().last();
    let there = app.execute(MoveHouse { customer: 1, to: "Rome" }).await;
    assert!(matches!(there, Err(ExecuteError::Rejected(StaysThere))));
    let moved = app.execute(MoveHouse { customer: 1, to: "Oslo" }).await.unwrap().last();
    let read = customers.get(1).strong().await.unwrap().value.unwrap();
    assert_eq!((read.position(), read.row), (moved, ann("Oslo")));
    // The revision of the row counts the intent.
    let stale = customers.expecting(created).patch(1, json!({ "name": "Anna" })).await;
    assert!(matches!(stale, Err(ExecuteError::Rejected(Refusal::Stale { .. }))));
    customers.expecting(moved).patch(1, json!({ "name": "Anna" })).await.unwrap();

    let changes = customers.history(1).await.unwrap().value;
    let told: Vec<_> = changes.iter().map(|change| change.event.as_str()).collect();
    assert_eq!(told, ["customer-created", "customer-moved", "customer-changed"]);
    assert_eq!(json!(changes[1].old), json!({ "address": "Rome" }));
    assert_eq!(json!(changes[1].new), json!({ "address": "Oslo" }));

    customers.delete(1).await.unwrap();
    let gone = app.execute(MoveHouse { customer: 1, to: "Bern" }).await;
    assert!(matches!(gone, Err(ExecuteError::Rejected(StaysThere))));
    let then = customers.get(1).as_of(moved).await.unwrap().value.unwrap();
    assert_eq!(then.row, ann("Oslo"));
    let before = customers.get(1).as_of(Position::START).await.unwrap().value;
    assert_eq!(before, None);
    let types: Vec<_> =
        RecordEvent::<Customer>::types().into_iter().map(|known| known.name).collect();
    assert_eq!(types.last(), Some(&"customer-moved"));
    check_record::<Customer>().unwrap();
}

#[test]
fn a_contradictory_declaration_by_hand_is_named() {
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    struct Wrong {
        id: u64,
    }

    impl Record for Wrong {
        type Key = u64;
        type Intents = NoIntents;
        const NAME: &'static str = "wrong";
        const EVENTS: EventNames = diptych_records::event_names!("wrong");
        const TAGS: &'static [&'static str] = &["wrong"];
        const KEY_FIELD: &'static str = "id";
        const FIELDS: &'static [Field] = &[Field::new("id"), Field::new("a").unique("wrong-a")];

        fn key(&self) -> u64 {
            self.id
        }
    }

    assert!(check_record::<Wrong>().unwrap_err().to_string().contains("wrong-a"));
}

/// A record whose field becomes unique in its second version.
mod grown {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
    #[record("member")]
    pub(super) struct Before {
        #[key]
        pub(super) id: u64,
        pub(super) email: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
    #[record("member", version = 2)]
    pub(super) struct After {
        #[key]
        pub(super) id: u64,
        #[unique]
        pub(super) email: String,
        #[serde(default)]
        pub(super) note: Option<String>,
    }
}

#[tokio::test]
async fn a_field_becomes_unique_over_the_rows_of_an_older_version() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path()).unwrap().records::<grown::Before>().start().await.unwrap();
    let members = app.records::<grown::Before>();
    for (id, email) in [(1, "a@x"), (2, "b@x"), (3, "c@x")] {
        members.create(grown::Before { id, email: email.to_owned() }).await.unwrap();
    }
    members.patch(3, json!({ "email": "d@x" })).await.unwrap();
    members.delete(2).await.unwrap();
    app.stop().await.unwrap();

    let open = || {
        let upcasters = RecordEvent::<grown::After>::upcasters(diptych::Upcasters::new());
        let builder = App::open(folder.path()).unwrap().upcasters(upcasters);
        builder.records::<grown::After>()
    };
    assert!(open().start().await.is_err(), "the tags are missing");
    let app = open().retagging().start().await.unwrap();
    app.retag().await.unwrap();
    app.stop().await.unwrap();

    let app = open().start().await.unwrap();
    let members = app.records::<grown::After>();
    let member = |id, email: &str| grown::After { id, email: email.to_owned(), note: None };
    for (id, email, is_free) in
        [(4, "a@x", false), (4, "d@x", false), (4, "b@x", true), (5, "c@x", true)]
    {
        let created = members.create(member(id, email)).await;
        assert_eq!(created.is_ok(), is_free, "{email}: {created:?}");
    }
    let row = members.get(1).strong().await.unwrap().value.unwrap().row;
    assert_eq!(row, member(1, "a@x"));
    app.stop().await.unwrap();
}

#[test]
fn a_rule_over_a_row_is_tested_with_events_given() {
    let created = || RecordEvent::Created(ann("Rome"));
    let moved = || Life::Moved { customer: 1, to: "Oslo".to_owned() };
    given([created()]).when(MoveHouse { customer: 1, to: "Oslo" }).then([moved()]);
    given([created()]).when(MoveHouse { customer: 1, to: "Rome" }).then_rejected(StaysThere);
    let create = || diptych_records::Create { row: ann("Rome") };
    nothing_given().when(create()).then([created()]);
    let exists = Refusal::Exists { record: "customer", key: "1".to_owned() };
    given([created()]).when(create()).then_rejected(exists);
    let names: Vec<_> = RecordEvent::<Customer>::types()[0].fields().unwrap().to_vec();
    assert_eq!(names, [("id", "u64"), ("name", "String"), ("address", "String")]);
}

/// A record with an intent that breaks the promise of its trait.
mod broken {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
    #[record("person", intents = Renamed)]
    pub(super) struct Person {
        #[key]
        pub(super) id: u64,
        #[unique]
        pub(super) email: String,
    }

    #[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
    #[event("person-renamed")]
    pub(super) struct Renamed {
        #[tag]
        pub(super) person: u64,
        pub(super) email: String,
    }

    impl RecordIntents<Person> for Renamed {
        fn key(&self) -> u64 {
            self.person
        }

        fn apply(&self, row: &mut Person) {
            row.email = self.email.clone();
        }
    }

    pub(super) struct Rename(pub(super) u64);

    impl Command for Rename {
        type State = ();
        type Event = Renamed;
        type Rejection = std::convert::Infallible;

        fn boundary(&self) {}

        fn decide(
            &self,
            (): (),
            _: &DecisionContext,
        ) -> Result<Vec<Renamed>, std::convert::Infallible> {
            Ok(vec![Renamed { person: self.0, email: "other@x".to_owned() }])
        }
    }
}

#[tokio::test]
async fn an_intent_that_changes_a_unique_field_holds_back_its_row_alone() {
    let app = App::over(Memory::new()).records::<broken::Person>().start().await.unwrap();
    let people = app.records::<broken::Person>();
    for id in [1, 2] {
        people.create(broken::Person { id, email: format!("{id}@x") }).await.unwrap();
    }
    app.execute(broken::Rename(1)).await.unwrap();
    let told = people.get(1).strong().await.unwrap_err().to_string();
    assert!(told.contains("unique field of row 1"), "{told}");
    assert!(people.patch(1, json!({ "email": "new@x" })).await.is_err());
    people.patch(2, json!({ "email": "new@x" })).await.unwrap();
    assert_eq!(people.get(2).strong().await.unwrap().value.unwrap().row.email, "new@x");
}
