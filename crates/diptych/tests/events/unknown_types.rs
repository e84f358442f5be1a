//! An app reports, when it starts, event types in the log that the program does not know. It does
//! not skip them silently.

use diptych::{
    App, AppBuilder, Event, Fold, Log, LogOptions, Memory, Query, Recorded, store::RawEvent,
};
use diptych::{DecisionContext, StartError, Store, Upcasters};
use diptych_store::Append;

use crate::support::counted_store::{Warnings, write};

#[derive(Clone, Debug, PartialEq, Event)]
enum Customers {
    #[event("customer-moved")]
    Moved { to: String },
}

#[derive(Clone, Debug, PartialEq, Event, serde::Serialize, serde::Deserialize)]
#[event("customer-greeted")]
struct Greeted {
    by: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Places(Vec<String>);

impl Fold for Places {
    type Event = Customers;

    fn apply(&mut self, event: &Recorded<Customers>) {
        let Customers::Moved { to } = &event.event;
        self.0.push(to.clone());
    }
}

struct Where;

impl Query for Where {
    type View = Places;
    type Answer = Vec<String>;

    fn answer(&self, places: &Places) -> Vec<String> {
        places.0.clone()
    }
}

struct Greet;

impl diptych::Command for Greet {
    type State = ();
    type Event = Greeted;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(
        &self,
        (): (),
        _: &DecisionContext,
    ) -> Result<Vec<Greeted>, std::convert::Infallible> {
        Ok(vec![Greeted { by: "ann".to_owned() }])
    }
}

fn moved(event_type: &'static str, to: &str) -> RawEvent {
    RawEvent::new(event_type, format!(r#"{{"to":"{to}"}}"#))
}

/// Writes one event under a former name and one under the current name.
fn filled(store: Store) -> Store {
    write(
        &store,
        Append::events([moved("customer-relocated", "Rome"), moved("customer-moved", "Bern")]),
    );
    store
}

fn renamed() -> Upcasters {
    Upcasters::new().rename("customer-relocated", "customer-moved")
}

fn over(store: &Store) -> AppBuilder {
    App::over_store(store.clone()).view::<Places>()
}

/// Regression: a type was renamed without an upcaster. The view lacked the older events, and no
/// message reported it.
#[tokio::test]
async fn a_type_that_no_event_and_no_upcaster_reads_is_reported_at_the_start() {
    let (warnings, _listening) = Warnings::listen();
    let store = filled(Store::new(Memory::new()));
    let app = over(&store).start().await.unwrap();
    let warning = warnings.one();
    assert!(warning.contains("no upcaster takes: customer-relocated; if"), "{warning}");
    app.stop().await.unwrap();

    let StartError::UnknownTypes { types } = over(&store).strict().start().await.unwrap_err()
    else {
        panic!("the start should fail with the unknown types");
    };
    assert_eq!(types, ["customer-relocated"]);

    let app = over(&store).strict().upcasters(renamed()).start().await.unwrap();
    assert_eq!(*app.query(Where).await.unwrap(), ["Rome", "Bern"]);
    over(&store).strict().foreign_types(["customer-relocated"]).start().await.unwrap();
    let dropped = Upcasters::new().drop("customer-relocated", 1);
    over(&store).strict().upcasters(dropped).start().await.unwrap();
    assert_eq!(warnings.take(), [""; 0]);
}

#[tokio::test]
async fn event_types_that_only_commands_use_must_be_declared() {
    let (warnings, _listening) = Warnings::listen();
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone()).start().await.unwrap();
    app.execute(Greet).await.unwrap();
    // An app that knows no events cannot tell its own from others.
    App::over_store(store.clone()).strict().start().await.unwrap();
    assert_eq!(warnings.take(), [""; 0]);
    over(&store).start().await.unwrap();
    assert!(warnings.one().contains("takes: customer-greeted"));
    over(&store).strict().events::<Greeted>().start().await.unwrap();
    assert_eq!(warnings.take(), [""; 0]);
}

#[tokio::test]
async fn a_log_in_a_folder_lists_the_types_of_every_segment() {
    let dir = tempfile::tempdir().unwrap();
    let options = || LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() };
    let log = Log::open(dir.path(), options()).unwrap();
    for number in 0..40 {
        let mut events = vec![moved("customer-moved", &"x".repeat(100)); 100];
        events.push(RawEvent::new(format!("former-{number:02}"), ""));
        let _ = log.blocking().append(Append::events(events)).unwrap();
    }
    log.blocking().flush().unwrap();
    let expected = (0..40).map(|number| format!("former-{number:02}"));
    let expected: Vec<_> = ["customer-moved".to_owned()].into_iter().chain(expected).collect();
    assert_eq!(log.blocking().types().unwrap(), expected);
    log.close().unwrap();
    let start = App::open_with(dir.path(), options()).unwrap().view::<Places>().strict();
    let StartError::UnknownTypes { types } = start.start().await.unwrap_err() else {
        panic!("the start should fail with the unknown types");
    };
    assert_eq!(types, expected[1..]);
    let text = StartError::UnknownTypes { types }.to_string();
    assert!(text.contains("former-15 and 24 more; if") && !text.contains("former-16"), "{text}");
}

/// Regression: the documented way to add a view beside a running app dropped the upcasters.
#[tokio::test]
async fn an_app_beside_another_inherits_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let store = App::open(dir.path()).unwrap().start().await.unwrap();
    filled(store.store().clone());
    store.stop().await.unwrap();
    let app = App::open(dir.path()).unwrap().upcasters(renamed()).strict();
    let app = app.events::<Greeted>().events::<Customers>().start().await.unwrap();
    let beside = app.beside().view::<Places>().start().await.unwrap();
    assert_eq!(*beside.query(Where).await.unwrap(), ["Rome", "Bern"]);
    // The apps do not share views. Stopping one app leaves the other app running.
    assert!(app.view::<Places>().is_err());
    assert!(beside.beside().start().await.unwrap().views().is_empty());
    beside.stop().await.unwrap();
    app.execute(Greet).await.unwrap();
    app.stop().await.unwrap();
    App::open(dir.path()).unwrap().start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn an_app_beside_another_keeps_snapshots_beside_its_log() {
    #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
    struct Moves(u64);

    impl Fold for Moves {
        type Event = Customers;

        fn apply(&mut self, _: &Recorded<Customers>) {
            self.0 += 1;
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let app = App::open(dir.path()).unwrap().upcasters(renamed()).start().await.unwrap();
    filled(app.store().clone());
    let beside = app.beside().view::<Moves>().snapshots::<Moves>(Default::default());
    let beside = beside.start().await.unwrap();
    beside.view::<Moves>().unwrap().save().await.unwrap();
    beside.stop().await.unwrap();
    app.stop().await.unwrap();
}
