//! A fold that applies events in the order in which they occurred, and not in that of the log.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::{Bound, Deref},
};

use diptych_store::{Position, Timestamp};
use foldhash::fast::RandomState;
use uuid::Uuid;

use super::Fold;
use crate::event::Recorded;

/// Number of events between two kept states, near the newest event.
const STEP: usize = 256;

/// Estimate of the bytes that one event owns beyond its own size.
const OWNED_BYTES: usize = 128;

/// A fold that [`OccurrenceOrder`] can apply in order of occurrence.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how its events are corrected",
    label = "a fold in order of occurrence needs this",
    note = "write `impl OccurrenceFold for {Self} {{}}` if no event corrects another"
)]
pub trait OccurrenceFold: Fold<Event: Clone> + Clone {
    /// Maximum number of events and corrections that are kept. With one more, the fold fails: its
    /// view stops, and a command that decides over it is an error.
    const MOST_EVENTS: usize = 5_000_000;

    /// The correction that this event makes, if it is one. A correction is not applied: instead the
    /// event that it names counts as if it had been recorded right.
    fn correction(event: &Recorded<Self::Event>) -> Option<Correction> {
        let _ = event;
        None
    }
}

/// The change that an event makes to the meaning of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Correction {
    /// The event with this id never occurred.
    Retract {
        /// The id of the event: [`Recorded::id`].
        event: Uuid,
    },
    /// The event with this id occurred at another time.
    Move {
        /// The id of the event.
        event: Uuid,
        /// When it occurred.
        to: Timestamp,
    },
}

/// Applies the events of `F` in order of when they occurred, and those of one instant in order of
/// the log. It dereferences to the state with all events.
///
/// A fold applies events in order of the log. If an event is reported late, that is not the order
/// in which they occurred. This one puts the late event in its place, and applies the events after
/// it again. So does a [correction](OccurrenceFold::correction), which retracts an event or moves
/// it to another time. The result is the same whatever order the events are recorded in.
///
/// It can be a view, and the state of a command. It keeps all its events in memory, and a few dozen
/// states. A late event costs applying about twice as many events as are after it. A query that
/// asks for the state [before](OccurrenceOrder::before) an instant costs the same.
///
/// A question about what [occurred before](crate::query::Ask::occurred_before) an instant gets the
/// view with only the events that did, by their corrected times.
///
/// It has no snapshots, because it does not implement `Serialize`.
///
/// ```
/// use diptych::{Event, Fold, Recorded, fold::{OccurrenceFold, OccurrenceOrder}};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Event, Serialize, Deserialize)]
/// #[event("salary-set")]
/// struct SalarySet {
///     amount: u64,
/// }
///
/// #[derive(Clone, Default)]
/// struct Salary(u64);
///
/// impl Fold for Salary {
///     type Event = SalarySet;
///
///     fn apply(&mut self, set: &Recorded<SalarySet>) {
///         self.0 = set.amount;
///     }
/// }
///
/// impl OccurrenceFold for Salary {}
///
/// # use diptych::{Metadata, Position, Timestamp, Uuid};
/// # let set = |position: u64, amount, day: i64| Recorded {
/// #     position: Position::new(position),
/// #     recorded_at: Timestamp::from_micros(100),
/// #     id: Uuid::from_u128(position.into()),
/// #     metadata: Metadata {
/// #         occurred_at: Some(Timestamp::from_micros(day)),
/// #         ..Metadata::default()
/// #     },
/// #     event: SalarySet { amount },
/// # };
/// let mut salary = OccurrenceOrder::<Salary>::default();
/// salary.apply(&set(1, 4_000, 31)); // position, amount, day
/// salary.apply(&set(2, 3_500, 1)); // reported late
/// assert_eq!(salary.0, 4_000);
/// assert_eq!(salary.before(Timestamp::from_micros(31)).0, 3_500);
/// ```
#[derive(Clone)]
pub struct OccurrenceOrder<F: OccurrenceFold> {
    now: F,
    events: BTreeMap<OccurrenceKey, Recorded<F::Event>>,
    /// The places of events that a correction may name.
    places: HashMap<Uuid, Vec<OccurrenceKey>, RandomState>,
    /// Retracted events. A later correction may move one of them.
    retracted: HashMap<Uuid, Vec<PlacedEvent<F::Event>>, RandomState>,
    /// Corrections, by the event that they name, with the position of the newest one.
    corrections: HashMap<Uuid, (Position, Correction), RandomState>,
    /// Earlier states, in order. The distances between them grow towards the oldest event.
    kept: Vec<KeptState<F>>,
    /// The position of the newest event, and the number of events that it is today.
    newest: (Position, u32),
}

