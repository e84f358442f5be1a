//! A program that runs a process is killed at each named point: in memory, where nothing of it
//! goes on, and over a folder by SIGKILL. Each key has one effect outside, or is listed as unknown.
//!
//! `DIPTYCH_PROCESS_SEEDS=500` runs more seeds, of which some run over a folder. A seed has one
//! life for each named point, ten orders for each life, and about a thousand reactions.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ops::Range,
};

use diptych::{
    App, Memory, Store,
    process::{CallAnswer, GatewayOptions, WaitingCall},
};
use diptych_log::{Log, LogOptions};

use super::{
    child::{FuseWork, ProgramEnd},
    fuse::{Death, Fuse, Point, mortal_store, points},
    provider::{Keys, Provider},
    shop::{counts, ended, events, idle, live, policy, quick, shop, until, varied},
};

/// Orders that come in each life. Each way of an order is there twice.
const ORDERS: u64 = 10;

/// The number of seeds in memory. Other tests take a part.
pub(crate) fn seeds() -> u64 {
    let text = env::var("DIPTYCH_PROCESS_SEEDS");
    text.map_or(12, |text| text.parse().expect("DIPTYCH_PROCESS_SEEDS"))
}

pub(crate) fn gateway_policy(keys: Keys) -> GatewayOptions {
    match keys {
        Keys::Once => policy().idempotent(),
        Keys::Ignored | Keys::Listed => policy(),
    }
}

fn keys(seed: u64) -> Keys {
    [Keys::Ignored, Keys::Listed, Keys::Once][seed as usize % 3]
}

/// The lives of a seed: the point at which each one ends, at which visit, and its orders.
fn lives(seed: u64) -> Vec<(Point, u32, Range<u64>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut points = points();
    // A process starts once, so only the first lives can die there.
    random.shuffle(&mut points[2..]);
    let mut lives = Vec::new();
    for (point, from) in points.into_iter().zip((0..).step_by(ORDERS as usize)) {
        lives.push((point, random.u32(1..3), from..from + ORDERS));
    }
    for life in &mut lives[..2] {
        life.1 = 1;
    }
    lives
}

