//! A projection that names a key, over a target in memory that counts its calls.

use std::{sync::Arc, time::Duration};

use diptych::{
    App, Event, Memory, Position, Recorded, Store, Tag,
    follow::{FollowerControl, SkipNote},
    projection::{Checkpoint, PoisonRecord, Target, TargetError},
};
use diptych_store::Append;
use parking_lot::Mutex;
use pollster::block_on;
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
#[event("counted")]
struct Counted {
    #[tag]
    what: String,
    number: u64,
}

#[derive(Clone, Default)]
struct KeyedRows(Arc<Mutex<Place>>);

#[derive(Default)]
struct Place {
    numbers: Vec<u64>,
    checkpoint: Option<Checkpoint>,
    poison: PoisonRecord,
    refused: Vec<u64>,
    /// Whether it commits each position by itself.
    is_one_by_one: bool,
    /// Calls of `apply_isolated`.
    tries: usize,
    /// Calls that stored the poisoned keys.
    notes: usize,
}

impl Target for KeyedRows {
    type Event = Counted;

    fn name(&self) -> &str {
        "rows"
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        Ok(self.0.lock().checkpoint)
    }

    fn apply(
        &mut self,
        events: &[Recorded<Counted>],
        _: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        assert!(events.is_empty(), "events without a look at the poisoned keys");
        self.0.lock().checkpoint = Some(to);
        Ok(())
    }

    fn isolates_by(&self) -> Option<String> {
        Some("what".to_owned())
    }

    fn poison(&mut self) -> Result<PoisonRecord, TargetError> {
        Ok(self.0.lock().poison.clone())
    }

    fn apply_isolated(
        &mut self,
        runs: &[&[Recorded<Counted>]],
        from: Option<Checkpoint>,
        to: Checkpoint,
        poison: Option<&PoisonRecord>,
    ) -> Result<(), TargetError> {
        let mut place = self.0.lock();
        place.tries += 1;
        assert_eq!(place.checkpoint, from);
        let events: Vec<_> = runs.iter().copied().flatten().collect();
        let [first, last] =
            [events.first(), events.last()].map(|event| event.map(|event| event.position));
        if place.is_one_by_one && first != last {
            return Err(TargetError::OneByOne);
        }
        if let Some(event) = events.iter().find(|event| place.refused.contains(&event.number)) {
            return Err(TargetError::event(event.position, "not this one"));
        }
        place.numbers.extend(events.iter().map(|event| event.number));
        place.checkpoint = Some(to);
        if let Some(poison) = poison {
            place.notes += 1;
            place.poison = poison.clone();
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        let mut place = self.0.lock();
        (place.numbers, place.checkpoint) = (Vec::new(), None);
        Ok(())
    }
}

fn write(store: &Store, what: &str, number: u64) {
    let event = Counted { what: what.to_owned(), number }.encode().unwrap();
    block_on(async { store.append(Append::event(event)).await.unwrap().synced().await }).unwrap();
}

fn run(store: &Store, rows: &KeyedRows) -> (App, FollowerControl) {
    let app = block_on(App::over_store(store.clone()).projection(rows.clone()).start()).unwrap();
    let projection = app.projection("rows").unwrap();
    (app, projection)
}

fn caught_up(projection: &FollowerControl) -> Position {
    block_on(projection.caught_up(LONG)).unwrap()
}

#[test]
fn the_poisoned_keys_are_stored_only_if_they_changed() {
    let (store, rows) = (Store::new(Memory::new()), KeyedRows::default());
    rows.0.lock().refused.push(7);
    let (app, projection) = run(&store, &rows);
    let steps = [("pear", 1, 0), ("apple", 7, 1), ("pear", 2, 1), ("apple", 8, 2), ("pear", 3, 2)];
    for (what, number, notes) in steps {
        write(&store, what, number);
        caught_up(&projection);
        assert_eq!(rows.0.lock().notes, notes, "after {what} {number}");
    }
    assert_eq!(rows.0.lock().numbers, [1, 2, 3]);
    let poison = rows.0.lock().poison.clone();
    assert_eq!((poison.keys[0].at, poison.keys[0].held), (Position::new(2), 2));

    let note = SkipNote { who: "ann".to_owned(), why: "a test".to_owned() };
    block_on(projection.skip_event(&Tag::new("what", "apple"), note)).unwrap();
    write(&store, "apple", 9);
    caught_up(&projection);
    let place = rows.0.lock();
    assert_eq!((&place.numbers[..], place.notes), (&[1, 2, 3, 8, 9][..], 3));
    assert!(place.poison.keys.is_empty() && !place.poison.skipped.is_empty());
    drop(place);
    block_on(app.stop()).unwrap();
}

/// Regression: the rest of the slice was read, divided and tried again for each event.
#[test]
fn a_target_that_commits_each_event_by_itself_is_tried_once_for_each() {
    const EVENTS: u64 = 300;
    let (store, rows) = (Store::new(Memory::new()), KeyedRows::default());
    (rows.0.lock().is_one_by_one, rows.0.lock().refused) = (true, vec![100]);
    for number in 0..EVENTS {
        write(&store, if number % 2 == 0 { "apple" } else { "pear" }, number);
    }
    let (app, projection) = run(&store, &rows);
    assert_eq!(caught_up(&projection), Position::new(EVENTS));
    let place = rows.0.lock();
    let applied = |number: &u64| number % 2 == 1 || *number < 100;
    assert_eq!(place.numbers, (0..EVENTS).filter(applied).collect::<Vec<_>>());
    assert_eq!((place.poison.keys.len(), place.poison.keys[0].held), (1, 100));
    // One try with all events, and one that was refused.
    let most = EVENTS as usize + 2;
    assert!(place.tries <= most, "{} tries", place.tries);
    drop(place);
    block_on(app.stop()).unwrap();
}