/// When an event occurred, its position, and its number among those of one position.
type OccurrenceKey = (Timestamp, Position, u32);
/// An event with its place.
type PlacedEvent<E> = (OccurrenceKey, Recorded<E>);

/// A state with the first `count` events, up to `last`.
#[derive(Clone)]
struct KeptState<F> {
    last: OccurrenceKey,
    count: usize,
    state: F,
}

impl<F: OccurrenceFold> Default for OccurrenceOrder<F> {
    fn default() -> OccurrenceOrder<F> {
        OccurrenceOrder {
            now: F::default(),
            events: BTreeMap::new(),
            places: HashMap::default(),
            retracted: HashMap::default(),
            corrections: HashMap::default(),
            kept: Vec::new(),
            newest: (Position::START, 0),
        }
    }
}

impl<F: OccurrenceFold> Deref for OccurrenceOrder<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.now
    }
}

impl<F: OccurrenceFold> Fold for OccurrenceOrder<F> {
    type Event = F::Event;

    const VERSION: Option<u32> = F::VERSION;

    const RETAIN_BEFORE: Option<fn(&mut Self, Timestamp)> = Some(OccurrenceOrder::retain_before);

    fn apply(&mut self, event: &Recorded<F::Event>) {
        let number = match self.newest {
            (position, number) if position == event.position => number + 1,
            _ => 0,
        };
        self.newest = (event.position, number);
        assert!(
            self.events.len() + self.retracted.len() + self.corrections.len() < F::MOST_EVENTS,
            "it keeps at most {} events, to put late ones in their place: raise \
             `OccurrenceFold::MOST_EVENTS`, or narrow the boundary",
            F::MOST_EVENTS
        );
        if let Some(correction) = F::correction(event) {
            self.correct(correction, event.position);
            return;
        }
        let mut key = (event.occurred_at(), event.position, number);
        match self.corrections.get(&event.id) {
            Some((_, Correction::Retract { .. })) => {
                self.retracted.entry(event.id).or_default().push((key, event.clone()));
                return;
            }
            Some((_, Correction::Move { to, .. })) => key.0 = *to,
            None => {}
        }
        self.places.entry(event.id).or_default().push(key);
        self.insert(key, event.clone());
    }

    /// The events that are kept with what belongs to them, and the kept states. For texts and lists
    /// that an event owns it counts 128 bytes.
    fn heap_bytes(&self) -> Option<usize> {
        let of_place = size_of::<(Uuid, Vec<OccurrenceKey>)>() + size_of::<OccurrenceKey>();
        let of_event = size_of::<PlacedEvent<F::Event>>() + of_place + OWNED_BYTES;
        let of_correction = size_of::<(Uuid, (Position, Correction))>();
        let events = (self.events.len() + self.retracted.len()).saturating_mul(of_event);
        let corrections = self.corrections.len().saturating_mul(of_correction);
        let state = size_of::<KeptState<F>>().saturating_add(self.now.heap_bytes().unwrap_or(0));
        let states = (self.kept.len() + 1).saturating_mul(state);
        Some(events.saturating_add(corrections).saturating_add(states))
    }
}

impl<F: OccurrenceFold> OccurrenceOrder<F> {
    /// The state with the events that occurred before this instant, as far as they are known.
    pub fn before(&self, instant: Timestamp) -> F {
        let end = first_key(instant);
        let at = self.kept.partition_point(|kept| kept.last < end);
        let begin = at.checked_sub(1).and_then(|at| self.kept.get(at));
        let (mut state, after) = match begin {
            Some(kept) => (kept.state.clone(), Bound::Excluded(kept.last)),
            None => (F::default(), Bound::Unbounded),
        };
        for (key, event) in self.events.range((after, Bound::Unbounded)) {
            if *key >= end {
                break;
            }
            state.apply(event);
        }
        state
    }

