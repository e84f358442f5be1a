//! Checks that a fold reaches the same state every time.

use std::{
    any::type_name,
    fmt::{self, Debug},
    panic,
    sync::Arc,
    thread,
    time::Duration,
};

use diptych_store::{LogId, Position, RawEvent, Timestamp};

use super::unified_difference;
use crate::{
    event::{Event, Reading, SchemaError, StoredEvent, Upcasters},
    fold::Fold,
};

/// Pause between two runs, so that a fold that reads a clock gets another time.
const PAUSE: Duration = Duration::from_millis(3);
/// Number of attempts for each prefix in the search for the first event that matters. A fold that
/// depends on chance sometimes reaches equal states.
const ROUNDS: usize = 4;
/// Number of further runs over a few events. Only some orders of a hash table show in the result:
/// sums of three floats differ for a third of the orders.
const FURTHER_RUNS: usize = 64;
/// The further runs apply about this number of events together, so that they take no time beside
/// the pauses.
const FURTHER_EVENTS: usize = 16_384;
/// Approximate number of comparisons on the way. A comparison takes longer the larger the state is,
/// so a comparison after every event could take too long.
const COMPARISONS: usize = 1024;
/// The time of the first event, 2020, and the time between two events, in microseconds.
const BEGAN: i64 = 1_577_836_800_000_000;
const LATER: i64 = 1_000_000;

/// Checks that a fold always reaches the same state from the same events.
///
/// The events are folded several times, at different times, on one thread and on fresh ones, and
/// the states are compared by `==`. So the check finds a fold that reads a clock, a random number
/// or the thread, or that depends on the order of a `HashMap`, which differs from map to map. A
/// state may hold a `HashMap`, because maps with equal entries are equal in any order.
///
/// Give events that bring the fold into every state of interest, and several of each: a map with
/// one entry has only one order. The check most likely misses a fold that reads a clock only to the
/// second. The events are encoded once, and decoded for each run.
///
/// ```
/// # use diptych::{Event, EventType, event::{EncodedEvent, Json, SchemaError}, store::RawEvent};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Deposited { amount: u64 }
/// # impl Event for Deposited {
/// #     fn types() -> Vec<EventType> { vec![EventType::new("money-deposited")] }
/// #     fn encode(&self) -> Result<RawEvent, SchemaError> {
/// #         Ok(RawEvent::new("money-deposited", serde_json::to_vec(self).unwrap()))
/// #     }
/// #     fn decode(encoded: &EncodedEvent<'_>) -> Result<Self, SchemaError> {
/// #         encoded.read::<Json, _>()
/// #     }
/// # }
/// use diptych::{Fold, Recorded, testing::check_determinism};
///
/// #[derive(Debug, Default, PartialEq)]
/// struct Balance(u64);
///
/// impl Fold for Balance {
///     type Event = Deposited;
///
///     fn apply(&mut self, event: &Recorded<Deposited>) {
///         self.0 += event.amount;
///     }
/// }
///
/// check_determinism::<Balance>([Deposited { amount: 20 }, Deposited { amount: 5 }]);
/// ```
///
/// # Panics
/// If two states differ, with the first event after which they do and with the difference. Also if
/// there are no events, or if one cannot be encoded and decoded.
#[track_caller]
pub fn check_determinism<F>(events: impl IntoIterator<Item = F::Event>)
where
    F: Fold + PartialEq + Debug,
{
    let found = Runs::<F>::new(events).map_err(|error| error.to_string()).and_then(|runs| {
        if runs.events.is_empty() {
            return Err("there are no events to fold: give some".to_owned());
        }
        runs.find().map_err(|error| error.to_string())
    });
    match found {
        Ok(None) => {}
        Ok(Some(different)) => panic!("{different}"),
        Err(problem) => panic!("{} cannot be checked: {problem}", type_name::<F>()),
    }
}

struct Runs<F: Fold> {
    reading: Reading<F::Event>,
    events: Vec<RawEvent>,
}

/// Two different states, folded from equal events.
struct TwoRuns<F> {
    events: usize,
    states: (F, F),
}

/// Two runs that came to different states.
struct Different {
    fold: &'static str,
    after: String,
    difference: String,
}

impl<F: Fold + PartialEq + Debug> Runs<F> {
    fn new(events: impl IntoIterator<Item = F::Event>) -> Result<Runs<F>, SchemaError> {
        // There is no log. Event ids derive from this log id, and are equal in every run.
        let log = LogId::from_bytes(*b"determinism test");
        let reading = Reading::new(Arc::new(Upcasters::new()), log)?;
        let encode = |event: F::Event| {
            let event = event.encode()?;
            reading.check(&event)?;
            Ok(event)
        };
        let events = events.into_iter().map(encode).collect::<Result<_, _>>()?;
        Ok(Runs { reading, events })
    }

