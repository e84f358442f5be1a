//! A program that is killed at each named point, again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use diptych::{
    Memory, Store,
    process::{Process, ProcessStart},
    store::{Append, Read},
    testing::Clock,
};
use diptych_store::testing::{Call, Reply, WrappedStore};
use tokio::sync::Notify;

use super::orders::{
    Fulfilment, PAY_WITHIN, Pay, Place, counts, events, idle, quick, running, shop,
};

/// A step of a process that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Start,
    Reaction,
    Command,
    Settlement,
    Firing,
    Mark,
}

fn step(append: &Append) -> Option<Step> {
    let source = append.tracking.as_ref().map(|tracking| tracking.source.as_str());
    match append.events.first().map(|event| &*event.event_type) {
        Some("diptych:process-started") => Some(Step::Start),
        Some("diptych:process-action-settled") => Some(Step::Settlement),
        Some("diptych:process-timer-fired") => Some(Step::Firing),
        Some(_) if append.key.is_some() => Some(Step::Command),
        _ if source.is_some_and(|source| source.starts_with("diptych:process:")) => {
            Some(Step::Reaction)
        }
        _ if source.is_some() => Some(Step::Mark),
        _ => None,
    }
}

/// The store of a program that dies before or after its append number `at`.
#[derive(Clone)]
struct Mortal(Arc<Mutex<Life>>, Arc<Notify>);

struct Life {
    appends: u32,
    at: u32,
    after: bool,
    last: Option<Step>,
    died: Option<(Step, bool)>,
}

impl Mortal {
    fn new(at: u32, after: bool) -> Mortal {
        let life = Life { appends: 0, at, after, last: None, died: None };
        Mortal(Arc::new(Mutex::new(life)), Arc::default())
    }

    fn over(&self, store: &Store) -> Store {
        let (before, after) = (self.clone(), self.clone());
        let store = WrappedStore::over(store.clone())
            .before(move |call| {
                let is_dead = before.before(&call);
                async move {
                    if is_dead {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                }
            })
            .after(move |reply| {
                let is_dead = after.after(&reply);
                async move {
                    if is_dead {
                        std::future::pending::<()>().await;
                    }
                }
            });
        Store::new(store)
    }

    /// Whether the program is dead before this call.
    fn before(&self, call: &Call<'_>) -> bool {
        let mut life = self.0.lock().unwrap();
        if let Call::Append(append) = call
            && life.died.is_none()
            && let Some(step) = step(append)
        {
            life.appends += 1;
            life.last = Some(step);
            if life.appends == life.at && !life.after {
                life.died = Some((step, false));
                self.1.notify_one();
            }
        }
        life.died.is_some()
    }

    /// Whether the program is dead after this call.
    fn after(&self, reply: &Reply<'_>) -> bool {
        let mut life = self.0.lock().unwrap();
        if let Reply::Append(_) = reply
            && life.died.is_none()
            && life.after
            && life.appends >= life.at
            && let Some(step) = life.last
        {
            life.died = Some((step, true));
            self.1.notify_one();
        }
        life.died.is_some()
    }
}

fn seeds() -> u64 {
    let set = std::env::var("DIPTYCH_KILLS");
    set.map_or(20, |text| text.parse().expect("DIPTYCH_KILLS"))
}

const ORDERS: u64 = 24;

/// A quarter of the orders is not paid, and a quarter is out of stock.
fn number(order: u64) -> u64 {
    match order % 4 {
        1 => 1_000_000 + order,
        _ => order,
    }
}

#[tokio::test]
async fn a_process_that_is_killed_at_each_step_does_everything_once() {
    let mut points = BTreeMap::new();
    for seed in 0..seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let (store, clock) = (Store::new(Memory::new()), Clock::new());
        let client = shop(&store, &clock).start().await.unwrap();
        let mut pays = Vec::new();
        for order in 1..=ORDERS {
            client.execute(Place { order: number(order) }).await.unwrap();
            if order % 4 != 0 {
                pays.push(number(order));
            }
        }
        // A program that lives for a few appends, and then another one.
        let mut killed = 0;
        loop {
            let mortal = Mortal::new(random.u32(1..12), random.bool());
            let mut options = quick();
            options.reactions_per_commit = random.usize(1..6);
            options.instances_in_memory = random.usize(1..40);
            options.reactions_without_mark = random.u64(1..8);
            options.commands_at_once = random.usize(1..6);
            let builder = shop(&mortal.over(&store), &clock);
            let builder = builder.process_with::<Fulfilment>(ProcessStart::Beginning, options);
            let life = async {
                let app = builder.start().await.unwrap();
                if killed > 4 {
                    for order in pays.drain(..) {
                        client.execute(Pay { order }).await.unwrap();
                    }
                }
                if killed > 8 {
                    clock.set(Clock::new().now().saturating_add(PAY_WITHIN * 2));
                }
                idle(&app).await;
                app
            };
            let is_dead = tokio::select! {
                _ = mortal.1.notified() => true,
                _ = life => false,
            };
            if is_dead {
                killed += 1;
                let point = mortal.0.lock().unwrap().died.unwrap();
                *points.entry(point).or_insert(0) += 1;
                continue;
            }
            if killed > 8 {
                break;
            }
            // It lived until there was nothing to do: the next event comes.
            killed = killed.max(4) + 1;
        }
        let app = running(&store, &clock).await;
        until_timers_fired(&app, &store).await;
        check(&store, seed).await;
        app.stop().await.unwrap();
    }
    let seen: BTreeSet<_> = points.keys().copied().collect();
    for step in [Step::Start, Step::Reaction, Step::Command, Step::Settlement, Step::Firing] {
        for after in [false, true] {
            assert!(
                seen.contains(&(step, after)),
                "no kill at {step:?}, after {after}: {points:?}"
            );
        }
    }
    assert!(points.keys().any(|(step, _)| *step == Step::Mark), "{points:?}");
}