    /// Keeps only the events that occurred before this instant, by their corrected times. The state
    /// becomes that [`before`](OccurrenceOrder::before) the instant.
    ///
    /// An event that is applied or moved afterwards is put in its place, whenever that is.
    pub fn retain_before(&mut self, instant: Timestamp) {
        let end = first_key(instant);
        self.now = self.before(instant);
        drop(self.events.split_off(&end));
        self.kept.retain(|kept| kept.last < end);
        self.places.retain(|_, places| {
            places.retain(|place| *place < end);
            !places.is_empty()
        });
    }

    /// The events in order of when they occurred, with their corrected times.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = (Timestamp, &Recorded<F::Event>)> {
        self.events.iter().map(|((occurred_at, ..), event)| (*occurred_at, event))
    }

    /// Notes a correction, and applies it to events that are known. The newest of several
    /// corrections of one event counts.
    fn correct(&mut self, correction: Correction, position: Position) {
        let (Correction::Retract { event: id } | Correction::Move { event: id, .. }) = correction;
        if self.corrections.get(&id).is_some_and(|(newest, _)| *newest > position) {
            return;
        }
        self.corrections.insert(id, (position, correction));
        let mut found = self.retracted.remove(&id).unwrap_or_default();
        let mut from = None;
        let mut changes_at =
            |key: OccurrenceKey| from = Some(from.map_or(key, |from: OccurrenceKey| from.min(key)));
        for key in self.places.remove(&id).unwrap_or_default() {
            if let Some(event) = self.events.remove(&key) {
                changes_at(key);
                found.push((key, event));
            }
        }
        match correction {
            _ if found.is_empty() => {}
            Correction::Retract { .. } => drop(self.retracted.insert(id, found)),
            Correction::Move { to, .. } => {
                for (mut key, event) in found {
                    key.0 = to;
                    changes_at(key);
                    self.places.entry(id).or_default().push(key);
                    self.events.insert(key, event);
                }
            }
        }
        if let Some(from) = from {
            self.fold_from(from);
        }
    }

    fn insert(&mut self, key: OccurrenceKey, event: Recorded<F::Event>) {
        let is_late = self.events.last_key_value().is_some_and(|(last, _)| *last > key);
        if is_late {
            self.events.insert(key, event);
            self.fold_from(key);
            return;
        }
        self.now.apply(&event);
        self.events.insert(key, event);
        self.keep(key, self.events.len());
    }

    /// Applies the events from `key` on again.
    fn fold_from(&mut self, key: OccurrenceKey) {
        self.kept.retain(|kept| kept.last < key);
        let (after, mut count) = match self.kept.last() {
            Some(kept) => {
                self.now = kept.state.clone();
                (Bound::Excluded(kept.last), kept.count)
            }
            None => {
                self.now = F::default();
                (Bound::Unbounded, 0)
            }
        };
        // `keep` needs the whole value, so the events are taken out for the time of the walk.
        let events = std::mem::take(&mut self.events);
        for (key, event) in events.range((after, Bound::Unbounded)) {
            self.now.apply(event);
            count += 1;
            self.keep(*key, count);
        }
        self.events = events;
    }

    /// Keeps the state with the first `count` events, up to `last`, if one is due.
    fn keep(&mut self, last: OccurrenceKey, count: usize) {
        if count - self.kept.last().map_or(0, |kept| kept.count) < STEP {
            return;
        }
        self.kept.push(KeptState { last, count, state: self.now.clone() });
        // A state is dropped if its neighbours are as close together as their distance from the
        // end. So the distances double, and the number of states is about twice the logarithm of
        // the number of events.
        let mut at = self.kept.len();
        while at >= 3 {
            at -= 1;
            let counts = (self.kept.get(at - 2), self.kept.get(at));
            let (Some(older), Some(newer)) = counts else { break };
            if count - older.count <= 2 * (count - newer.count) {
                self.kept.remove(at - 1);
            }
        }
    }
}

/// The least key that an event of this instant can have.
fn first_key(instant: Timestamp) -> OccurrenceKey {
    (instant, Position::START, 0)
}

impl<F: OccurrenceFold + fmt::Debug> fmt::Debug for OccurrenceOrder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut order = f.debug_struct("OccurrenceOrder");
        order.field("now", &self.now).field("events", &self.events.len()).finish_non_exhaustive()
    }
}

/// Two are equal if they hold the same events and states.
impl<F: OccurrenceFold + PartialEq> PartialEq for OccurrenceOrder<F>
where
    F::Event: PartialEq,
{
    fn eq(&self, other: &OccurrenceOrder<F>) -> bool {
        self.now == other.now && self.events == other.events
    }
}
