//! The end of a store that is closed or fails while handles exist: each wait gets an error.

use super::{
    Suite,
    probe::{Probe, one, parse, plain},
};
use crate::{
    append::Append,
    error::{AppendError, SubscribeError},
    position::Position,
    subscribe::{Delivery, SubscribeOptions},
};

fn ended(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    probe.put(plain(3));
    probe.end();
    probe
}

pub(super) fn an_ended_store_accepts_no_commits(suite: &Suite<'_>) {
    let probe = ended(suite);
    for append in [one(), Append::events(plain(2))] {
        let answer = probe.append(append);
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    }
    assert_eq!(probe.head(), 3);
}

pub(super) fn an_ended_store_ends_its_head(suite: &Suite<'_>) {
    let probe = ended(suite);
    let head = probe.store.head();
    assert!(head.ended().is_some());
    assert_eq!(head.position(), Position::new(3));
    // A wait for a published position succeeds, and a wait for a later one is an error.
    assert!(probe.wait("head", head.after(2.into())).is_ok());
    assert!(probe.wait("head", head.after(3.into())).is_err());
}

pub(super) fn the_end_wakes_waiters(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(3));
    let head = probe.store.head();
    let waits = probe.parallel(4, |number, probe| {
        if number == 0 {
            probe.end();
            return true;
        }
        probe.wait("head", head.after(3.into())).is_err()
    });
    assert!(waits.iter().all(|ended| *ended));
}

pub(super) fn a_synced_commit_stays_synced_after_the_end(suite: &Suite<'_>) {
    let probe = suite.probe();
    let accepted = probe.append(one()).unwrap();
    let sync = accepted.sync.clone();
    probe.synced(accepted);
    probe.end();
    assert!(probe.wait("sync", sync.wait()).is_ok());
}

pub(super) fn the_end_answers_every_wait_for_a_sync(suite: &Suite<'_>) {
    let probe = suite.probe();
    let synced = probe.parallel(6, |number, probe| {
        if number == 0 {
            assert!(probe.eventually(|| probe.head() >= 20), "nothing is published");
            probe.end();
            return 0;
        }
        let mut last = 0;
        while let Ok(accepted) = probe.append(one()) {
            // Each wait ends, with a durable commit or an error.
            match probe.wait("sync", accepted.synced()) {
                Ok(committed) => last = committed.last.get(),
                Err(_) => break,
            }
        }
        last
    });
    let last = synced.into_iter().max().unwrap_or(0);
    assert!(probe.head() >= last, "{last} was synced and is not published");
}

pub(super) fn the_end_ends_a_subscription_with_an_error(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(5));
    let mut subscription =
        probe.store.subscribe(parse("*"), Position::START, SubscribeOptions::default());
    let mut delivered = 0;
    loop {
        match probe.wait("subscription", subscription.next()).unwrap() {
            Delivery::Batch(batch) => delivered += batch.len(),
            Delivery::CaughtUp { .. } => break,
            Delivery::FellBehind { .. } => {}
        }
    }
    assert_eq!(delivered, 5);
    let answers = probe.parallel(2, |number, probe| {
        if number == 0 {
            probe.end();
            return None;
        }
        let options = SubscribeOptions::default();
        let mut live = probe.store.subscribe(parse("*"), 5.into(), options);
        let mut deliveries = (0..10).map(|_| probe.wait("subscription", live.next()));
        deliveries.find_map(Result::err)
    });
    for error in answers.into_iter().skip(1) {
        expect_end(&error.expect("it ends"), 5);
    }
    expect_end(&probe.wait("subscription", subscription.next()).unwrap_err(), 5);
}

fn expect_end(error: &SubscribeError, at: u64) {
    let (SubscribeError::Ended { after, .. } | SubscribeError::Read { after, .. }) = error;
    assert_eq!(after.get(), at, "the error has the position to continue after");
}
