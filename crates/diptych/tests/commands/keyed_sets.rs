//! A key belongs to one request. Retries of a request with hash sets are still that request.

use std::collections::{BTreeMap, HashMap, HashSet};

use diptych::{
    App, Command, CommandError, DecisionContext, Event, ExecuteError, Memory, Receipt, digest,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("tagged")]
struct Tagged {
    labels: usize,
}

/// A request as it comes over HTTP: each try is parsed again from its JSON.
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

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Tagged>, std::convert::Infallible> {
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

/// Regression: a hash set has another order each time that it is parsed, so each retry had another
/// digest. All 50 retries were refused, as if another request had used the key.
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
    // A different set makes a different request, and so does a list in a different order.
    for (from, to) in [("grey", "gray"), ("[2, 1]", "[1, 2]"), (r#"[4, "d"]"#, r#"[4, "e"]"#)] {
        let error = send(&REQUEST.replacen(from, to, 1)).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Failed(CommandError::KeyReused(_))), "{error}");
        assert!(error.to_string().contains("an unordered set"), "{error}");
    }
    assert_eq!(app.head().get(), 1);
}

/// Logs store digests for ever. Another test covers the digests of values without hash sets. This
/// test covers the digest of hash sets, which was added later.
#[test]
fn the_digest_of_a_hash_set_never_changes() {
    let of = |set: HashSet<u32>| digest(&set).unwrap().to_string();
    assert_eq!(of((0..300).collect()), GOLDEN);
    assert_eq!(of((0..300).rev().collect()), GOLDEN);
    // Sets with at most one element always had a stable order. They keep their old digest.
    assert_eq!(digest(&HashSet::from([7])).unwrap(), digest(&[7_u8].as_slice()).unwrap());
    assert_eq!(digest(&HashSet::<u8>::new()).unwrap(), digest(&Vec::<u8>::new()).unwrap());
    assert_ne!(of([1, 2].into()), of([1, 3].into()));
    assert_ne!(digest(&vec![1, 2]), digest(&vec![2, 1]));
}

const GOLDEN: &str = "26421683c574fa85a8bc6cc3ed391587cf0165a337090bb485c309fc237365c7";
