//! Instances side by side, commits that do not wait, and programs that meet.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diptych::{Memory, Store, process::ProcessStart, store::Position, testing::Clock};
use diptych_store::{
    AcceptedCommit, CommitNumber, CommitSync, HeadPublisher, Read,
    testing::{Call, WrappedStore},
};
use tokio::sync::Semaphore;

use super::{
    orders::{Fulfilment, Pay, Place, counts, events, idle, quick, running, shop, until},
    reactions::text,
};

const ORDERS: u64 = 40;

#[tokio::test]
async fn a_slow_instance_holds_no_other() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let gate = Arc::new(Semaphore::new(0));
    let closed = gate.clone();
    // The shipping of order 1 takes until the gate opens.
    let slow = WrappedStore::over(store.clone()).before(move |call| {
        let is_slow = match call {
            Call::Append(append) => append.events.iter().any(|event| {
                let is_first = event.tags.iter().any(|tag| tag.as_str() == "order:1");
                is_first && event.event_type == "order-shipped"
            }),
            _ => false,
        };
        let closed = closed.clone();
        async move {
            if is_slow {
                drop(closed.acquire().await);
            }
            Ok(())
        }
    });
    let app = running(&Store::new(slow), &clock).await;
    for order in 1..=ORDERS {
        app.execute(Place { order }).await.unwrap();
        app.execute(Pay { order }).await.unwrap();
    }
    until("all others are shipped", || async {
        counts(&store, "order-shipped").await.len() as u64 == ORDERS - 1
    })
    .await;
    // Not only once: the others go on with later triggers, too.
    for order in ORDERS + 1..=ORDERS * 2 {
        app.execute(Place { order }).await.unwrap();
        app.execute(Pay { order }).await.unwrap();
    }
    until("later ones are shipped", || async {
        counts(&store, "order-shipped").await.len() as u64 == ORDERS * 2 - 1
    })
    .await;
    assert!(!counts(&store, "order-shipped").await.contains_key("1"));
    gate.add_permits(1);
    until("it is shipped", || async { counts(&store, "order-shipped").await.contains_key("1") })
        .await;
    idle(&app).await;
    assert!(counts(&store, "order-shipped").await.values().all(|count| *count == 1));
    app.stop().await.unwrap();
}

/// A store that accepts commits and does not sync them: its head stays where it was.
#[derive(Clone)]
struct UnsyncedStore {
    store: Store,
    head: Arc<HeadPublisher>,
    accepted: Arc<AtomicU64>,
}

impl UnsyncedStore {
    fn new() -> UnsyncedStore {
        let store = Store::new(Memory::new());
        let head = Arc::new(HeadPublisher::new(Position::START));
        UnsyncedStore { store, head, accepted: Arc::default() }
    }

    /// Syncs everything that was accepted.
    fn sync(&self) {
        let commit = CommitNumber(self.accepted.load(Ordering::SeqCst));
        self.head.publish(self.store.head().position(), commit);
    }

    fn handle(&self) -> WrappedStore {
        let (head, end) = (self.head.head(), self.head.head());
        let (line, accepted) = (self.head.head(), self.accepted.clone());
        WrappedStore::over(self.store.clone())
            .head_by(move |_| head.clone())
            .before(move |call| {
                if let Call::Read(_, Read { upto, .. })
                | Call::Last(_, upto)
                | Call::Count(_, upto) = call
                {
                    *upto = (*upto).min(end.position());
                }
                ready(Ok(()))
            })
            .append_by(move |store, append| {
                let (line, accepted) = (line.clone(), accepted.clone());
                async move {
                    let commit = store.append(append).await?;
                    let number = CommitNumber(accepted.fetch_add(1, Ordering::SeqCst) + 1);
                    Ok(AcceptedCommit { sync: CommitSync::new(number, line), ..commit })
                }
            })
    }
}

