//! Views that name a key: an event that cannot be applied poisons its own keys, and nothing else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use diptych::{
    App, Event, Filter, Fold, Memory, Position, Query, QueryError, Recorded, Store, Tag,
    follow::{ControlError, FollowState, SkipNote},
    query::ViewDigest,
    snapshot::{MemorySnapshots, SnapshotOptions},
    store::RawEvent,
    view::ViewOptions,
};
use diptych_store::Append;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Event, Serialize, Deserialize)]
enum Money {
    #[event("paid-in")]
    PaidIn {
        #[tag]
        account: String,
        amount: i64,
    },
    #[event("moved")]
    Moved {
        #[tag("account")]
        from: String,
        #[tag("account")]
        to: String,
        amount: i64,
    },
    #[event("closed-for-the-day")]
    Closed { amount: i64 },
}

/// An amount at which the fold panics. The view of each test has its own, by its marker.
static BAD: LazyLock<Mutex<BTreeMap<u8, Arc<AtomicI64>>>> = LazyLock::new(Mutex::default);

fn bad(test: u8) -> Arc<AtomicI64> {
    BAD.lock().unwrap().entry(test).or_default().clone()
}

/// The amounts of each account, in the order in which they were applied.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Accounts<const TEST: u8>(BTreeMap<String, Vec<i64>>);

impl<const TEST: u8> Fold for Accounts<TEST> {
    type Event = Money;

    const KEY: Option<&'static str> = Some("account");
    const VERSION: Option<u32> = Some(1);

    fn apply(&mut self, event: &Recorded<Money>) {
        let (accounts, amount) = match &event.event {
            Money::PaidIn { account, amount } => (vec![(account, *amount)], *amount),
            Money::Moved { from, to, amount } => (vec![(from, -amount), (to, *amount)], *amount),
            Money::Closed { amount } => (vec![], *amount),
        };
        for (account, amount) in accounts {
            self.0.entry(account.clone()).or_default().push(amount);
        }
        assert!(amount != bad(TEST).load(Ordering::SeqCst), "no {amount} here");
    }
}

