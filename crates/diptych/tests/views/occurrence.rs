//! Views and rules that apply events in the order in which they occurred.

use std::collections::BTreeMap;

use diptych::{
    App, Command, DecisionContext, Event, Fold, Memory, Metadata, Point, Position, Query,
    QueryError, Recorded, Store, Timestamp, Uuid,
    fold::{Correction, OccurrenceFold, OccurrenceOrder},
    store::Append,
    testing::given,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Event)]
enum Entries {
    #[event("entry-made")]
    Made {
        #[tag]
        book: u8,
        amount: u64,
    },
    #[event("entry-retracted")]
    Retracted {
        #[tag]
        book: u8,
        entry: Uuid,
    },
    #[event("entry-moved")]
    Moved {
        #[tag]
        book: u8,
        entry: Uuid,
        to: i64,
    },
}

/// The amounts in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Amounts(Vec<u64>);

impl Fold for Amounts {
    type Event = Entries;

    fn apply(&mut self, entry: &Recorded<Entries>) {
        match &entry.event {
            Entries::Made { amount, .. } => self.0.push(*amount),
            other => panic!("a correction is not applied: {other:?}"),
        }
    }
}

impl OccurrenceFold for Amounts {
    fn correction(entry: &Recorded<Entries>) -> Option<Correction> {
        match entry.event {
            Entries::Made { .. } => None,
            Entries::Retracted { entry: event, .. } => Some(Correction::Retract { event }),
            Entries::Moved { entry: event, to, .. } => {
                Some(Correction::Move { event, to: Timestamp::from_micros(to) })
            }
        }
    }
}

fn id(position: u64) -> Uuid {
    Uuid::from_u128(position.into())
}

fn recorded(position: u64, occurred_at: i64, event: Entries) -> Recorded<Entries> {
    let metadata =
        Metadata { occurred_at: Some(Timestamp::from_micros(occurred_at)), ..Metadata::default() };
    let recorded_at = Timestamp::from_micros(1_000_000);
    Recorded { position: Position::new(position), recorded_at, id: id(position), metadata, event }
}

/// One step of a history. Numbers of entries are modulo the entries so far.
#[derive(Clone, Debug)]
enum Step {
    Make(i64),
    Retract(usize),
    Move(usize, i64),
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        // Most events come in order, and some late.
        8 => Just(i64::MAX).prop_map(Step::Make),
        4 => (0..200i64).prop_map(Step::Make),
        1 => any::<usize>().prop_map(Step::Retract),
        1 => (any::<usize>(), 0..200i64).prop_map(|(entry, to)| Step::Move(entry, to)),
    ];
    prop::collection::vec(step, 0..most)
}

fn history(steps: &[Step]) -> Vec<Recorded<Entries>> {
    let mut made = Vec::new();
    let book = 1;
    (1..)
        .zip(steps)
        .map(|(position, step)| {
            // An event that comes in order occurs when it is recorded.
            let in_order = position as i64;
            let nth = |at: usize| made.get(at % made.len().max(1)).copied().unwrap_or(9_999);
            match *step {
                Step::Make(at) => {
                    made.push(position);
                    let at = if at == i64::MAX { in_order } else { at };
                    recorded(position, at, Entries::Made { book, amount: position })
                }
                Step::Retract(at) => {
                    recorded(position, 0, Entries::Retracted { book, entry: id(nth(at)) })
                }
                Step::Move(at, to) => {
                    recorded(position, 0, Entries::Moved { book, entry: id(nth(at)), to })
                }
            }
        })
        .collect()
}

/// The amounts of what occurred before an instant, worked out from the whole history at once.
fn oracle(history: &[Recorded<Entries>], before: i64) -> Vec<u64> {
    let mut entries = BTreeMap::new();
    for event in history {
        if let Entries::Made { amount, .. } = event.event {
            entries.insert(event.id, (Some(event.occurred_at().as_micros()), amount));
        }
    }
    for event in history {
        match event.event {
            Entries::Retracted { entry, .. } => {
                entries.entry(entry).and_modify(|found| found.0 = None);
            }
            Entries::Moved { entry, to, .. } => {
                entries.entry(entry).and_modify(|found| found.0 = Some(to));
            }
            Entries::Made { .. } => {}
        }
    }
    let occurred = entries.values().filter_map(|(at, amount)| Some(((*at)?, *amount)));
    let mut occurred: Vec<_> = occurred.filter(|(at, _)| *at < before).collect();
    occurred.sort_unstable();
    occurred.into_iter().map(|(_, amount)| amount).collect()
}

