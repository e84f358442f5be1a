//! A view's copies, left and right: queries see one, events are folded into the other.
//!
//! A slice of events is folded into the hidden copy, which is then shown in place of the other. The
//! copy that was shown before is retired, and lacks that slice. It gets the slice once no query
//! uses it. If a query still uses it when the next slice comes, the copy is left to that query, and
//! a clone takes its place.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use diptych_store::{Head, Position};

use super::{
    View, ViewOptions,
    snapshots::{self, SnapshotWriter},
    version::Version,
};
use crate::{
    follow::{FollowState, Follower, FollowerStop, Halt, Progress, Slice},
    panics::caught,
    snapshot::SavedState,
};

/// How long folding waits for a running query before it clones the view. Most queries take
/// microseconds.
const FOR_A_QUERY: Duration = Duration::from_millis(1);
/// How long the thread sleeps between two checks whether a long query has ended.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

/// The version of a view that queries see.
pub(crate) struct ShownView<V> {
    now: ArcSwap<Version<V>>,
    alive: Arc<()>,
    pub(crate) progress: Arc<Progress>,
}

impl<V> ShownView<V> {
    pub(crate) fn new(state: V, position: Position, progress: Arc<Progress>) -> ShownView<V> {
        let alive = Arc::new(());
        let image = Version::new(state, position, 0, &alive);
        ShownView { now: ArcSwap::new(Arc::new(image)), alive, progress }
    }

    /// The version that is shown now, for a short use. Folding may wait until it is dropped.
    pub(crate) fn now(&self) -> Guard<Arc<Version<V>>> {
        self.now.load()
    }

    /// The version that is shown now, for a longer use.
    pub(crate) fn held(&self) -> Arc<Version<V>> {
        self.now.load_full()
    }

    /// Number of existing copies.
    pub(crate) fn copies(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }
}

/// The copies of a view, for the thread that folds.
pub(crate) struct LeftRight<V: View> {
    live: Arc<ShownView<V>>,
    options: ViewOptions,
    retired: Option<RetiredVersion<V>>,
    /// A copy that is folded beside the shown one, and shown once it is complete: a rebuild from
    /// the start of the log, or a commit that spans several slices.
    anew: Option<Version<V>>,
    writer: Option<SnapshotWriter<V>>,
    is_open: bool,
    rebuild: Rebuild,
}

/// A rebuild means that the shown version is not trusted, so no snapshot is taken until the rebuild
/// is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rebuild {
    No,
    Going,
    Failed,
}

/// The copy that was shown before, and the slice that it lacks.
struct RetiredVersion<V: View> {
    image: Arc<Version<V>>,
    owed: Option<Slice<V::Event>>,
}

impl<V: View> LeftRight<V> {
    pub(crate) fn new(
        live: Arc<ShownView<V>>,
        options: ViewOptions,
        writer: Option<SnapshotWriter<V>>,
    ) -> LeftRight<V> {
        LeftRight {
            live,
            options,
            retired: None,
            anew: None,
            writer,
            is_open: false,
            rebuild: Rebuild::No,
        }
    }

    /// A copy equal to the shown one, to fold into.
    fn hidden(&mut self) -> Result<Version<V>, Halt> {
        if let Some(RetiredVersion { image, owed }) = self.retired.take()
            && let Some(mut image) = self.sole(image)
        {
            if owed.is_none_or(|slice| image.take(&slice).is_ok()) {
                return Ok(image);
            }
            discard(image);
        }
        self.cloned()
    }

    /// Waits until no query uses the copy, and returns it. Returns `None` if the follower has to
    /// end, or if the wait gets long and the view may have another copy.
    fn sole(&self, mut image: Arc<Version<V>>) -> Option<Version<V>> {
        let (began, progress) = (Instant::now(), &self.live.progress);
        // The state before the wait, to restore it: the view may be paused.
        let mut before = None;
        let sole = loop {
            image = match Arc::try_unwrap(image) {
                Ok(image) => break Some(image),
                Err(shared) => shared,
            };
            if began.elapsed() < FOR_A_QUERY {
                thread::yield_now();
                continue;
            }
            // The stop of the app does not wait for queries.
            if self.live.copies() < self.options.copies.max(2) || progress.is_ending() {
                break None;
            }
            if before.is_none() {
                before = Some(progress.state());
                let reason =
                    "queries, or a snapshot that is being written, hold every copy of the view";
                progress.set(FollowState::Stalled { reason: reason.to_owned() });
            }
            thread::sleep(BETWEEN_LOOKS);
        };
        if let Some(before) = before {
            progress.set(before);
        }
        sole
    }

    fn cloned(&self) -> Result<Version<V>, Halt> {
        let now = self.live.held();
        let position = now.position();
        match caught(|| now.state.clone()) {
            Ok(state) => Ok(Version::new(state, position, now.payload_bytes(), &self.live.alive)),
            Err(panic) => {
                let reason = format!("the view could not be cloned: {panic}");
                Err(Halt::At(FollowerStop { at: position.plus(1), reason }))
            }
        }
    }

