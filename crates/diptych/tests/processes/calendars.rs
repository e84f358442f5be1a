//! Timers by a calendar and a time zone.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use diptych::{
    Memory, Store, Timestamp,
    process::{
        CivilTime, Due, Process, ProcessStart, ReactionContext, Reactions, Trigger,
        calendar::{BusinessDays, CalendarError, ToSpan, Zone, civil::time},
    },
    testing::{Clock, ControlledClock, given_process},
};

use super::{
    orders::{Cancel, Order, Place, events, idle, quick, shop, until},
    reactions::text,
};

const FIRED: &str = "diptych:process-timer-fired";
const HOUR: Duration = Duration::from_secs(60 * 60);

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn new_york() -> Result<Zone, CalendarError> {
    Zone::named("America/New_York")
}

/// A store whose events are recorded by the same clock.
fn store(clock: &Clock) -> Store {
    Store::new(ControlledClock::new(clock.clone()))
}

/// Answers an order at 09:00 on the next business day.
#[derive(Default)]
struct Answering;

impl Process for Answering {
    type Event = Order;
    const NAME: &'static str = "answering";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger {
            Trigger::Event(event) => {
                let days = BusinessDays::default();
                let at = event.recorded_at;
                let due =
                    new_york().and_then(|zone| zone.business_day(at, &days, time(9, 0, 0, 0)));
                Reactions::none().set_timer("answer", due)
            }
            _ => Reactions::none().end(),
        }
    }
}

#[tokio::test]
async fn a_timer_of_a_calendar_stores_its_instant_and_the_civil_time_that_was_asked_for() {
    let clock = Clock::new();
    // A Friday evening in New York. The clocks go forward on Sunday.
    clock.set(instant("2026-03-06T23:00:00Z"));
    let store = store(&clock);
    let app = shop(&store, &clock).process_with::<Answering>(ProcessStart::Now, quick());
    let app = app.start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    let reacted = events(&store, &["diptych:process-reacted"]).await;
    let civil = r#""civil":{"zone":"America/New_York","time":"2026-03-09T09:00:00"}"#;
    let set = format!(r#"{{"timer":"answer","due":"2026-03-09T13:00:00Z",{civil}}}"#);
    assert!(text(&reacted[0].1.payload).contains(&set), "{}", text(&reacted[0].1.payload));
    clock.set(instant("2026-03-09T13:00:00Z"));
    until("the timer fired", || async { events(&store, &[FIRED]).await.len() == 1 }).await;
    let fired = events(&store, &[FIRED]).await;
    let due = format!(r#""due":"2026-03-09T13:00:00Z",{civil},"fired_at":"2026-03-09T13:00:00Z""#);
    assert!(text(&fired[0].1.payload).contains(&due), "{}", text(&fired[0].1.payload));
    app.stop().await.unwrap();
}

#[test]
fn a_reaction_counts_from_its_trigger_and_not_from_the_clock_of_the_machine() {
    let monday = instant("2026-03-09T13:00:00Z");
    let given = || given_process::<Answering>().at(instant("2026-03-06T23:00:00Z"));
    given().and(Order::Placed { order: 1 }).then_due("answer", monday);
    given().and(Order::Placed { order: 1 }).then_due("answer", monday);
}

/// Fires each day at 01:30 and at 02:30 in New York. One day of the year has the first twice, and
/// one lacks the second.
#[derive(Default)]
struct Daily;

impl Process for Daily {
    type Event = Order;
    const NAME: &'static str = "daily";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        let next = |name: &str, after| {
            let time = if name == "01:30" { time(1, 30, 0, 0) } else { time(2, 30, 0, 0) };
            let due = new_york().and_then(|zone| zone.every_day(after, time));
            Reactions::none().set_timer(name, due)
        };
        match trigger {
            Trigger::Event(event) => {
                next("01:30", event.recorded_at).and(next("02:30", event.recorded_at))
            }
            Trigger::Timer(fired) => next(&fired.event.timer, fired.event.due),
            _ => Reactions::none(),
        }
    }
}