fn folded(history: &[Recorded<Entries>]) -> OccurrenceOrder<Amounts> {
    let mut order = OccurrenceOrder::<Amounts>::default();
    history.iter().for_each(|event| order.apply(event));
    order
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_that_of_the_events_in_order_of_occurrence(steps in steps(1_500)) {
        let history = history(&steps);
        let order = folded(&history);
        prop_assert_eq!(&order.0, &oracle(&history, i64::MAX));
        for before in [0, 1, 50, 100, 150, 201, 700, 2_000] {
            let state = order.before(Timestamp::from_micros(before));
            prop_assert_eq!(&state.0, &oracle(&history, before));
        }
        let amounts = order.events().map(|(_, event)| match event.event {
            Entries::Made { amount, .. } => amount,
            _ => 0,
        });
        prop_assert_eq!(amounts.collect::<Vec<_>>(), oracle(&history, i64::MAX));
    }

    /// A question about the past applies events in another order than that of the log.
    #[test]
    fn the_order_of_arrival_makes_no_difference(steps in steps(60), from in 0..60usize) {
        let history = history(&steps);
        let mut turned = history.clone();
        turned.rotate_left(from.min(history.len()));
        prop_assert_eq!(&folded(&turned).0, &folded(&history).0);
    }
}

struct EnteredSum;

impl Query for EnteredSum {
    type View = OccurrenceOrder<Amounts>;
    type Answer = Vec<u64>;

    fn answer(&self, amounts: &OccurrenceOrder<Amounts>) -> Vec<u64> {
        amounts.0.clone()
    }
}

/// Writes an event, if the newest amount so far is the expected one.
#[derive(Clone)]
struct Enter(Entries, Option<u64>);

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the newest amount is {0:?}")]
struct Newest(Option<u64>);

impl Command for Enter {
    type State = OccurrenceOrder<Amounts>;
    type Event = Entries;
    type Rejection = Newest;

    fn boundary(&self) -> diptych::Filter {
        diptych::Filter::tag(diptych::Tag::new("book", 1))
    }

    fn decide(
        &self,
        amounts: &OccurrenceOrder<Amounts>,
        _: &DecisionContext,
    ) -> Result<Vec<Entries>, Newest> {
        let newest = amounts.0.last().copied();
        if newest != self.1 {
            return Err(Newest(newest));
        }
        Ok(vec![self.0.clone()])
    }
}

#[tokio::test]
async fn a_view_and_a_rule_see_late_and_corrected_events_in_their_place() {
    let app = App::over(Memory::new()).view::<OccurrenceOrder<Amounts>>();
    let app = app.events::<Entries>().start().await.unwrap();
    let made = |amount| Entries::Made { book: 1, amount };
    let at = Timestamp::from_micros;
    let march = app.execute(Enter(made(3), None)).occurred_at(at(300)).await.unwrap();
    // Told late: the newest amount stays that of March.
    app.execute(Enter(made(1), Some(3))).occurred_at(at(100)).await.unwrap();
    let entered = app.query(EnteredSum).strong().await.unwrap();
    assert_eq!(*entered, [1, 3]);
    let events = app.explain(EnteredSum).await.unwrap().events;
    let entry = events.iter().find(|event| event.position == march.last()).unwrap().id;
    // The entry of March was really made in January.
    let moved = Entries::Moved { book: 1, entry, to: 50 };
    app.execute(Enter(moved, Some(3))).await.unwrap();
    assert_eq!(*app.query(EnteredSum).strong().await.unwrap(), [3, 1]);
    app.execute(Enter(Entries::Retracted { book: 1, entry }, Some(1))).await.unwrap();
    assert_eq!(*app.query(EnteredSum).strong().await.unwrap(), [1]);
    // As it was known before the corrections.
    assert_eq!(*app.query(EnteredSum).as_of(entered.position).await.unwrap(), [1, 3]);
    let wrong = app.execute(Enter(made(9), Some(3))).await.unwrap_err();
    assert!(matches!(wrong, diptych::ExecuteError::Rejected(Newest(Some(1)))));
}

/// Writes a history as it is.
async fn write(store: &Store, history: &[Recorded<Entries>]) {
    let raw = history.iter().map(|event| {
        let mut raw = event.event.encode().unwrap().id(event.id);
        raw.metadata = event.metadata.clone();
        raw
    });
    let raw: Vec<_> = raw.collect();
    if !raw.is_empty() {
        store.append(Append::events(raw)).await.unwrap().synced().await.unwrap();
    }
}

/// The sum of the events of a book, or of all if there is none.
struct BookedSum(Option<u8>);