    /// Shows this copy, to which the slice was applied.
    fn show(&mut self, hidden: Version<V>, slice: Slice<V::Event>) {
        let events = slice.events().len();
        let image = self.live.now.swap(Arc::new(hidden));
        self.live.progress.advance_to(slice.upto, slice.events().len());
        let mut retired = RetiredVersion { image, owed: Some(slice) };
        // If no query uses the retired copy, it gets the slice at once, and the events need not be
        // kept.
        if let Some(image) = Arc::get_mut(&mut retired.image)
            && let Some(slice) = retired.owed.take()
            && image.take(&slice).is_err()
        {
            discard(retired);
        } else {
            self.retired = Some(retired);
        }
        self.keep_after(events);
    }

    /// Takes a snapshot if one is due. It uses the retired copy, or the shown one if the retired
    /// copy lacks a slice.
    fn keep_after(&mut self, events: usize) {
        let Some(writer) = &mut self.writer else { return };
        if !writer.is_due_after(events) || self.rebuild != Rebuild::No {
            return;
        }
        let retired = self.retired.as_ref().filter(|retired| retired.owed.is_none());
        let image = retired.map(|retired| retired.image.clone());
        writer.begin(image.unwrap_or_else(|| self.live.held()));
    }

    /// Notes that no further event up to here matches this view.
    fn considered(&self, upto: Position) {
        self.live.now().considered(upto);
        self.live.progress.advance_to(upto, 0);
    }

    /// Applies a slice to the copy that is folded beside the shown one.
    fn take_anew(&mut self, mut anew: Version<V>, slice: &Slice<V::Event>) -> Result<(), Halt> {
        if let Err(stopped) = anew.take(slice) {
            discard(anew);
            if self.rebuild == Rebuild::Going {
                self.rebuild = Rebuild::Failed;
            }
            return Err(Halt::At(stopped));
        }
        self.show_anew(anew, slice);
        Ok(())
    }

    /// Shows the copy that was folded beside the shown one, or keeps it hidden until it is
    /// complete.
    fn show_anew(&mut self, anew: Version<V>, slice: &Slice<V::Event>) {
        anew.set_position(slice.upto);
        if slice.upto < self.live.now().position() {
            self.anew = Some(anew);
            self.live.progress.count_events(slice.events().len());
            return;
        }
        discard(self.retired.take());
        let image = self.live.now.swap(Arc::new(anew));
        if self.rebuild == Rebuild::Going {
            self.rebuild = Rebuild::No;
        }
        self.live.progress.advance_to(slice.upto, slice.events().len());
        discard(image);
    }
}

impl<V: View> Follower for LeftRight<V> {
    type Event = V::Event;

    fn open(&mut self, head: &Head) -> Result<(), Halt> {
        if std::mem::replace(&mut self.is_open, true) {
            return Ok(());
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if let Some(saved) = writer.newest(head.position()) {
            let SavedState { fold, position, payload_bytes, .. } = saved;
            let image = Version::new(fold, position, payload_bytes, &self.live.alive);
            self.live.now.store(Arc::new(image));
            self.live.progress.advance_to(position, 0);
        }
        Ok(())
    }

    fn position(&self) -> Position {
        match &self.anew {
            Some(anew) => anew.position(),
            None => self.live.now().position(),
        }
    }

    fn take(&mut self, slice: Slice<V::Event>) -> Result<(), Halt> {
        if let Some(anew) = self.anew.take() {
            return self.take_anew(anew, &slice);
        }
        if slice.events().is_empty() {
            self.considered(slice.upto);
            return Ok(());
        }
        let mut hidden = self.hidden()?;
        let Err(stopped) = hidden.take(&slice) else {
            self.show(hidden, slice);
            return Ok(());
        };
        // This copy has a part of the slice. The events before the failing one are applied to
        // another copy.
        discard(hidden);
        let good = slice.before(stopped.at);
        if good.events().is_empty() {
            self.considered(good.upto);
        } else {
            let mut hidden = self.cloned()?;
            if let Err(stopped) = hidden.take(&good) {
                discard(hidden);
                return Err(Halt::At(stopped));
            }
            self.show(hidden, good);
        }
        Err(Halt::At(stopped))
    }

    fn restart(&mut self) -> Result<(), String> {
        let state = caught(V::default)?;
        // The shown copy gets no events until the new one takes its place.
        discard((self.retired.take(), self.anew.take()));
        self.rebuild = Rebuild::Going;
        if let Some(writer) = &mut self.writer {
            writer.forget();
        }
        self.anew = Some(Version::new(state, Position::START, 0, &self.live.alive));
        Ok(())
    }

    fn save(&mut self) -> Result<(), String> {
        match &mut self.writer {
            Some(_) if self.rebuild != Rebuild::No => {
                Err("the view is being rebuilt, and has not reached \
                 its old position: wait for that, or rebuild it again"
                    .to_owned())
            }
            Some(writer) => writer.now(&self.live.held()),
            None => Err("the app keeps no snapshots of this view: ask for them with \
                         `AppBuilder::snapshots`"
                .to_owned()),
        }
    }

    fn close(&mut self) {
        if self.rebuild != Rebuild::No {
            return;
        }
        if let Some(Err(reason)) = self.writer.as_mut().map(|writer| writer.now(&self.live.held()))
        {
            snapshots::warn::<V>(&reason);
        }
    }
}

/// Drops a value that holds a view. The drop runs code of the application, which may panic.
fn discard<T>(what: T) {
    if let Err(panic) = caught(|| drop(what)) {
        tracing::warn!(panic, "a copy of a view could not be dropped in order");
    }
}
