//! Many pending timers: jumps of the clock, and starts that read little.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use diptych::{
    App, Memory, Store, Timestamp,
    process::{Process, ProcessOptions, ProcessStart, ReactionContext, Reactions, Trigger},
    testing::Clock,
};
use diptych_store::testing::{Reply, WrappedStore};

use super::{
    orders::{Fulfilment, Order, PAY_WITHIN, Pay, Place, events, idle, quick, shop, until},
    reactions::text,
};

const FIRED: &str = "diptych:process-timer-fired";
const NOTED: &str = "diptych:process-timers-noted";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Sets a timer for each order, as many minutes after the start of the clock as its number.
#[derive(Default)]
struct Minutes;

impl Process for Minutes {
    type Event = Order;
    const NAME: &'static str = "minutes";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Order::Placed { order }) => {
                let minutes = u32::try_from(*order).unwrap();
                let due = Clock::new().now().saturating_add(MINUTE * minutes);
                Reactions::none().set_timer("minute", due)
            }
            _ => Reactions::none(),
        }
    }
}

/// The due time and the time of firing, for each instance.
async fn fired(store: &Store) -> BTreeMap<String, Vec<(Timestamp, Timestamp)>> {
    let mut fired = BTreeMap::<_, Vec<_>>::new();
    for (_, event) in events(store, &[FIRED]).await {
        let event = text(&event.payload);
        let part = |name: &str| {
            let (_, part) = event.split_once(&format!(r#""{name}":""#)).unwrap();
            part.split_once('"').unwrap().0.to_owned()
        };
        let times = (part("due").parse().unwrap(), part("fired_at").parse().unwrap());
        fired.entry(part("instance")).or_default().push(times);
    }
    fired
}

#[tokio::test]
async fn no_timer_is_lost_or_fires_twice_or_early_when_the_clock_jumps_by_an_hour() {
    const TIMERS: u64 = 300;
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let begin = clock.now();
    let start = || {
        let app = shop(&store, &clock);
        app.process_with::<Minutes>(ProcessStart::Beginning, quick()).start()
    };
    let mut app = start().await.unwrap();
    for order in 1..=TIMERS {
        app.execute(Place { order }).await.unwrap();
    }
    idle(&app).await;
    let mut random = fastrand::Rng::with_seed(19);
    let mut latest = begin;
    while latest < begin.saturating_add(MINUTE * 300) {
        let now = match random.u32(0..4) {
            0 => clock.now().saturating_sub(HOUR).max(begin),
            1 => clock.now().saturating_add(HOUR),
            _ => clock.now().saturating_add(MINUTE * random.u32(1..30)),
        };
        // Some jumps happen while no program runs.
        if random.u32(0..4) == 0 {
            app.stop().await.unwrap();
            clock.set(now);
            app = start().await.unwrap();
        } else {
            clock.set(now);
        }
        latest = latest.max(now);
        let passed = latest.since(begin).unwrap().as_secs() / 60;
        let expected = usize::try_from(passed.min(TIMERS)).unwrap();
        until("all that are due fired", || async { fired(&store).await.len() == expected }).await;
        idle(&app).await;
    }
    let fired = fired(&store).await;
    assert_eq!(fired.len() as u64, TIMERS, "none is lost");
    for (instance, times) in &fired {
        let [(due, at)] = times.as_slice() else { panic!("{instance} fired twice: {times:?}") };
        assert!(due <= at, "{instance} fired early: {due} {at}");
    }
    let late = fired.values().filter(|times| times[0].0 < times[0].1).count();
    assert!(late > 100, "{late} of them were late, and tell both times");
    app.stop().await.unwrap();
}

/// Notes the pending timers after few events.
fn noting() -> ProcessOptions {
    let mut options = quick();
    options.timer_events_without_note = 50;
    options
}

async fn start<P: Process>(store: &Store, clock: &Clock) -> App {
    let app = shop(store, clock).process_with::<P>(ProcessStart::Beginning, noting());
    app.start().await.unwrap()
}

/// The store, with the number of events that are read by the tag of timers.
fn counted(store: &Store) -> (Store, Arc<Mutex<usize>>) {
    let count = Arc::new(Mutex::new(0));
    let counter = count.clone();
    let wrapped = WrappedStore::over(store.clone()).after(move |reply| {
        if let Reply::Read(filter, _, Ok(batch)) = reply
            && format!("{filter:?}").contains("process-timers:")
        {
            *counter.lock().unwrap() += batch.len();
        }
        async {}
    });
    (Store::new(wrapped), count)
}

#[tokio::test]
async fn a_start_reads_the_timer_events_since_the_last_note() {
    const PAID: u64 = 400;
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = start::<Fulfilment>(&store, &clock).await;
    app.execute(Place { order: 1_000 }).await.unwrap();
    for order in 1..=PAID {
        app.execute(Place { order }).await.unwrap();
        app.execute(Pay { order }).await.unwrap();
        if order % 40 == 0 {
            idle(&app).await;
        }
    }
    idle(&app).await;
    app.stop().await.unwrap();
    assert!(events(&store, &[NOTED]).await.len() > 4);
    let (again, count) = counted(&store);
    let app = start::<Fulfilment>(&again, &clock).await;
    until("the old timer is known", || async { app.processes()[0].timers == 1 }).await;
    idle(&app).await;
    // Each paid order has two such events. Those since a note are read, and those of one page.
    let read = *count.lock().unwrap();
    assert!(read < 200, "{read} of {} events were read", PAID * 2);
    clock.advance(PAY_WITHIN);
    until("the old timer fired", || async { events(&store, &[FIRED]).await.len() == 1 }).await;
    idle(&app).await;
    app.stop().await.unwrap();
}

#[tokio::test]
async fn more_pending_timers_than_a_note_holds_are_all_found_by_a_start() {
    const TIMERS: u64 = 1_300;
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = start::<Minutes>(&store, &clock).await;
    for order in 1..=TIMERS {
        drop(app.execute(Place { order }).submit().await);
    }
    idle(&app).await;
    // The timers that are due first are not those that were set first in a note.
    clock.advance(MINUTE * 30);
    until("some fired", || async { fired(&store).await.len() == 30 }).await;
    idle(&app).await;
    app.stop().await.unwrap();
    let notes = events(&store, &[NOTED]).await;
    let last = text(&notes.last().unwrap().1.payload);
    assert_eq!(last.matches("set_at").count(), 1_024, "{}", &last[..80]);
    let app = start::<Minutes>(&store, &clock).await;
    let left = usize::try_from(TIMERS).unwrap() - 30;
    until("all are known", || async { app.processes()[0].timers == left }).await;
    clock.advance(MINUTE * 1_300);
    until("all fired", || async { fired(&store).await.len() as u64 == TIMERS }).await;
    idle(&app).await;
    assert!(fired(&store).await.values().all(|times| times.len() == 1));
    app.stop().await.unwrap();
}
