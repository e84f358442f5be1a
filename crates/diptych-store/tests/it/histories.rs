//! The checker of histories: right stores pass it, and each wrong store is named by its mistake.
//!
//! `DIPTYCH_HISTORIES` sets how many histories of each right store are checked, and
//! `DIPTYCH_HISTORY_CALLS` how many calls each client makes between two kills.

mod durable;
mod tampered;

use std::{
    collections::BTreeSet,
    env,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use diptych_store::{
    Append, LogIdentity, Memory, Position, Store, Unavailable,
    testing::{
        Call, Setup, TestStore, WrappedStore,
        history::{
            Answer, Deployment, Drill, History, HistoryLine, Mix, Question, Survival, Violation,
            ViolationKind, check,
        },
        wrong::{self, Flaw},
    },
};
use durable::Durable;
use tampered::{Lie, tampered};

const HISTORIES: u64 = 3;
const CALLS: u64 = 150;
/// How the subscriptions of clients read.
const SUBSCRIPTION_LIMIT: usize = 5;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn seeds() -> Range<u64> {
    0..number("DIPTYCH_HISTORIES", HISTORIES)
}

/// A drill of right stores.
fn drill(seed: u64, kills: u64) -> Drill {
    Drill { kills, calls: number("DIPTYCH_HISTORY_CALLS", CALLS), ..Drill::new(seed) }
}

/// Only appends.
const APPENDS: Mix =
    Mix { appends: 1, reads: 0, look_ups: 0, heads: 0, commits: 0, subscriptions: 0 };
const READS: Mix = Mix { reads: 2, ..APPENDS };
const HEADS: Mix = Mix { heads: 1, ..APPENDS };
const SUBSCRIPTIONS: Mix = Mix { subscriptions: 3, ..APPENDS };

fn one_client(mix: Mix) -> Drill {
    Drill { clients: 1, kills: 0, calls: 300, mix, ..Drill::new(7) }
}

fn is_right(drill: &Drill, deployment: &mut dyn Deployment) {
    let history = drill.run_and_check(deployment, Survival::EveryCommit);
    println!("{} calls, {} commits", history.operations().len(), history.commits().len());
}

fn listed(violations: &[Violation]) -> String {
    let lines: Vec<_> = violations.iter().take(20).map(Violation::to_string).collect();
    format!("{} violations\n{}", violations.len(), lines.join("\n"))
}

/// The drill shows the mistake of the store, and besides it only its consequences.
fn is_named(
    drill: &Drill,
    deployment: &mut dyn Deployment,
    kind: ViolationKind,
    consequences: &[ViolationKind],
) {
    let violations = check(&drill.run(deployment), Survival::EveryCommit);
    names(&violations, kind, consequences);
}

fn names(violations: &[Violation], kind: ViolationKind, consequences: &[ViolationKind]) {
    let found: BTreeSet<_> = violations.iter().map(|violation| violation.kind).collect();
    assert!(found.contains(&kind), "not {kind:?}: {}", listed(violations));
    let other =
        |violation: &&Violation| violation.kind != kind && !consequences.contains(&violation.kind);
    let others: Vec<_> = violations.iter().filter(other).cloned().collect();
    assert!(others.is_empty(), "besides {kind:?}: {}", listed(&others));
}

#[test]
fn a_memory_store_has_a_right_history() {
    for seed in seeds() {
        is_right(&drill(seed, 0), &mut TestStore::new(Memory::new()));
    }
}

#[test]
fn a_store_that_is_killed_has_a_right_history() {
    for seed in seeds() {
        is_right(&drill(seed, 3), &mut Durable::new());
    }
}

#[test]
fn handles_that_are_behind_have_a_right_history() {
    for seed in seeds() {
        let mut store =
            Durable::new().wrapped(|store, _| Store::new(WrappedStore::over(store).behind()));
        is_right(&drill(seed, 2), &mut store);
    }
}

/// Flaws of the conformance suite, each with the promise that it breaks most.
const FLAWS: &[(Flaw, ViolationKind)] = &[
    (Flaw::ReversesCommits, ViolationKind::HalfCommit),
    (Flaw::WritesEmptyCommits, ViolationKind::ForeignEvent),
    (Flaw::ForgetsMetadata, ViolationKind::ChangedCommit),
    (Flaw::SortsTags, ViolationKind::ChangedCommit),
    (Flaw::WritesBeforeItChecks, ViolationKind::RefusedCommit),
    (Flaw::AnswersOnePositionTooHigh, ViolationKind::WrongReceipt),
    (Flaw::PublishesOneCommitLate, ViolationKind::UnreadableReceipt),
    (Flaw::IdentityChanges, ViolationKind::ChangedIdentity),
    (Flaw::ClockGoesBack, ViolationKind::WrongTime),
    (Flaw::IgnoresConditions, ViolationKind::IgnoredCondition),
    (Flaw::ChecksBeforeTheLock, ViolationKind::StaleCondition),
    (Flaw::ConflictsNameTheFirstMatch, ViolationKind::WrongRefusal),
    (Flaw::ForgetsKeys, ViolationKind::KeyUsedTwice),
    (Flaw::IgnoresDigests, ViolationKind::WrongReceipt),
    (Flaw::TrackingRefusalsSayTheHead, ViolationKind::WrongTracking),
    (Flaw::LastSaysTheFirst, ViolationKind::WrongLookUp),
    (Flaw::CountsCommits, ViolationKind::WrongLookUp),
    (Flaw::RefusesLookUpsAboveTheHead, ViolationKind::UnexpectedError),
    (Flaw::IgnoresDirection, ViolationKind::WrongRead),
    (Flaw::SaysTheBound, ViolationKind::SubscriptionSkips),
    (Flaw::ReadsIncludeAfter, ViolationKind::SubscriptionRepeats),
    (Flaw::SaysTheAskedUpto, ViolationKind::PhantomEvent),
    (Flaw::StampsOnRead, ViolationKind::ChangedEvent),
    (Flaw::FreshHeadIsOneTooLow, ViolationKind::StaleFreshHead),
    (Flaw::CommitsForgetKeys, ViolationKind::ChangedCommit),
    (Flaw::LeavesOutTrackingAlone, ViolationKind::LostCommit),
    (Flaw::JoinsCommits, ViolationKind::WrongCommits),
    (Flaw::ReopeningForgetsKeys, ViolationKind::KeyUsedTwice),
    (Flaw::ReopeningForgetsTags, ViolationKind::WrongLookUp),
];

#[test]
fn a_wrong_store_of_the_conformance_suite_is_named() {
    for (flaw, kind) in FLAWS {
        let mut store = wrong::test_store(Some(*flaw), &Setup::default());
        let violations = check(&Drill::new(1).run(&mut store), Survival::EveryCommit);
        let is_found = violations.iter().any(|violation| violation.kind == *kind);
        assert!(is_found, "{flaw:?}, not {kind:?}: {}", listed(&violations));
    }
}

#[test]
fn a_wrong_store_without_a_flaw_has_a_right_history() {
    for seed in seeds() {
        is_right(&drill(seed, 2), &mut wrong::test_store(None, &Setup::default()));
    }
}

#[test]
fn an_ignored_condition_is_named() {
    let mut store = Durable::new().wrapped(|store, _| {
        let ignoring = WrappedStore::over(store).before(|call| {
            if let Call::Append(append) = call {
                append.conditions.clear();
            }
            async { Ok(()) }
        });
        Store::new(ignoring)
    });
    is_named(&one_client(Mix::default()), &mut store, ViolationKind::IgnoredCondition, &[]);
}

/// The store checks conditions before it takes its lock.
#[test]
fn a_stale_condition_is_named() {
    let mut store = Durable::new().wrapped(|store, _| {
        let log = store.clone();
        let stale = WrappedStore::over(store).before(move |call| {
            if let Call::Append(append) = call {
                let is_refused = append.conditions.iter().any(|condition| {
                    let last = pollster::block_on(log.last(&condition.fail_if, Position::MAX));
                    last.unwrap().is_some_and(|at| at > condition.after)
                });
                if !is_refused {
                    append.conditions.clear();
                }
            }
            async {
                thread::sleep(Duration::from_millis(1));
                Ok(())
            }
        });
        Store::new(stale)
    });
    let drill = Drill { kills: 0, mix: APPENDS, ..Drill::new(3) };
    is_named(&drill, &mut store, ViolationKind::StaleCondition, &[]);
}

#[test]
fn a_key_that_is_forgotten_after_a_kill_is_named() {
    let mut store = Durable::new().damaged(|commits| {
        commits.iter_mut().for_each(|append| append.key = None);
    });
    let consequences =
        [ViolationKind::ChangedCommit, ViolationKind::WrongCommits, ViolationKind::WrongReceipt];
    is_named(&Drill::new(4), &mut store, ViolationKind::KeyUsedTwice, &consequences);
}

fn lose_last(commits: &mut Vec<Append>) {
    let last = commits.iter().rposition(|append| !append.events.is_empty());
    commits.remove(last.unwrap());
}

/// Refusals, receipts and heads of the round rest on the commit that is gone.
const CONSEQUENCES_OF_A_LOSS: [ViolationKind; 7] = [
    ViolationKind::LostCommit,
    ViolationKind::HalfCommit,
    ViolationKind::PhantomEvent,
    ViolationKind::WrongRefusal,
    ViolationKind::WrongReceipt,
    ViolationKind::WrongTracking,
    ViolationKind::UnreadableReceipt,
];

#[test]
fn an_acknowledged_commit_that_is_lost_in_a_kill_is_named() {
    let mut store = Durable::new().damaged(lose_last);
    let drill = Drill { mix: APPENDS, kills: 1, ..Drill::new(5) };
    is_named(&drill, &mut store, ViolationKind::LostCommit, &CONSEQUENCES_OF_A_LOSS);
}

#[test]
fn half_a_commit_after_a_kill_is_named() {
    let mut store = Durable::new().damaged(|commits| {
        let large = commits.iter().rposition(|append| append.events.len() > 1).unwrap();
        commits[large].events.pop();
        commits.truncate(large + 1);
    });
    let drill = Drill { mix: APPENDS, kills: 1, ..Drill::new(6) };
    is_named(&drill, &mut store, ViolationKind::HalfCommit, &CONSEQUENCES_OF_A_LOSS);
}

#[test]
fn a_prefix_may_survive_if_the_epoch_changes() {
    let damaged = || {
        Durable::new().damaged(|commits| {
            let survivors = commits.len() - commits.len() / 5;
            commits.truncate(survivors);
        })
    };
    let drill = drill(8, 2);
    let history = drill.run(&mut damaged().with_new_epochs());
    let violations = check(&history, Survival::Prefix);
    assert!(violations.is_empty(), "{}", listed(&violations));
    let every = check(&history, Survival::EveryCommit);
    assert!(every.iter().any(|violation| violation.kind == ViolationKind::LostCommit));

    let violations = check(&drill.run(&mut damaged()), Survival::Prefix);
    names(&violations, ViolationKind::KeptEpoch, &[]);
}

fn lying(lie: Lie) -> Durable {
    Durable::new().wrapped(move |store, _| Store::new(tampered(store, lie)))
}

#[test]
fn an_event_that_is_read_with_other_bytes_is_named() {
    let drill = one_client(READS);
    is_named(&drill, &mut lying(Lie::OtherBytes), ViolationKind::ChangedEvent, &[]);
}

#[test]
fn an_event_that_is_not_in_the_log_is_named() {
    let drill = one_client(READS);
    is_named(&drill, &mut lying(Lie::OneMoreEvent), ViolationKind::PhantomEvent, &[]);
}

#[test]
fn a_head_that_goes_back_is_named() {
    // A head may also be the first thing that a client sees after its own commit.
    let consequences = [ViolationKind::UnreadableReceipt];
    let drill = one_client(HEADS);
    is_named(&drill, &mut lying(Lie::FirstHead), ViolationKind::HeadWentBack, &consequences);
}

#[test]
fn a_receipt_that_is_not_readable_yet_is_named() {
    let mut store = Durable::new().wrapped(|store, _| {
        let behind = Store::new(WrappedStore::over(store).behind());
        Store::new(tampered(behind, Lie::WritesAlone))
    });
    let drill = Drill { kills: 0, mix: HEADS, ..Drill::new(9) };
    let consequences = [ViolationKind::StaleFreshHead];
    is_named(&drill, &mut store, ViolationKind::UnreadableReceipt, &consequences);
}

/// Every fifth read of a subscription begins at another position.
fn subscriptions_begin(change: fn(Position) -> Position) -> Durable {
    Durable::new().wrapped(move |store, _| {
        let head = store.head();
        let store = WrappedStore::over(store).before(move |call| {
            if let Call::Read(_, read) = call
                && read.limit == SUBSCRIPTION_LIMIT
                && read.after.get() % 5 == 4
                && change(read.after) < head.position()
            {
                read.after = change(read.after);
            }
            async { Ok(()) }
        });
        Store::new(store)
    })
}

#[test]
fn a_subscription_that_skips_an_event_is_named() {
    let mut store = subscriptions_begin(|after| after.plus(1));
    let drill = one_client(SUBSCRIPTIONS);
    is_named(&drill, &mut store, ViolationKind::SubscriptionSkips, &[]);
}

#[test]
fn a_subscription_that_repeats_an_event_is_named() {
    let mut store = subscriptions_begin(Position::before);
    let drill = one_client(SUBSCRIPTIONS);
    is_named(&drill, &mut store, ViolationKind::SubscriptionRepeats, &[]);
}

#[test]
fn a_store_that_stops_without_a_kill_is_named() {
    let mut store = Durable::new().wrapped(|store, _| {
        let calls = AtomicU64::new(0);
        let stopping = WrappedStore::over(store).before(move |call| {
            let has_stopped =
                matches!(call, Call::Append(_)) && calls.fetch_add(1, Ordering::Relaxed) >= 20;
            async move { if has_stopped { Err(Unavailable::Closed.into()) } else { Ok(()) } }
        });
        Store::new(stopping)
    });
    let drill = Drill { kills: 0, ..Drill::new(11) };
    is_named(&drill, &mut store, ViolationKind::UnexpectedError, &[]);
}

/// Two commits change places in time, and keep their positions.
#[test]
fn commits_out_of_their_order_in_time_are_named() {
    let drill = Drill { calls: 60, ..one_client(APPENDS) };
    let history = drill.run(&mut Durable::new());
    let committed: Vec<_> = history
        .operations()
        .into_iter()
        .filter_map(|operation| match (&operation.question, &operation.completed) {
            (Question::Append(append), Some((time, Answer::Committed(receipt))))
                if append.conditions.is_empty() && !append.events.is_empty() =>
            {
                Some((operation.call, operation.invoked, *time, receipt.accepted))
            }
            _ => None,
        })
        .collect();
    let [one, other, ..] = committed[..] else { panic!("hardly any commits") };
    let moved = [(one, other), (other, one)].map(|(from, to)| (from.0, to));
    let lines = history.lines().iter().cloned().map(|mut line| {
        for (call, (_, invoked, completed, accepted)) in moved {
            match &mut line {
                HistoryLine::Invocation(begun) if begun.call == call => begun.time = invoked,
                HistoryLine::Completion(ended) if ended.call == call => {
                    ended.time = completed;
                    if let Answer::Committed(receipt) = &mut ended.answer {
                        receipt.accepted = accepted;
                    }
                }
                _ => {}
            }
        }
        line
    });
    let mut changed = History::default();
    changed.extend(lines);
    let violations = check(&changed, Survival::EveryCommit);
    names(&violations, ViolationKind::RealTimeOrder, &[]);
}

#[test]
fn a_history_survives_its_file() {
    let drill = Drill { calls: 40, ..Drill::new(12) };
    let history = drill.run(&mut Durable::new());
    let folder = env::temp_dir().join(format!("diptych-history-{}", LogIdentity::random().id));
    history.write(&folder).unwrap();
    let read = History::read(&folder).unwrap();
    // A killed process did not finish its last line.
    let text = std::fs::read_to_string(&folder).unwrap();
    std::fs::write(&folder, format!("{text}{}", &text[..20])).unwrap();
    let cut = History::read(&folder);
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(read, history);
    assert_eq!(cut.unwrap(), history);
}