#[tokio::test]
async fn a_program_that_dies_at_any_named_point_has_each_effect_once() {
    let mut seen: BTreeSet<Point> = BTreeSet::new();
    for seed in 0..seeds() {
        let (folder, store) = (tempfile::tempdir().unwrap(), Store::new(Memory::new()));
        let mut random = fastrand::Rng::with_seed(seed);
        let file = folder.path().join("effects");
        let mut orders = 0;
        for (point, nth, batch) in lives(seed) {
            orders = batch.end;
            let fuse = Fuse::new(Some((point, nth)), Death::Stands);
            let mortal = mortal_store(store.clone(), fuse.clone());
            let provider = Provider::new(file.clone(), keys(seed), fuse.clone());
            let gateway = gateway_policy(keys(seed));
            let app = shop(Store::new(mortal), provider, gateway, varied(&mut random));
            let life = async {
                let app = app.start().await.unwrap();
                live(&app, &store, batch, &fuse).await;
                app.stop().await.unwrap();
            };
            tokio::select! {
                () = fuse.died() => drop(seen.insert(point)),
                () = life => {}
            }
        }
        let provider = Provider::new(file, keys(seed), Fuse::none());
        finish(&store, &provider, keys(seed), orders, seed).await;
    }
    let missed: Vec<_> = points().into_iter().filter(|point| !seen.contains(point)).collect();
    assert!(missed.is_empty(), "no program died at {missed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_over_a_folder_has_each_effect_once_though_sigkill_comes_at_any_named_point() {
    let mut seen: BTreeSet<Point> = BTreeSet::new();
    for seed in 0..seeds().div_ceil(12) {
        let folder = tempfile::tempdir().unwrap();
        let mut orders = 0;
        for (point, nth, batch) in lives(seed) {
            let work = FuseWork {
                folder: folder.path(),
                point,
                nth,
                seed,
                orders: batch,
                keys: keys(seed),
            };
            orders = work.orders.end;
            if work.run() == ProgramEnd::Killed {
                seen.insert(point);
            }
        }
        let log = Log::open(folder.path().join("log"), LogOptions::default()).unwrap();
        let provider = Provider::new(folder.path().join("effects"), keys(seed), Fuse::none());
        let store = Store::new(log.clone());
        finish(&store, &provider, keys(seed), orders, seed).await;
        log.close().unwrap();
    }
    let missed = points().into_iter().filter(|point| !seen.contains(point)).count();
    // A second visit of a point does not come in each life.
    assert!(missed <= 6, "programs died at {seen:?} only");
}

/// Runs the process to its end, and checks that everything happened once.
async fn finish(store: &Store, provider: &Provider, keys: Keys, orders: u64, seed: u64) {
    let builder = shop(store.clone(), provider.clone(), gateway_policy(keys), quick());
    let app = builder.start().await.unwrap();
    live(&app, store, 0..orders, &Fuse::none()).await;
    idle(&app).await;
    let control = app.process("till").unwrap();
    let waiting = control.waiting_calls().await.unwrap();
    assert!(waiting.iter().all(|call| call.reason.contains("may have been sent")));
    if keys != Keys::Ignored {
        assert_eq!(waiting, [], "seed {seed}: the provider knows");
    }
    // Calls that are not listed have their effect. Those that are may have it.
    let charged: BTreeMap<_, _> = by_order(provider);
    for order in 0..orders {
        let is_listed = waiting.iter().any(|call| call.instance == format!("order:{order}"));
        let expected = u32::from(!matches!(order % 5, 1 | 3));
        let found = charged.get(&order).copied().unwrap_or(0);
        assert!(found == expected || (is_listed && found == 0), "seed {seed}, {order}: {found}");
    }
    answer_calls(&app, provider, &waiting).await;
    until("all orders have ended", || async { ended(store).await.len() as u64 == orders }).await;
    idle(&app).await;
    check(store, provider, orders, &format!("seed {seed}")).await;
    app.stop().await.unwrap();
}

/// The number of effects for each order.
fn by_order(provider: &Provider) -> BTreeMap<u64, u32> {
    let mut charged = BTreeMap::new();
    for ((_, order), effects) in provider.effects() {
        *charged.entry(order).or_insert(0) += effects;
    }
    charged
}

/// Answers the calls that wait as an operator does who asks the provider.
pub(crate) async fn answer_calls(app: &App, provider: &Provider, waiting: &[WaitingCall]) {
    let control = app.process("till").unwrap();
    for call in waiting {
        let order: u64 = call.instance.trim_start_matches("order:").parse().unwrap();
        let answer = match provider.has(&call.key) {
            true => CallAnswer::Answered(Provider::answer(order)),
            false => CallAnswer::SendAgain,
        };
        control.answer_call(call, answer, "ann", "the provider says so").await.unwrap();
    }
}

/// Checks that every order has ended once, and was charged once if it had to be.
pub(crate) async fn check(store: &Store, provider: &Provider, orders: u64, of: &str) {
    let charged = by_order(provider);
    let (paid, shipped) = (counts(store, "order-paid").await, counts(store, "order-shipped").await);
    let cancelled = counts(store, "order-cancelled").await;
    for order in 0..orders {
        let expected = match order % 5 {
            0 | 4 => [1, 1, 1, 0],
            1 | 3 => [0, 0, 0, 1],
            _ => [1, 1, 0, 1],
        };
        let found = [&charged, &paid, &shipped, &cancelled];
        let found = found.map(|counts| counts.get(&order).copied().unwrap_or(0));
        assert_eq!(found, expected, "{of}: charges, payments, shippings, ends of {order}");
    }
    let mut triggers = BTreeSet::new();
    for (_, event) in events(store, &["diptych:process-reacted"]).await {
        let reaction: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        let place = (reaction["instance"].to_string(), reaction["trigger"].to_string());
        assert!(triggers.insert(place), "{of}: a second reaction: {reaction}");
    }
    let mut fired: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (at, event) in events(store, &["diptych:process-timer-fired"]).await {
        let firing: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        fired.entry(firing["instance"].to_string()).or_default().push(format!("{at}: {firing}"));
    }
    for (instance, firings) in &fired {
        assert_eq!(firings.len(), 1, "{of}: {instance} fired twice: {firings:?}");
    }
    assert_eq!(fired.len() as u64, orders / 5, "{of}: timers");
}
