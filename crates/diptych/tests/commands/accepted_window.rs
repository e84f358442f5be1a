//! Commands that follow each other without waiting for the disk: decided over what is accepted
//! and not synced, answered when it is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use diptych::{App, CommandError, ExecuteError, Store, store::Unavailable};
use diptych_log::disk::simulated::{Operation, SimulatedDisk};

use crate::support::{
    bank::{self, Deposited, Withdrawn, deposit, open, withdraw},
    call_hooks::{Moment, around},
    manual_sync::{self, Held, Rig, begin, positions, raw, rejected, send},
    school::{self, compare, compare_back, end, join, join_both, leave, offer, order, visit},
};

#[test]
fn commands_on_one_boundary_are_accepted_without_a_sync() {
    let rig = Rig::new();
    let syncs = rig.disk.count(Operation::Sync);
    let mut opened = send(rig.app.execute(open("a")));
    let mut moved: Vec<_> =
        (1..=50).map(|amount| send(rig.app.execute(deposit("a", amount)))).collect();
    // All of it was deposited and none of it is durable.
    let mut drawn = send(rig.app.execute(withdraw("a", 1275)));
    assert_eq!((rig.head(), rig.disk.count(Operation::Sync)), (0, syncs));
    opened.waits();
    moved.iter_mut().for_each(Held::waits);
    rig.flush();
    assert_eq!(rig.disk.count(Operation::Sync), syncs + 1);
    assert_eq!(positions(&opened.done().unwrap()), (1, 1));
    for (at, moved) in (2..).zip(&mut moved) {
        assert_eq!(positions(&moved.done().unwrap()), (at, at));
    }
    assert_eq!(positions(&drawn.done().unwrap()), (52, 52));
    assert_eq!(rig.app.stats().conflicts, 0);
}

#[test]
fn folds_and_boundaries_that_overlap_see_what_the_others_wrote() {
    let rig = Rig::new();
    let app = &rig.app;
    let mut taken = vec![
        send(app.execute(offer("a", 1))),
        send(app.execute(offer("b", 2))),
        send(app.execute(join("a", "ann"))),
    ];
    let mut full = send(app.execute(join_both(["b", "a"], "bob")));
    taken.push(send(app.execute(join("b", "bob"))));
    taken.push(send(app.execute(leave("a", "ann"))));
    let mut joined = send(app.execute(join_both(["a", "b"], "bob")));
    taken.push(send(app.execute(join_both(["a", "b"], "cid"))));
    taken.push(send(app.execute(visit("b"))));
    let mut compared =
        [send(app.execute(compare("b", "cid"))), send(app.execute(compare("a", "ann")))];
    let mut back = send(app.execute(compare_back("a", "cid")));
    taken.push(send(app.execute(end("a"))));
    let mut ended = send(app.execute(visit("a")));
    assert_eq!((rig.head(), app.stats().conflicts), (0, 0));
    rig.flush();
    let places: Vec<_> = taken.iter_mut().map(|sent| positions(&sent.done().unwrap())).collect();
    assert_eq!(places, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 7), (8, 8), (9, 9)]);
    assert_eq!(rejected(full.done()), school::No::Full);
    assert_eq!(rejected(joined.done()), school::No::Joined);
    assert_eq!(rejected(ended.done()), school::No::NotOpen);
    compared.iter_mut().for_each(|sent| assert!(sent.done().unwrap().is_empty()));
    assert!(back.done().unwrap().is_empty());
    assert_eq!(app.stats().conflicts, 0);
}

/// Once, a state in the cache did not know what a command with another fold had written to its
/// tag, as soon as that was durable: the next command ran into it, and waited for a sync.
#[test]
fn what_another_fold_wrote_is_known_also_when_it_is_durable() {
    let rig = Rig::new();
    let mut sent = [send(rig.app.execute(offer("a", 1))), send(rig.app.execute(join("a", "ann")))];
    rig.flush();
    sent.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
    let mut left = send(rig.app.execute(leave("a", "ann")));
    rig.flush();
    left.done().unwrap();
    let mut joined = send(rig.app.execute(join("a", "bob")));
    rig.flush();
    joined.done().unwrap();
    assert_eq!(rig.app.stats().conflicts, 0);
}

