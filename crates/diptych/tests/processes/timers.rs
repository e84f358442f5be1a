use std::time::Duration;

use diptych::{
    Memory, Store,
    process::{Process, ProcessStart, ReactionContext, Reactions, Trigger},
    testing::Clock,
};

use super::{
    orders::{Order, PAY_WITHIN, Pay, Place, counts, events, idle, quick, running, shop, until},
    reactions::text,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const FIRED: &str = "diptych:process-timer-fired";

async fn fired(store: &Store) -> usize {
    events(store, &[FIRED]).await.len()
}

/// Lets the timers be checked several times.
async fn checked() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test]
async fn a_timer_fires_once_and_never_early_when_the_clock_jumps() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let set_at = clock.now();
    let app = running(&store, &clock).await;
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    let due = set_at.saturating_add(PAY_WITHIN);
    clock.set(due.saturating_sub(Duration::from_secs(1)));
    checked().await;
    assert_eq!(fired(&store).await, 0, "a second early");
    clock.set(due.saturating_sub(HOUR));
    checked().await;
    assert_eq!(fired(&store).await, 0, "the clock went back an hour");
    clock.set(due.saturating_add(HOUR));
    until("the timer fired", || async { fired(&store).await == 1 }).await;
    // Back before the due time, and over it again.
    clock.set(due.saturating_sub(HOUR));
    checked().await;
    clock.set(due.saturating_add(HOUR * 2));
    checked().await;
    idle(&app).await;
    assert_eq!(fired(&store).await, 1);
    assert_eq!(counts(&store, "order-cancelled").await["1"], 1);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_late_timer_tells_both_times() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let due = clock.now().saturating_add(PAY_WITHIN);
    let app = running(&store, &clock).await;
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    app.stop().await.unwrap();
    clock.set(due.saturating_add(HOUR));
    let app = running(&store, &clock).await;
    until("the timer fired", || async { fired(&store).await == 1 }).await;
    let event = text(&events(&store, &[FIRED]).await[0].1.payload);
    let late = due.saturating_add(HOUR);
    assert!(event.contains(&format!(r#""due":"{due}","fired_at":"{late}""#)), "{event}");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_timer_does_not_fire() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = running(&store, &clock).await;
    app.execute(Place { order: 1 }).await.unwrap();
    app.execute(Pay { order: 1 }).await.unwrap();
    idle(&app).await;
    clock.advance(PAY_WITHIN * 2);
    checked().await;
    assert_eq!(fired(&store).await, 0);
    app.stop().await.unwrap();
}

/// Reminds three times, an hour apart, by one timer.
#[derive(Default)]
struct Reminder {
    reminded: u32,
}

impl Process for Reminder {
    type Event = Order;
    const NAME: &'static str = "reminder";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Trigger::Timer(_) = trigger {
            self.reminded += 1;
        }
    }

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger {
            Trigger::Event(event) => {
                Reactions::none().set_timer("remind", event.recorded_at.saturating_add(HOUR))
            }
            Trigger::Timer(fired) if self.reminded < 3 => {
                Reactions::none().set_timer("remind", fired.due.saturating_add(HOUR))
            }
            _ => Reactions::none().end(),
        }
    }
}

#[tokio::test]
async fn a_timer_that_is_set_anew_after_it_fired_fires_again() {
    let clock = Clock::new();
    let store = Store::new(diptych::testing::ControlledClock::new(clock.clone()));
    let start = || {
        let app = shop(&store, &clock).process_with::<Reminder>(ProcessStart::Beginning, quick());
        app.start()
    };
    let app = start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    for count in 1..=3 {
        clock.advance(HOUR);
        until("it reminds", || async { fired(&store).await == count }).await;
    }
    idle(&app).await;
    app.stop().await.unwrap();
    // A restart, and a long time, make no further one.
    clock.advance(HOUR * 24);
    let app = start().await.unwrap();
    idle(&app).await;
    checked().await;
    assert_eq!(fired(&store).await, 3);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn many_timers_that_are_due_at_once_all_fire_once() {
    const ORDERS: u64 = 3_000;
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = running(&store, &clock).await;
    for order in 1..=ORDERS {
        drop(app.execute(Place { order }).submit().await);
    }
    idle(&app).await;
    until("the wheel has all", || async { app.processes()[0].timers as u64 == ORDERS }).await;
    clock.advance(PAY_WITHIN);
    until("all fired", || async { fired(&store).await as u64 == ORDERS }).await;
    idle(&app).await;
    let cancelled = counts(&store, "order-cancelled").await;
    assert_eq!(cancelled.len() as u64, ORDERS);
    assert!(cancelled.values().all(|count| *count == 1));
    app.stop().await.unwrap();
}
