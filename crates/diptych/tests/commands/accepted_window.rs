//! Commands that follow each other without waiting for the disk. The app decides them over events
//! that are accepted but not synced, and answers them after the sync.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use diptych::{App, CommandError, ExecuteError, Store, store::Unavailable};
use diptych_log::disk::simulated::{Operation, SimulatedDisk};

use crate::support::{
    bank::{self, Deposited, Withdrawn, deposit, open, withdraw},
    call_hooks::{Moment, around},
    manual_sync::{self, HeldFuture, Rig, begin, positions, raw, rejected, send},
    school::{self, compare, compare_back, end, join, join_both, leave, offer, order, visit},
};

#[test]
fn commands_on_one_boundary_are_accepted_without_a_sync() {
    let rig = Rig::new();
    let syncs = rig.disk.count(Operation::Sync);
    let mut opened = send(rig.app.execute(open("a")));
    let mut moved: Vec<_> =
        (1..=50).map(|amount| send(rig.app.execute(deposit("a", amount)))).collect();
    // The whole amount is deposited, but no event is durable yet.
    let mut drawn = send(rig.app.execute(withdraw("a", 1275)));
    assert_eq!((rig.head(), rig.disk.count(Operation::Sync)), (0, syncs));
    opened.waits();
    moved.iter_mut().for_each(HeldFuture::waits);
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

/// Regression: a command with another fold wrote to the tag of a cached state. As soon as that
/// event was durable, the cached state missed it. The next command got a conflict and waited for a
/// sync.
#[test]
fn a_cached_state_knows_the_durable_events_of_another_fold() {
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

/// The rule also holds for the first commands of an app, and for an app that caches no states.
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
fn an_answer_that_rests_on_an_event_waits_until_it_is_durable() {
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
    assert_eq!(empty.last().get(), 1, "the answer rests on the opening of the account");
    assert_eq!(positions(&again.done().unwrap()), (1, 1));
}

/// An answer that rests on no new event does not wait for the commits of others.
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
fn a_duplicate_that_the_rule_would_accept_waits_for_the_first() {
    let rig = Rig::new();
    let mut opened = send(rig.app.execute(open("a")));
    rig.flush();
    opened.done().unwrap();
    let mut first = send(rig.app.execute(deposit("a", 5)).key("k"));
    let mut second = begin(rig.app.execute(deposit("a", 5)).key("k"));
    // The log reports a used key only when the first commit is durable. Without threads, the log
    // syncs by itself before it answers.
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

/// A prefix of the accepted commits survives, and each of them is whole. When the callers send the
/// same commands again under their keys, the log ends as it would have without the crash.
#[test]
fn after_a_failed_sync_a_prefix_survives_and_sending_again_completes_it() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let rig = Rig::on(SimulatedDisk::new(seed));
        let mut offered = send(rig.app.execute(offer("a", 1)).key("0"));
        rig.flush();
        offered.done().unwrap();
        // Each commit is larger than a sector, so that a crash can tear it.
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
        sent.iter_mut().for_each(HeldFuture::waits);
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
        // A future that has answered must not be polled again, so send the commands once more.
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
fn a_commit_whose_future_was_dropped_is_written_and_seen() {
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

/// The app knows only its own accepted commits. The store detects accepted commits of other
/// writers on the same boundary.
#[test]
fn a_decision_never_misses_another_writer() {
    // The other writer writes before all commits of the app, between them, or after them.
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
                // The store may refuse the first append, and then the log syncs. So the command
                // may be done already.
                sent.extend(moved.poll().is_pending().then_some(moved));
            }
        }
        let mut over = begin(rig.app.execute(withdraw("a", 4)));
        assert!(over.poll().is_pending() || rig.head() == 6);
        rig.flush();
        sent.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
        let mut over = begin(rig.app.execute(withdraw("a", 4)));
        assert_eq!(rejected(over.done()), bank::No::Overdrawn { balance: 3, amount: 4 }, "{at}");
        assert_eq!(rig.head(), 6, "{at}: the first withdrawal was rejected too");
    }
}

/// Between the commits of the app is a commit that the app does not know. A command whose state
/// depends on the gap waits, and then decides only once, over all events.
#[test]
fn a_decision_includes_the_commit_that_it_waited_for() {
    let rig = Rig::new();
    let mut first = [begin(rig.app.execute(offer("a", 2))), begin(rig.app.execute(offer("b", 2)))];
    first.iter_mut().for_each(HeldFuture::waits);
    rig.flush();
    first.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
    rig.write(deposited("z", 1));
    let mut ordered = send(rig.app.execute(order("a", "ann")));
    // The events of the student begin above the gap.
    let mut left = send(rig.app.execute(leave("a", "ann")));
    let mut joined = send(rig.app.execute(join("a", "bob")));
    assert_eq!(rig.app.stats().accepted, 3, "one command waits");
    rig.flush();
    assert_eq!(positions(&ordered.done().unwrap()), (4, 4));
    left.waits();
    joined.waits();
    rig.flush();
    left.done().unwrap();
    joined.done().unwrap();
    assert_eq!(rig.app.stats().conflicts, 0);
}

/// Regression: a rejection could rest on two states, one older than the other. The command waited
/// for one state while a commit that changes both states was accepted.
#[test]
fn two_states_of_one_rejection_are_of_one_moment() {
    let rig = Rig::new();
    let mut offered = send(rig.app.execute(offer("a", 2)));
    rig.flush();
    offered.done().unwrap();
    rig.write(deposited("z", 1));
    // This event of the student is above the gap, so the next command has to wait for the state
    // of the student. It does not have to wait for the state of the course.
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

/// The newer state lies above a commit of another writer. That commit changes the older state.
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
    // With the third course the student is too busy. Before that course, course "a" was open. No
    // moment has both, so the answer must be "not open".
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

/// Regression: an app without a cached state missed a commit that was accepted before the app had
/// noticed that its store syncs late. The next command did not know that commit.
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
    assert_eq!(app.stats().accepted, 201, "the second command waits for the first commit");
    log.blocking().flush().unwrap();
    opened.done().unwrap();
    moved.waits();
    let mut drawn = send(app.execute(withdraw("a", 5)));
    assert_eq!(app.stats().accepted, 203, "from now on no command waits");
    log.blocking().flush().unwrap();
    moved.done().unwrap();
    drawn.done().unwrap();
    assert_eq!(app.stats().conflicts, 0);
}