async fn until_timers_fired(app: &diptych::App, store: &Store) {
    super::orders::until("all orders have ended", || async {
        idle(app).await;
        let shipped = counts(store, "order-shipped").await.len() as u64;
        shipped + counts(store, "order-cancelled").await.len() as u64 == ORDERS
    })
    .await;
    idle(app).await;
}

async fn check(store: &Store, seed: u64) {
    let shipped = counts(store, "order-shipped").await;
    let cancelled = counts(store, "order-cancelled").await;
    let fired = events(store, &["diptych:process-timer-fired"]).await;
    let settled = events(store, &["diptych:process-action-settled"]).await;
    for order in 1..=ORDERS {
        let name = number(order).to_string();
        let (ships, cancels) = match order % 4 {
            0 | 1 => (None, Some(&1)),
            _ => (Some(&1), None),
        };
        assert_eq!(shipped.get(&name), ships, "seed {seed}, order {name}");
        assert_eq!(cancelled.get(&name), cancels, "seed {seed}, order {name}");
    }
    assert_eq!(fired.len() as u64, ORDERS / 4, "seed {seed}");
    assert_eq!(settled.len() as u64, ORDERS / 4, "seed {seed}");
    let mut triggers = BTreeSet::new();
    for (_, event) in events(store, &["diptych:process-reacted"]).await {
        let reaction: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        let place = (reaction["instance"].to_string(), reaction["trigger"].to_string());
        assert!(triggers.insert(place), "seed {seed}: a second reaction: {reaction}");
    }
    // Three reactions for a shipped order: placed, paid and shipped. The others have four.
    assert_eq!(triggers.len() as u64, ORDERS / 2 * 3 + ORDERS / 4 * 4 + ORDERS / 4 * 3);
    let source = format!("diptych:process:{}:0", Fulfilment::NAME);
    let tracked = store.tracked(&source).await.unwrap().unwrap();
    assert!(tracked.position <= store.head().position());
    drop(store.read(&diptych::Filter::everything(), Read::all()).await.unwrap());
}
