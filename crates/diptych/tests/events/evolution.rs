//! Events outlive the programs that wrote them. The app applies upcasters wherever it reads events.
//! An unreadable event is an error that names its position. No state silently leaves it out.

use std::{fmt::Debug, sync::Arc};

use diptych::{
    App, AppBuilder, CommandError, Event, ExecuteError, Filter, Log, LogOptions, Recorded, Tag,
    Upcasters,
    event::{EncodedEvent, SchemaError, Upcast},
    snapshot::{MemorySnapshots, SnapshotOptions},
    store::RawEvent,
    testing::{given, nothing_given},
};
use diptych_log::{Background, disk::simulated::SimulatedDisk};
use diptych_store::Append;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{
    counted_store::write_event,
    declare::events,
    probe::{HeardEvents, heard, say, told},
    releases::{
        Named, Naming, Opening, Today, app, expected, history, memory, moved, named, of, opened,
        questions, raw, story, upcasters,
    },
};

#[tokio::test]
async fn events_of_older_programs_are_read_in_the_current_form() {
    let store = memory();
    store.write(Append::events(history()));
    for (boundary, is) in questions() {
        let app = app(&store).await;
        assert_eq!(heard::<Today>(&app, &boundary).await.unwrap(), expected(is), "{boundary}");
        let naming = heard::<Naming>(&app, &of(&[])).await.unwrap();
        assert_eq!(naming, expected(|line| line.contains("Named")));
        let opening = heard::<Opening>(&app, &of(&[])).await.unwrap();
        assert_eq!(opening, expected(|line| line.contains("Opened")));
    }
}

#[tokio::test]
async fn a_cached_state_folds_new_events_of_an_older_program() {
    for (boundary, is) in questions() {
        let store = memory();
        let app = app(&store).await;
        for (at, event) in (1..).zip(history()) {
            write_event(store.inner(), event);
            let upto =
                |line: &String| line.split(' ').next().unwrap().parse::<u64>().unwrap() <= at;
            let known: Vec<_> = expected(is).into_iter().filter(upto).collect();
            assert_eq!(heard::<Today>(&app, &boundary).await.unwrap(), known, "{boundary} {at}");
        }
        assert_eq!(app.stats().cache.misses, 1);
    }
}

#[tokio::test]
async fn a_state_from_a_snapshot_folds_events_of_an_older_program() {
    let options = SnapshotOptions::every(1);
    for (boundary, is) in questions() {
        for cut in 0..=history().len() {
            let (store, place) = (memory(), Arc::new(MemorySnapshots::default()));
            let start = || {
                let app = App::over(store.store()).upcasters(upcasters());
                app.snapshots::<HeardEvents<Today>>(options).snapshots_in(place.clone())
            };
            let mut before = history();
            let after = before.split_off(cut);
            store.write(Append::events(before));
            let app = start().start().await.unwrap();
            heard::<Today>(&app, &boundary).await.unwrap();
            app.stop().await.unwrap();
            store.write(Append::events(after));
            let app = start().start().await.unwrap();
            assert_eq!(heard::<Today>(&app, &boundary).await.unwrap(), expected(is), "{cut}");
        }
    }
}

/// An event of an older shape, in a program that knows the newer shapes. The program reads it
/// upcast, even before it is on the disk.
#[derive(Clone, Debug)]
struct Old(RawEvent);

