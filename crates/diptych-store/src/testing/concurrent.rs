//! Contention: real threads that start together, with one winner for each boundary.

use super::{
    Suite,
    probe::{Probe, condition, event, key, numbers, one, parse, plain, tag},
};
use crate::{
    append::{AcceptedCommit, Append, AppendCondition, Tracking},
    batch::Read,
    error::{AppendError, Refusal},
    event::RawEvent,
    position::Position,
};

const CONTENDERS: usize = 64;

/// The position of the winner, or the refusal of a loser.
fn settle(answer: Result<AcceptedCommit, AppendError>) -> Result<Position, Refusal> {
    match answer {
        // The sync makes the commit visible to readers.
        Ok(accepted) => Ok(pollster::block_on(accepted.synced()).expect("synced").first),
        Err(AppendError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("neither accepted nor refused: {other}"),
    }
}

fn conflict_at(refusal: &Refusal) -> Position {
    match refusal {
        Refusal::Conflict { at, .. } => *at,
        other => panic!("a loser gets a conflict: {other:?}"),
    }
}

pub(super) fn one_of_64_contenders_wins(suite: &Suite<'_>) {
    let probe = suite.probe();
    for round in 0..4 {
        let known = probe.head();
        let answers = probe.parallel(CONTENDERS, |_, probe| {
            let append = Append::event(event("won", &["seat:1"]));
            settle(probe.append(append.condition(condition("tag=seat:1", known))))
        });
        let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(winners[0].get(), known + 1);
        for refusal in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(conflict_at(refusal), *winners[0]);
        }
    }
    assert_eq!(probe.positions("tag=seat:1"), [1, 2, 3, 4]);
}

pub(super) fn every_boundary_has_its_own_winner(suite: &Suite<'_>) {
    let probe = suite.probe();
    let boundaries = 16;
    let answers = probe.parallel(CONTENDERS, |number, probe| {
        let seat = format!("seat:{}", number % boundaries);
        let append = Append::event(event("won", &[&seat]));
        let fail_if = format!("tag={seat}");
        (number % boundaries, settle(probe.append(append.condition(condition(&fail_if, 0)))))
    });
    for boundary in 0..boundaries {
        let answers = || answers.iter().filter(|(of, _)| *of == boundary).map(|(_, answer)| answer);
        let winners: Vec<_> = answers().filter_map(|answer| answer.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1, "boundary {boundary}: {winners:?}");
        for refusal in answers().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(conflict_at(refusal), *winners[0], "boundary {boundary}");
        }
    }
}

pub(super) fn boundaries_that_overlap_exclude_each_other(suite: &Suite<'_>) {
    take_neighbouring_seats(&suite.probe(), |[own, next]| {
        vec![condition(&format!("tag={own} or tag={next}"), 0)]
    });
}

pub(super) fn conditions_that_overlap_exclude_each_other(suite: &Suite<'_>) {
    take_neighbouring_seats(&suite.probe(), |seats| {
        seats.iter().map(|seat| condition(&format!("tag={seat}"), 0)).collect()
    });
}

fn take_neighbouring_seats(
    probe: &Probe,
    conditions: impl Fn(&[String; 2]) -> Vec<AppendCondition> + Sync,
) {
    // Each contender takes two neighbouring seats of a ring, so neighbours exclude each other.
    let seats = 8;
    probe.parallel(CONTENDERS, |number, probe| {
        let own = [number % seats, (number + 1) % seats].map(|seat| format!("seat:{seat}"));
        let append = Append::event(event("took", &[&own[0], &own[1]]));
        let append = Append { conditions: conditions(&own), ..append };
        let _ = settle(probe.append(append));
    });
    for seat in 0..seats {
        let took = probe.count(&format!("seat:{seat}"), Position::MAX);
        assert!(took <= 1, "seat {seat} was taken {took} times");
    }
    let took = probe.everything().len();
    assert!((seats.div_ceil(3)..=seats / 2).contains(&took), "{took} took seats");
}

pub(super) fn a_loser_finds_the_winning_event(suite: &Suite<'_>) {
    let probe = suite.probe();
    for _ in 0..10 {
        let known = probe.head();
        probe.parallel(8, |_, probe| {
            let append = Append::event(event("won", &["seat:1"]));
            let answer = settle(probe.append(append.condition(condition("tag=seat:1", known))));
            if let Err(refusal) = answer {
                let at = conflict_at(&refusal);
                assert!(probe.head() >= at.get(), "{at} won and is not published");
                let seen = probe.seen(&parse("tag=seat:1"), Read::after(known.into()));
                assert!(numbers(&seen).contains(&at.get()), "{at} won and is not found");
            }
        });
    }
}

