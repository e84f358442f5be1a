//! Views that fail: they stand before the event that they cannot take in, as if they had never
//! tried, and nobody else notices.

use std::{
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diptych::{
    App, AppBuilder, Event, EventType, Fold, Memory, Position, Query, QueryError, Recorded, Store,
    Tag, Upcasters, digest,
    event::{EncodedEvent, Json, SchemaError, Upcast},
    follow::{ControlError, FollowState, FollowerStop},
    store::{RawEvent, TimeSource},
};
use diptych_store::Append;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{
    bank,
    ledger::{
        CountRemarks, Hooked, Ledger, Look, LookInMirror, Mirror, Moment, Remarks, Totals, comes,
        small, write, write_at,
    },
    manual_sync::now,
    view_digest::view_digest,
};

/// The commits of every test here: positions 1, 2 to 4, 5, 6 to 7, 8.
const COMMITS: [&[i64]; 5] = [&[1], &[2, 3, 4], &[5], &[6, 7], &[8]];

fn totals() -> Vec<Totals> {
    Totals::after_each(COMMITS.iter().copied().flatten().copied())
}

fn start(store: &Store) -> App {
    let app = App::over_store(store.clone()).view::<Ledger>().view::<Mirror>().view::<Remarks>();
    block_on(app.start()).unwrap()
}

/// Panics over this amount until it is mended.
fn poison(ledger: &Hooked, amount: i64) -> Arc<AtomicBool> {
    let is_mended = Arc::new(AtomicBool::new(false));
    ledger.set({
        let is_mended = is_mended.clone();
        move |moment| match moment {
            Moment::Apply(booked) if booked.amount == amount => {
                assert!(is_mended.load(Ordering::SeqCst), "no {amount} here");
            }
            _ => {}
        }
    });
    is_mended
}

fn stopped(app: &App) -> FollowerStop {
    let error = block_on(app.query(Look).strong().into_future()).unwrap_err();
    let QueryError::Stopped { stopped, .. } = error else { panic!("{error}") };
    let status = app.view::<Ledger>().unwrap().status();
    assert_eq!(status.state, FollowState::Stopped(stopped.clone()));
    assert_eq!(status.position, stopped.at.before());
    stopped
}

/// As a whole page, commit by commit, and event by event.
#[test]
fn a_view_that_panics_is_as_before_the_event_and_its_neighbours_go_on() {
    for amount in 1..=8 {
        for as_they_come in [true, false] {
            let (ledger, store) = (Hooked::new(), Store::new(Memory::new()));
            let is_mended = poison(&ledger, amount);
            let app = start(&store);
            let view = app.view::<Ledger>().unwrap();
            if !as_they_come {
                block_on(view.pause()).unwrap();
            }
            for commit in COMMITS {
                let mut append = ledger.commit(commit);
                append.events.push(ledger.remark());
                append.events.rotate_right(1);
                write(&store, append);
                if as_they_come {
                    let _ = block_on(app.query(Look).strong().into_future());
                }
            }
            if !as_they_come {
                block_on(view.resume()).unwrap();
            }
            let stopped = stopped(&app);
            assert!(stopped.reason.contains(&format!("no {amount} here")), "{stopped}");
            let before = Mirror(totals()[amount as usize - 1]);
            let seen = now(app.query(Look).into_future()).unwrap();
            assert_eq!((seen.value, seen.position), (before.0, stopped.at.before()));

            let mirror = block_on(app.query(LookInMirror).strong().into_future()).unwrap();
            assert_eq!(mirror.value, totals()[8]);
            let remarks = block_on(app.query(CountRemarks).strong().into_future()).unwrap();
            assert_eq!(remarks.value, 5);
            block_on(app.execute(bank::open("anna")).into_future()).unwrap();

            // Not mended: it stops again, at the same place, also from the start of the log.
            block_on(view.resume()).unwrap();
            comes("another stop", || matches!(view.status().state, FollowState::Stopped(_)));
            assert_eq!(self::stopped(&app), stopped);
            block_on(view.rebuild()).unwrap();
            comes("a third stop", || matches!(view.status().state, FollowState::Stopped(_)));
            assert_eq!(self::stopped(&app), stopped);
            assert_eq!(now(app.query(Look).into_future()).unwrap().value, before.0);

            is_mended.store(true, Ordering::SeqCst);
            match amount % 2 {
                0 => drop(block_on(view.resume()).unwrap()),
                _ => block_on(view.rebuild()).unwrap(),
            }
            let seen = block_on(app.query(Look).strong().into_future()).unwrap();
            assert_eq!((seen.value, seen.position), (totals()[8], app.head()));
        }
    }
}

#[test]
fn a_stopped_view_is_told_nothing_but_to_go_on() {
    let (ledger, store) = (Hooked::new(), Store::new(Memory::new()));
    poison(&ledger, 2);
    let app = start(&store);
    let view = app.view::<Ledger>().unwrap();
    for commit in COMMITS {
        write(&store, ledger.commit(commit));
    }
    let stopped = stopped(&app);
    let error = ControlError::Stopped(stopped);
    assert_eq!(block_on(view.pause()).unwrap_err(), error);
    assert_eq!(block_on(view.step()).unwrap_err(), error);
    assert_eq!(block_on(view.resume()).unwrap(), Position::new(1));
}

#[test]
fn a_panic_over_the_second_copy_alone_costs_a_clone() {
    let (ledger, store) = (Hooked::new(), Store::new(Memory::new()));
    let (times, clones) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let app = start(&store);
    ledger.set({
        let (times, clones) = (times.clone(), clones.clone());
        move |moment| match moment {
            Moment::Apply(booked) if booked.amount == 3 => {
                assert!(times.fetch_add(1, Ordering::SeqCst) != 1, "not a second time");
            }
            Moment::Clone => drop(clones.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
    });
    for (commit, upto) in COMMITS.iter().zip([1, 4, 5, 7, 8]) {
        write(&store, ledger.commit(commit));
        let seen = block_on(app.query(Look).strong().into_future()).unwrap();
        assert_eq!(seen.value, totals()[upto]);
    }
    assert_eq!(times.load(Ordering::SeqCst), 2);
    assert!(clones.load(Ordering::SeqCst) >= 1);
    let status = app.view::<Ledger>().unwrap().status();
    assert!(status.memory.unwrap().copies <= 2, "{status:?}");
}

#[test]
fn a_view_that_cannot_be_cloned_or_dropped_says_so() {
    for is_drop in [false, true] {
        let (ledger, store) = (Hooked::new(), Store::new(Memory::new()));
        let app = start(&store);
        write(&store, ledger.commit(COMMITS[0]));
        block_on(app.query(Look).strong().into_future()).unwrap();
        let is_mended = Arc::new(AtomicBool::new(false));
        ledger.set({
            let is_mended = is_mended.clone();
            move |moment| match moment {
                _ if is_mended.load(Ordering::SeqCst) => {}
                // What was left half-way is dropped, and another cloned.
                Moment::Apply(booked) => assert!(booked.amount != 3, "no 3 here"),
                Moment::Clone => assert!(is_drop, "there is one of me"),
                Moment::Drop => assert!(!is_drop, "I stay"),
            }
        });
        write(&store, ledger.commit(COMMITS[1]));
        let stopped = stopped(&app);
        let (reason, seen) = match is_drop {
            true => ("no 3 here", 2),
            false => ("the view could not be cloned: it panicked: there is one of me", 1),
        };
        assert!(stopped.reason.contains(reason), "{stopped}");
        assert_eq!(now(app.query(Look).into_future()).unwrap().value, totals()[seen]);
        is_mended.store(true, Ordering::SeqCst);
        let view = app.view::<Ledger>().unwrap();
        block_on(view.resume()).unwrap();
        let seen = block_on(app.query(Look).strong().into_future()).unwrap();
        assert_eq!(seen.value, totals()[4]);
        block_on(app.stop()).unwrap();
        assert_eq!(view.status().state, FollowState::Closed);
    }
}

#[test]
fn what_a_panic_carries_may_be_anything() {
    let (ledger, store) = (Hooked::new(), Store::new(Memory::new()));
    ledger.set(|moment| {
        if let Moment::Apply(_) = moment {
            panic_any(7);
        }
    });
    let app = start(&store);
    write(&store, ledger.commit(&[1]));
    assert!(stopped(&app).reason.contains("(no message)"));
}

/// Several events of a commit are spread over slices, because the clock says nothing.
#[test]
fn a_panic_within_a_commit_that_is_not_there_in_whole_shows_none_of_it() {
    let (ledger, store) = (Hooked::new(), small(2, 3).time(TimeSource::Caller));
    let store = Store::new(store);
    let app = start(&store);
    let view = app.view::<Ledger>().unwrap();
    let is_mended = poison(&ledger, 8);
    block_on(view.pause()).unwrap();
    for commit in COMMITS {
        write_at(&store, ledger.commit(commit), 1);
    }
    block_on(view.resume()).unwrap();
    block_on(app.query(Look).strong().into_future()).unwrap_err();
    let seen = now(app.query(Look).into_future()).unwrap();
    assert_eq!(seen.value, totals()[seen.position.get() as usize]);
    is_mended.store(true, Ordering::SeqCst);
    block_on(view.resume()).unwrap();
    let seen = block_on(app.query(Look).strong().into_future()).unwrap();
    assert_eq!(seen.value, totals()[8]);
}

/// Read by hand, so that reading fails when a test wants it to.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    text: String,
}

static NO_TORN_PAGES: AtomicBool = AtomicBool::new(false);

impl Event for Noted {
    fn types() -> Vec<EventType> {
        vec![EventType::new("noted").version(2)]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let json = serde_json::to_vec(self).unwrap();
        Ok(RawEvent::new("noted", json).version(2))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Noted, SchemaError> {
        let noted: Noted = encoded.read::<Json, _>()?;
        match noted.text == "torn" && !NO_TORN_PAGES.load(Ordering::SeqCst) {
            true => Err(encoded.not_decoded("the page is torn")),
            false => Ok(noted),
        }
    }
}

#[derive(Clone, Default, Serialize)]
struct Notes(Vec<String>);

impl Fold for Notes {
    type Event = Noted;

    fn apply(&mut self, noted: &Recorded<Noted>) {
        self.0.push(noted.text.clone());
    }
}

/// A second view of the same events.
#[derive(Clone, Default, Serialize)]
struct Letters(usize);

impl Fold for Letters {
    type Event = Noted;

    fn apply(&mut self, noted: &Recorded<Noted>) {
        self.0 += noted.text.len();
    }
}

struct AllNotes;

impl Query for AllNotes {
    type View = Notes;
    type Answer = String;

    fn answer(&self, notes: &Notes) -> String {
        notes.0.join(" ")
    }
}

struct HowLong;

impl Query for HowLong {
    type View = Letters;
    type Answer = usize;

    fn answer(&self, letters: &Letters) -> usize {
        letters.0
    }
}

fn noted(text: &str) -> RawEvent {
    Noted { text: text.to_owned() }.encode().unwrap()
}

fn noting(store: &Store) -> AppBuilder {
    App::over_store(store.clone()).view::<Notes>().view::<Letters>().view::<Remarks>()
}

fn no_notes(app: &App) -> FollowerStop {
    let error = block_on(app.query(AllNotes).strong().into_future()).unwrap_err();
    let QueryError::Stopped { stopped, .. } = error else { panic!("{error}") };
    stopped
}

/// The page with what could not be read was kept, and the same error found in it for ever.
#[test]
fn an_event_that_cannot_be_read_is_read_again_when_it_is_told_to() {
    let store = Store::new(Memory::new());
    for text in ["a", "b", "torn", "c"] {
        write(&store, Append::event(noted(text)));
    }
    let remark = Hooked::new().remark();
    write(&store, Append::event(remark));
    // That they stop does not keep an app from being started.
    let app = block_on(noting(&store).start()).unwrap();
    let stopped = no_notes(&app);
    assert_eq!(stopped.at, Position::new(3));
    assert!(stopped.reason.contains("the page is torn"), "{stopped}");
    assert_eq!(now(app.query(AllNotes).into_future()).unwrap().value, "a b");
    assert_eq!(now(app.query(HowLong).into_future()).unwrap().value, 2);
    assert_eq!(block_on(app.query(CountRemarks).strong().into_future()).unwrap().value, 1);
    let [notes, letters] = [app.view::<Notes>().unwrap().status(), app.views()[1].clone()];
    assert_eq!((notes.position.get(), letters.position.get()), (2, 2));
    NO_TORN_PAGES.store(true, Ordering::SeqCst);
    block_on(app.view::<Notes>().unwrap().resume()).unwrap();
    let answer = block_on(app.query(AllNotes).strong().into_future()).unwrap();
    assert_eq!(answer.value, "a b torn c");
    block_on(app.view::<Letters>().unwrap().rebuild()).unwrap();
    assert_eq!(block_on(app.query(HowLong).strong().into_future()).unwrap().value, 7);
}

#[test]
fn a_version_of_a_newer_program_and_an_upcaster_that_fails_half_way_stop_the_view() {
    let upcasters = || {
        Upcasters::new().split("note-pair", 1, &["noted"], |old| {
            let pair: Vec<String> = serde_json::from_slice(old.payload)?;
            let each = pair.iter().map(|text| match text.as_str() {
                // This one cannot be read as a note.
                "broken" => Upcast::json("noted", 2, &json!({ "no": "text" })),
                text => Upcast::json("noted", 2, &json!({ "text": text })),
            });
            each.collect()
        })
    };
    let pair = |texts: [&str; 2]| RawEvent::new("note-pair", serde_json::to_vec(&texts).unwrap());
    let newer = noted("x").version(3);
    let cases = [(newer, "version 3"), (pair(["half", "broken"]), "missing field `text`")];
    for (failing, reason) in cases {
        let store = Store::new(Memory::new());
        let events = [noted("a"), pair(["b", "c"]), failing, noted("d")];
        write(&store, Append::events(events));
        let app = block_on(noting(&store).upcasters(upcasters()).start()).unwrap();
        let stopped = no_notes(&app);
        assert_eq!(stopped.at, Position::new(3));
        assert!(stopped.reason.contains(reason), "{stopped}");
        let answer = now(app.query(AllNotes).into_future()).unwrap();
        assert_eq!((answer.value.as_str(), answer.position.get()), ("a b c", 2));
        let view = app.view::<Notes>().unwrap();
        let expected = digest(&Notes(["a", "b", "c"].map(str::to_owned).to_vec())).unwrap();
        assert_eq!(block_on(view_digest::<Notes>(&app)), (Position::new(2), expected));
        // Again, as often as it is told to.
        for _ in 0..3 {
            block_on(view.resume()).unwrap();
            comes("a stop", || matches!(view.status().state, FollowState::Stopped(_)));
            assert_eq!(no_notes(&app), stopped);
        }
    }
}

/// What an upcaster made of one event is taken in together or not at all.
#[test]
fn a_panic_over_the_second_half_of_what_was_one_event_leaves_out_the_first() {
    let upcasters = Upcasters::new().split("double", 1, &["booked"], |old| {
        let ledger: u64 = serde_json::from_slice(old.payload)?;
        let half = |amount: i64| json!({ "ledger": ledger, "amount": amount });
        Ok(vec![Upcast::json("booked", 1, &half(2))?, Upcast::json("booked", 1, &half(3))?])
    });
    let (ledger, store) = (Hooked::new(), Store::new(Memory::new()));
    let is_mended = poison(&ledger, 3);
    let double = RawEvent::new("double", ledger.0.to_string()).tag(Tag::new("ledger", ledger.0));
    let booked = |amount| ledger.booked(amount).encode().unwrap();
    write(&store, Append::events([booked(1), double, booked(4)]));
    let app = App::over_store(store).upcasters(upcasters).view::<Ledger>().view::<Mirror>();
    let app = block_on(app.start()).unwrap();
    assert_eq!(stopped(&app).at, Position::new(2));
    let seen = now(app.query(Look).into_future()).unwrap();
    assert_eq!((seen.value, seen.position.get()), (totals()[1], 1));
    is_mended.store(true, Ordering::SeqCst);
    let view = app.view::<Ledger>().unwrap();
    block_on(view.resume()).unwrap();
    let seen = block_on(app.query(Look).strong().into_future()).unwrap();
    assert_eq!((seen.value, seen.position.get()), (totals()[4], 3));
}
