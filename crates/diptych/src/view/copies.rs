//! A view's copies, left and right: one is shown, the other is folded into.
//!
//! A slice of events is folded into the hidden copy, which is then shown in place of the other.
//! The one that was shown until then is retired, and owes the same slice; it takes that in as
//! soon as no query is at work with it. If one still is when the next slice comes, it is left to
//! that query, and a clone takes its place.

use std::{
    any::type_name,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use diptych_store::{Head, Position};

use super::{
    View, ViewOptions,
    keeps::{self, Keeps},
};
use crate::{
    fold::{FoldError, FoldFailure},
    follow::{FollowState, Follower, Halt, Progress, Slice, Stopped},
    panics::{caught, panic_text},
    snapshot::Kept,
};

/// Queries take microseconds: so long is waited for one before the view is cloned.
const FOR_A_QUERY: Duration = Duration::from_millis(1);
/// How long the thread sleeps between two looks whether a query is done, if that takes longer.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

/// A view as it was at a position.
pub(crate) struct Image<V> {
    pub(crate) state: V,
    /// Everything up to here is in the state. It may grow while the image is shown, when what
    /// came is nothing for this view.
    position: AtomicU64,
    /// Payloads that went into the state, in bytes.
    payload_bytes: AtomicU64,
    /// Counts the images that there are.
    _alive: Arc<()>,
}

impl<V> Image<V> {
    pub(crate) fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payload_bytes.load(Ordering::Relaxed)
    }
}

/// What of a view is shown.
pub(crate) struct Live<V> {
    now: ArcSwap<Image<V>>,
    alive: Arc<()>,
    pub(crate) progress: Arc<Progress>,
}

impl<V> Live<V> {
    pub(crate) fn new(state: V, position: Position, progress: Arc<Progress>) -> Live<V> {
        let alive = Arc::new(());
        let image = image(state, position, 0, &alive);
        Live { now: ArcSwap::new(Arc::new(image)), alive, progress }
    }

    /// The view as it is now. It is to be given back soon: it is one of few.
    pub(crate) fn now(&self) -> Guard<Arc<Image<V>>> {
        self.now.load()
    }

    /// The same, for longer.
    pub(crate) fn held(&self) -> Arc<Image<V>> {
        self.now.load_full()
    }

    /// How many copies there are.
    pub(crate) fn copies(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }
}

fn image<V>(state: V, position: Position, payload_bytes: u64, alive: &Arc<()>) -> Image<V> {
    let position = AtomicU64::new(position.get());
    Image { state, position, payload_bytes: AtomicU64::new(payload_bytes), _alive: alive.clone() }
}

/// The side that folds.
pub(crate) struct Copies<V: View> {
    live: Arc<Live<V>>,
    options: ViewOptions,
    retired: Option<Retired<V>>,
    /// A copy that is made beside the one that is shown, and shown when it is whole: from the
    /// start of the log, or with a commit that is spread over several slices.
    anew: Option<Image<V>>,
    keeps: Option<Keeps<V>>,
    is_open: bool,
    rebuild: Rebuild,
}

/// Whoever asks for a rebuild does not trust what is shown: until it is there, nothing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rebuild {
    No,
    Going,
    Failed,
}

/// The copy that was shown before, and what it lacks.
struct Retired<V: View> {
    image: Arc<Image<V>>,
    owed: Option<Slice<V::Event>>,
}

impl<V: View> Copies<V> {
    pub(crate) fn new(
        live: Arc<Live<V>>,
        options: ViewOptions,
        keeps: Option<Keeps<V>>,
    ) -> Copies<V> {
        Copies {
            live,
            options,
            retired: None,
            anew: None,
            keeps,
            is_open: false,
            rebuild: Rebuild::No,
        }
    }

    /// A copy that is as the one that is shown, to fold into.
    fn hidden(&mut self) -> Result<Image<V>, Halt> {
        if let Some(Retired { image, owed }) = self.retired.take()
            && let Some(mut image) = self.sole(image)
        {
            if owed.is_none_or(|slice| image.take(&slice).is_ok()) {
                return Ok(image);
            }
            discard(image);
        }
        self.cloned()
    }