impl Event for Old {
    fn types() -> Vec<diptych::EventType> {
        let names = ["customer-changed", "heartbeat", "customer-relocated"];
        names.map(|name| diptych::EventType::new(name).tags(&["account"])).to_vec()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        Ok(self.0.clone())
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Old, SchemaError> {
        let event = RawEvent::new(encoded.event_type.to_owned(), encoded.payload);
        Ok(Old(event.version(encoded.version)))
    }
}

/// A log that writes only on `flush`.
fn unwritten(seed: u64) -> Log {
    let disk = Arc::new(SimulatedDisk::new(seed));
    let background = Background::Inline;
    Log::open("/log", LogOptions { background, disk, ..LogOptions::default() }).unwrap()
}

#[tokio::test]
async fn unsynced_events_are_upcast_too() {
    let log = unwritten(1);
    let app = App::over(log.clone()).upcasters(upcasters()).start().await.unwrap();
    // The first event is published before the app sends further commands.
    let first = say::<HeardEvents<Naming>, _>(&of(&[]), [named("First")]);
    let first = app.execute(first).submit().await;
    log.blocking().flush().unwrap();
    first.await.unwrap();
    let is_old = |event: &RawEvent| Old::types().iter().any(|known| known.name == event.event_type);
    let old = history().into_iter().filter(|event| event.version == 1 && is_old(event));
    let mut answers = Vec::new();
    for event in old.map(Old) {
        answers.push(app.execute(say::<HeardEvents<Today>, _>(&of(&[]), [event])).submit().await);
    }
    let head = log.blocking().stats().unwrap().head;
    assert_eq!(head.get(), 1, "the later events must not be published yet");
    let seven = of(&[]);
    let mut see = Box::pin(heard::<Naming>(&app, &seven));
    // The answer rests on unsynced events. The app decides at once and answers after the sync.
    assert!(is_pending(&mut see));
    log.blocking().flush().unwrap();
    let known = ["Ann", "Eve"].map(named);
    let lines = see.await.unwrap();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, event) in lines[1..].iter().zip(known) {
        assert!(line.ends_with(&format!("{event:?}")), "{line}");
    }
}

fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}

/// A state sees an event of its own program in the same form as a later read of the log, even if an
/// upcaster applies to the type.
#[tokio::test]
async fn states_see_own_events_in_the_form_of_a_later_read() {
    let store = memory();
    let app = app(&store).await;
    for event in [opened("ann", "EUR", 1), named("Ann"), moved("Rome")] {
        told(&app, &of(&[]), [event.clone()]).await.unwrap();
        app.execute(say::<HeardEvents<Naming>, _>(&of(&[]), [event.clone()])).await.unwrap();
        for (boundary, _) in questions() {
            app.execute(say::<HeardEvents<Today>, _>(&boundary, [event.clone()])).await.unwrap();
        }
    }
    let fresh = self::app(&store).await;
    for (boundary, _) in questions() {
        let (own, read) = (heard::<Today>(&app, &boundary), heard::<Today>(&fresh, &boundary));
        assert_eq!(own.await.unwrap(), read.await.unwrap(), "{boundary}");
    }
    let own = heard::<Naming>(&app, &of(&[])).await.unwrap();
    assert_eq!(own, heard::<Naming>(&fresh, &of(&[])).await.unwrap());
    assert_eq!(own.len(), 6, "{own:?}");
}

