//! Generated operations: a store and the [`Oracle`](super::oracle::Oracle) get equal operations and
//! must give equal answers.
//!
//! `DIPTYCH_MODEL_RUNS` sets the number of sequences. A failure prints its seed, and `DIPTYCH_SEED`
//! replays it. A failing sequence is shrunk.

use std::env;

use proptest::{
    collection::vec,
    option::weighted,
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use uuid::Uuid;

use super::{
    Setup, Suite,
    oracle::{Denial, ModelCommit, Oracle},
    probe::{Probe, SeenCommit, event, key, numbers, parse, small, tag},
};
use crate::{
    append::{Append, AppendCondition, Tracking},
    batch::{Direction, Read},
    commits::ReadCommits,
    error::{AppendError, ReadError},
    event::RawEvent,
    filter::{Filter, FilterItem},
    identity::{Epoch, LogId, LogIdentity},
    position::Position,
    time::Timestamp,
};

const RUNS: u32 = 48;
const TYPES: [&str; 3] = ["a", "b", "c"];
const TAGS: [&str; 4] = ["k:1", "k:2", "l:1", "l:12"];
const NAMES: [&str; 3] = ["x", "y", "k:1"];

/// A place in the log, relative to the head at the time of the operation.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// This number of tenths of the head.
    Tenths(u64),
    /// This number of positions below the head.
    BelowHead(u64),
    /// This number of positions above the head.
    AboveHead(u64),
    Max,
}