impl Query for BookedSum {
    type View = OccurrenceOrder<Amounts>;
    type Answer = (Vec<u64>, usize);

    fn answer(&self, amounts: &OccurrenceOrder<Amounts>) -> (Vec<u64>, usize) {
        (amounts.0.clone(), amounts.events().count())
    }

    fn scope(&self) -> diptych::Filter {
        match self.0 {
            Some(book) => diptych::Filter::tag(diptych::Tag::new("book", book)),
            None => diptych::Filter::everything(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// Such a question left out events by their stored time: an event that was moved to an earlier
    /// time was missing, and a correction that was reported later did not count.
    #[test]
    fn a_question_about_what_occurred_counts_corrections(
        steps in steps(60),
        before in 0..210i64,
        known in 0..61usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let history = history(&steps);
            let store = Store::new(Memory::new());
            write(&store, &history).await;
            let app = App::over_store(store).start().await.unwrap();
            let known = known.min(history.len());
            let upto = Position::new(known as u64);
            let expected = oracle(&history[..known], before);
            let expected = (expected.clone(), expected.len());
            let instant = Timestamp::from_micros(before);
            let point = Point::at(upto).occurred_before(instant);
            for query in [BookedSum(None), BookedSum(Some(1))] {
                let answer = app.query(query).at(point).await.unwrap();
                prop_assert_eq!(&answer.value, &expected);
                prop_assert_eq!(answer.position, upto);
            }
            let last = Timestamp::from_micros(before - 1);
            let answer = app.query(BookedSum(None)).as_of(upto).occurred_upto(last).await.unwrap();
            prop_assert_eq!(&answer.value, &expected);
            let diff = app.diff(BookedSum(None), Position::START, point).await.unwrap();
            prop_assert_eq!(&diff.after.value, &expected);
            app.check_scope(&BookedSum(Some(1)), point).await.unwrap();
            Ok(())
        })?;
    }

    /// The rest of a fold that leaves out the events of a time and later goes on like any other.
    #[test]
    fn a_state_that_leaves_out_later_events_goes_on(steps in steps(600), before in 0..210i64) {
        let history = history(&steps);
        let (made, corrections): (Vec<_>, Vec<_>) = history
            .into_iter()
            .partition(|event| matches!(event.event, Entries::Made { .. }));
        let instant = Timestamp::from_micros(before);
        let is_left = |event: &Recorded<Entries>| event.occurred_at() < instant;
        let mut left: Vec<_> = made.iter().filter(|event| is_left(event)).cloned().collect();
        let mut order = folded(&made);
        order.retain_before(instant);
        prop_assert_eq!(&order.0, &oracle(&left, i64::MAX));
        corrections.iter().for_each(|event| order.apply(event));
        left.extend(corrections);
        prop_assert_eq!(&order.0, &oracle(&left, i64::MAX));
        prop_assert_eq!(&order.before(instant).0, &oracle(&left, before));
    }
}

#[tokio::test]
async fn an_explanation_of_what_occurred_names_the_question_that_counts_corrections() {
    let store = Store::new(Memory::new());
    let made = Entries::Made { book: 1, amount: 3 };
    write(&store, &[recorded(1, 300, made)]).await;
    let app = App::over_store(store).start().await.unwrap();
    let instant = Timestamp::from_micros(400);
    for point in [Point::now().occurred_before(instant), Point::now().occurred_upto(instant)] {
        let error = app.explain(BookedSum(None)).at(point).await.unwrap_err();
        assert!(matches!(error, QueryError::OwnOrder { .. }), "{error:?}");
        assert!(error.to_string().contains("`before(instant)`"), "{error}");
    }
    let explained = app.explain(BookedSum(None)).recorded_before(Timestamp::MAX).await.unwrap();
    assert_eq!(explained.events.len(), 1);
}

/// A fold that keeps at most three events.
#[derive(Clone, Debug, Default, PartialEq)]
struct Few(u64);

impl Fold for Few {
    type Event = Entries;

    fn apply(&mut self, _: &Recorded<Entries>) {
        self.0 += 1;
    }
}

impl OccurrenceFold for Few {
    const MOST_EVENTS: usize = 3;
}

#[test]
#[should_panic(expected = "MOST_EVENTS")]
fn more_events_than_are_kept_are_an_error() {
    let made = || Entries::Made { book: 1, amount: 1 };
    let few = |events| given(events).state::<OccurrenceOrder<Few>>(diptych::Filter::everything());
    assert_eq!(few(vec![made(), made(), made()]).0, 3);
    let _ = few(vec![made(), made(), made(), made()]);
}
