//! Views share reading and decoding, and no view depends on the progress of another view.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use diptych::{
    App, Event, EventType, Filter, Fold, Memory, Query, QueryError, Recorded, Store,
    event::{EncodedEvent, Json, SchemaError},
    follow::FollowState,
    store::{Corruption, RawEvent, ReadError, Unavailable},
};
use diptych_store::{
    Append,
    testing::{Call, WrappedStore},
};
use parking_lot::Mutex;
use pollster::block_on;
use serde::{Deserialize, Serialize};

use crate::support::{
    ledger::{
        CountRemarks, HookedLedger, Ledger, Look, LookInMirror, Mirror, Moment, Remarks, comes,
        small, write,
    },
    manual_sync::now,
};

/// An event that counts how often it is decoded.
#[derive(Serialize, Deserialize)]
struct Ticked {
    number: u64,
}

static DECODED: AtomicU64 = AtomicU64::new(0);

impl Event for Ticked {
    fn types() -> Vec<EventType> {
        vec![EventType::new("ticked")]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        Ok(RawEvent::new("ticked", serde_json::to_vec(self).unwrap()))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Ticked, SchemaError> {
        DECODED.fetch_add(1, Ordering::SeqCst);
        encoded.read::<Json, _>()
    }
}

#[derive(Clone, Default)]
struct Ticks<const VIEW: usize>(u64);

impl<const VIEW: usize> Fold for Ticks<VIEW> {
    type Event = Ticked;

    fn apply(&mut self, ticked: &Recorded<Ticked>) {
        self.0 += ticked.number;
    }
}

struct SumOf<const VIEW: usize>;

impl<const VIEW: usize> Query for SumOf<VIEW> {
    type View = Ticks<VIEW>;
    type Answer = u64;

    fn answer(&self, ticks: &Ticks<VIEW>) -> u64 {
        ticks.0
    }
}

/// A store that counts its reads.
fn counted(store: &Store) -> (WrappedStore, Arc<AtomicU64>) {
    let reads = Arc::new(AtomicU64::new(0));
    let counted = WrappedStore::over(store.clone()).before({
        let reads = reads.clone();
        move |call| {
            let is_read = matches!(call, Call::Read(..));
            reads.fetch_add(u64::from(is_read), Ordering::SeqCst);
            async { Ok(()) }
        }
    });
    (counted, reads)
}

#[test]
fn views_of_one_type_of_event_read_and_decode_once() {
    let store = Store::new(Memory::new());
    let (counted, reads) = counted(&store);
    let app = App::over(counted).view::<Ticks<0>>().view::<Ticks<1>>().view::<Ticks<2>>();
    let app = block_on(app.start()).unwrap();
    let ticks = |count| (0..count).map(|_| Ticked { number: 1 }.encode().unwrap());
    for round in 1..=40 {
        write(&store, Append::events(ticks(100)));
        assert_eq!(*block_on(app.query(SumOf::<0>).strong().into_future()).unwrap(), round * 100);
        assert_eq!(*block_on(app.query(SumOf::<1>).strong().into_future()).unwrap(), round * 100);
        assert_eq!(*block_on(app.query(SumOf::<2>).strong().into_future()).unwrap(), round * 100);
        assert_eq!(DECODED.load(Ordering::SeqCst), round * 100);
        assert_eq!(reads.load(Ordering::SeqCst), round);
    }
}

#[test]
fn views_of_different_events_share_what_is_read() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let (counted, reads) = counted(&store);
    let app = App::over(counted).view::<Mirror>().view::<Remarks>();
    let app = block_on(app.start()).unwrap();
    for round in 1..=40 {
        let mut append = ledger.commit(&[1, 2]);
        append.events.push(ledger.remark());
        write(&store, append);
        let mirror = block_on(app.query(LookInMirror).strong().into_future()).unwrap();
        let remarks = block_on(app.query(CountRemarks).strong().into_future()).unwrap();
        assert_eq!((mirror.bookings, *remarks), (round * 2, round));
        assert_eq!(reads.load(Ordering::SeqCst), round);
    }
}