#[test]
fn a_boundary_of_types_alone_sees_what_is_not_synced() {
    let rig = Rig::new();
    let names = ["a", "b", "c", "d"];
    let mut offered = names.map(|name| send(rig.app.execute(offer(name, 1))));
    let mut enough = send(rig.app.execute(offer("e", 1)));
    let mut again = send(rig.app.execute(offer("d", 1)));
    rig.flush();
    offered.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
    assert_eq!(rejected(enough.done()), school::No::Enough);
    assert_eq!(rejected(again.done()), school::No::Offered);
}

/// It holds for the very first commands of an app too, and for one that keeps no states.
#[test]
fn an_app_without_a_cache_sees_what_is_not_synced() {
    let rig = Rig::with(SimulatedDisk::new(1), |builder| builder.cache_bytes(0));
    let mut opened = send(rig.app.execute(open("a")));
    let mut moved = send(rig.app.execute(deposit("a", 5)));
    let mut drawn = send(rig.app.execute(withdraw("a", 6)));
    rig.flush();
    assert_eq!(positions(&opened.done().unwrap()), (1, 1));
    assert_eq!(positions(&moved.done().unwrap()), (2, 2));
    assert_eq!(rejected(drawn.done()), bank::No::Overdrawn { balance: 5, amount: 6 });
}

#[test]
fn what_rests_on_an_event_is_answered_when_that_event_is_durable() {
    let rig = Rig::new();
    let _opened = send(rig.app.execute(open("a")).key("open"));
    let mut rejection = send(rig.app.execute(open("a")));
    let mut empty = send(rig.app.execute(deposit("a", 0)));
    let mut again = send(rig.app.execute(open("a")).key("open"));
    for _ in 0..3 {
        rejection.waits();
        empty.waits();
        again.waits();
    }
    assert_eq!(rig.head(), 0);
    rig.flush();
    assert_eq!(rejected(rejection.done()), bank::No::AlreadyOpen);
    let empty = empty.done().unwrap();
    assert!(empty.is_empty());
    assert_eq!(empty.last().get(), 1, "it rests on the account being open");
    assert_eq!(positions(&again.done().unwrap()), (1, 1));
}

/// What does not rest on anything new need not wait for others.
#[test]
fn an_answer_that_rests_on_durable_events_alone_comes_at_once() {
    let rig = Rig::new();
    let mut opened = send(rig.app.execute(open("a")));
    rig.flush();
    opened.done().unwrap();
    let _other = send(rig.app.execute(open("b")));
    assert_eq!(rejected(begin(rig.app.execute(open("a"))).done()), bank::No::AlreadyOpen);
    assert!(begin(rig.app.execute(deposit("a", 0))).done().unwrap().is_empty());
    assert_eq!(rejected(begin(rig.app.execute(deposit("c", 1))).done()), bank::No::NotOpen);
}

#[test]
fn a_duplicate_that_the_rule_would_let_through_waits_for_the_first() {
    let rig = Rig::new();
    let mut opened = send(rig.app.execute(open("a")));
    rig.flush();
    opened.done().unwrap();
    let mut first = send(rig.app.execute(deposit("a", 5)).key("k"));
    let mut second = begin(rig.app.execute(deposit("a", 5)).key("k"));
    // A refusal is answered when it is durable; without threads the log sees to that itself.
    let receipt = second.done().unwrap();
    assert_eq!((positions(&receipt), rig.head()), ((2, 2), 2));
    assert_eq!(first.done().unwrap(), receipt);
}

