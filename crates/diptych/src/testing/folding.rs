//! Folds events into a view without a log, for measurements.

use std::{fmt, sync::Arc};

use diptych_store::Position;

use crate::{
    event::Recorded,
    follow::{Follower, PAGE_EVENTS, Page, Progress, Slice},
    view::{View, ViewOptions, left_right::LeftRight, shown::ShownView},
};

/// Events in memory that are folded into a view as an app does it: page by page, into the left copy
/// and then into the right one. For measurements of folding alone: nothing is read or decoded.
///
/// ```
/// # use diptych::{Event, Fold, Metadata, Position, Recorded, Timestamp, Uuid, testing::Folding};
/// # #[derive(Event, serde::Serialize, serde::Deserialize)]
/// # #[event("seat-taken")]
/// # struct Taken {}
/// #[derive(Clone, Default)]
/// struct Seats(u64);
///
/// impl Fold for Seats {
///     type Event = Taken;
///
///     fn apply(&mut self, _: &Recorded<Taken>) {
///         self.0 += 1;
///     }
/// }
///
/// # let taken = |position| Recorded {
/// #     position: Position::new(position),
/// #     recorded_at: Timestamp::from_micros(0),
/// #     id: Uuid::nil(),
/// #     metadata: Metadata::default(),
/// #     event: Taken {},
/// # };
/// let folding = Folding::<Seats>::new((1..=5_000).map(taken));
/// assert_eq!(folding.run().0, 5_000);
/// ```
pub struct Folding<V: View> {
    slices: Vec<Slice<V::Event>>,
    events: u64,
}

impl<V: View> Folding<V> {
    /// These events, in the order of their positions.
    pub fn new(events: impl IntoIterator<Item = Recorded<V::Event>>) -> Folding<V> {
        let (mut slices, mut page) = (Vec::new(), Vec::with_capacity(PAGE_EVENTS));
        let mut count = 0;
        for event in events {
            count += 1;
            page.push(event);
            if page.len() == PAGE_EVENTS {
                slices.push(Page::decoded_before(std::mem::take(&mut page)));
            }
        }
        if !page.is_empty() {
            slices.push(Page::decoded_before(page));
        }
        Folding { slices, events: count }
    }

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Folds them into a new view.
    ///
    /// # Panics
    /// If the fold panics.
    pub fn run(&self) -> V {
        let progress = Progress::new("view", String::new(), Position::START);
        let live = Arc::new(ShownView::new(V::default(), Position::START, Arc::new(progress)));
        let mut copies = LeftRight::new(live.clone(), ViewOptions::default(), None);
        for slice in &self.slices {
            if let Err(halt) = copies.take(slice.clone()) {
                panic!("{halt:?}");
            }
        }
        live.now().state.clone()
    }
}

impl<V: View> fmt::Debug for Folding<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folding").field("events", &self.events).finish_non_exhaustive()
    }
}
