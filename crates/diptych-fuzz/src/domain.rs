//! A small domain over the events of the kept log, for targets that need an app.

use std::{collections::BTreeMap, sync::Arc};

use diptych::{
    App, Command, DecisionContext, Event, Filter, Fold, Query, Recorded, Tag,
    snapshot::{MemorySnapshots, SnapshotOptions},
};
use diptych_log::{Background, Clustering, Log, LogOptions};
use diptych_store::TimeSource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::fixture::{self, FOLDER, KILLED};

/// The events that the view folds.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Happening {
    #[event("opened")]
    Opened {
        number: u64,
        at: u64,
    },
    #[event("closed")]
    Closed {
        number: u64,
    },
    NotePut(NotePut),
}

/// A note was put on a shelf.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[event("note-put")]
pub(crate) struct NotePut {
    #[tag]
    shelf: String,
    text: String,
}

/// The happenings by number, in order, and by shelf.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shelves {
    open: BTreeMap<u64, u64>,
    closed: Vec<u64>,
    notes: BTreeMap<String, Vec<String>>,
    /// The mean of the numbers.
    mean: Option<f64>,
}

impl Fold for Shelves {
    type Event = Happening;

    const VERSION: Option<u32> = Some(1);
    const NAME: Option<&'static str> = Some("shelves");

    fn apply(&mut self, event: &Recorded<Happening>) {
        match &event.event {
            Happening::Opened { number, at } => {
                self.open.insert(*number, *at);
                self.mean = Some((self.mean.unwrap_or(0.0) + *number as f64) / 2.0);
            }
            Happening::Closed { number } => self.closed.push(*number),
            Happening::NotePut(NotePut { shelf, text }) => {
                self.notes.entry(shelf.clone()).or_default().push(text.clone());
            }
        }
    }
}

/// The notes on one shelf.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf(usize);

impl Fold for Shelf {
    type Event = NotePut;

    fn apply(&mut self, _: &Recorded<NotePut>) {
        self.0 += 1;
    }
}

/// A full shelf takes no note.
#[derive(Clone, Debug, thiserror::Error, Serialize, JsonSchema)]
#[error("the shelf has {notes} notes")]
pub(crate) struct ShelfIsFull {
    notes: usize,
}

/// Puts a note on a shelf.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PutNote {
    shelf: String,
    text: String,
    #[serde(default)]
    copies: u8,
}

impl Command for PutNote {
    type State = Shelf;
    type Event = NotePut;
    type Rejection = ShelfIsFull;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("shelf", &self.shelf))
    }

    fn decide(&self, shelf: &Shelf, _: &DecisionContext) -> Result<Vec<NotePut>, ShelfIsFull> {
        let notes = shelf.0 + usize::from(self.copies);
        if notes > 5 {
            return Err(ShelfIsFull { notes });
        }
        let put = NotePut { shelf: self.shelf.clone(), text: self.text.clone() };
        Ok(vec![put; 1 + usize::from(self.copies)])
    }
}

/// Asks for everything, or for one shelf.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct All {
    shelf: Option<String>,
    most: Option<u32>,
}

/// All of a view, as JSON.
pub(crate) type ShelvesAnswer = (BTreeMap<u64, u64>, Vec<u64>, BTreeMap<String, Vec<String>>);

impl Query for All {
    type View = Shelves;
    type Answer = ShelvesAnswer;

    fn answer(&self, view: &Shelves) -> ShelvesAnswer {
        let asked = |name: &String| self.shelf.as_ref().is_none_or(|shelf| shelf == name);
        let most = self.most.map_or(usize::MAX, |most| most as usize);
        let notes = view.notes.iter().filter(|(name, _)| asked(name)).take(most);
        let notes = notes.map(|(name, notes)| (name.clone(), notes.clone())).collect();
        (view.open.clone(), view.closed.clone(), notes)
    }
}

/// A runtime for apps, on the thread of the caller.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// An app over the kept log, whose identity and events are always the same. Stopping it closes the
/// log.
pub(crate) async fn app(snapshots: Option<Arc<MemorySnapshots>>) -> App {
    let options = LogOptions {
        background: Background::Threads,
        clustering: Clustering::Off,
        time: TimeSource::Clock,
        ..fixture::options(&KILLED.disk("lock", &[], &[]))
    };
    let log = Log::open(FOLDER, options).unwrap();
    let mut builder = App::over(log).close_store().view::<Shelves>();
    if let Some(place) = snapshots {
        let kept = SnapshotOptions { every_events: Some(1_000_000), keep: 2 };
        builder = builder.snapshots::<Shelves>(kept).snapshots_in(place);
    }
    builder.start().await.unwrap()
}