    fn find(&self) -> Result<Option<Different>, SchemaError> {
        let all = self.events.len();
        let (equal, pair) = match self.side_by_side()? {
            (equal, Some(pair)) => (equal, pair),
            (_, None) => match self.apart(all)? {
                Some(pair) => (0, pair),
                None => return Ok(None),
            },
        };
        let pair = if let Some(pair) = self.apart(0)? { pair } else { self.narrow(equal, pair)? };
        Ok(Some(self.report(&pair)))
    }

    fn apply(&self, state: &mut F, at: usize) -> Result<(), SchemaError> {
        let Some(event) = self.events.get(at) else { return Ok(()) };
        let recorded_at = BEGAN.saturating_add((at as i64).saturating_mul(LATER));
        let position = Position::new(at as u64).plus(1);
        let stored = StoredEvent::accepted(event, position, Timestamp::from_micros(recorded_at));
        let recorded = |event| self.reading.recorded(&stored, event);
        self.reading.read(&stored.encoded, |_| true, |event| state.apply(&recorded(event)))
    }

    /// The state after this many events.
    fn fold(&self, events: usize) -> Result<F, SchemaError> {
        let mut state = F::default();
        (0..events).try_for_each(|at| self.apply(&mut state, at))?;
        Ok(state)
    }

    /// Folds two states on this thread, event by event in turns, and compares them on the way. So
    /// it also finds a difference that later goes away. Also returns the number of events at the
    /// last comparison that found equal states.
    fn side_by_side(&self) -> Result<(usize, Option<TwoRuns<F>>), SchemaError> {
        let all = self.events.len();
        let step = all / COMPARISONS + 1;
        let (mut one, mut other) = (F::default(), F::default());
        let mut equal = 0;
        for at in 0..all {
            self.apply(&mut one, at)?;
            self.apply(&mut other, at)?;
            let events = at + 1;
            if events % step == 0 || events == all {
                if one != other {
                    return Ok((equal, Some(TwoRuns { events, states: (one, other) })));
                }
                equal = events;
            }
        }
        Ok((equal, None))
    }

    /// Folds the first `events` events four times, one after another: on a fresh thread, twice on
    /// another fresh thread, and on this thread. If they are few, folds them many more times.
    fn apart(&self, events: usize) -> Result<Option<TwoRuns<F>>, SchemaError> {
        let run = || {
            thread::sleep(PAUSE);
            self.fold(events)
        };
        let first = on_a_fresh_thread(run)?;
        let twice = || Ok::<_, SchemaError>((run()?, run()?));
        let (second, third) = on_a_fresh_thread(twice)?;
        let others = [second, third, run()?];
        if let Some(other) = others.into_iter().find(|other| *other != first) {
            return Ok(Some(TwoRuns { events, states: (first, other) }));
        }
        for _ in 0..(FURTHER_EVENTS / events.max(1)).min(FURTHER_RUNS) {
            let other = self.fold(events)?;
            if other != first {
                return Ok(Some(TwoRuns { events, states: (first, other) }));
            }
        }
        Ok(None)
    }

    /// Finds the shortest prefix of events whose runs differ. Runs over `equal` events were equal.
    fn narrow(&self, mut equal: usize, mut differs: TwoRuns<F>) -> Result<TwoRuns<F>, SchemaError> {
        while differs.events > equal + 1 {
            let middle = equal.midpoint(differs.events);
            let mut found = None;
            for _ in 0..ROUNDS {
                found = self.apart(middle)?;
                if found.is_some() {
                    break;
                }
            }
            match found {
                Some(pair) => differs = pair,
                None => equal = middle,
            }
        }
        Ok(differs)
    }

    fn report(&self, pair: &TwoRuns<F>) -> Different {
        let (one, other) = &pair.states;
        let (one, other) = (format!("{one:#?}\n"), format!("{other:#?}\n"));
        let after = match pair.events.checked_sub(1).and_then(|last| self.events.get(last)) {
            None => "before any event, as made by `Default`".to_owned(),
            Some(event) => format!("after event {}, {}", pair.events, event.event_type),
        };
        let difference = if one == other {
            format!("they are not equal by `==`, and print alike:\n{one}")
        } else {
            unified_difference(("one run", &one), ("another run", &other))
        };
        Different { fold: type_name::<F>(), after, difference }
    }
}

/// Runs code on a new thread. A panic is passed on to the caller.
fn on_a_fresh_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let joined = thread::scope(|scope| scope.spawn(run).join());
    joined.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

impl fmt::Display for Different {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Different { fold, after, difference } = self;
        write!(
            f,
            "{fold} came to two states {after}:\n\n{difference}\n\
             a fold depends on its events alone: no clock, no random number, no order of a \
             HashMap; if it needs one of those, put it in an event"
        )
    }
}
