//! A key is for one request, however often it is sent, and whatever it holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use diptych::{App, Command, CommandError, Event, ExecuteError, Memory, Receipt, digest};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("tagged")]
struct Tagged {
    labels: usize,
}

/// A request as it comes over HTTP: each try is read anew from its JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Label {
    labels: HashSet<String>,
    by_group: HashMap<String, HashSet<(u32, String)>>,
    nested: Vec<Option<HashSet<HashMapOf>>>,
    order: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct HashMapOf(BTreeMap<u8, u8>);

impl Command for Label {
    type State = ();
    type Event = Tagged;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): ()) -> Result<Vec<Tagged>, std::convert::Infallible> {
        Ok(vec![Tagged { labels: self.labels.len() }])
    }
}

const REQUEST: &str = r#"{
    "labels": ["red", "green", "blue", "black", "white", "grey"],
    "by_group": {
        "one": [[1, "a"], [2, "b"], [3, "c"], [4, "d"]],
        "other": [[1, "a"], [2, "b"], [3, "c"], [4, "d"]]
    },
    "nested": [null, [{ "1": 1 }, { "2": 2 }, { "3": 3 }]],
    "order": [2, 1]
}"#;

/// A set has another order each time that it is read, and so it had another digest: 50 of 50
/// retries were refused, as if the key had been used for something else.
#[tokio::test]
async fn a_command_with_hash_sets_is_the_same_request_when_it_is_sent_again() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let send = async |json: &str| -> Result<Receipt, ExecuteError<_>> {
        let command: Label = serde_json::from_str(json).unwrap();
        app.execute(command).key("one").await
    };
    let first = send(REQUEST).await.unwrap();
    for _ in 0..50 {
        let again = send(REQUEST).await.unwrap();
        assert_eq!((again.first(), again.last()), (first.first(), first.last()));
    }
    // Another set is another request, and so is a list in another order.
    for (from, to) in [("grey", "gray"), ("[2, 1]", "[1, 2]"), (r#"[4, "d"]"#, r#"[4, "e"]"#)] {
        let error = send(&REQUEST.replacen(from, to, 1)).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Failed(CommandError::KeyReused(_))), "{error}");
        assert!(error.to_string().contains("an unordered set"), "{error}");
    }
    assert_eq!(app.head().get(), 1);
}

/// Digests stand in logs for ever. Those of values without hash sets have a test of their own, and
/// this one is of what was added.
#[test]
fn the_digest_of_a_hash_set_never_changes() {
    let of = |set: HashSet<u32>| digest(&set).unwrap().to_string();
    assert_eq!(of((0..300).collect()), GOLDEN);
    assert_eq!(of((0..300).rev().collect()), GOLDEN);
    // What had the same order each time has the digest that it had.
    assert_eq!(digest(&HashSet::from([7])).unwrap(), digest(&[7_u8].as_slice()).unwrap());
    assert_eq!(digest(&HashSet::<u8>::new()).unwrap(), digest(&Vec::<u8>::new()).unwrap());
    assert_ne!(of([1, 2].into()), of([1, 3].into()));
    assert_ne!(digest(&vec![1, 2]), digest(&vec![2, 1]));
}

const GOLDEN: &str = "26421683c574fa85a8bc6cc3ed391587cf0165a337090bb485c309fc237365c7";