#[test]
fn a_failed_sync_leaves_everything_accepted_unknown_and_confirms_nothing() {
    let rig = Rig::new();
    let app = &rig.app;
    let mut opened = send(app.execute(open("a")).key("open"));
    let mut moved = send(app.execute(deposit("a", 5)));
    let mut offered = send(app.execute(offer("x", 1)));
    let mut rejection = send(app.execute(open("a")));
    let mut empty = send(app.execute(deposit("a", 0)));
    let mut again = send(app.execute(open("a")).key("open"));
    rig.fail();
    for (sent, at) in [(&mut opened, 1), (&mut moved, 2)] {
        let Err(ExecuteError::Failed(CommandError::OutcomeUnknown(unknown))) = sent.done() else {
            panic!()
        };
        assert_eq!((unknown.first.get(), unknown.last.get()), (at, at));
    }
    let Err(ExecuteError::Failed(CommandError::OutcomeUnknown(unknown))) = offered.done() else {
        panic!()
    };
    assert_eq!(unknown.first.get(), 3);
    for sent in [&mut rejection, &mut empty, &mut again] {
        let answer = sent.done();
        let failed = matches!(
            answer,
            Err(ExecuteError::Failed(CommandError::Unavailable(Unavailable::Failed { .. })))
        );
        assert!(failed, "{answer:?}");
    }
    for _ in 0..2 {
        let later = begin(app.execute(deposit("a", 1))).done();
        assert!(
            matches!(later, Err(ExecuteError::Failed(CommandError::Unavailable(_)))),
            "{later:?}"
        );
        let later = begin(app.execute(open("b"))).done();
        assert!(
            matches!(later, Err(ExecuteError::Failed(CommandError::Unavailable(_)))),
            "{later:?}"
        );
        let later = begin(app.execute(open("a")).key("open")).done();
        assert!(
            matches!(later, Err(ExecuteError::Failed(CommandError::Unavailable(_)))),
            "{later:?}"
        );
    }
}

/// What survives is a prefix of what was accepted, each commit whole; and the same commands sent
/// again under their keys bring the log to where it would be without the crash.
#[test]
fn after_a_failed_sync_a_prefix_survives_and_sending_again_completes_it() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let rig = Rig::on(SimulatedDisk::new(seed));
        let mut offered = send(rig.app.execute(offer("a", 1)).key("0"));
        rig.flush();
        offered.done().unwrap();
        // Larger than a sector, so that each can be torn.
        let note = "n".repeat(700);
        let accept = |rig: &Rig| {
            vec![
                begin(rig.app.execute(offer("b", 1)).key("1").extra("n", &note)),
                begin(rig.app.execute(join_both(["a", "b"], "ann")).key("2").extra("n", &note)),
                begin(rig.app.execute(leave("a", "ann")).key("3").extra("n", &note)),
                begin(rig.app.execute(join("a", "bob")).key("4").extra("n", &note)),
            ]
        };
        let mut sent = accept(&rig);
        sent.iter_mut().for_each(Held::waits);
        rig.fail();
        for sent in &mut sent {
            assert!(matches!(
                sent.done(),
                Err(ExecuteError::Failed(CommandError::OutcomeUnknown(_)))
            ));
        }
        drop(sent);
        let rig = rig.after_power_loss(seed);
        let all = [
            "course-offered",
            "course-offered",
            "place-taken",
            "place-taken",
            "place-left",
            "place-taken",
        ];
        let left = rig.types();
        assert!([1, 2, 4, 5, 6].contains(&left.len()), "seed {seed}: torn: {left:?}");
        assert_eq!(left, all[..left.len()], "seed {seed}");
        lengths.insert(left.len());
        let mut sent = accept(&rig);
        sent.iter_mut().for_each(|sent| drop(sent.poll()));
        rig.flush();
        // What was answered already must not be polled again: send once more.
        drop(sent);
        let places = accept(&rig)
            .iter_mut()
            .map(|sent| positions(&sent.done().unwrap()))
            .collect::<Vec<_>>();
        assert_eq!(places, [(2, 2), (3, 4), (5, 5), (6, 6)], "seed {seed}");
        assert_eq!(rig.types(), all, "seed {seed}");
    }
    assert!(lengths.len() > 1, "the seeds do not differ");
}