/// The firings for each civil time in New York.
async fn days(store: &Store) -> BTreeMap<String, u32> {
    let mut days = BTreeMap::new();
    for (_, event) in events(store, &[FIRED]).await {
        let event = text(&event.payload);
        let (_, civil) = event.split_once(r#""time":""#).unwrap();
        *days.entry(civil[..16].to_owned()).or_insert(0) += 1;
    }
    days
}

#[tokio::test]
async fn a_daily_timer_fires_once_a_day_over_both_changes_of_summer_time_and_jumps_of_the_clock() {
    for from in ["2026-03-07T12:00:00Z", "2026-10-31T12:00:00Z"] {
        let clock = Clock::new();
        clock.set(instant(from));
        let store = store(&clock);
        let app = shop(&store, &clock).process_with::<Daily>(ProcessStart::Beginning, quick());
        let app = app.start().await.unwrap();
        app.execute(Place { order: 1 }).await.unwrap();
        idle(&app).await;
        for _ in 0..60 {
            // Two hours forward, then one back, over three days.
            clock.advance(HOUR * 2);
            idle(&app).await;
            clock.set(clock.now().saturating_sub(HOUR));
            idle(&app).await;
        }
        let first = new_york().unwrap().civil(instant(from)).unwrap().date();
        clock.advance(HOUR * 12);
        until("the third day came", || async { days(&store).await.len() == 6 }).await;
        idle(&app).await;
        let days = days(&store).await;
        let expected = (1..=3_i64).flat_map(|days| {
            let day = first.checked_add(days.days()).unwrap();
            ["01:30", "02:30"].map(|time| (format!("{day}T{time}"), 1))
        });
        assert_eq!(days, expected.collect());
        app.stop().await.unwrap();
    }
}

/// Has a mistake in the name of its zone.
#[derive(Default)]
struct LostZone;

impl Process for LostZone {
    type Event = Order;
    const NAME: &'static str = "lost";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        let at = trigger.recorded_at();
        let zone = Zone::named("America/Gotham");
        Reactions::none()
            .set_timer("answer", zone.and_then(|zone| zone.every_day(at, time(9, 0, 0, 0))))
    }
}

#[tokio::test]
async fn a_due_time_that_is_an_error_parks_the_instance_with_its_text() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = shop(&store, &clock).process_with::<LostZone>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    let letters = app.process("lost").unwrap().letters().await.unwrap();
    let expected = r#"the timer "answer" has no due time: "America/Gotham" is no time zone"#;
    assert!(letters[0].reason.contains(expected), "{}", letters[0].reason);
    app.stop().await.unwrap();
}

/// Sets a timer as an older release did, whose rules of the zone were an hour off.
#[derive(Default)]
struct MovedTimer;

static OLD_RULES: Mutex<Option<Timestamp>> = Mutex::new(None);

impl Process for MovedTimer {
    type Event = Order;
    const NAME: &'static str = "moved";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger {
            Trigger::Event(_) => {
                let old = OLD_RULES.lock().unwrap_or_else(PoisonError::into_inner).unwrap();
                let mut due = Due::from(old);
                due.civil = Some(CivilTime::new("America/New_York", "2026-07-01T09:00:00"));
                Reactions::none().set_timer("open", due)
            }
            Trigger::Timer(fired) => {
                let fired = &fired.event;
                let now = fired.civil.as_ref().and_then(|asked| {
                    Zone::named(&asked.zone).ok()?.at(asked.time.parse().ok()?).ok()
                });
                match now {
                    Some(due) if due.at > fired.due => Reactions::none().set_timer("open", due),
                    _ => {
                        let reason = "open".to_owned();
                        Reactions::none().send("cancel-order", &Cancel { order: 1, reason })
                    }
                }
            }
            _ => Reactions::none(),
        }
    }
}

#[test]
fn a_timer_keeps_its_instant_when_the_rules_change_and_its_process_can_set_it_anew() {
    let (old, new) = (instant("2026-07-01T12:00:00Z"), instant("2026-07-01T13:00:00Z"));
    *OLD_RULES.lock().unwrap() = Some(old);
    let given = given_process::<MovedTimer>().at(instant("2026-06-01T00:00:00Z"));
    let given = given.and(Order::Placed { order: 1 }).then_due("open", old);
    let moved = given.when_it_is(old).then_due("open", new);
    let reason = "open".to_owned();
    let opened = Reactions::none().send("cancel-order", &Cancel { order: 1, reason });
    moved.when_it_is(new).then(opened);
}
