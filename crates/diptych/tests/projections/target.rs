//! The rules that all projection targets share, tested with a vector as the target.

use diptych::{
    Event, Metadata, Position, Recorded, Timestamp, Uuid,
    projection::{BatchError, Checkpoint, ReplacedError, Target, TargetError, check, take},
    store::{Epoch, EventChecksum, LogIdentity},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("counted")]
struct Counted {
    number: u64,
}

/// Rows in memory. They refuse the numbers in `refused` and are unavailable at `fails_at_step`.
#[derive(Default)]
struct Rows {
    numbers: Vec<u64>,
    checkpoint: Option<Checkpoint>,
    refused: Vec<u64>,
    steps: usize,
    fails_at_step: Option<usize>,
}

impl Target for Rows {
    type Event = Counted;

    fn name(&self) -> &str {
        "rows"
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        Ok(self.checkpoint)
    }

    fn apply(
        &mut self,
        events: &[Recorded<Counted>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        self.steps += 1;
        if self.fails_at_step == Some(self.steps) {
            return Err(TargetError::Unavailable { reason: "it is away".to_owned(), source: None });
        }
        if self.checkpoint != from {
            return Err(TargetError::Moved { found: self.checkpoint });
        }
        if let Some(event) = events.iter().find(|event| self.refused.contains(&event.number)) {
            let (position, reason) = (event.position, "not this one".to_owned());
            return Err(TargetError::Event { position, reason, source: None });
        }
        self.numbers.extend(events.iter().map(|event| event.number));
        self.checkpoint = Some(to);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        self.numbers.clear();
        self.checkpoint = None;
        Ok(())
    }
}

fn counted(position: u64, number: u64) -> Recorded<Counted> {
    Recorded {
        position: Position::new(position),
        recorded_at: Timestamp::from_micros(0),
        id: Uuid::from_u128(1),
        metadata: Metadata::default(),
        event: Counted { number },
    }
}

fn at(log: LogIdentity, position: u64) -> Checkpoint {
    let position = Position::new(position);
    Checkpoint { log, position, checksum: Some(checksum(position)) }
}

/// Returns a checksum for the event at this position.
fn checksum(position: Position) -> EventChecksum {
    EventChecksum::from_u64(!position.get())
}

/// Applies a batch to the rows.
fn take_in(
    rows: &mut Rows,
    events: &[Recorded<Counted>],
    from: Option<Checkpoint>,
    to: Checkpoint,
) -> Result<Checkpoint, BatchError> {
    take(rows, events, from, to, |position| Ok(checksum(position)))
}

fn batch() -> Vec<Recorded<Counted>> {
    vec![counted(3, 30), counted(5, 50), counted(5, 51), counted(9, 90)]
}

#[test]
fn a_batch_is_applied_in_one_step() {
    let log = LogIdentity::random();
    let mut rows = Rows::default();
    assert_eq!(take_in(&mut rows, &batch(), None, at(log, 12)).unwrap(), at(log, 12));
    assert_eq!((rows.numbers, rows.steps), (vec![30, 50, 51, 90], 1));
}

#[test]
fn a_refused_batch_is_applied_up_to_the_refused_event() {
    let log = LogIdentity::random();
    // Each case has the refused number, the last applied position and the applied numbers.
    let cases: [(u64, u64, &[u64]); 4] =
        [(30, 2, &[]), (50, 4, &[30]), (51, 4, &[30]), (90, 8, &[30, 50, 51])];
    for (refused, upto, numbers) in cases {
        let mut rows = Rows { refused: vec![refused], ..Rows::default() };
        let stopped = take_in(&mut rows, &batch(), None, at(log, 12)).unwrap_err();
        assert_eq!(stopped.reached, Some(at(log, upto)), "{refused}");
        assert_eq!((rows.numbers.as_slice(), rows.checkpoint), (numbers, stopped.reached));
        let TargetError::Event { position, .. } = stopped.cause else { panic!("{stopped}") };
        assert_eq!(position.get(), upto + 1);

        rows.refused.clear();
        let rest: Vec<_> = batch().into_iter().filter(|event| event.position >= position).collect();
        take_in(&mut rows, &rest, stopped.reached, at(log, 12)).unwrap();
        assert_eq!((rows.numbers, rows.checkpoint), (vec![30, 50, 51, 90], Some(at(log, 12))));
    }
}

#[test]
fn a_refused_event_right_after_the_checkpoint_moves_nothing() {
    let log = LogIdentity::random();
    for from in [None, Some(at(log, 4))] {
        let first = from.map_or(1, |from| from.position.get() + 1);
        let mut rows = Rows { checkpoint: from, refused: vec![7], ..Rows::default() };
        let stopped = take_in(&mut rows, &[counted(first, 7)], from, at(log, 9)).unwrap_err();
        assert_eq!((stopped.reached, rows.checkpoint), (from, from));
    }
}

#[test]
fn a_target_that_becomes_unavailable_reports_the_reached_checkpoint() {
    let log = LogIdentity::random();
    let mut rows = Rows { refused: vec![90], fails_at_step: Some(4), ..Rows::default() };
    let stopped = take_in(&mut rows, &batch(), None, at(log, 12)).unwrap_err();
    assert!(matches!(stopped.cause, TargetError::Unavailable { .. }), "{stopped}");
    assert_eq!(stopped.reached, Some(at(log, 4)));
    assert_eq!((rows.numbers, rows.checkpoint), (vec![30], Some(at(log, 4))));
}

#[test]
fn a_batch_is_not_retried_after_another_runner_moved_the_checkpoint() {
    let log = LogIdentity::random();
    let mut rows = Rows { checkpoint: Some(at(log, 1)), ..Rows::default() };
    let stopped = take_in(&mut rows, &batch(), None, at(log, 12)).unwrap_err();
    let TargetError::Moved { found } = stopped.cause else { panic!("{stopped}") };
    assert_eq!((found, rows.steps), (Some(at(log, 1)), 1));
}

#[test]
fn another_log_another_epoch_and_a_position_above_the_head_are_distinguished() {
    let log = LogIdentity::random();
    let restored = LogIdentity { epoch: Epoch::next(log.epoch), ..log };
    let head = Position::new(10);
    let look = |found: Option<Checkpoint>, log| {
        let event = found.map(|found| checksum(found.position));
        check(found, log, head, event)
    };
    assert_eq!(look(None, log), Ok(Position::START));
    assert_eq!(look(Some(at(log, 10)), log), Ok(head));

    let error = look(Some(at(LogIdentity::random(), 3)), log).unwrap_err();
    assert!(matches!(error, ReplacedError::OtherLog { .. }), "{error}");
    let error = look(Some(at(log, 3)), restored).unwrap_err();
    assert!(matches!(error, ReplacedError::OtherEpoch { .. }), "{error}");
    let error = look(Some(at(log, 11)), log).unwrap_err();
    assert!(matches!(error, ReplacedError::AboveHead { .. }), "{error}");
    assert!(error.to_string().contains("position 11, and the log ends at 10"), "{error}");
}

#[test]
fn a_checkpoint_must_match_the_event_at_its_position() {
    let log = LogIdentity::random();
    let (here, head) = (at(log, 3), Position::new(10));
    assert_eq!(check(Some(here), log, head, here.checksum), Ok(Position::new(3)));
    for event in [None, Some(checksum(Position::new(4)))] {
        let error = check(Some(here), log, head, event).unwrap_err();
        assert_eq!(error, ReplacedError::OtherHistory { stored: here });
        let text = error.to_string();
        assert!(text.contains("of a history that the log no longer has"), "{text}");
        assert!(text.contains("rebuild the projection"), "{text}");
    }
    // A checkpoint of an older program has no checksum, so any event matches it.
    let unbound = Checkpoint { checksum: None, ..here };
    assert_eq!(check(Some(unbound), log, head, here.checksum), Ok(Position::new(3)));
}