#[test]
fn a_commit_whose_future_was_dropped_is_there_and_is_seen() {
    let rig = Rig::new();
    drop(send(rig.app.execute(open("a"))));
    drop(send(rig.app.execute(deposit("a", 5))));
    let mut over = send(rig.app.execute(withdraw("a", 6)));
    rig.flush();
    assert_eq!(rejected(over.done()), bank::No::Overdrawn { balance: 5, amount: 6 });
    assert_eq!(rig.types(), ["account-opened", "money-deposited"]);
}

fn drawn(amount: u64) -> diptych::store::RawEvent {
    raw("money-withdrawn", &Withdrawn { account: "a".to_owned(), amount }, &["account:a"])
}

fn deposited(account: &str, amount: u64) -> diptych::store::RawEvent {
    let event = Deposited { account: account.to_owned(), amount };
    raw("money-deposited", &event, &[&format!("account:{account}")])
}

/// The app knows its own commits only; those of others, on the same boundary and not durable
/// either, are noticed by the store.
#[test]
fn a_decision_never_misses_another_writer() {
    // The other one writes before all of the app's commits, between them, or after.
    for at in 0..4 {
        let rig = Rig::new();
        let mut opened = send(rig.app.execute(open("a")));
        let mut moved = send(rig.app.execute(deposit("a", 10)));
        rig.flush();
        opened.done().unwrap();
        moved.done().unwrap();
        let mut sent = Vec::new();
        for step in 0..4 {
            if step == at {
                rig.write(drawn(10));
            }
            if step < 3 {
                let mut moved = begin(rig.app.execute(deposit("a", 1)));
                // It may be refused first, and the log writes then: so it may be done.
                sent.extend(moved.poll().is_pending().then_some(moved));
            }
        }
        let mut over = begin(rig.app.execute(withdraw("a", 4)));
        assert!(over.poll().is_pending() || rig.head() == 6);
        rig.flush();
        sent.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
        let mut over = begin(rig.app.execute(withdraw("a", 4)));
        assert_eq!(rejected(over.done()), bank::No::Overdrawn { balance: 3, amount: 4 }, "{at}");
        assert_eq!(rig.head(), 6, "{at}: the first was rejected too");
    }
}

/// Between commits of the app stands one that it does not know. Who has to know waits, and
/// decides only once, over all of it.
#[test]
fn what_was_waited_for_is_in_the_decision() {
    let rig = Rig::new();
    let mut first = [begin(rig.app.execute(offer("a", 2))), begin(rig.app.execute(offer("b", 2)))];
    first.iter_mut().for_each(Held::waits);
    rig.flush();
    first.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
    rig.write(deposited("z", 1));
    let mut ordered = send(rig.app.execute(order("a", "ann")));
    // The student's events begin above the gap.
    let mut left = send(rig.app.execute(leave("a", "ann")));
    let mut joined = send(rig.app.execute(join("a", "bob")));
    assert_eq!(rig.app.stats().accepted, 3, "one waits");
    rig.flush();
    assert_eq!(positions(&ordered.done().unwrap()), (4, 4));
    left.waits();
    joined.waits();
    rig.flush();
    left.done().unwrap();
    joined.done().unwrap();
    assert_eq!(rig.app.stats().conflicts, 0);
}

/// Once, a rejection could rest on two states of which one was older than the other: one waited
/// while something that concerns both was accepted.
#[test]
fn two_states_of_one_rejection_are_of_one_moment() {
    let rig = Rig::new();
    let mut offered = send(rig.app.execute(offer("a", 2)));
    rig.flush();
    offered.done().unwrap();
    rig.write(deposited("z", 1));
    // Above the gap, so that the student has to be waited for. The course has not.
    let mut ordered = send(rig.app.execute(order("b", "ann")));
    let mut compared = send(rig.app.execute(compare("a", "ann")));
    rig.flush();
    let mut both = send(rig.app.execute(order("a", "ann")));
    compared.waits();
    rig.flush();
    let answer = compared.done();
    assert!(answer.as_ref().is_ok_and(diptych::Receipt::is_empty), "{answer:?}");
    ordered.done().unwrap();
    both.done().unwrap();
}

