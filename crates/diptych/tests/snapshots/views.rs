//! Snapshots of views. They reduce the events that a start or a query of the past folds, and never
//! change an answer.

use std::{collections::BTreeMap, sync::Arc};

use diptych::{
    App, AppBuilder, Event, Fold, Memory, Position, Query, Recorded, StartError, Store, digest,
    snapshot::{MemorySnapshots, SnapshotOptions, Snapshots},
};
use diptych_store::Append;
use serde::{Deserialize, Serialize};

use crate::support::view_digest::view_digest;

#[derive(Event, Serialize, Deserialize)]
#[event("scored")]
struct Scored {
    #[tag]
    player: u64,
    points: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Scores {
    points: BTreeMap<u64, u64>,
    /// A hash that depends on the order of events.
    last: u64,
}

impl Fold for Scores {
    type Event = Scored;

    fn apply(&mut self, scored: &Recorded<Scored>) {
        *self.points.entry(scored.player).or_default() += scored.points;
        self.last = self.last.wrapping_mul(31).wrapping_add(scored.position.get());
    }
}

/// Returns the whole state.
struct Everything;

impl Query for Everything {
    type View = Scores;
    type Answer = Scores;

    fn answer(&self, scores: &Scores) -> Scores {
        scores.clone()
    }
}

async fn score(store: &Store, events: std::ops::Range<u64>) {
    for number in events {
        let event = Scored { player: number % 7, points: number }.encode().unwrap();
        store.append(Append::event(event)).await.unwrap().synced().await.unwrap();
    }
}

/// Computes the state after `upto` events without the view.
fn folded(upto: u64) -> Scores {
    let mut scores = Scores::default();
    for number in 0..upto {
        *scores.points.entry(number % 7).or_default() += number;
        scores.last = scores.last.wrapping_mul(31).wrapping_add(number + 1);
    }
    scores
}

fn every(events: u64, place: &Arc<MemorySnapshots>, store: &Store) -> AppBuilder {
    let options = SnapshotOptions { every_events: Some(events), keep: 8 };
    App::over_store(store.clone())
        .view::<Scores>()
        .snapshots::<Scores>(options)
        .snapshots_in(place.clone())
}

#[tokio::test]
async fn a_start_uses_the_snapshot_that_stop_saved() {
    let (place, store) = (Arc::new(MemorySnapshots::default()), Store::new(Memory::new()));
    score(&store, 0..500).await;
    every(u64::MAX, &place, &store).start().await.unwrap().stop().await.unwrap();
    assert_eq!(place.names("").unwrap().len(), 1, "the stop saves one snapshot");
    score(&store, 500..520).await;
    let app = every(u64::MAX, &place, &store).start().await.unwrap();
    let view = app.view::<Scores>().unwrap();
    assert_eq!(view.status().events, 20, "the snapshot must supply the first 500 events");
    assert_eq!(app.query(Everything).strong().await.unwrap().value, folded(520));
    let rebuilt = digest(&folded(520)).unwrap();
    assert_eq!(view_digest::<Scores>(&app).await, (Position::new(520), rebuilt));
}

#[tokio::test]
async fn a_damaged_snapshot_causes_a_replay() {
    let (place, store) = (Arc::new(MemorySnapshots::default()), Store::new(Memory::new()));
    score(&store, 0..100).await;
    every(u64::MAX, &place, &store).start().await.unwrap().stop().await.unwrap();
    let name = place.names("").unwrap().remove(0);
    let mut bytes = place.load(&name).unwrap().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.save(&name, &bytes).unwrap();
    let app = every(u64::MAX, &place, &store).start().await.unwrap();
    assert_eq!(app.view::<Scores>().unwrap().status().events, 100);
    assert_eq!(app.query(Everything).await.unwrap().value, folded(100));
}

#[tokio::test]
async fn snapshots_make_queries_of_the_past_cheaper_and_not_different() {
    let (place, store) = (Arc::new(MemorySnapshots::default()), Store::new(Memory::new()));
    let app = every(50, &place, &store).start().await.unwrap();
    for first in (0..1_000).step_by(50) {
        score(&store, first..first + 50).await;
        app.query(Everything).strong().await.unwrap();
        app.view::<Scores>().unwrap().save().await.unwrap();
    }
    let names = place.names("").unwrap();
    assert_eq!(names.len(), 8, "{names:?}");
    let without = App::over_store(store).start().await.unwrap();
    let (mut nearer, mut cost) = (0, 0);
    for position in (1..=1_000).step_by(37) {
        let position = Position::new(position);
        let answer = app.query(Everything).as_of(position).await.unwrap();
        assert_eq!(answer.value, folded(position.get()), "as of {position}");
        assert_eq!(answer.value, without.query(Everything).as_of(position).await.unwrap().value);
        assert_eq!(answer.position, position);
        assert_eq!(answer.cost.events, position.get() - answer.cost.from.get());
        nearer += u64::from(answer.cost.from > Position::START);
        cost += answer.cost.events;
    }
    // Without snapshots, the cost would be the sum of all positions, 14 thousand events.
    assert!(nearer > 10 && cost < 7_000, "{nearer} used a snapshot, {cost} events were folded");
}

#[tokio::test]
async fn a_snapshot_is_saved_in_the_background_after_every_events() {
    let (place, store) = (Arc::new(MemorySnapshots::default()), Store::new(Memory::new()));
    let app = every(100, &place, &store).start().await.unwrap();
    let mut written = 0;
    // A background thread writes the snapshot, so it appears some events later.
    while place.names("").unwrap().is_empty() {
        score(&store, written..written + 10).await;
        written += 10;
        app.query(Everything).strong().await.unwrap();
        assert!(written < 100_000, "no snapshot was made");
    }
    assert!(written >= 100, "it was made after {written} events");
    drop(app);
    let app = every(100, &place, &store).start().await.unwrap();
    assert!(app.view::<Scores>().unwrap().status().events < written);
    assert_eq!(app.query(Everything).await.unwrap().value, folded(written));
}

#[tokio::test]
async fn invalid_snapshot_options_are_errors() {
    let options = SnapshotOptions::default();
    let builder = App::over(Memory::new()).view::<Scores>().snapshots::<Scores>(options);
    assert!(matches!(builder.start().await, Err(StartError::NoSnapshotPlace)));
    let app = App::over(Memory::new()).view::<Scores>().start().await.unwrap();
    let error = app.view::<Scores>().unwrap().save().await.unwrap_err();
    assert!(error.to_string().contains("AppBuilder::snapshots"), "{error}");
}

#[tokio::test]
async fn view_snapshots_are_stored_beside_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let builder = App::open(folder.path()).unwrap().view::<Scores>();
        builder.snapshots::<Scores>(SnapshotOptions::default())
    };
    let app = open().start().await.unwrap();
    score(app.store(), 0..300).await;
    app.query(Everything).strong().await.unwrap();
    app.stop().await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 1);
    let app = open().start().await.unwrap();
    assert_eq!(app.view::<Scores>().unwrap().status().events, 0);
    assert_eq!(app.query(Everything).await.unwrap().value, folded(300));
}
