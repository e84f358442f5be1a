//! Subscriptions: existing events, then live ones, and an error at the end.

use std::{
    future::Future,
    panic,
    pin::pin,
    task::{Context, Waker},
    thread,
    time::Duration,
};

use super::{
    Suite,
    probe::{Probe, event, parse, plain},
};
use crate::{
    error::{InvalidRequest, ReadError, SubscribeError},
    position::Position,
    subscribe::{Delivery, SubscribeOptions, Subscription},
};

fn options(batch_events: usize, behind_events: u64) -> SubscribeOptions {
    SubscribeOptions { batch_events, behind_events }
}

fn subscribe(probe: &Probe, filter: &str, after: u64) -> Subscription {
    let options = SubscribeOptions::default();
    probe.store.subscribe(parse(filter), after.into(), options)
}

fn next(probe: &Probe, subscription: &mut Subscription) -> Delivery {
    probe.wait("subscription", subscription.next()).expect("the subscription goes on")
}

/// The positions that are delivered until the subscription has caught up with this head.
fn catch_up(probe: &Probe, subscription: &mut Subscription, head: u64) -> Vec<u64> {
    let mut positions = Vec::new();
    let most_deliveries = 10 * (head + 10);
    for _ in 0..most_deliveries {
        match next(probe, subscription) {
            Delivery::Batch(batch) => {
                positions.extend(batch.iter().map(|event| event.position().get()));
            }
            Delivery::CaughtUp { upto } if upto.get() >= head => return positions,
            Delivery::CaughtUp { .. } | Delivery::FellBehind { .. } => {}
        }
    }
    panic!("it did not catch up with {head}; it is at {}", subscription.upto());
}

/// The positions of the next `count` events.
fn follow(probe: &Probe, subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    let most_deliveries = 10 * (count + 10);
    for _ in 0..most_deliveries {
        if let Delivery::Batch(batch) = next(probe, subscription) {
            positions.extend(batch.iter().map(|event| event.position().get()));
        }
        if positions.len() >= count {
            return positions;
        }
    }
    panic!("{count} events were expected, and {positions:?} were delivered");
}