/// An upcaster splits version 1 of a type that still exists as version 2. A fold of only the other
/// part is not affected by events of version 2, because it does not read them.
#[tokio::test]
async fn a_split_type_can_still_be_used() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Slim {
        account: u64,
    }
    events!(Whole {
        Opened(Slim) = "account-opened", 2, [account];
        Named(Named) = "customer-named", 1, [account];
    });
    events!(Part { Named(Named) = "customer-named", 1, [account]; });
    let split = |old: &EncodedEvent<'_>| {
        let old: Value = serde_json::from_slice(old.payload)?;
        let opened = Upcast::json("account-opened", 2, &json!({ "account": old["account"] }))?;
        let named = json!({ "account": old["account"], "name": old["owner"] });
        Ok(vec![opened, Upcast::json("customer-named", 1, &named)?])
    };
    let into = ["account-opened", "customer-named"];
    let upcasters = Upcasters::new().split("account-opened", 1, &into, split);
    let store = memory();
    let app = App::over(store.store()).upcasters(upcasters.clone()).start().await.unwrap();
    write_event(store.inner(), history().remove(0));
    let whole = [
        Whole::Opened(Slim { account: 7 }),
        Whole::Named(Named { account: 7, name: "bob".to_owned() }),
    ];
    app.execute(say::<HeardEvents<Part>, _>(&of(&[]), whole.clone())).await.unwrap();
    // The boundary selects only the other part, and the events include both parts.
    app.execute(say::<HeardEvents<Whole>, _>(&of(&["customer-named"]), whole)).await.unwrap();
    for fresh in [false, true] {
        let app = match fresh {
            false => app.clone(),
            true => App::over(store.store()).upcasters(upcasters.clone()).start().await.unwrap(),
        };
        let part = heard::<Part>(&app, &of(&[])).await.unwrap();
        let named = heard::<Whole>(&app, &of(&["customer-named"])).await.unwrap();
        let positions = |lines: &[String]| {
            lines.iter().map(|line| line[..1].to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(positions(&part), "1 3 5", "{part:?}");
        assert_eq!(part, named);
        let all = heard::<Whole>(&app, &of(&[])).await.unwrap();
        assert_eq!(positions(&all), "1 1 2 3 4 5", "{all:?}");
    }
    // A version 0 without an upcaster might hold a name, so the read fails.
    write_event(store.inner(), raw("account-opened", 0, &json!({ "account": 7 })));
    let error = heard::<Part>(&app, &of(&[])).await.unwrap_err();
    assert!(error.contains("account-opened version 0 is not a type of"), "{error}");
}

/// The boundary has two items with different types and different tags. The fold gets an upcast
/// event only if one item matches both its type and its tags, as without upcasters.
#[tokio::test]
async fn an_upcast_event_must_match_type_and_tags_of_one_item() {
    let store = memory();
    let app = app(&store).await;
    store.write(Append::events(history()));
    let eight = Filter::tag(Tag::new("account", 8)).of_types(&["customer-named"]);
    let boundary = of(&["customer-moved"]).or(eight);
    let lines = heard::<Today>(&app, &boundary).await.unwrap();
    assert_eq!(lines, expected(|line| line.contains("Moved")));
}

#[tokio::test]
async fn a_commit_of_an_old_name_conflicts() {
    let store = memory();
    let app = app(&store).await;
    for old in [4, 1, 7] {
        let before = app.stats().conflicts;
        heard::<Today>(&app, &of(&["customer-moved"])).await.unwrap();
        store.other_writes(Append::event(history().remove(old)));
        let receipt = told(&app, &of(&["customer-moved"]), [moved("Oslo")]).await.unwrap();
        assert_eq!(app.stats().conflicts, before + 1);
        let lines = heard::<Today>(&app, &of(&["customer-moved"])).await.unwrap();
        assert!(lines.last().unwrap().starts_with(&receipt.last().to_string()), "{lines:?}");
    }
    // An event that cannot become a selected type does not conflict.
    store.other_writes(Append::event(history().remove(5)));
    let before = app.stats().conflicts;
    told(&app, &of(&["customer-moved"]), [moved("Oslo")]).await.unwrap();
    assert_eq!(app.stats().conflicts, before);
}

#[tokio::test]
async fn a_conflict_reports_missed_events_as_they_are_today() {
    let store = memory();
    let app = app(&store).await;
    let known = told(&app, &of(&[]), [moved("Oslo")]).await.unwrap();
    store.write(Append::events(history()));
    let expected = say::<HeardEvents<Today>, _>(&of(&[]), [moved("Bonn")]);
    let conflict = app.execute(expected).unchanged_since(known.last()).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Conflict(conflict)) = conflict else {
        panic!("{conflict}")
    };
    let decoded = |event: &Recorded<RawEvent>| {
        assert_eq!(event.tags, [Tag::new("account", 7)]);
        let (event_type, version) = (&*event.event.event_type, event.version);
        let encoded = EncodedEvent { event_type, version, payload: &event.payload };
        format!("{} {:?}", event.position.get() - 1, Today::decode(&encoded).unwrap())
    };
    assert_eq!(conflict.missed.iter().map(decoded).collect::<Vec<_>>(), story());
}

