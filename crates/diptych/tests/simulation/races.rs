//! Many tasks on many threads execute commands with overlapping boundaries. No rule is ever broken.
//! Commands with disjoint boundaries never conflict.

use std::{collections::BTreeMap, sync::Arc};

use diptych::{
    App, CommandError, EventStore, ExecuteError, Filter, Log, LogOptions, Memory, Position, Receipt,
};
use diptych_log::disk::simulated::Random;
use diptych_store::{Read, Store};

use crate::support::{
    bank::{deposit, open, withdraw},
    call_hooks::yielding,
    model::{World, account, course, student},
    school::{self, COURSES_EACH, compare, compare_back, join, join_both, leave, offer},
};

const RACES: u64 = 10_000;
const TASKS: u64 = 16;
/// The number of courses that all tasks compete for.
const HOT_COURSES: u64 = 4;
const STUDENTS: u64 = 14;

/// Counts each outcome.
type Outcomes = BTreeMap<String, u64>;

fn outcome(
    answer: Result<Receipt, ExecuteError<school::No>>,
    outcomes: &mut Outcomes,
    receipts: &mut Vec<Receipt>,
) {
    let text = match answer {
        Ok(receipt) if receipt.is_empty() => "nothing".to_owned(),
        Ok(receipt) => {
            receipts.push(receipt);
            "committed".to_owned()
        }
        Err(ExecuteError::Rejected(school::No::Torn)) => panic!("the states are of two positions"),
        Err(ExecuteError::Rejected(no)) => no.to_string(),
        // Other commands may commit first on each attempt. The app reports this and writes nothing.
        Err(ExecuteError::Failed(CommandError::Conflict(_))) => "conflict".to_owned(),
        Err(other) => panic!("{other}"),
    };
    *outcomes.entry(text).or_default() += 1;
}

async fn race(app: App, seed: u64, races: u64) -> (Outcomes, Vec<Receipt>) {
    let mut random = Random::new(seed);
    let (mut outcomes, mut receipts) = (Outcomes::new(), Vec::new());
    for _ in 0..races {
        let number = random.below(HOT_COURSES);
        let (first, second) = (course(number), course((number + 1) % HOT_COURSES));
        let who = student(random.below(STUDENTS));
        let answer = match random.below(12) {
            0..=5 => app.execute(join(&first, &who)).await,
            6 => app.execute(join_both([&first, &second], &who)).await,
            7..=9 => app.execute(leave(&first, &who)).await,
            10 => app.execute(compare(&first, &who)).await,
            _ => app.execute(compare_back(&first, &who)).await,
        };
        outcome(answer, &mut outcomes, &mut receipts);
    }
    (outcomes, receipts)
}

/// Folds the whole log with the model, which panics if a rule was broken.
async fn world(store: &Store) -> (World, u64) {
    let (mut world, mut at) = (World::default(), Position::START);
    let mut events = 0;
    while at < store.head().position() {
        let batch = store.read(&Filter::everything(), Read::after(at)).await.unwrap();
        batch.iter().for_each(|event| world.apply(&event));
        events += batch.len() as u64;
        at = batch.upto();
    }
    (world, events)
}

async fn races_on(apps: Vec<App>) {
    for number in 0..HOT_COURSES {
        let capacity = 6 + 2 * number;
        apps[0].execute(offer(&course(number), capacity)).await.unwrap();
    }
    let apps = Arc::new(apps);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let app = apps[task as usize % apps.len()].clone();
            tokio::spawn(race(app, task, RACES / TASKS))
        })
        .collect();
    let (mut outcomes, mut receipts) = (Outcomes::new(), Vec::new());
    for task in tasks {
        let (more, given) = task.await.unwrap();
        more.into_iter().for_each(|(text, times)| *outcomes.entry(text).or_default() += times);
        receipts.extend(given);
    }
    let (_, events) = world(apps[0].store()).await;
    // Exactly one receipt exists for each commit.
    let mut positions: Vec<_> =
        receipts.iter().flat_map(|receipt| receipt.first().get()..=receipt.last().get()).collect();
    positions.sort_unstable();
    assert_eq!(positions, (HOT_COURSES + 1..=events).collect::<Vec<_>>());
    for kind in ["committed", "nothing"] {
        assert!(outcomes[kind] > RACES / 100, "too few outcomes of kind {kind}");
    }
    for no in [school::No::Full, school::No::Busy, school::No::Joined, school::No::NotJoined] {
        assert!(outcomes[&no.to_string()] > 0, "no command was rejected with {no}");
    }
    assert!(outcomes.get("conflict").copied().unwrap_or(0) < RACES / 100, "{outcomes:?}");
    const { assert!(COURSES_EACH < HOT_COURSES as usize) };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_race_breaks_a_rule_in_one_app_in_memory() {
    // The task yields before each call to the store.
    let store = yielding(Memory::new());
    races_on(vec![App::over(store).start().await.unwrap()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_race_breaks_a_rule_in_one_app_on_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path()).unwrap().start().await.unwrap();
    races_on(vec![app.clone()]).await;
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_race_breaks_a_rule_in_three_apps_on_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let mut apps = Vec::new();
    for cache_bytes in [0, 4_000, 1 << 20] {
        let store = yielding(log.clone());
        apps.push(App::over(store).cache_bytes(cache_bytes).start().await.unwrap());
    }
    races_on(apps).await;
}

/// Each task executes commands on an account of its own.
async fn accounts(apps: &[App]) {
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let app = apps[number as usize % apps.len()].clone();
            tokio::spawn(async move {
                let own = account(number);
                app.execute(open(&own)).await.unwrap();
                for amount in 1..=40 {
                    app.execute(deposit(&own, amount)).await.unwrap();
                    app.execute(withdraw(&own, amount)).await.unwrap();
                    let over = app.execute(withdraw(&own, 1)).await;
                    assert!(matches!(over, Err(ExecuteError::Rejected(_))), "{over:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn boundaries_that_do_not_overlap_never_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let on_log = App::over(log.clone()).start().await.unwrap();
    let in_memory = App::over(yielding(Memory::new())).start().await.unwrap();
    for app in [on_log, in_memory] {
        accounts(std::slice::from_ref(&app)).await;
        assert_eq!((app.stats().conflicts, app.stats().accepted), (0, TASKS * 81));
        assert_eq!(world(app.store()).await.1, TASKS * 81);
    }
    // Several apps do not conflict either, because each account belongs to one app.
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let mut apps = Vec::new();
    for _ in 0..3 {
        apps.push(App::over(log.clone()).start().await.unwrap());
    }
    accounts(&apps).await;
    assert_eq!(EventStore::head(&log).position().get(), TASKS * 81);
    assert_eq!(apps.iter().map(|app| app.stats().conflicts).sum::<u64>(), 0);
}

/// All commands use one account in one app. Each command decides on the events of the command
/// before it, even if the task yields before each call to the store.
async fn one_account(app: App) {
    app.execute(open("a")).await.unwrap();
    app.execute(deposit("a", 100)).await.unwrap();
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.execute(withdraw("a", 1)).await.is_ok() })
        })
        .collect();
    let mut drawn = 0;
    for task in tasks {
        drawn += u64::from(task.await.unwrap());
    }
    assert_eq!((drawn, app.store().head().position().get()), (100, 102));
    assert_eq!(app.stats().conflicts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_of_one_app_on_one_boundary_never_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    one_account(App::over(yielding(log)).start().await.unwrap()).await;
    let store = yielding(Memory::new());
    one_account(App::over(store).cache_bytes(0).start().await.unwrap()).await;
}