pub(super) fn a_subscription_catches_up_and_goes_live(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(10));
    let mut subscription = subscribe(&probe, "*", 3);
    assert_eq!(catch_up(&probe, &mut subscription, 10), [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(subscription.upto(), Position::new(10));
    probe.put(plain(2));
    assert_eq!(follow(&probe, &mut subscription, 2), [11, 12]);
}

pub(super) fn a_subscription_to_an_empty_log_is_live_at_once(suite: &Suite<'_>) {
    let probe = suite.probe();
    let mut subscription = subscribe(&probe, "type=a", 0);
    let delivery = next(&probe, &mut subscription);
    assert!(matches!(delivery, Delivery::CaughtUp { upto: Position::START }), "{delivery:?}");
    probe.put([event("a", &[])]);
    assert_eq!(follow(&probe, &mut subscription, 1), [1]);
}

pub(super) fn a_waiting_subscription_wakes(suite: &Suite<'_>) {
    let probe = suite.probe();
    let mut subscription = subscribe(&probe, "*", 0);
    catch_up(&probe, &mut subscription, 0);
    let mut context = Context::from_waker(Waker::noop());
    for number in 1..=10 {
        let mut next = pin!(subscription.next());
        assert!(next.as_mut().poll(&mut context).is_pending(), "there is nothing new");
        // One thread waits while another one commits.
        thread::scope(|scope| {
            let waiting = scope.spawn(|| probe.wait("subscription", next));
            probe.put(plain(1));
            let delivery = waiting.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
            match delivery.expect("the subscription goes on") {
                Delivery::Batch(batch) => assert_eq!(batch.upto(), Position::new(number)),
                other => panic!("{other:?}"),
            }
        });
    }
}

pub(super) fn a_selective_subscription_catches_up(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put([event("rare", &["k:1"])]);
    probe.put(plain(50));
    for (filter, expected) in [("type=rare", &[1][..]), ("tag=zzz:1", &[]), ("nothing", &[])] {
        let options = options(4, 1_000);
        let mut subscription = probe.store.subscribe(parse(filter), Position::START, options);
        assert_eq!(catch_up(&probe, &mut subscription, 51), expected, "{filter}");
        assert_eq!(subscription.upto(), Position::new(51), "{filter}");
    }
}

pub(super) fn a_live_subscription_advances_over_other_events(suite: &Suite<'_>) {
    let probe = suite.probe();
    let mut subscription = subscribe(&probe, "type=rare", 0);
    catch_up(&probe, &mut subscription, 0);
    probe.put(plain(5));
    match next(&probe, &mut subscription) {
        Delivery::Batch(batch) => {
            assert!(batch.is_empty());
            assert!(batch.upto() > Position::START, "an empty batch advances");
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn a_subscription_misses_nothing_while_8_writers_append(suite: &Suite<'_>) {
    let probe = suite.probe();
    let (writers, commits) = (8, 15);
    let delivered = probe.parallel(writers + 2, |number, probe| {
        if number < writers {
            let kind = if number % 2 == 0 { "even" } else { "odd" };
            for _ in 0..commits {
                probe.put([event(kind, &[]), event("both", &[])]);
            }
            return Vec::new();
        }
        let filter = if number == writers { "*" } else { "type=even" };
        let options = options(5, 3);
        let mut subscription = probe.store.subscribe(parse(filter), Position::START, options);
        let all = 2 * writers * commits;
        let count = if number == writers { all } else { all / 4 };
        follow(probe, &mut subscription, count)
    });
    assert_eq!(delivered[writers], (1..=240).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(delivered[writers + 1], probe.positions("type=even"));
}

pub(super) fn a_slow_subscription_reports_that_it_fell_behind(suite: &Suite<'_>) {
    let probe = suite.probe();
    let mut subscription = probe.store.subscribe(parse("*"), Position::START, options(100, 3));
    catch_up(&probe, &mut subscription, 0);
    probe.put(plain(3));
    let Delivery::Batch(batch) = next(&probe, &mut subscription) else {
        panic!("3 behind is not too far");
    };
    if batch.len() < 3 {
        follow(&probe, &mut subscription, 3 - batch.len());
    }
    for _ in 0..4 {
        probe.put(plain(1));
    }
    let delivery = next(&probe, &mut subscription);
    assert!(matches!(delivery, Delivery::FellBehind { by: 4 }), "{delivery:?}");
    assert_eq!(catch_up(&probe, &mut subscription, 7).last(), Some(&7));
}

pub(super) fn a_subscription_from_above_the_head_is_an_error(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(2));
    for after in [3, u64::MAX] {
        let mut subscription = subscribe(&probe, "*", after);
        let answer = probe.wait("subscription", subscription.next());
        match answer {
            Err(SubscribeError::Read {
                after: at,
                cause: ReadError::Invalid(InvalidRequest::AboveHead { position, head }),
            }) => {
                assert_eq!((at.get(), position.get(), head.get()), (after, after, 2));
            }
            other => panic!("from {after}: {other:?}"),
        }
    }
}

pub(super) fn a_dropped_wait_loses_no_event(suite: &Suite<'_>) {
    let probe = suite.probe();
    let delivered = probe.parallel(2, |number, probe| {
        if number == 0 {
            for _ in 0..40 {
                probe.put(plain(1));
            }
            return Vec::new();
        }
        let mut subscription = probe.store.subscribe(parse("*"), Position::START, options(3, 5));
        let mut positions = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut tries = 0;
        let all = probe.eventually(|| {
            // The future is dropped, ready or not. A store with an answer needs one poll, and one
            // that asks elsewhere gets a little more time with each try.
            let mut next = pin!(subscription.next());
            let mut polled = next.as_mut().poll(&mut context);
            if polled.is_pending() {
                tries += 1;
                thread::sleep(Duration::from_millis(tries % 50));
                polled = next.as_mut().poll(&mut context);
            }
            if let std::task::Poll::Ready(Ok(Delivery::Batch(batch))) = polled {
                positions.extend(batch.iter().map(|event| event.position().get()));
            }
            positions.len() >= 40
        });
        assert!(all, "events were lost: {positions:?}");
        positions
    });
    assert_eq!(delivered[1], (1..=40).collect::<Vec<_>>());
}

pub(super) fn subscriptions_do_not_take_from_each_other(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(20));
    let everything: Vec<_> = (1..=20).collect();
    let mut subscriptions = [0, 0, 0].map(|after| subscribe(&probe, "*", after));
    for subscription in &mut subscriptions {
        assert_eq!(catch_up(&probe, subscription, 20), everything);
    }
    probe.put(plain(1));
    for subscription in &mut subscriptions {
        assert_eq!(follow(&probe, subscription, 1), [21]);
    }
}

pub(super) fn a_subscription_continues_where_another_stopped(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put((0..30).map(|number| event(if number % 5 == 0 { "a" } else { "b" }, &[])));
    let (mut positions, mut after) = (Vec::new(), Position::START);
    for _ in 0..40 {
        let mut subscription = probe.store.subscribe(parse("type=a"), after, options(2, 100));
        if let Delivery::Batch(batch) = next(&probe, &mut subscription) {
            positions.extend(batch.iter().map(|event| event.position().get()));
        }
        after = subscription.upto();
    }
    assert_eq!(positions, [1, 6, 11, 16, 21, 26]);
    assert_eq!(after, Position::new(30));
}