impl Place {
    fn at(self, head: Position) -> Position {
        let head = head.get();
        Position::new(match self {
            Place::Tenths(tenths) => head * tenths / 10,
            Place::BelowHead(below) => head.saturating_sub(below),
            Place::AboveHead(above) => head + above,
            Place::Max => u64::MAX,
        })
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Append {
        append: Append,
        /// The position of each condition.
        afters: Vec<Place>,
    },
    Read {
        filter: Filter,
        after: Place,
        upto: Place,
        direction: Direction,
        limit: usize,
    },
    Last(Filter, Place),
    Count(&'static str, Place),
    Keyed(&'static str),
    Tracked(&'static str),
    Commits {
        after: Place,
        limit: usize,
    },
    Reopen,
}

pub(super) fn generated_operations_agree_with_the_model(suite: &Suite<'_>) {
    run(suite, &Setup::default(), false);
}

pub(super) fn generated_operations_agree_in_small_batches(suite: &Suite<'_>) {
    let mut setup = Setup::default();
    setup.limits.batch_events = small().limits.batch_events;
    setup.limits.batch_bytes = 60;
    run(suite, &setup, false);
}

pub(super) fn generated_operations_agree_across_reopening(suite: &Suite<'_>) {
    run(suite, &Setup::default(), true);
}

fn run(suite: &Suite<'_>, setup: &Setup, reopening: bool) {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("DIPTYCH_SEED").unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    let runs = number("DIPTYCH_MODEL_RUNS").map_or(RUNS, |runs| runs.try_into().unwrap());
    let operations = vec(operation(reopening), 1..40);
    let outcome = runner(seed, runs).run(&operations, |operations| {
        play(suite.probe_with(setup), operations).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, operations)) => {
            let lines: Vec<_> =
                operations.iter().map(|operation| format!("{operation:?}")).collect();
            let lines = lines.join("\n");
            panic!("{reason}\nafter\n{lines}\nreplay it with DIPTYCH_SEED={seed}")
        }
        Err(other) => panic!("{other}; DIPTYCH_SEED={seed}"),
    }
}

/// A runner that makes equal sequences from an equal seed.
fn runner(seed: u64, runs: u32) -> TestRunner {
    let config = Config {
        cases: runs,
        failure_persistence: None,
        max_shrink_iters: 512,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, rng)
}

/// Plays the operations on both. The error is the first difference between their answers.
fn play(mut probe: Probe, operations: Vec<Operation>) -> Result<(), String> {
    let mut oracle = Oracle::default();
    // The last position of each accepted commit, with its `recorded_at`.
    let mut said = Vec::new();
    for (number, operation) in operations.into_iter().enumerate() {
        let head = oracle.head();
        let what = format!("operation {number}, {operation:?}, head {head}");
        match operation {
            Operation::Append { mut append, afters } => {
                for (condition, after) in append.conditions.iter_mut().zip(afters) {
                    condition.after = after.at(head);
                }
                let answer = answer(&probe, append.clone(), &mut said)?;
                same(&what, answer, oracle.append(&append))?;
            }
            Operation::Read { filter, after, upto, direction, limit } => {
                let (after, upto) = (after.at(head), upto.at(head));
                let read = Read { direction, limit, ..Read::after(after).upto(upto) };
                let seen = probe.seen(&filter, read.clone());
                same(&what, numbers(&seen), oracle.read(&filter, &read))?;
                same(&what, true, oracle.holds(&seen))?;
                let batch = probe.read(&filter, read.clone());
                if direction == Direction::Forwards && batch.upto() > read.after {
                    same(&what, batch.commit_end(), oracle.commit_end(batch.upto()))?;
                }
            }
            Operation::Commits { after, limit } => {
                let after = after.at(head);
                let read = ReadCommits::after(after).limit_events(limit);
                let whole = match probe.try_commits(read.clone()) {
                    Ok(_) => Ok(probe.all_commits(read)),
                    Err(ReadError::Invalid(invalid)) => Err(invalid),
                    Err(other) => return Err(other.to_string()),
                };
                same(&what, whole.map(|seen| facts(&seen)), oracle.commits(after))?;
            }
            Operation::Last(filter, upto) => {
                let upto = upto.at(head);
                let last = probe.wait("last", probe.store.last(&filter, upto));
                same(&what, last.map_err(|error| error.to_string())?, oracle.last(&filter, upto))?;
            }
            Operation::Count(name, upto) => {
                let upto = upto.at(head);
                same(&what, probe.count(name, upto), oracle.count(&tag(name), upto))?;
            }
            Operation::Keyed(name) => same(&what, probe.keyed(name), oracle.keyed(name))?,
            Operation::Tracked(name) => same(&what, probe.tracked(name), oracle.tracked(name))?,
            Operation::Reopen => probe = probe.reopen(),
        }
        same(&what, probe.head(), oracle.head().get())?;
    }
    let seen = probe.everything();
    let recorded: Vec<_> = seen.iter().map(|seen| seen.recorded_at).collect();
    same("recorded_at in order", recorded.is_sorted(), true)?;
    for (last, recorded_at) in said {
        let read = seen.iter().find(|seen| seen.position == last.get());
        same("recorded_at", read.map(|seen| seen.recorded_at), Some(recorded_at))?;
    }
    same("everything", numbers(&seen), oracle.read(&Filter::everything(), &Read::all()))?;
    same("every event", oracle.holds(&seen), true)?;
    let commits = probe.all_commits(ReadCommits::after(Position::START));
    same("every commit", Ok(facts(&commits)), oracle.commits(Position::START))?;
    let events: Vec<_> = commits.into_iter().flat_map(|commit| commit.events).collect();
    same("events of commits", events, seen)
}

/// The commits without what the model does not know.
fn facts(seen: &[SeenCommit]) -> Vec<ModelCommit> {
    let of = |commit: &SeenCommit| ModelCommit {
        first: commit.first.into(),
        last: commit.last.into(),
        key: commit.facts.key.clone(),
        tracking: commit.facts.tracking.clone(),
    };
    seen.iter().map(of).collect()
}

fn answer(
    probe: &Probe,
    append: Append,
    said: &mut Vec<(Position, Timestamp)>,
) -> Result<Result<(Position, Position), Denial>, String> {
    match probe.append(append) {
        Ok(accepted) => {
            if accepted.first <= accepted.last {
                said.push((accepted.last, accepted.recorded_at));
            }
            let committed = probe.synced(accepted);
            Ok(Ok((committed.first, committed.last)))
        }
        Err(AppendError::Invalid(invalid)) => Ok(Err(Denial::Invalid(invalid))),
        Err(AppendError::Refused(refusal)) => Ok(Err(Denial::Refused(refusal))),
        Err(other) => Err(other.to_string()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, store: T, model: T) -> Result<(), String> {
    match store == model {
        true => Ok(()),
        false => Err(format!("{what}: the store answers {store:?}, the model {model:?}")),
    }
}

fn operation(reopening: bool) -> BoxedStrategy<Operation> {
    let read = (filter(), below(), place(), direction(), 1..9_usize).prop_map(
        |(filter, after, upto, direction, limit)| Operation::Read {
            filter,
            after,
            upto,
            direction,
            limit,
        },
    );
    prop_oneof![
        12 => append(),
        4 => read,
        2 => (filter(), place()).prop_map(|(filter, upto)| Operation::Last(filter, upto)),
        2 => (select(&TAGS), place()).prop_map(|(tag, upto)| Operation::Count(tag, upto)),
        1 => select(&NAMES).prop_map(Operation::Keyed),
        1 => select(&NAMES).prop_map(Operation::Tracked),
        1 => (below(), 0..9_usize).prop_map(|(after, limit)| Operation::Commits { after, limit }),
        u32::from(reopening) => Just(Operation::Reopen),
    ]
    .boxed()
}

fn append() -> impl Strategy<Value = Operation> {
    let keyed = (select(&NAMES), select(&["r", "q"][..]));
    let keyed = keyed.prop_map(|(name, request)| key(name, request));
    let conditions = vec((filter(), below()), 0..=3);
    let checks = (conditions, weighted(0.2, keyed), weighted(0.2, tracking()));
    let parts = (vec(raw_event(), 0..4), checks, weighted(0.05, 1..3_u64));
    parts.prop_map(|(events, (conditions, key, tracking), above)| {
        let (fail_if, mut afters): (Vec<_>, Vec<_>) = conditions.into_iter().unzip();
        // A position above the head is tried without key and tracking, because a store may report
        // another error first.
        let (key, tracking) = match (above, afters.last_mut()) {
            (Some(above), Some(after)) => {
                *after = Place::AboveHead(above);
                (None, None)
            }
            _ => (key, tracking),
        };
        let after = Position::START;
        let condition = |fail_if| AppendCondition { fail_if, after };
        let conditions = fail_if.into_iter().map(condition).collect();
        let append = Append { events, conditions, key, tracking, recorded_at: None };
        Operation::Append { append, afters }
    })
}

fn raw_event() -> impl Strategy<Value = RawEvent> {
    let tags = proptest::sample::subsequence(&TAGS[..], 0..=TAGS.len());
    (select(&TYPES), tags, vec(any::<u8>(), 0..20))
        .prop_map(|(event_type, tags, payload)| RawEvent { payload, ..event(event_type, &tags) })
}

fn tracking() -> impl Strategy<Value = Tracking> {
    let origin = weighted(0.2, 1..3_u64).prop_map(|epoch| {
        epoch.map(|epoch| LogIdentity {
            id: LogId::from_bytes([1; 16]),
            epoch: Epoch::from_u64(epoch),
        })
    });
    (select(&NAMES), 1..12_u64, origin).prop_map(|(source, position, origin)| Tracking {
        origin,
        ..Tracking::new(source, position)
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let types = proptest::sample::subsequence(&TYPES[..], 0..=TYPES.len());
    let tags = proptest::sample::subsequence(&TAGS[..], 0..=2);
    let item = (types, tags).prop_map(|(types, tags)| FilterItem {
        types: types.into_iter().map(Into::into).collect(),
        tags: tags.into_iter().map(tag).collect(),
    });
    prop_oneof![
        1 => Just(parse("*")),
        8 => vec(item, 0..4).prop_map(|items| items.into_iter().collect::<Filter>()),
    ]
}

/// At or below the head.
fn below() -> impl Strategy<Value = Place> {
    prop_oneof![(0..=10_u64).prop_map(Place::Tenths), (0..4_u64).prop_map(Place::BelowHead),]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => below(),
        1 => (1..4_u64).prop_map(Place::AboveHead),
        2 => Just(Place::Max),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forwards), Just(Direction::Backwards)]
}

#[cfg(test)]
mod tests {
    use proptest::strategy::ValueTree;

    use super::*;

    #[test]
    fn an_equal_seed_gives_equal_sequences() {
        let sequences = |seed| {
            let (mut runner, operations) = (runner(seed, 1), vec(operation(true), 1..40));
            let mut next = || operations.new_tree(&mut runner).unwrap().current();
            format!("{:?}", [next(), next()])
        };
        assert_eq!(sequences(7), sequences(7));
        assert_ne!(sequences(7), sequences(8));
    }
}
