//! Commands of one client are decided in the order of their numbers, over any connections.

use std::{sync::Arc, time::Duration};

use diptych::{
    App, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold, Memory,
    Receipt, Recorded, Store, Tag,
    command::{Ordinal, OrdinalError},
    store::Read,
};
use diptych_store::testing::{Call, WrappedStore};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("counted")]
struct Counted {
    #[tag]
    client: String,
    number: u64,
}

/// How many events the client has.
#[derive(Default)]
struct Count(u64);

impl Fold for Count {
    type Event = Counted;

    fn apply(&mut self, _: &Recorded<Counted>) {
        self.0 += 1;
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("multiples of {0} are not counted")]
struct NotCounted(u64);

/// Counts a number, unless it is a multiple of `not`.
#[derive(Clone, Serialize)]
struct Note {
    client: String,
    number: u64,
    not: u64,
}

impl Command for Note {
    type State = Count;
    type Event = Counted;
    type Rejection = NotCounted;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("client", &self.client))
    }

    fn decide(&self, _: &Count, _: &DecisionContext) -> Result<Vec<Counted>, NotCounted> {
        if self.number.is_multiple_of(self.not) {
            return Err(NotCounted(self.not));
        }
        Ok(vec![Counted { client: self.client.clone(), number: self.number }])
    }
}

type Outcome = Result<Receipt, ExecuteError<NotCounted>>;

/// Sends the command with this number. Multiples of 10 are rejected.
async fn send(app: &App, client: &str, number: u64, settled: u64) -> Outcome {
    let note = Note { client: client.to_owned(), number, not: 10 };
    app.execute(note).ordinal(Ordinal::new(client, number).settled(settled)).await
}

async fn start(store: &Store) -> App {
    App::over_store(store.clone()).start().await.unwrap()
}

async fn numbers_in(store: &Store) -> Vec<u64> {
    let batch = store.read(&Filter::everything(), Read::all()).await.unwrap();
    let number = |payload: &[u8]| {
        let counted: serde_json::Value = serde_json::from_slice(payload).unwrap();
        counted["number"].as_u64().unwrap()
    };
    batch.iter().map(|event| number(event.payload())).collect()
}

/// The numbers from 1 to `last` in an order of chance that mixes at most 30 neighbours.
fn shuffled(last: u64, random: &mut fastrand::Rng) -> Vec<u64> {
    let mut numbers: Vec<u64> = (1..=last).collect();
    numbers.chunks_mut(30).for_each(|chunk| random.shuffle(chunk));
    numbers
}

#[tokio::test]
async fn shuffled_and_repeated_commands_are_decided_in_order_and_once() {
    let store = Store::new(Memory::new());
    let app = start(&store).await;
    let mut random = fastrand::Rng::with_seed(7);
    let sent = shuffled(60, &mut random).into_iter().chain(shuffled(60, &mut random));
    let tasks: Vec<_> = sent
        .map(|number| {
            let app = app.clone();
            tokio::spawn(async move { (number, send(&app, "ann", number, 0).await) })
        })
        .collect();
    let mut receipts = std::collections::BTreeMap::new();
    for task in tasks {
        match task.await.unwrap() {
            (number, Ok(receipt)) => {
                assert_eq!(*receipts.entry(number).or_insert(receipt), receipt);
            }
            (number, Err(ExecuteError::Rejected(NotCounted(10)))) => assert_eq!(number % 10, 0),
            // The second time, the rejection is not kept.
            (number, Err(ExecuteError::Failed(CommandError::Ordinal(error)))) => {
                assert_eq!(error, OrdinalError::Passed { number });
                assert_eq!(number % 10, 0);
            }
            (number, Err(error)) => panic!("command {number}: {error}"),
        }
    }
    let wanted: Vec<u64> = (1..=60).filter(|number| number % 10 != 0).collect();
    assert_eq!(numbers_in(&store).await, wanted);
    assert_eq!(receipts.len(), wanted.len());
}

