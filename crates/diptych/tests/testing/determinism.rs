use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    panic, thread,
};

use diptych::{
    Event, EventType, Fold, Recorded, Timestamp,
    event::{Codec, EncodedEvent, Json, SchemaError},
    store::RawEvent,
    testing::check_determinism,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Paid {
    account: String,
    amount: u64,
}

impl Event for Paid {
    fn types() -> Vec<EventType> {
        vec![EventType::new("paid")]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        Ok(RawEvent::new("paid", Json::encode(self)?))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Paid, SchemaError> {
        encoded.read::<Json, _>()
    }
}

/// Returns `count` payments, each to an account of its own.
fn payments(count: u64) -> impl Iterator<Item = Paid> {
    (1..=count).map(|number| Paid { account: format!("account {number}"), amount: number })
}

/// Returns the panic message of the check, if it fails.
fn complaint<F: Fold<Event = Paid> + PartialEq + Debug>(count: u64) -> Option<String> {
    let payload = panic::catch_unwind(|| check_determinism::<F>(payments(count))).err()?;
    Some(*payload.downcast::<String>().expect("the panic message is not a String"))
}

fn assert_caught<F: Fold<Event = Paid> + PartialEq + Debug>(count: u64, expected: &[&str]) {
    let complaint = complaint::<F>(count).expect("the check reports no problem");
    for part in expected {
        assert!(complaint.contains(part), "{part:?} is not in:\n{complaint}");
    }
}

/// Declares a fold over payments from its fields and its `apply`.
macro_rules! fold {
    ($name:ident { $($fields:tt)* } $apply:expr) => {
        #[derive(Debug, Default, PartialEq)]
        struct $name { $($fields)* }

        impl Fold for $name {
            type Event = Paid;

            fn apply(&mut self, event: &Recorded<Paid>) {
                let apply: fn(&mut $name, &Recorded<Paid>) = $apply;
                apply(self, event);
            }
        }
    };
}

#[test]
fn deterministic_folds_pass() {
    fold!(Balances { by_account: HashMap<String, u64>, last: Option<(Timestamp, u64)> }
        |state, event| {
            *state.by_account.entry(event.account.clone()).or_default() += event.amount;
            state.last = Some((event.recorded_at, event.position.get()));
        }
    );
    assert_eq!(complaint::<Balances>(500), None);

    fold!(Ids { seen: BTreeMap<String, u64> } |state, event| {
        state.seen.insert(event.id.to_string(), event.position.get());
    });
    assert_eq!(complaint::<Ids>(3000), None);
}

#[test]
fn a_clock_is_noticed_at_the_event_where_it_is_read() {
    fold!(
        Clock { paid: u64, at: Timestamp } | state,
        event | {
            state.paid += event.amount;
            if event.position.get() == 5 {
                state.at = Timestamp::now();
            }
        }
    );
    assert_caught::<Clock>(8, &["Clock came to two states after event 5, paid", "+++ another run"]);
}

/// Two runs side by side mostly see the same millisecond. Two separate runs never do.
#[test]
fn a_coarse_clock_is_noticed_too() {
    fold!(
        Milliseconds { at: i64 } | state,
        event | {
            if event.position.get() == 700 {
                state.at = Timestamp::now().as_micros() / 1000;
            }
        }
    );
    assert_caught::<Milliseconds>(1000, &["after event 700, paid"]);
}

#[test]
fn the_order_of_a_map_is_noticed() {
    fold!(First { amounts: HashMap<String, u64>, first: Option<String> } |state, event| {
        state.amounts.insert(event.account.clone(), event.amount);
        state.first = state.amounts.keys().next().cloned();
    });
    assert_caught::<First>(50, &["First came to two states after event", "first: Some("]);
}

/// Regression: with three entries most orders of the map gave an equal sum, and six runs often had
/// only such orders.
#[test]
fn a_sum_in_the_order_of_a_map_is_noticed_with_three_events() {
    fold!(Sum { amounts: HashMap<String, f64>, sum: f64 } |state, event| {
        state.amounts.insert(event.account.clone(), event.amount as f64 / 10.0);
        state.sum = state.amounts.values().sum();
    });
    for _ in 0..50 {
        assert_caught::<Sum>(3, &["Sum came to two states after event 3, paid"]);
    }
}

#[test]
fn a_temporary_difference_is_noticed() {
    fold!(
        Passing { counted: u64 } | state,
        event | {
            thread_local!(static COUNTED: Cell<u64> = const { Cell::new(0) });
            state.counted = COUNTED.replace(COUNTED.get() + 1);
            if event.position.get() != 3 {
                state.counted = 0;
            }
        }
    );
    assert_caught::<Passing>(6, &["after event 3, paid", "-    counted: 4,\n+    counted: 5,"]);
}

#[test]
fn a_counter_of_the_thread_is_noticed() {
    fold!(
        Counter { of_thread: u64 } | state,
        event | {
            thread_local!(static COUNTED: Cell<u64> = const { Cell::new(0) });
            if event.amount == 2 {
                COUNTED.set(COUNTED.get() + 1);
                state.of_thread = COUNTED.get();
            }
        }
    );
    assert_caught::<Counter>(4, &["after event 2, paid", "-    of_thread: 1,\n+    of_thread: 2,"]);
}

/// Two runs on one thread agree. Only a run on another thread shows the difference.
#[test]
fn a_thread_is_noticed() {
    fold!(
        Thread { name: String } | state,
        event | {
            if event.position.get() == 2 {
                state.name = format!("{:?}", thread::current().id());
            }
        }
    );
    assert_caught::<Thread>(4, &["after event 2, paid", "ThreadId"]);
}

/// The check compares only some states of a long run, and still finds the event.
#[test]
fn the_event_is_found_among_many() {
    fold!(
        Late { at: Timestamp } | state,
        event | {
            if event.position.get() == 4321 {
                state.at = Timestamp::now();
            }
        }
    );
    assert_caught::<Late>(6000, &["after event 4321, paid"]);
}

#[test]
fn a_nondeterministic_default_is_noticed() {
    #[derive(Debug, PartialEq)]
    struct Born(Timestamp);

    impl Default for Born {
        fn default() -> Born {
            Born(Timestamp::now())
        }
    }

    impl Fold for Born {
        type Event = Paid;

        fn apply(&mut self, _: &Recorded<Paid>) {}
    }
    assert_caught::<Born>(3, &["Born came to two states before any event"]);
}

#[test]
fn unequal_states_with_equal_debug_text_are_noticed() {
    #[derive(Default)]
    struct Never;

    impl PartialEq for Never {
        fn eq(&self, _: &Never) -> bool {
            false
        }
    }

    impl Debug for Never {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Never")
        }
    }

    impl Fold for Never {
        type Event = Paid;

        fn apply(&mut self, _: &Recorded<Paid>) {}
    }
    assert_caught::<Never>(1, &["they are not equal by `==`, and print alike:\nNever"]);
}

#[test]
fn without_events_nothing_is_proven() {
    fold!(Nothing { paid: u64 } | state, event | state.paid += event.amount);
    assert_caught::<Nothing>(0, &["there are no events to fold: give some"]);
}

#[test]
fn a_panic_of_the_fold_is_not_hidden() {
    fold!(Broken { paid: u64 } | _, event | assert!(event.amount != 2, "no twos"));
    let caught = panic::catch_unwind(|| check_determinism::<Broken>(payments(3)));
    let payload = caught.expect_err("the fold panics");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"no twos"));
}