struct Of<const TEST: u8>(&'static str);

impl<const TEST: u8> Query for Of<TEST> {
    type View = Accounts<TEST>;
    type Answer = Vec<i64>;

    fn answer(&self, view: &Accounts<TEST>) -> Vec<i64> {
        view.0.get(self.0).cloned().unwrap_or_default()
    }

    fn scope(&self) -> Filter {
        Filter::tag(key(self.0))
    }
}

struct All<const TEST: u8>;

impl<const TEST: u8> Query for All<TEST> {
    type View = Accounts<TEST>;
    type Answer = usize;

    fn answer(&self, view: &Accounts<TEST>) -> usize {
        view.0.len()
    }
}

fn key(account: &str) -> Tag {
    Tag::new("account", account)
}

fn raw(event_type: &'static str, accounts: &[&str], payload: serde_json::Value) -> RawEvent {
    let event = RawEvent::new(event_type, payload.to_string().into_bytes());
    accounts.iter().fold(event, |event, account| event.tag(key(account)))
}

/// Writes these events in one commit.
fn write(store: &Store, events: Vec<RawEvent>) {
    let append = Append::events(events);
    block_on(async { store.append(append).await.unwrap().synced().await.unwrap() });
}

fn pay(store: &Store, account: &str, amount: i64) {
    let payload = json!({ "account": account, "amount": amount });
    write(store, vec![raw("paid-in", &[account], payload)]);
}

fn move_money(store: &Store, from: &str, to: &str, amount: i64) {
    let payload = json!({ "from": from, "to": to, "amount": amount });
    write(store, vec![raw("moved", &[from, to], payload)]);
}

fn unreadable(store: &Store, account: &str) {
    write(store, vec![raw("paid-in", &[account], json!({ "amount": "much" }))]);
}

fn start<const TEST: u8>(store: &Store) -> App {
    block_on(App::over_store(store.clone()).view::<Accounts<TEST>>().start()).unwrap()
}

fn amounts<const TEST: u8>(app: &App, account: &'static str) -> Result<Vec<i64>, QueryError> {
    block_on(app.query(Of::<TEST>(account)).strong().into_future()).map(|answer| answer.value)
}

fn poisoned_at<const TEST: u8>(app: &App, account: &'static str) -> (u64, String) {
    match amounts::<TEST>(app, account) {
        Err(QueryError::Poisoned { poisoned, .. }) => {
            assert_eq!(poisoned.key, key(account));
            (poisoned.at.get(), poisoned.reason)
        }
        other => panic!("{account} is poisoned, and not {other:?}"),
    }
}

fn keys<const TEST: u8>(app: &App) -> Vec<(String, u64)> {
    let status = app.view::<Accounts<TEST>>().unwrap().status();
    status.poisoned.iter().map(|it| (it.key.value().to_owned(), it.held)).collect()
}

fn note() -> SkipNote {
    SkipNote { who: "Ada".to_owned(), why: "a typing error".to_owned() }
}

#[test]
fn a_panic_poisons_its_key_and_the_other_keys_go_on() {
    bad(1).store(13, Ordering::SeqCst);
    // The events come one by one to a running view, or all at once.
    for as_they_come in [true, false] {
        let store = Store::new(Memory::new());
        let early = as_they_come.then(|| start::<1>(&store));
        for account in 0..100 {
            pay(&store, &format!("a{account}"), 1);
        }
        pay(&store, "a7", 13);
        for account in 0..100 {
            pay(&store, &format!("a{account}"), 2);
        }
        pay(&store, "a7", 3);
        let app = early.unwrap_or_else(|| start::<1>(&store));
        assert_eq!(amounts::<1>(&app, "a8").unwrap(), [1, 2]);
        assert_eq!(amounts::<1>(&app, "a99").unwrap(), [1, 2]);
        let (at, reason) = poisoned_at::<1>(&app, "a7");
        assert_eq!(at, 101);
        assert!(reason.contains("no 13 here"), "{reason}");
        assert_eq!(keys::<1>(&app), [("a7".to_owned(), 3)]);
        let status = app.view::<Accounts<1>>().unwrap().status();
        assert!(!matches!(status.state, FollowState::Stopped(_)), "{:?}", status.state);
        assert_eq!(status.position.get(), 202);

        // The row as it was before the event, with its mark.
        let marked = app.query(Of::<1>("a7")).strong().or_poisoned().into_future();
        let marked = block_on(marked).unwrap();
        assert_eq!((&marked[..], marked.poisoned.len()), (&[1][..], 1));
        // An answer over all keys has the mark, and one about another key has none.
        let all = block_on(app.query(All::<1>).into_future()).unwrap();
        assert_eq!((*all, all.poisoned[0].key.value()), (100, "a7"));
        let other = block_on(app.query(Of::<1>("a8")).into_future()).unwrap();
        assert_eq!(other.poisoned, []);
    }
}

#[test]
fn a_retry_applies_the_held_events_in_order() {
    let (store, bad) = (Store::new(Memory::new()), bad(2));
    bad.store(13, Ordering::SeqCst);
    let app = start::<2>(&store);
    for amount in [1, 13, 2, 14, 3] {
        pay(&store, "p", amount);
        pay(&store, "q", amount + 100);
    }
    poisoned_at::<2>(&app, "p");
    let view = app.view::<Accounts<2>>().unwrap();
    // Nothing is fixed yet.
    let error = block_on(view.retry_key(&key("p"))).unwrap_err();
    assert!(error.to_string().contains("still poisoned"), "{error}");
    assert_eq!(poisoned_at::<2>(&app, "p").0, 3);
    // The next failing event poisons the key again, from there on.
    bad.store(14, Ordering::SeqCst);
    block_on(view.retry_key(&key("p"))).unwrap_err();
    assert_eq!(poisoned_at::<2>(&app, "p").0, 7);
    assert_eq!(keys::<2>(&app), [("p".to_owned(), 2)]);
    bad.store(0, Ordering::SeqCst);
    let position = block_on(view.retry_key(&key("p"))).unwrap();
    assert_eq!(position, Position::new(10));
    assert_eq!(amounts::<2>(&app, "p").unwrap(), [1, 13, 2, 14, 3]);
    assert_eq!(amounts::<2>(&app, "q").unwrap(), [101, 113, 102, 114, 103]);
    pay(&store, "p", 4);
    assert_eq!(amounts::<2>(&app, "p").unwrap(), [1, 13, 2, 14, 3, 4]);
    let digest = |app: &App| {
        block_on(app.query(ViewDigest::<Accounts<2>>::new()).strong().into_future()).unwrap().value
    };
    assert_eq!(digest(&app), digest(&start::<2>(&store)), "as if nothing had failed");
    let error = block_on(view.retry_key(&key("p"))).unwrap_err();
    assert!(matches!(error, ControlError::Failed { .. }), "{error}");
}

#[test]
fn an_unreadable_event_poisons_its_key_and_a_person_can_skip_it() {
    let store = Store::new(Memory::new());
    let app = start::<3>(&store);
    pay(&store, "p", 1);
    unreadable(&store, "p");
    pay(&store, "q", 5);
    pay(&store, "p", 2);
    unreadable(&store, "r");
    assert_eq!(amounts::<3>(&app, "q").unwrap(), [5]);
    assert_eq!(poisoned_at::<3>(&app, "p").0, 2);
    assert_eq!(poisoned_at::<3>(&app, "r").0, 5, "one unreadable event hides no other");
    let view = app.view::<Accounts<3>>().unwrap();
    block_on(view.skip_event(&key("p"), note())).unwrap();
    assert_eq!(amounts::<3>(&app, "p").unwrap(), [1, 2]);
    assert_eq!(poisoned_at::<3>(&app, "r").0, 5);
    let status = view.status();
    let skipped = &status.skipped[0];
    assert_eq!((skipped.position.get(), &skipped.note), (2, &note()));
    // A rebuild leaves the event out, too.
    block_on(view.rebuild()).unwrap();
    pay(&store, "p", 3);
    assert_eq!(amounts::<3>(&app, "p").unwrap(), [1, 2, 3]);
    assert_eq!(keys::<3>(&app), [("r".to_owned(), 1)]);
}

#[test]
fn keys_that_share_an_event_are_poisoned_and_released_together() {
    let (store, bad) = (Store::new(Memory::new()), bad(4));
    bad.store(13, Ordering::SeqCst);
    let app = start::<4>(&store);
    pay(&store, "p", 13);
    pay(&store, "q", 1);
    move_money(&store, "p", "q", 2);
    pay(&store, "q", 3);
    pay(&store, "r", 4);
    assert_eq!(amounts::<4>(&app, "r").unwrap(), [4]);
    assert_eq!(poisoned_at::<4>(&app, "p").0, 1);
    let (at, reason) = poisoned_at::<4>(&app, "q");
    assert_eq!(at, 3);
    assert!(reason.contains("another poisoned key"), "{reason}");
    bad.store(0, Ordering::SeqCst);
    block_on(app.view::<Accounts<4>>().unwrap().retry_key(&key("q"))).unwrap();
    assert_eq!(amounts::<4>(&app, "p").unwrap(), [13, -2]);
    assert_eq!(amounts::<4>(&app, "q").unwrap(), [1, 2, 3]);
}

#[test]
fn a_start_finds_poisoned_keys_again_and_keeps_skipped_events() {
    let (store, bad, place) =
        (Store::new(Memory::new()), bad(5), Arc::<MemorySnapshots>::default());
    bad.store(13, Ordering::SeqCst);
    let start = || {
        let app = App::over_store(store.clone()).view::<Accounts<5>>();
        let app = app.snapshots::<Accounts<5>>(SnapshotOptions::every(2));
        block_on(app.snapshots_in(place.clone()).start()).unwrap()
    };
    let app = start();
    for amount in [1, 13, 2] {
        pay(&store, "p", amount);
        pay(&store, "q", amount + 100);
    }
    assert_eq!(poisoned_at::<5>(&app, "p").0, 3);
    let save = block_on(app.view::<Accounts<5>>().unwrap().save()).unwrap_err();
    assert!(save.to_string().contains("poisoned"), "{save}");
    block_on(app.stop()).unwrap();

    let app = start();
    assert_eq!(poisoned_at::<5>(&app, "p").0, 3);
    assert_eq!(keys::<5>(&app), [("p".to_owned(), 2)]);
    let view = app.view::<Accounts<5>>().unwrap();
    block_on(view.skip_event(&key("p"), note())).unwrap();
    block_on(view.save()).unwrap();
    block_on(app.stop()).unwrap();

    // With the snapshot, and without any: the decision stays.
    for is_rebuilt in [false, true] {
        let app = start();
        let view = app.view::<Accounts<5>>().unwrap();
        if is_rebuilt {
            block_on(view.rebuild()).unwrap();
            pay(&store, "q", 4);
        }
        assert_eq!(amounts::<5>(&app, "p").unwrap(), [1, 2]);
        assert_eq!(view.status().skipped[0].note, note());
        assert!(keys::<5>(&app).is_empty());
        block_on(app.stop()).unwrap();
    }
}

#[test]
fn a_rebuild_isolates_the_same_keys() {
    let (store, bad) = (Store::new(Memory::new()), bad(6));
    bad.store(13, Ordering::SeqCst);
    for account in ["p", "q", "r", "q", "p", "r"] {
        pay(&store, account, if account == "r" { 1 } else { 13 });
    }
    let app = start::<6>(&store);
    let view = app.view::<Accounts<6>>().unwrap();
    let before = keys::<6>(&app);
    assert_eq!(before, [("p".to_owned(), 2), ("q".to_owned(), 2)]);
    block_on(view.rebuild()).unwrap();
    pay(&store, "r", 2);
    assert_eq!(amounts::<6>(&app, "r").unwrap(), [1, 1, 2]);
    assert_eq!(keys::<6>(&app), before);
}

#[test]
fn a_failing_event_without_a_key_stops_the_view_before_it() {
    let (store, bad) = (Store::new(Memory::new()), bad(7));
    bad.store(13, Ordering::SeqCst);
    let app = start::<7>(&store);
    pay(&store, "p", 13);
    pay(&store, "q", 1);
    write(&store, vec![raw("closed-for-the-day", &[], json!({ "amount": 13 }))]);
    pay(&store, "q", 2);
    let error = amounts::<7>(&app, "q").unwrap_err();
    let QueryError::Stopped { stopped, .. } = error else { panic!("{error}") };
    assert_eq!(stopped.at.get(), 3);
    let before = block_on(app.query(Of::<7>("q")).or_stale().into_future()).unwrap();
    assert_eq!((&before[..], before.position.get()), (&[1][..], 2));
    bad.store(0, Ordering::SeqCst);
    block_on(app.view::<Accounts<7>>().unwrap().resume()).unwrap();
    assert_eq!(amounts::<7>(&app, "q").unwrap(), [1, 2]);
}

#[test]
fn beyond_the_bound_of_poisoned_keys_the_view_stops() {
    let store = Store::new(Memory::new());
    let options = ViewOptions { poisoned_keys: 2, ..ViewOptions::default() };
    let app = App::over_store(store.clone()).view_with::<Accounts<8>>(options);
    let app = block_on(app.start()).unwrap();
    for account in ["p", "q", "r"] {
        unreadable(&store, account);
    }
    let error = amounts::<8>(&app, "s").unwrap_err();
    let QueryError::Stopped { stopped, .. } = error else { panic!("{error}") };
    assert_eq!(stopped.at.get(), 3);
    assert!(stopped.reason.contains("ViewOptions::poisoned_keys"), "{stopped}");
    assert_eq!(keys::<8>(&app).len(), 2);
    // Room for one more lets it go on.
    let view = app.view::<Accounts<8>>().unwrap();
    block_on(view.skip_event(&key("p"), note())).unwrap();
    block_on(view.resume()).unwrap();
    assert_eq!(amounts::<8>(&app, "s").unwrap(), [0; 0]);
    assert_eq!(keys::<8>(&app), [("q".to_owned(), 1), ("r".to_owned(), 1)]);
}