/// The app is dropped in the middle, and the client sends whatever has no outcome again.
#[tokio::test]
async fn the_order_holds_across_a_restart() {
    let store = Store::new(Memory::new());
    let app = start(&store).await;
    for number in 1..=9 {
        send(&app, "ann", number, number - 1).await.unwrap();
    }
    // The client never got the rejection of 10, nor the receipt of 11.
    send(&app, "ann", 10, 9).await.unwrap_err();
    let lost = send(&app, "ann", 11, 9).await.unwrap();
    drop(app);

    let app = start(&store).await;
    let (twelve, ten, eleven) =
        tokio::join!(send(&app, "ann", 12, 9), send(&app, "ann", 10, 9), send(&app, "ann", 11, 9),);
    assert_eq!(eleven.unwrap(), lost);
    let ExecuteError::Failed(CommandError::Ordinal(error)) = ten.unwrap_err() else {
        panic!("the rule was asked again, after a later command")
    };
    assert_eq!(error, OrdinalError::Passed { number: 10 });
    twelve.unwrap();
    assert_eq!(numbers_in(&store).await, [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_command_waits_for_the_one_before_and_then_names_it() {
    let store = Store::new(Memory::new());
    let app = start(&store).await;
    let error = send(&app, "ann", 3, 1).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Ordinal(error)) = error else { panic!("{error}") };
    assert_eq!(error, OrdinalError::Missing { number: 3, missing: 2 });
    assert!(error.to_string().contains("command 3 of the client waited 10 s"), "{error}");
    // Another client has an order of its own.
    send(&app, "ben", 1, 0).await.unwrap();
    // A client that has the outcomes of the others can go on.
    send(&app, "ann", 3, 2).await.unwrap();
    assert_eq!(numbers_in(&store).await, [1, 3]);
}

#[tokio::test]
async fn a_command_whose_future_is_dropped_keeps_its_turn() {
    let holds = Arc::new(tokio::sync::Semaphore::new(0));
    let held = holds.clone();
    let store = Store::new(WrappedStore::new(Memory::new()).before(move |call| {
        let held = matches!(call, Call::Append(_)).then(|| held.clone());
        async move {
            if let Some(held) = held {
                held.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    }));
    let app = start(&store).await;
    let dropped = tokio::time::timeout(Duration::from_millis(50), send(&app, "ann", 1, 0)).await;
    assert!(dropped.is_err(), "the append is held back");
    holds.add_permits(10);
    send(&app, "ann", 1, 0).await.unwrap();
    send(&app, "ann", 2, 1).await.unwrap();
    assert_eq!(numbers_in(&store).await, [1, 2]);
}

#[tokio::test]
async fn another_command_under_a_number_is_an_error() {
    let store = Store::new(Memory::new());
    let app = start(&store).await;
    send(&app, "ann", 1, 0).await.unwrap();
    let other = Note { client: "ann".to_owned(), number: 7, not: 10 };
    let error = app.execute(other).ordinal(Ordinal::new("ann", 1)).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Failed(CommandError::KeyReused(_))), "{error}");
}

#[tokio::test]
async fn an_ordinal_without_sense_is_invalid() {
    let store = Store::new(Memory::new());
    let app = start(&store).await;
    let note = || Note { client: "ann".to_owned(), number: 7, not: 10 };
    let long = "x".repeat(200);
    for (ordinal, part) in [
        (Ordinal::new("", 1), "1 to 128 bytes"),
        (Ordinal::new(&long, 1), "1 to 128 bytes"),
        (Ordinal::new("ann", 0), "the number 1"),
        (Ordinal::new("ann", 66).settled(1), "more than 64 commands after 1"),
    ] {
        let error = app.execute(note()).ordinal(ordinal).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let both = app.execute(note()).key("mine").ordinal(Ordinal::new("ann", 1)).await.unwrap_err();
    assert!(both.to_string().contains("leave the key out"), "{both}");
    assert_eq!(store.head().position().get(), 0);
}

/// Without ordinals the same traffic is out of order, so the tests above prove something.
#[tokio::test]
async fn without_ordinals_shuffled_commands_are_out_of_order() {
    let store = Store::new(Memory::new());
    let app = start(&store).await;
    for number in shuffled(30, &mut fastrand::Rng::with_seed(7)) {
        let note = Note { client: "ann".to_owned(), number, not: 100 };
        app.execute(note).await.unwrap();
    }
    assert!(!numbers_in(&store).await.is_sorted());
}
