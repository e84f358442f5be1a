//! Views that fail. A view stops before the event that it cannot fold, with its state unchanged,
//! and other views are not affected.

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
        CountRemarks, HookedLedger, Ledger, Look, LookInMirror, Mirror, Moment, Remarks, Totals,
        comes, small, write, write_at,
    },
    manual_sync::now,
    view_digest::view_digest,
};

/// The amounts of each commit. Without remarks they take positions 1, 2 to 4, 5, 6 to 7, and 8.
const COMMITS: [&[i64]; 5] = [&[1], &[2, 3, 4], &[5], &[6, 7], &[8]];

fn totals() -> Vec<Totals> {
    Totals::after_each(COMMITS.iter().copied().flatten().copied())
}

fn start(store: &Store) -> App {
    let app = App::over_store(store.clone()).view::<Ledger>().view::<Mirror>().view::<Remarks>();
    block_on(app.start()).unwrap()
}

/// Makes the view panic at this amount until the test sets the returned flag.
fn poison(ledger: &HookedLedger, amount: i64) -> Arc<AtomicBool> {
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

/// Each event is the failing one in turn. The view reads each commit when it comes, or all at once.
#[test]
fn a_view_that_panics_stays_before_the_event_and_other_views_go_on() {
    for amount in 1..=8 {
        for as_they_come in [true, false] {
            let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
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

            // The fold still panics, so the view stops again at the same position. A rebuild from
            // the start of the log stops there too.
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
fn a_stopped_view_refuses_pause_and_step_but_resumes() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
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
fn a_panic_in_the_second_copy_alone_costs_a_clone() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let (times, clones) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let app = start(&store);
    ledger.set({
        let (times, clones) = (times.clone(), clones.clone());
        move |moment| match moment {
            Moment::Apply(booked) if booked.amount == 3 => {
                assert!(times.fetch_add(1, Ordering::SeqCst) != 1, "the second copy cannot fold 3");
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
fn a_view_that_cannot_be_cloned_or_dropped_stops_and_can_resume() {
    for is_drop in [false, true] {
        let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
        let app = start(&store);
        write(&store, ledger.commit(COMMITS[0]));
        block_on(app.query(Look).strong().into_future()).unwrap();
        let is_mended = Arc::new(AtomicBool::new(false));
        ledger.set({
            let is_mended = is_mended.clone();
            move |moment| match moment {
                _ if is_mended.load(Ordering::SeqCst) => {}
                // The view drops the partly folded copy and clones another copy.
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
fn a_panic_payload_may_be_of_any_type() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    ledger.set(|moment| {
        if let Moment::Apply(_) = moment {
            panic_any(7);
        }
    });
    let app = start(&store);
    write(&store, ledger.commit(&[1]));
    assert!(stopped(&app).reason.contains("(no message)"));
}

/// All commits have one `recorded_at`, so the events of a commit are spread over several slices.
#[test]
fn a_panic_within_a_partly_read_commit_shows_none_of_it() {
    let (ledger, store) = (HookedLedger::new(), small(2, 3).time(TimeSource::Caller));
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

/// Decoded by hand, so that a test can make decoding fail.
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

/// Regression: the page with the unreadable event was kept, so each retry found the same error.
#[test]
fn an_event_that_cannot_be_decoded_is_read_again_on_resume_or_rebuild() {
    let store = Store::new(Memory::new());
    for text in ["a", "b", "torn", "c"] {
        write(&store, Append::event(noted(text)));
    }
    let remark = HookedLedger::new().remark();
    write(&store, Append::event(remark));
    // Two views stop, and the app still starts.
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
fn a_newer_event_version_or_a_failing_upcaster_stops_the_view() {
    let upcasters = || {
        Upcasters::new().split("note-pair", 1, &["noted"], |old| {
            let pair: Vec<String> = serde_json::from_slice(old.payload)?;
            let each = pair.iter().map(|text| match text.as_str() {
                // This payload does not decode as a note.
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
        // The view stops again after each resume.
        for _ in 0..3 {
            block_on(view.resume()).unwrap();
            comes("a stop", || matches!(view.status().state, FollowState::Stopped(_)));
            assert_eq!(no_notes(&app), stopped);
        }
    }
}

/// A view folds either all parts of an upcast event or none.
#[test]
fn a_panic_in_one_part_of_a_split_event_discards_the_other_part() {
    let upcasters = Upcasters::new().split("double", 1, &["booked"], |old| {
        let ledger: u64 = serde_json::from_slice(old.payload)?;
        let half = |amount: i64| json!({ "ledger": ledger, "amount": amount });
        Ok(vec![Upcast::json("booked", 1, &half(2))?, Upcast::json("booked", 1, &half(3))?])
    });
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
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
