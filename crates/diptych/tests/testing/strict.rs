//! The testing kit is as strict as an app: each test sends one command to both, or shows how the
//! kit reports it.

use std::{convert::Infallible, fmt::Debug};

use diptych::{
    App, Command, CommandError, DecisionContext, Event, Filter, Fold, Invalid, Memory, Metadata,
    Recorded, Tag, Timestamp,
    store::Limits,
    testing::{Given, given, nothing_given},
};

use super::given::says;
use crate::support::counted_store::{CountedStore, everything};

#[derive(Clone, Debug, PartialEq, Event)]
enum Desk {
    #[event("desk-rented")]
    Rented {
        #[tag]
        desk: String,
        note: String,
    },
    #[event("desk-rated")]
    Rated {
        #[tag]
        desk: String,
        stars: f64,
    },
    #[event("desk-noted")]
    Noted {
        #[tag]
        by: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Rents(u64);

impl Fold for Rents {
    type Event = Desk;

    fn apply(&mut self, _: &Recorded<Desk>) {
        self.0 += 1;
    }
}

/// Writes these events over the boundary of one desk.
#[derive(Clone, Debug)]
struct Write {
    desk: String,
    events: Vec<Desk>,
    conflicts: Option<Filter>,
    occurred_at: Option<Timestamp>,
}

impl Command for Write {
    type State = Rents;
    type Event = Desk;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("desk", &self.desk))
    }

    fn decide(&self, _: &Rents, _: &DecisionContext) -> Result<Vec<Desk>, Infallible> {
        Ok(self.events.clone())
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        self.occurred_at
    }