#[test]
fn a_slow_or_paused_view_delays_no_other_view_and_catches_up() {
    for is_paused in [true, false] {
        let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
        let app = App::over_store(store.clone()).view::<Ledger>().view::<Mirror>();
        let app = block_on(app.start()).unwrap();
        let view = app.view::<Ledger>().unwrap();
        let is_open = Arc::new(AtomicBool::new(false));
        match is_paused {
            true => drop(block_on(view.pause()).unwrap()),
            false => ledger.set({
                let is_open = is_open.clone();
                move |moment| {
                    if let Moment::Apply(_) = moment {
                        comes("the gate's opening", || is_open.load(Ordering::SeqCst));
                    }
                }
            }),
        }
        // These are far more events than the app keeps for slower views.
        for round in 1..=40 {
            write(&store, ledger.commit(&vec![1; 500]));
            let asked = app.query(LookInMirror).strong();
            assert_eq!(block_on(asked.into_future()).unwrap().bookings, round * 500);
        }
        let status = view.status();
        assert_eq!((status.position.get(), status.lag.positions), (0, 20_000));
        is_open.store(true, Ordering::SeqCst);
        if is_paused {
            block_on(view.resume()).unwrap();
        }
        let seen = block_on(app.query(Look).strong().into_future()).unwrap();
        let mirror = block_on(app.query(LookInMirror).strong().into_future()).unwrap();
        assert_eq!((seen.value, seen.position), (mirror.value, mirror.position));
    }
}

fn backend() -> ReadError {
    let cause: Arc<dyn Error + Send + Sync> = Arc::from(Box::from("the line is down"));
    ReadError::Unavailable(Unavailable::Backend(cause))
}

fn storage() -> ReadError {
    let cause = Arc::new(std::io::Error::other("no more files"));
    let (what, advice) = ("cannot read a file".into(), "raise the limit");
    ReadError::Unavailable(Unavailable::Storage { what, cause, advice })
}

fn corrupt() -> ReadError {
    let (place, what, advice) = ("page 7".into(), "it is torn".into(), "restore it".into());
    ReadError::Corrupt(Corruption { place, what, advice })
}

/// Wraps a store. A read fails with the error that `fails` returns for its filter.
fn failing(
    store: &Store,
    fails: impl Fn(&Filter) -> Option<ReadError> + Send + Sync + 'static,
) -> WrappedStore {
    WrappedStore::over(store.clone()).before(move |call| {
        let error = match call {
            Call::Read(filter, _) => fails(filter),
            _ => None,
        };
        async move { error.map_or(Ok(()), Err) }
    })
}

#[test]
fn each_view_retries_a_failed_shared_read_for_itself() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let fails = Arc::new(AtomicU64::new(0));
    let wrapped = failing(&store, {
        let fails = fails.clone();
        move |_| {
            let left = |left: u64| left.checked_sub(1);
            let had = fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
            had.is_ok().then(corrupt)
        }
    });
    let app = App::over(wrapped).view::<Ledger>().view::<Mirror>();
    let app = block_on(app.start()).unwrap();
    fails.store(1, Ordering::SeqCst);
    write(&store, ledger.commit(&[1, 2]));
    assert_eq!(block_on(app.query(Look).strong().into_future()).unwrap().sum, 3);
    assert_eq!(block_on(app.query(LookInMirror).strong().into_future()).unwrap().sum, 3);
    assert_eq!(fails.load(Ordering::SeqCst), 0);
}

#[test]
fn an_unavailable_store_is_retried_and_views_report_the_stall() {
    is_asked_again(backend, "the store's backend does not answer");
}

/// Regression: one failed read of the local disk ended a follower for good.
#[test]
fn a_read_that_failed_in_storage_is_retried() {
    is_asked_again(storage, "cannot read a file: no more files; raise the limit");
}