#[tokio::test]
async fn commits_of_reactions_do_not_wait_for_each_other_and_commands_wait_for_their_reaction() {
    let clock = Clock::new();
    let unsynced = UnsyncedStore::new();
    let inner = unsynced.store.clone();
    let client = shop(&inner, &clock).start().await.unwrap();
    let store = Store::new(unsynced.handle());
    let mut options = quick();
    options.reactions_per_commit = 1;
    let app = shop(&store, &clock);
    let app = app.process_with::<Fulfilment>(ProcessStart::Beginning, options).start();
    // The start of a process waits until its first event is synced.
    let app = tokio::spawn(app);
    until("the process is enrolled", || async {
        events(&inner, &["diptych:process-started"]).await.len() == 1
    })
    .await;
    unsynced.sync();
    let app = app.await.unwrap().unwrap();
    for order in 1..=ORDERS {
        client.execute(Place { order }).await.unwrap();
        client.execute(Pay { order }).await.unwrap();
    }
    // From here on, nothing is synced any more.
    unsynced.sync();
    let synced = store.head().position();
    let reacted = || async { events(&inner, &["diptych:process-reacted"]).await.len() as u64 };
    until("all reactions are accepted", || async { reacted().await == ORDERS * 2 }).await;
    assert_eq!(store.head().position(), synced);
    assert!(counts(&inner, "order-shipped").await.is_empty(), "a command left before its reaction");
    until("the commands are done", || async {
        unsynced.sync();
        counts(&inner, "order-shipped").await.len() as u64 == ORDERS
    })
    .await;
    drop(app);
    client.stop().await.unwrap();
}

/// The number of reactions to each trigger.
async fn reactions(store: &Store) -> BTreeMap<String, u32> {
    let mut reactions = BTreeMap::new();
    for (_, event) in events(store, &["diptych:process-reacted"]).await {
        let event = text(&event.payload);
        let (_, trigger) = event.split_once(r#""trigger":"#).unwrap();
        let (trigger, _) = trigger.split_once('}').unwrap();
        *reactions.entry(trigger.to_owned()).or_insert(0) += 1;
    }
    reactions
}

/// Whether a call stores a place of the process.
fn is_reaction(call: &Call<'_>) -> bool {
    match call {
        Call::Append(append) => {
            let tracking = append.tracking.as_ref();
            let is_own = tracking.is_some_and(|own| own.source.starts_with("diptych:process:"));
            is_own
                && append.events.iter().all(|event| event.event_type != "diptych:process-started")
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_program_that_is_behind_does_not_react_a_second_time() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let client = shop(&store, &clock).start().await.unwrap();
    for order in [1, 2] {
        client.execute(Place { order }).await.unwrap();
    }
    // The late program reads both orders, and takes long for the commit of its reactions.
    let (gate, is_waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let (closed, waits) = (gate.clone(), is_waiting.clone());
    let late = WrappedStore::over(store.clone()).before(move |call| {
        let (closed, is_reaction) = (closed.clone(), is_reaction(&call));
        if is_reaction {
            waits.store(true, Ordering::SeqCst);
        }
        async move {
            if is_reaction {
                closed.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    });
    let late = running(&Store::new(late), &clock).await;
    until("the late one is about to commit", || async { is_waiting.load(Ordering::SeqCst) }).await;
    // Another program reacts to the first order alone, and dies.
    let commits = AtomicU64::new(0);
    let other = WrappedStore::over(store.clone()).before(move |call| {
        let is_dead = is_reaction(&call) && commits.fetch_add(1, Ordering::SeqCst) >= 1;
        async move {
            if is_dead {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    let mut options = quick();
    options.reactions_per_commit = 1;
    let other = shop(&Store::new(other), &clock)
        .process_with::<Fulfilment>(ProcessStart::Beginning, options)
        .start()
        .await
        .unwrap();
    until("the other one has reacted", || async { reactions(&store).await.len() == 1 }).await;
    drop(other);
    gate.add_permits(1_000);
    until("both orders have a reaction", || async { reactions(&store).await.len() == 2 }).await;
    idle(&late).await;
    let reactions = reactions(&store).await;
    assert!(reactions.values().all(|count| *count == 1), "{reactions:?}");
    late.stop().await.unwrap();
    client.stop().await.unwrap();
}
