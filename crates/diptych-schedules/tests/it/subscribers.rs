//! Subscriptions beside the writer.

use diptych_log::Log;
use diptych_store::sync::block_on;
use diptych_store::{
    Delivery, Filter, Position, Store, SubscribeError, SubscribeOptions, Subscription, Unavailable,
};
use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};
use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use crate::{
    appends::{Way, caller, join},
    explore::{explore, explore_and_reach},
    log::{OpenLog, options, read_all, small, texts},
};

fn subscribe(log: &Log) -> Subscription {
    let (batch_events, behind_events) = (thread_rng().gen_range(1..4), 2);
    let options = SubscribeOptions { batch_events, behind_events };
    Store::new(log.clone()).subscribe(Filter::everything(), Position::START, options)
}

/// The events of a subscription up to this number, or to its end.
fn follow(mut subscription: Subscription, events: usize) -> (Vec<String>, Option<SubscribeError>) {
    let mut seen = Vec::new();
    while seen.len() < events {
        // A wait that is given up loses no event.
        if thread_rng().gen_bool(0.2) {
            let mut context = Context::from_waker(Waker::noop());
            match pin!(subscription.next()).poll(&mut context) {
                Poll::Ready(delivery) => take(&mut seen, delivery.unwrap()),
                Poll::Pending => {}
            }
            continue;
        }
        match block_on(subscription.next()) {
            Ok(delivery) => take(&mut seen, delivery),
            Err(error) => return (seen, Some(error)),
        }
    }
    (seen, None)
}

fn take(seen: &mut Vec<String>, delivery: Delivery) {
    match delivery {
        Delivery::Batch(batch) => seen.extend(texts(&batch)),
        Delivery::CaughtUp { upto } => assert_eq!(upto.get(), seen.len() as u64),
        Delivery::FellBehind { by } => assert!(by > 2),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn subscribers_follow(options: diptych_log::LogOptions) {
    let log = OpenLog::with(options);
    let subscribers = [subscribe(&log), subscribe(&log)]
        .map(|subscription| thread::spawn(move || follow(subscription, 8)));
    let callers = [
        caller(&log, Way::Commit, &[("a", 2), ("b", 1)]),
        caller(&log, Way::Task, &[("c", 1), ("d", 4)]),
    ];
    let answers = join(callers);
    assert!(answers.iter().all(|(_, _, answer)| answer.is_ok()), "{answers:?}");
    let all = read_all(&log);
    log.note_segments();
    for subscriber in subscribers {
        let (seen, error) = subscriber.join().unwrap();
        assert_eq!(seen, all, "{error:?}");
    }
}

#[test]
fn a_subscriber_gets_each_event_once_in_order_and_does_not_sleep_over_the_last() {
    explore(|| subscribers_follow(options()));
}

#[test]
fn a_subscriber_gets_each_event_once_while_segments_are_sealed() {
    explore_and_reach(&["a segment is sealed"], || subscribers_follow(small()));
}

#[test]
fn a_subscription_ends_with_the_log() {
    explore(|| {
        let log = OpenLog::new();
        let subscriber = thread::spawn({
            let subscription = subscribe(&log);
            move || {
                let mut subscription = subscription;
                let mut seen = Vec::new();
                loop {
                    match block_on(subscription.next()) {
                        Ok(delivery) => take(&mut seen, delivery),
                        Err(error) => return (seen, error),
                    }
                }
            }
        });
        let caller = caller(&log, Way::Append, &[("a", 2), ("b", 1)]);
        let closer = thread::spawn({
            let log = log.handle();
            move || log.close().unwrap()
        });
        drop(join([caller]));
        closer.join().unwrap();
        let (seen, error) = subscriber.join().unwrap();
        assert!(log.after_power_loss().starts_with(&seen));
        let cause = match error {
            SubscribeError::Ended { cause, .. } => cause,
            SubscribeError::Read {
                cause: diptych_store::ReadError::Unavailable(cause), ..
            } => cause,
            other => panic!("{other}"),
        };
        assert!(matches!(cause, Unavailable::Closed), "{cause}");
    });
}