    /// The copy, once no query is at work with it; nothing if that takes long and there may be
    /// another.
    fn sole(&self, mut image: Arc<Image<V>>) -> Option<Image<V>> {
        let (began, progress) = (Instant::now(), &self.live.progress);
        // What it was doing before it had to wait; it may have been told to be paused.
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
            // Whoever stops the app does not wait for queries.
            if self.live.copies() < self.options.copies.max(2) || progress.is_ending() {
                break None;
            }
            if before.is_none() {
                before = Some(progress.state());
                let reason = "queries, or a snapshot that is written, hold every copy of the view";
                progress.set(FollowState::Stalled { reason: reason.to_owned() });
            }
            thread::sleep(BETWEEN_LOOKS);
        };
        if let Some(before) = before {
            progress.set(before);
        }
        sole
    }

    fn cloned(&self) -> Result<Image<V>, Halt> {
        let now = self.live.held();
        let position = now.position();
        match caught(|| now.state.clone()) {
            Ok(state) => Ok(image(state, position, now.payload_bytes(), &self.live.alive)),
            Err(panic) => {
                let reason = format!("the view could not be cloned: {panic}");
                Err(Halt::At(Stopped { at: position.plus(1), reason }))
            }
        }
    }

    /// Shows this copy, which has taken in the slice.
    fn show(&mut self, hidden: Image<V>, slice: Slice<V::Event>) {
        let events = slice.events().len();
        let image = self.live.now.swap(Arc::new(hidden));
        self.live.progress.reached(slice.upto, slice.events().len());
        let mut retired = Retired { image, owed: Some(slice) };
        // At once if nobody is at work with it: then the events need not be kept.
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

    /// Keeps the copy that nobody is shown, if it is time.
    fn keep_after(&mut self, events: usize) {
        let Some(keeps) = &mut self.keeps else { return };
        if !keeps.is_due_after(events) || self.rebuild != Rebuild::No {
            return;
        }
        let retired = self.retired.as_ref().filter(|retired| retired.owed.is_none());
        let image = retired.map(|retired| retired.image.clone());
        keeps.begin(image.unwrap_or_else(|| self.live.held()));
    }

    /// Nothing up to here is for this view.
    fn considered(&self, upto: Position) {
        self.live.now().position.fetch_max(upto.get(), Ordering::AcqRel);
        self.live.progress.reached(upto, 0);
    }

    /// Takes a slice into the copy that is made beside the one that is shown.
    fn take_anew(&mut self, mut anew: Image<V>, slice: &Slice<V::Event>) -> Result<(), Halt> {
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

    /// Shows the copy that was made beside the other, or goes on with it.
    fn show_anew(&mut self, anew: Image<V>, slice: &Slice<V::Event>) {
        anew.position.store(slice.upto.get(), Ordering::Release);
        if slice.upto < self.live.now().position() || !slice.is_whole() {
            self.anew = Some(anew);
            self.live.progress.took_in(slice.events().len());
            return;
        }
        discard(self.retired.take());
        let image = self.live.now.swap(Arc::new(anew));
        if self.rebuild == Rebuild::Going {
            self.rebuild = Rebuild::No;
        }
        self.live.progress.reached(slice.upto, slice.events().len());
        discard(image);
    }
}

impl<V: View> Follower for Copies<V> {
    type Event = V::Event;

    fn open(&mut self, head: &Head) -> Result<(), Halt> {
        if std::mem::replace(&mut self.is_open, true) {
            return Ok(());
        }
        let Some(keeps) = &mut self.keeps else { return Ok(()) };
        if let Some(Kept { fold, position, payload_bytes }) = keeps.newest(head.position()) {
            let image = image(fold, position, payload_bytes, &self.live.alive);
            self.live.now.store(Arc::new(image));
            self.live.progress.reached(position, 0);
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
            match slice.is_whole() {
                true => self.show(hidden, slice),
                false => self.show_anew(hidden, &slice),
            }
            return Ok(());
        };
        // It was left half-way. What comes before the event is folded into another.
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
        // Nothing is folded into it until the new one has taken the place of the other.
        discard((self.retired.take(), self.anew.take()));
        self.rebuild = Rebuild::Going;
        if let Some(keeps) = &mut self.keeps {
            keeps.forget();
        }
        self.anew = Some(image(state, Position::START, 0, &self.live.alive));
        Ok(())
    }

    fn save(&mut self) -> Result<(), String> {
        match &mut self.keeps {
            Some(_) if self.rebuild != Rebuild::No => {
                Err("the view was told to be rebuilt and has not \
                 come as far again: wait for that, or rebuild it once more"
                    .to_owned())
            }
            Some(keeps) => keeps.now(&self.live.held()),
            None => Err("the app keeps no snapshots of this view: ask for them with \
                         `AppBuilder::view_snapshots`"
                .to_owned()),
        }
    }

    fn close(&mut self) {
        if self.rebuild != Rebuild::No {
            return;
        }
        if let Some(Err(reason)) = self.keeps.as_mut().map(|keeps| keeps.now(&self.live.held())) {
            keeps::warn::<V>(&reason);
        }
    }
}

impl<V: View> Image<V> {
    /// Takes in the events of a slice. After a failure the state is not whole.
    fn take(&mut self, slice: &Slice<V::Event>) -> Result<(), Stopped> {
        let at = Cell::new(Position::START);
        let state = &mut self.state;
        let run = || {
            for event in slice.events() {
                at.set(event.position);
                state.apply(event);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let cause = FoldFailure::Panicked(panic_text(&*panic));
            let (fold, position) = (type_name::<V>(), at.get());
            let reason = FoldError { fold, position, cause }.to_string();
            return Err(Stopped { at: position, reason });
        }
        let bytes = slice.payload_bytes() as u64;
        self.payload_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.position.store(slice.upto.get(), Ordering::Release);
        Ok(())
    }
}

/// Drops what holds a view, which may do anything then.
fn discard<T>(what: T) {
    if let Err(panic) = caught(|| drop(what)) {
        tracing::warn!(panic, "a copy of a view could not be dropped in order");
    }
}