    fn conflicts_with(&self) -> Option<Filter> {
        self.conflicts.clone()
    }

    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

fn write(events: impl IntoIterator<Item = Desk>) -> Write {
    let events = events.into_iter().collect();
    Write { desk: "a".to_owned(), events, conflicts: None, occurred_at: None }
}

fn rented(note: &str) -> Desk {
    Desk::Rented { desk: "a".to_owned(), note: note.to_owned() }
}

fn rated(stars: f64) -> Desk {
    Desk::Rated { desk: "a".to_owned(), stars }
}

fn noted() -> Desk {
    Desk::Noted { by: "ann".to_owned() }
}

/// The text with which an app refuses the command.
async fn refused(limits: &Limits, command: Write) -> String {
    let app = App::over(Memory::new().limits(limits.clone())).start().await.unwrap();
    app.execute(command).await.unwrap_err().to_string()
}

fn of(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn the_limits_of_a_store_hold_in_the_kit() {
    let long = "x".repeat(600);
    let cases = [
        (of(|limits| limits.event_bytes = 60), write([rented(&long)])),
        (of(|limits| limits.commit_events = 2), write((0..3).map(|_| rented("x")))),
        (of(|limits| limits.commit_bytes = 90), write((0..2).map(|_| rented("twenty letters")))),
        (of(|limits| limits.tags_per_event = 0), write([rented("x")])),
        (of(|limits| limits.type_bytes = 5), write([rented("x")])),
        (Limits::default(), Write { desk: long.clone(), ..write([rented("x")]) }),
        (of(|limits| limits.filter_terms = 2), write([rented("x")])),
    ];
    for (limits, command) in cases {
        let app = refused(&limits, command.clone()).await;
        let kit = says(|| nothing_given().limits(limits.clone()).when(command));
        // The app says more about how the request failed, and both say what is wrong.
        let reason = app.rsplit_once(": ").map_or(app.as_str(), |(_, reason)| reason);
        assert!(kit.contains(reason), "{kit}\n-- has no --\n{app}");
    }
    let said = says(|| nothing_given().limits(of(|of| of.event_bytes = 60)).and([rented(&long)]));
    assert!(said.contains("the store would refuse desk-rented"), "{said}");
    let _fine = nothing_given().when(write([rented(&long)])).then([rented(&long)]);
}

#[test]
fn the_clock_of_a_test_does_not_go_back() {
    let noon: Timestamp = "2013-01-01T12:00:00Z".parse().unwrap();
    let story = || nothing_given().at(noon).and([rented("x")]);
    let _same = story().at(noon).and([rented("y")]);
    let said = says(|| story().at("2013-01-01T11:59:59Z".parse().unwrap()));
    assert!(
        said.contains("cannot be set to 2013-01-01T11:59:59Z") && said.contains("T12:00:00Z"),
        "{said}"
    );
    // Before anything is recorded, any time is fine.
    let _early = nothing_given().at(noon).at(Timestamp::from_micros(0)).and([rented("x")]);
}

#[test]
fn values_that_print_alike_and_are_not_equal_are_named() {
    let said = says(|| nothing_given().when(write([rated(f64::NAN)])).then([rated(f64::NAN)]));
    // JSON cannot hold it, and the kit says that first, as an app does.
    assert!(said.contains("which JSON has no number for"), "{said}");

    #[derive(Clone, Debug, thiserror::Error)]
    #[error("the score is {0}")]
    struct Score(f64);

    impl PartialEq for Score {
        fn eq(&self, other: &Score) -> bool {
            self.0 == other.0
        }
    }

    struct Rate;

    impl Command for Rate {
        type State = Rents;
        type Event = Desk;
        type Rejection = Score;

        fn boundary(&self) -> Filter {
            Filter::everything()
        }

        fn decide(&self, _: &Rents, _: &DecisionContext) -> Result<Vec<Desk>, Score> {
            Err(Score(f64::NAN))
        }
    }

    let said = says(|| nothing_given().when(Rate).then_rejected(Score(f64::NAN)));
    assert!(said.contains("prints alike and is not equal by `==`"), "{said}");
    assert!(said.contains("    NaN,"), "{said}");
}

#[test]
fn one_change_among_many_events_is_a_short_difference() {
    let events = |changed: usize| {
        (0..400).map(move |at| rented(if at == changed { "changed" } else { "as before" }))
    };
    let said = says(|| nothing_given().when(write(events(400))).then(events(217)));
    assert!(said.lines().count() < 30, "{} lines:\n{said}", said.lines().count());
    assert!(
        said.contains("-         note: \"changed\",\n+         note: \"as before\",\n"),
        "{said}"
    );
    // The list has 1,602 lines.
    assert!(said.contains("  ... 865 equal lines ...\n"), "{said}");
    assert!(said.contains("  ... 724 equal lines ...\n"), "{said}");

    let said = says(|| given(events(400)).when(write([])).then(events(217)));
    assert!(said.lines().count() < 50, "{} lines:\n{said}", said.lines().count());
    assert!(said.contains("-         note: \"as before\",\n- ... and 1562 more lines\n"), "{said}");
    assert!(said.contains("given desk-rented (400 times)\n"), "{said}");
}

#[test]
fn an_expected_list_is_cut_off_where_there_is_nothing_to_compare() {
    let invalid = || {
        #[derive(Clone)]
        struct Wrong;

        impl Command for Wrong {
            type State = Rents;
            type Event = Desk;
            type Rejection = Infallible;

            fn boundary(&self) -> Filter {
                Filter::everything()
            }

            fn decide(&self, _: &Rents, _: &DecisionContext) -> Result<Vec<Desk>, Infallible> {
                Ok(Vec::new())
            }

            fn validate(&self) -> Result<(), Invalid> {
                Err(Invalid::new("desk", "no"))
            }
        }

        nothing_given().when(Wrong)
    };
    let said = says(|| invalid().then((0..400).map(|_| rented("x"))));
    assert!(said.lines().count() < 50, "{} lines:\n{said}", said.lines().count());
    assert!(said.contains("more lines\nbut got  invalid because of desk: no"), "{said}");
}

#[tokio::test]
async fn the_kit_uses_the_texts_of_the_app() {
    struct Panics(Filter);

    impl Command for Panics {
        type State = Rents;
        type Event = Desk;
        type Rejection = Infallible;

        fn boundary(&self) -> Filter {
            self.0.clone()
        }

        fn decide(&self, _: &Rents, _: &DecisionContext) -> Result<Vec<Desk>, Infallible> {
            panic!("no desk")
        }
    }

    let app = App::over(Memory::new()).start().await.unwrap();
    for boundary in [Filter::everything(), Filter::tag(Tag::new("dsek", "a"))] {
        let text = app.execute(Panics(boundary.clone())).await.unwrap_err().to_string();
        let said = says(|| nothing_given().when(Panics(boundary)));
        assert!(said.contains(&text), "{said}\n-- has no --\n{text}");
    }
    let narrowed =
        Write { conflicts: Some(Filter::tag(Tag::new("dsek", "a"))), ..write([rented("x")]) };
    let text = app.execute(narrowed.clone()).await.unwrap_err().to_string();
    let said = says(|| nothing_given().when(narrowed));
    assert!(said.contains(&text), "{said}\n-- has no --\n{text}");
}

/// The metadata of the only event that an app, and the kit, write for this command.
async fn metadata_by_both(command: Write, given: Metadata) -> [Metadata; 2] {
    let store = CountedStore::new(Memory::new());
    let app = App::over(store.store()).start().await.unwrap();
    let mut execute = app.execute(command.clone());
    if let Some(actor) = &given.actor {
        execute = execute.actor(actor);
    }
    if let Some(instant) = given.occurred_at {
        execute = execute.occurred_at(instant);
    }
    for (name, value) in &given.extra {
        execute = execute.extra(name, value);
    }
    execute.await.unwrap();
    let by_app = everything(store.inner()).remove(0).2.metadata;

    #[derive(Clone, Debug, Default)]
    struct Last(Metadata);

    impl Fold for Last {
        type Event = Desk;

        fn apply(&mut self, event: &Recorded<Desk>) {
            self.0 = event.metadata.clone();
        }
    }

    let story: Given = nothing_given().with_metadata(given);
    let by_kit: Last = story.when(command).then_state(Filter::everything());
    [by_app, by_kit.0]
}

#[tokio::test]
async fn the_kit_gives_events_the_metadata_that_an_app_gives() {
    let [monday, tuesday] =
        ["2013-01-07T08:00:00Z", "2013-01-08T08:00:00Z"].map(|text| text.parse().unwrap());
    let landed = Write { occurred_at: Some(monday), ..write([rented("x")]) };
    let by_ann = Metadata { actor: Some("ann".into()), ..Metadata::default() };
    let [app, kit] = metadata_by_both(landed.clone(), by_ann.clone()).await;
    assert_eq!(app, kit);
    assert_eq!((kit.occurred_at, kit.actor.as_deref()), (Some(monday), Some("ann")));

    let later = Metadata { occurred_at: Some(tuesday), ..by_ann };
    let [app, kit] = metadata_by_both(landed, later).await;
    assert_eq!(app, kit);
    assert_eq!(kit.occurred_at, Some(tuesday));
}

#[tokio::test]
async fn reserved_metadata_is_refused_by_both() {
    let mut metadata = Metadata::default();
    metadata.extra.insert("diptych:mine".into(), "x".into());
    let app = App::over(Memory::new()).start().await.unwrap();
    let execute = app.execute(write([rented("x")])).extra("diptych:mine", "x");
    let CommandError::Invalid(invalid) = (match execute.await.unwrap_err() {
        diptych::ExecuteError::Failed(error) => error,
        other => panic!("{other}"),
    }) else {
        panic!("it is invalid");
    };
    let said = says(|| nothing_given().with_metadata(metadata));
    assert_eq!(said, invalid.to_string());
}

/// The own metadata of an event stays where the sender gave none.
#[test]
fn metadata_is_merged_and_does_not_replace_that_of_the_event() {
    #[derive(Clone, Debug, Default)]
    struct All(Vec<Metadata>);

    impl Fold for All {
        type Event = Desk;

        fn apply(&mut self, event: &Recorded<Desk>) {
            self.0.push(event.metadata.clone());
        }
    }

    let mut stored = diptych::store::RawEvent::new("desk-rented", r#"{"desk":"a","note":"x"}"#)
        .tag(Tag::new("desk", "a"));
    let monday: Timestamp = "2013-01-07T08:00:00Z".parse().unwrap();
    stored.metadata.occurred_at = Some(monday);
    let by_ann = Metadata { actor: Some("ann".into()), ..Metadata::default() };
    let story = nothing_given().with_metadata(by_ann).and_stored(stored);
    let All(seen) = story.state(Filter::everything());
    assert_eq!((seen[0].occurred_at, seen[0].actor.as_deref()), (Some(monday), Some("ann")));
}

const UNSEEN: &str = "then events that the command's own boundary does not see";

#[test]
fn a_command_that_its_own_kind_cannot_stop_is_told() {
    let blind = write([noted()]);
    let said = says(|| nothing_given().when(blind.clone()).then([noted()]));
    assert!(said.contains(UNSEEN), "{said}");
    assert!(said.contains("strict::Write writes desk-noted"), "{said}");
    assert!(said.contains("type=desk-rented,desk-rated,desk-noted tag=desk:a"), "{said}");
    let _intended = nothing_given().when(blind).with_unseen_events().then([noted()]);
    // One event that it sees is enough.
    let _seen = nothing_given().when(write([rented("x"), noted()])).then([rented("x"), noted()]);
    // Another outcome is told first.
    let said = says(|| nothing_given().when(write([noted()])).then([rented("x")]));
    assert!(!said.contains(UNSEEN), "{said}");
}

#[test]
fn a_narrower_condition_counts_in_place_of_the_boundary() {
    let narrowed = |filter| Write { conflicts: Some(filter), ..write([rented("x")]) };
    let said = says(|| {
        let only_rated = Filter::types(["desk-rated"]);
        nothing_given().when(narrowed(only_rated)).then([rented("x")])
    });
    assert!(said.contains(UNSEEN) && said.contains("only with type=desk-rated."), "{said}");
    let said = says(|| nothing_given().when(narrowed(Filter::nothing())).then([rented("x")]));
    assert!(said.contains(UNSEEN) && said.contains("only with nothing."), "{said}");
    let _seen = nothing_given().when(narrowed(Filter::everything())).then([rented("x")]);
}

#[test]
fn a_command_without_a_fold_needs_no_boundary() {
    struct Note;

    impl Command for Note {
        type State = ();
        type Event = Desk;
        type Rejection = Infallible;

        fn boundary(&self) {}

        fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Desk>, Infallible> {
            Ok(vec![noted()])
        }
    }

    let _fine = nothing_given().when(Note).then([noted()]);
}