pub(super) fn retries_lose_no_update(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.parallel(8, |_, probe| {
        for _ in 0..10 {
            let mut known = probe.last("tag=counter:1", Position::MAX).unwrap_or(0);
            let mut attempts = 0;
            loop {
                attempts += 1;
                assert!(attempts <= 80, "more conflicts than commits");
                // The payload is the revision that the writer decided on.
                let revision = probe.count("counter:1", known);
                let next = RawEvent::new("counted", revision.to_string());
                let append = Append::event(next.tag(tag("counter:1")));
                match settle(probe.append(append.condition(condition("tag=counter:1", known)))) {
                    Ok(_) => break,
                    Err(refusal) => known = conflict_at(&refusal).get(),
                }
            }
        }
    });
    let payloads: Vec<_> = probe.everything().into_iter().map(|seen| seen.event.payload).collect();
    let expected: Vec<_> = plain(80).map(|event| event.payload).collect();
    assert_eq!(payloads, expected);
}

pub(super) fn one_of_many_sends_of_a_key_is_committed(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.put(plain(3));
    let answers = probe.parallel(100, |_, probe| {
        settle(probe.append(Append::events(plain(2)).key(key("k", "request"))))
    });
    let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(winners, [&Position::new(4)]);
    let expected = Refusal::KeyTaken { first: 4.into(), last: 5.into() };
    for refusal in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(*refusal, expected);
    }
    assert_eq!(probe.everything().len(), 5);
}

pub(super) fn parallel_imports_take_each_position_once(suite: &Suite<'_>) {
    let probe = suite.probe();
    // Eight threads import the whole source, each in order.
    probe.parallel(8, |_, probe| {
        for position in 1..=20_u64 {
            let taken = RawEvent::new("taken", position.to_string());
            let append = Append::event(taken).tracking(Tracking::new("s", position));
            match settle(probe.append(append)) {
                Ok(_) => {}
                Err(Refusal::AlreadyTracked { tracked, .. }) => {
                    assert!(tracked.get() >= position, "{position} was not imported yet");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    let payloads: Vec<_> = probe.everything().into_iter().map(|seen| seen.event.payload).collect();
    let expected: Vec<_> = (1..=20).map(|number: u64| number.to_string().into_bytes()).collect();
    assert_eq!(payloads, expected);
    assert_eq!(probe.tracked("s"), Some(Tracking::new("s", 20)));
}

pub(super) fn parallel_commits_share_no_position(suite: &Suite<'_>) {
    let probe = suite.probe();
    let mut ranges: Vec<(u64, u64)> = probe
        .parallel(16, |number, probe| {
            let events = 1 + number as u64 % 3;
            (0..10).map(|_| probe.put(plain(events))).collect::<Vec<_>>()
        })
        .concat();
    ranges.sort_unstable();
    let mut next = 1;
    for (first, last) in ranges {
        assert_eq!(first, next, "positions are dense and used once");
        next = last + 1;
    }
    assert_eq!(probe.head(), next - 1);
    assert_eq!(numbers(&probe.everything()), (1..next).collect::<Vec<_>>());
}

pub(super) fn parallel_commits_do_not_mix(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.parallel(8, |number, probe| {
        for _ in 0..5 {
            let own = format!("writer{number}");
            probe.put((0..6).map(|_| event(&own, &[])));
        }
    });
    let types: Vec<_> = probe.everything().into_iter().map(|seen| seen.event.event_type).collect();
    assert_eq!(types.len(), 240);
    for commit in types.chunks(6) {
        assert!(commit.iter().all(|name| *name == commit[0]), "{commit:?}");
    }
}

pub(super) fn parallel_commits_are_recorded_in_order(suite: &Suite<'_>) {
    let probe = suite.probe();
    probe.parallel(8, |_, probe| {
        for _ in 0..10 {
            // No sync is awaited, which leaves many commits unsynced at once.
            let _ = probe.append(one()).unwrap();
        }
    });
    probe.put(plain(1));
    let recorded: Vec<_> = probe.everything().iter().map(|seen| seen.recorded_at).collect();
    assert_eq!(recorded.len(), 81);
    assert!(recorded.is_sorted(), "{recorded:?}");
}
