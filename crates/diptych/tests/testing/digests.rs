//! The digest of a state, and the check that guards the version of a fold.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
};

use diptych::{
    Fold, Recorded, Upcasters, digest,
    event::Upcast,
    store::RawEvent,
    testing::{Given, given, nothing_given},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::support::bank::{Banking, Deposited, Opened};

fn opened(account: &str) -> Banking {
    Banking::Opened(Opened { account: account.to_owned(), owner: "ann".to_owned() })
}

fn deposited(account: &str, amount: u64) -> Banking {
    Banking::Deposited(Deposited { account: account.to_owned(), amount })
}

fn story() -> Given {
    given([opened("a"), opened("b")]).and((1..=20).map(|amount| deposited("a", amount)))
}

/// Returns the panic message of the check, if it fails.
fn says<F: Fold + Serialize + DeserializeOwned>(story: Given, committed: &str) -> Option<String> {
    let check = AssertUnwindSafe(|| story.check_digest::<F>(committed));
    Some(catch_unwind(check).err()?.downcast_ref::<String>().unwrap().clone())
}

/// Declares the fold of one release of the program.
macro_rules! balances {
    ($version:expr, $(#[$attribute:meta])* $fees:ident, $apply:expr) => {
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Balances {
            accounts: HashMap<String, u64>,
            $(#[$attribute])*
            $fees: u64,
        }

        impl Fold for Balances {
            type Event = Banking;

            const VERSION: Option<u32> = $version;

            fn apply(&mut self, event: &Recorded<Banking>) {
                let apply: fn(&mut Balances, &Banking) = $apply;
                apply(self, &event.event);
            }
        }
    };
}

fn add(to: &mut HashMap<String, u64>, event: &Banking, fee: u64) {
    match event {
        Banking::Opened(opened) => _ = to.insert(opened.account.clone(), 0),
        Banking::Deposited(deposited) => {
            *to.entry(deposited.account.clone()).or_default() += deposited.amount - fee;
        }
        Banking::Withdrawn(_) => {}
    }
}

/// Extracts the digest that the check asks to commit.
fn belongs(text: &str) -> String {
    let (_, rest) = text.split_once('"').unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[test]
fn a_committed_digest_passes_the_check() {
    balances!(Some(1), fees, |state, event| add(&mut state.accounts, event, 0));
    for wrong in ["", "1", "1:", ":", "x:y", "-1:00", "1:00"] {
        let text = says::<Balances>(story(), wrong).unwrap();
        assert!(text.contains("Balances: ") && text.contains("commit this one: \"1:"), "{text}");
    }
    let first = belongs(&says::<Balances>(story(), "").unwrap());
    story().check_digest::<Balances>(&first);
    let state = Balances { accounts: [("a", 210), ("b", 0)].map(own).into(), fees: 0 };
    assert_eq!(first, format!("1:{}", digest(&state).unwrap()));
    // The digest must not differ from the one at the time of writing this test.
    story().check_digest::<Balances>(COMMITTED);
}

const COMMITTED: &str = "1:0f568a7dbd54b0863b22bd7b2713e17d968bc2b9ee05a8af00484528818b3545";

fn own((name, amount): (&str, u64)) -> (String, u64) {
    (name.to_owned(), amount)
}

#[test]
fn a_fold_with_another_result_needs_another_version() {
    let next = {
        balances!(Some(1), fees, |state, event| add(&mut state.accounts, event, 1));
        let text = says::<Balances>(story(), COMMITTED).unwrap();
        assert!(text.contains("another state when the digest was committed"), "{text}");
        assert!(text.contains("raise its VERSION to 2"), "{text}");
        let next = belongs(&text);
        // The suggested digest does not pass without a new version.
        let text = says::<Balances>(story(), &next).unwrap();
        assert!(text.contains("VERSION was 2 and is 1") && text.contains("to 3"), "{text}");
        next
    };
    balances!(Some(2), fees, |state, event| add(&mut state.accounts, event, 1));
    let text = says::<Balances>(story(), COMMITTED).unwrap();
    assert!(text.contains("VERSION was 1 and is 2: replace the digest by"), "{text}");
    assert_eq!(belongs(&text), next);
    story().check_digest::<Balances>(&next);
}

#[test]
fn a_field_of_another_name_is_another_state() {
    balances!(Some(1), charges, |state, event| add(&mut state.accounts, event, 0));
    assert!(says::<Balances>(story(), COMMITTED).unwrap().contains("raise its VERSION to 2"));
}

#[test]
fn a_field_that_keeps_its_name_for_serde_makes_no_difference() {
    balances!(
        Some(1),
        #[serde(rename = "fees")]
        charges,
        |state, event| add(&mut state.accounts, event, 0)
    );
    story().check_digest::<Balances>(COMMITTED);
}

#[test]
fn a_raised_version_needs_a_new_digest_even_of_the_same_state() {
    balances!(Some(7), fees, |state, event| add(&mut state.accounts, event, 0));
    let text = says::<Balances>(story(), COMMITTED).unwrap();
    assert!(text.contains("VERSION was 1 and is 7"), "{text}");
    story().check_digest::<Balances>(&COMMITTED.replacen("1:", "7:", 1));
}

#[test]
fn without_a_version_or_an_event_there_is_nothing_to_guard() {
    balances!(None, fees, |state, event| add(&mut state.accounts, event, 0));
    assert!(says::<Balances>(story(), COMMITTED).unwrap().contains("it has no VERSION"));
    {
        balances!(Some(1), fees, |state, event| add(&mut state.accounts, event, 0));
        assert!(says::<Balances>(nothing_given(), "").unwrap().contains("no events"));
    }
}

/// The skipped field is not serialised, and later states depend on it.
#[test]
fn a_snapshot_that_loses_a_field_is_noticed() {
    balances!(
        Some(1),
        #[serde(skip)]
        events,
        |state, event| {
            state.events += 1;
            if state.events == 10 {
                add(&mut state.accounts, event, 0);
            }
        }
    );
    let text = says::<Balances>(story(), "").unwrap();
    assert!(text.contains("a snapshot of it after event 10 of 22 reads back as another"), "{text}");
}

#[test]
fn a_state_that_cannot_be_read_back_is_noticed() {
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Last {
        #[serde(skip_serializing_if = "BTreeSet::is_empty")]
        seen: BTreeSet<u64>,
        last: Option<u64>,
    }

    impl Fold for Last {
        type Event = Banking;

        const VERSION: Option<u32> = Some(1);

        fn apply(&mut self, event: &Recorded<Banking>) {
            self.last = Some(event.position.get());
        }
    }

    let text = says::<Last>(story(), "").unwrap();
    assert!(text.contains("after event 1 of 22 cannot be read: missing field `seen`"), "{text}");
}

#[test]
fn older_events_go_through_upcasters_and_others_do_not_matter() {
    balances!(Some(1), fees, |state, event| add(&mut state.accounts, event, 0));
    let upcasters = || {
        Upcasters::new().split("paid-in", 1, &["money-deposited"], |encoded| {
            let payload: serde_json::Value = encoded.read::<diptych::event::Json, _>()?;
            let payload = json!({ "account": payload["into"], "amount": payload["amount"] });
            Ok(vec![Upcast::json("money-deposited", 1, &payload)?])
        })
    };
    let paid = RawEvent::new("paid-in", json!({ "into": "a", "amount": 20 }).to_string());
    let story = given([opened("a"), opened("b")])
        .upcasters(upcasters())
        .and((1..=19).map(|amount| deposited("a", amount)))
        .and_stored(RawEvent::new("of-others", "?"))
        .and_stored(paid);
    story.check_digest::<Balances>(COMMITTED);
}

#[test]
fn digests_compare_states_without_having_both() {
    let one: HashMap<_, _> = (0..1_000).map(|key| (key, vec![Some(key), None])).collect();
    let other: BTreeMap<_, _> = one.clone().into_iter().collect();
    assert_eq!(digest(&one).unwrap(), digest(&other).unwrap());
    let mut different = other.clone();
    different.insert(1_000, vec![]);
    assert!(digest(&other).unwrap() != digest(&different).unwrap());
    let error = digest(&std::path::Path::new("a")).map(|_| "a path has a text");
    assert_eq!(error, Ok("a path has a text"));
}