#[tokio::test]
async fn a_conflict_reports_a_missed_event_as_it_is_stored_if_its_upcaster_fails() {
    let store = memory();
    let app = app(&store).await;
    let known = told(&app, &of(&[]), [moved("Oslo")]).await.unwrap();
    let broken = raw("customer-named", 1, &json!({ "account": 7 }));
    store.write(Append::event(broken.clone()));
    let error = app.execute(say::<HeardEvents<Today>, _>(&of(&[]), [moved("Bonn")]));
    let error = error.unchanged_since(known.last()).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Conflict(conflict)) = error else { panic!("{error}") };
    assert_eq!(conflict.missed.into_iter().map(|one| one.event).collect::<Vec<_>>(), [broken]);
}

#[test]
fn given_reads_events_of_older_programs() {
    let given = nothing_given().upcasters(upcasters());
    let given = history().into_iter().fold(given, |given, event| given.and_stored(event));
    let heard: HeardEvents<Today> = given.state(of(&[]));
    assert_eq!(heard.lines, story());
    let given = given_today().and_stored(history().remove(4)).upcasters(upcasters());
    let heard: HeardEvents<Today> = given.state(of(&["customer-moved"]));
    assert_eq!(heard.lines, [format!("2 {:?}", moved("Bern"))]);
}

fn given_today() -> diptych::testing::Given {
    given([named("Ann")])
}

mod release_1 {
    use super::{Deserialize, Serialize, events};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Opened {
        pub(crate) account: u64,
        pub(crate) owner: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Changed {
        pub(crate) account: u64,
        pub(crate) called: String,
        pub(crate) to: Option<String>,
    }

    events!(Then {
        Opened(Opened) = "account-opened", 1, [account];
        Changed(Changed) = "customer-changed", 1, [account];
    });
}

async fn state<E: Event + Debug + Clone>(start: AppBuilder) -> Vec<String> {
    let app = start.start().await.unwrap();
    let lines = heard::<E>(&app, &of(&[])).await.unwrap();
    app.stop().await.unwrap();
    lines
}

#[tokio::test]
async fn a_log_of_the_first_release_gives_the_same_state_under_the_third() {
    use release_1::{Changed, Opened, Then};
    let dir = tempfile::tempdir().unwrap();
    let app = App::open(dir.path()).unwrap().start().await.unwrap();
    let (account, owner) = (7, "ann".to_owned());
    told(&app, &of(&[]), [Then::Opened(Opened { account, owner })]).await.unwrap();
    for (called, to) in [("Ann", Some("Rome")), ("Eve", None)] {
        let (called, to) = (called.to_owned(), to.map(str::to_owned));
        let changed = Then::Changed(Changed { account, called, to });
        told(&app, &of(&[]), [changed]).await.unwrap();
    }
    app.stop().await.unwrap();
    let third = || App::open(dir.path()).unwrap().upcasters(upcasters());
    let today =
        [(1, opened("ann", "EUR", 1)), (2, named("Ann")), (2, moved("Rome")), (3, named("Eve"))];
    let today = today.map(|(position, event)| format!("{position} {event:?}"));
    for _ in 0..2 {
        assert_eq!(state::<Today>(third()).await, today);
    }
    // The third release reads its own new event as well. The first release cannot read it.
    let app = third().start().await.unwrap();
    told(&app, &of(&[]), [opened("bob", "CHF", 2)]).await.unwrap();
    app.stop().await.unwrap();
    let lines = state::<Today>(third()).await;
    assert_eq!(lines[..4], today);
    assert_eq!(lines[4], format!("4 {:?}", opened("bob", "CHF", 2)));
    let app = App::open(dir.path()).unwrap().start().await.unwrap();
    let error = heard::<Then>(&app, &of(&[])).await.unwrap_err();
    assert!(error.contains("position 4") && error.contains("version 3 is not known"), "{error}");
}