fn is_asked_again(error: fn() -> ReadError, said: &str) {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let is_down = Arc::new(AtomicBool::new(true));
    let wrapped = failing(&store, {
        let is_down = is_down.clone();
        move |_| is_down.load(Ordering::SeqCst).then(error)
    });
    let app = App::over(wrapped).view::<Ledger>().view::<Mirror>();
    let app = block_on(app.start()).unwrap();
    write(&store, ledger.commit(&[1, 2]));
    for at in 0..2 {
        comes("a stall", || matches!(app.views()[at].state, FollowState::Stalled { .. }));
        let FollowState::Stalled { reason } = app.views()[at].state.clone() else { panic!() };
        assert!(reason.contains(said), "{reason}");
    }
    assert_eq!(now(app.query(Look).into_future()).unwrap().sum, 0);
    // The view accepts control calls while it retries.
    let view = app.view::<Ledger>().unwrap();
    block_on(view.pause()).unwrap();
    let error = block_on(view.step()).unwrap_err();
    assert!(error.to_string().contains(said), "{error}");
    assert_eq!(view.status().state, FollowState::Paused);
    block_on(view.resume()).unwrap();
    is_down.store(false, Ordering::SeqCst);
    assert_eq!(block_on(app.query(Look).strong().into_future()).unwrap().sum, 3);
    assert_eq!(block_on(app.query(LookInMirror).strong().into_future()).unwrap().sum, 3);
    comes("its end", || app.views().iter().all(|view| view.state == FollowState::Live));
}

/// After the store recovers, the view no longer reports a stall, even if it is still far behind.
#[test]
fn a_stall_ends_with_the_first_page() {
    let (ledger, store) = (HookedLedger::new(), Store::new(small(10, 10)));
    let is_down = Arc::new(AtomicBool::new(false));
    let wrapped = failing(&store, {
        let is_down = is_down.clone();
        move |_| is_down.load(Ordering::SeqCst).then(backend)
    });
    let app = block_on(App::over(wrapped).view::<Ledger>().start()).unwrap();
    let view = app.view::<Ledger>().unwrap();
    block_on(view.pause()).unwrap();
    for amount in 0..2_000 {
        write(&store, ledger.commit(&[amount]));
        thread::yield_now();
    }
    is_down.store(true, Ordering::SeqCst);
    let states = Arc::new(Mutex::new(Vec::new()));
    ledger.set({
        let (app, states) = (app.clone(), states.clone());
        move |moment| {
            if let Moment::Apply(booked) = moment
                && booked.position.get() == 1_999
            {
                states.lock().push(app.views().remove(0).state);
            }
        }
    });
    block_on(view.resume()).unwrap();
    comes("a stall", || matches!(view.status().state, FollowState::Stalled { .. }));
    is_down.store(false, Ordering::SeqCst);
    block_on(app.query(Look).strong().into_future()).unwrap();
    ledger.clear();
    let states = std::mem::take(&mut *states.lock());
    assert!(states.iter().all(|state| *state == FollowState::CatchingUp), "{states:?}");
    assert!(!states.is_empty());
}

#[test]
fn an_unreadable_log_stops_only_the_views_that_need_it_until_it_is_fixed() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let is_torn = Arc::new(AtomicBool::new(false));
    // Only reads whose filter includes bookings fail.
    let wrapped = failing(&store, {
        let is_torn = is_torn.clone();
        move |filter| {
            let booked = filter.items().iter().any(|item| item.types.iter().any(|t| t == "booked"));
            (booked && is_torn.load(Ordering::SeqCst)).then(corrupt)
        }
    });
    let app = App::over(wrapped).view::<Ledger>().view::<Remarks>();
    let app = block_on(app.start()).unwrap();
    let view = app.view::<Ledger>().unwrap();
    is_torn.store(true, Ordering::SeqCst);
    let mut append = ledger.commit(&[1, 2]);
    append.events.push(ledger.remark());
    write(&store, append);
    let error = block_on(app.query(Look).strong().into_future()).unwrap_err();
    let QueryError::Stopped { stopped, .. } = error else { panic!("{error}") };
    assert_eq!(stopped.at.get(), 1);
    assert!(stopped.reason.contains("page 7: it is torn; restore it"), "{stopped}");
    // The other view reads its events with a read of its own.
    assert_eq!(*block_on(app.query(CountRemarks).strong().into_future()).unwrap(), 1);
    is_torn.store(false, Ordering::SeqCst);
    block_on(view.resume()).unwrap();
    assert_eq!(block_on(app.query(Look).strong().into_future()).unwrap().sum, 3);
}