/// The same where the newer one is beyond a commit of somebody else that concerns the older one.
#[test]
fn two_states_of_one_rejection_are_of_one_moment_beyond_a_gap() {
    let rig = Rig::new();
    let mut sent: Vec<_> =
        ["x", "y", "a", "b"].map(|name| send(rig.app.execute(offer(name, 9)))).into();
    sent.extend(["x", "y"].map(|name| send(rig.app.execute(join(name, "ann")))));
    rig.flush();
    sent.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
    let ended = school::Course { course: "a".to_owned() };
    rig.write(raw("course-ended", &ended, &["course:a"]));
    let mut third = send(rig.app.execute(join("b", "ann")));
    // Too busy with the third course, and before that the course was open: but never both.
    let mut fourth = send(rig.app.execute(join("a", "ann")));
    rig.flush();
    assert_eq!(rejected(fourth.done()), school::No::NotOpen);
    third.done().unwrap();
}

#[test]
fn two_apps_on_one_log_never_miss_each_other() {
    let rig = Rig::new();
    let other = manual_sync::now(App::over(rig.log.clone()).start()).unwrap();
    let mut sent = Vec::new();
    sent.push(send(rig.app.execute(open("a"))));
    for round in 0..20 {
        let app = if round % 2 == 0 { &other } else { &rig.app };
        let mut moved = begin(app.execute(deposit("a", 1)));
        sent.extend(moved.poll().is_pending().then_some(moved));
    }
    let mut over = begin(other.execute(withdraw("a", 21)));
    let over = match over.poll() {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => {
            rig.flush();
            over.done()
        }
    };
    assert!(matches!(over, Err(ExecuteError::Rejected(_))), "{over:?}");
    rig.flush();
    let balance: u64 = rig.types().iter().filter(|name| *name == "money-deposited").count() as u64;
    let answer = rejected(begin(rig.app.execute(withdraw("a", 1_000))).done());
    assert_eq!(answer, bank::No::Overdrawn { balance, amount: 1_000 });
}

/// Once, what was accepted before the app had seen that its store syncs late was not known to
/// what came next, where the state was not at hand.
#[test]
fn a_store_that_begins_to_sync_late_is_noticed() {
    let disk = SimulatedDisk::new(1);
    let (log, eager) = (manual_sync::open(&disk), Arc::new(AtomicBool::new(true)));
    let (inner, flushes) = (log.clone(), eager.clone());
    let store = around(Store::new(log.clone()), move |moment| {
        if moment == Moment::AfterAppend && flushes.load(Ordering::Relaxed) {
            inner.blocking().flush().unwrap();
        }
        std::future::ready(())
    });
    let app = manual_sync::now(App::over(store).cache_bytes(0).start()).unwrap();
    for number in 0..200 {
        begin(app.execute(open(&number.to_string()))).done().unwrap();
    }
    eager.store(false, Ordering::Relaxed);
    let mut opened = send(app.execute(open("a")));
    let mut moved = send(app.execute(deposit("a", 5)));
    assert_eq!(app.stats().accepted, 201, "the second waits until it knows the first");
    log.blocking().flush().unwrap();
    opened.done().unwrap();
    moved.waits();
    let mut drawn = send(app.execute(withdraw("a", 5)));
    assert_eq!(app.stats().accepted, 203, "from now on nobody waits");
    log.blocking().flush().unwrap();
    moved.done().unwrap();
    drawn.done().unwrap();
    assert_eq!(app.stats().conflicts, 0);
}
