//! The version of a view that queries see: its own, or that of a candidate that was switched in.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use diptych_store::Position;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{View, version::Version};
use crate::follow::{Pace, Progress, Quarantine, VersionChange, VersionOutcome};

/// The version of a view that queries see.
pub(crate) struct ShownView<V> {
    now: ArcSwap<Version<V>>,
    alive: Arc<()>,
    pub(crate) progress: Arc<Progress>,
    candidate: OnceLock<CandidateSeat<V>>,
    gate: SwitchGate,
}

/// The candidate of a view, and whether it answers in its place.
struct CandidateSeat<V> {
    source: Arc<dyn CandidateSource<V>>,
    serves: AtomicBool,
    /// The view itself was dropped after the switch.
    is_alone: AtomicBool,
}

/// Holds a view where it is, for the moment of a switch.
#[derive(Default)]
struct SwitchGate {
    frozen_until: Mutex<Option<Instant>>,
    opened: Condvar,
}

/// A candidate as the view that it is to replace sees it.
pub(crate) trait CandidateSource<V>: Send + Sync {
    fn image(&self) -> Arc<dyn CandidateImage<V>>;

    fn progress(&self) -> &Arc<Progress>;
}

/// One version of a candidate, with the state that the queries of the replaced view know.
pub(crate) trait CandidateImage<V>: Send + Sync {
    fn state(&self) -> &V;

    fn position(&self) -> Position;

    fn quarantine(&self) -> &Arc<Quarantine>;

    fn key(&self) -> Option<&'static str>;
}

impl<V: View, N: View + AsRef<V>> CandidateImage<V> for Version<N> {
    fn state(&self) -> &V {
        self.state.as_ref()
    }

    fn position(&self) -> Position {
        self.position()
    }

    fn quarantine(&self) -> &Arc<Quarantine> {
        self.quarantine()
    }

    fn key(&self) -> Option<&'static str> {
        N::KEY
    }
}

impl<V: View, N: View + AsRef<V>> CandidateSource<V> for ShownView<N> {
    fn image(&self) -> Arc<dyn CandidateImage<V>> {
        self.held()
    }

    fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

/// The candidate's side, for the thread that folds it.
pub(crate) trait CandidateSide: Send {
    /// Whether it may read on, and up to which position.
    fn pace(&mut self) -> (Pace, Option<Position>);

    /// The position that it must not pass while it is folded anew.
    fn limit(&self) -> Option<Position>;

    fn change(&mut self, change: VersionChange) -> Result<VersionOutcome, String>;

    /// Gives up what it holds of the view, because it does not read on for now.
    fn let_go(&mut self);

    /// Its fold began again from the start of the log.
    fn begin_again(&mut self);
}

impl<V> ShownView<V> {
    pub(crate) fn new(state: V, position: Position, progress: Arc<Progress>) -> ShownView<V> {
        let alive = Arc::new(());
        let image = Version::new(state, position, 0, Arc::default(), &alive);
        let now = ArcSwap::new(Arc::new(image));
        let (candidate, gate) = (OnceLock::new(), SwitchGate::default());
        ShownView { now, alive, progress, candidate, gate }
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

    pub(super) fn alive(&self) -> &Arc<()> {
        &self.alive
    }

    /// Shows this version, and returns the version that was shown before.
    pub(super) fn swap(&self, image: Version<V>) -> Arc<Version<V>> {
        let _open = self.open_gate();
        self.now.swap(Arc::new(image))
    }

    /// Notes that no further event up to here matches this view.
    pub(super) fn considered(&self, upto: Position) {
        let _open = self.open_gate();
        self.now().considered(upto);
    }

    /// Waits while a candidate takes the place of this view, for a limited time.
    fn open_gate(&self) -> MutexGuard<'_, Option<Instant>> {
        let mut frozen = self.gate.frozen_until.lock();
        while let Some(until) = *frozen
            && Instant::now() < until
            && !self.progress.is_ending()
        {
            self.gate.opened.wait_for(&mut frozen, Duration::from_millis(10));
        }
        *frozen = None;
        frozen
    }
}

/// Candidates.
impl<V> ShownView<V> {
    /// Seats a candidate beside this view. Returns false if there is one already.
    pub(crate) fn seat(&self, source: Arc<dyn CandidateSource<V>>) -> bool {
        let (serves, is_alone) = (AtomicBool::new(false), AtomicBool::new(false));
        self.candidate.set(CandidateSeat { source, serves, is_alone }).is_ok()
    }

    pub(super) fn has_candidate(&self) -> bool {
        self.candidate.get().is_some()
    }

    /// The view as queries see it.
    pub(crate) fn served(&self) -> ServedView<'_, V> {
        ServedView(self)
    }

    /// The candidate that answers in the place of this view.
    fn replacing(&self) -> Option<&dyn CandidateSource<V>> {
        let seat = self.candidate.get()?;
        seat.serves.load(Ordering::Acquire).then_some(&*seat.source)
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replacing().is_some()
    }

    /// Whether the view was dropped after a switch: its state is gone.
    pub(crate) fn is_dropped(&self) -> bool {
        self.candidate.get().is_some_and(|seat| seat.is_alone.load(Ordering::Acquire))
    }

    pub(super) fn drop_own(&self) {
        if let Some(seat) = self.candidate.get() {
            seat.is_alone.store(true, Ordering::Release);
        }
    }

    /// Holds the view where it is for a short time, so that the candidate can reach it.
    pub(super) fn freeze(&self, time: Duration) {
        *self.gate.frozen_until.lock() = Some(Instant::now() + time);
    }

    /// Lets the candidate answer, or this view again, if `may` allows that at the position of this
    /// view, which does not move meanwhile. Returns that position.
    pub(super) fn switch(
        &self,
        to_candidate: bool,
        may: impl FnOnce(Position) -> bool,
    ) -> Result<(), Position> {
        let Some(seat) = self.candidate.get() else { return Err(self.now().position()) };
        {
            let mut frozen = self.gate.frozen_until.lock();
            let at = self.now().position();
            if !may(at) {
                return Err(at);
            }
            seat.serves.store(to_candidate, Ordering::Release);
            *frozen = None;
            self.gate.opened.notify_all();
        }
        // Queries that wait for the one wait for the other from now on.
        self.progress.wake();
        seat.source.progress().wake();
        Ok(())
    }
}

/// The view that answers queries: the named view, or its candidate.
pub(crate) struct ServedView<'a, V>(&'a ShownView<V>);

/// One version of the view that answers queries, and its position when it was taken. Until the
/// switch that position is not above the one of the switch.
pub(crate) enum ServedImage<V> {
    Own(Guard<Arc<Version<V>>>, Position),
    Candidate(Arc<dyn CandidateImage<V>>, Position),
}

impl<'a, V: View> ServedView<'a, V> {
    pub(crate) fn progress(&self) -> &'a Progress {
        match self.0.replacing() {
            None => &self.0.progress,
            Some(candidate) => candidate.progress(),
        }
    }

    /// The version that is shown now, for a short use.
    pub(crate) fn now(&self) -> ServedImage<V> {
        loop {
            // After a switch the view that is no longer served may be further. So each round
            // checks that the view whose version it took is still served.
            match self.0.replacing() {
                None => {
                    let image = self.0.now();
                    let position = image.position();
                    if self.0.replacing().is_none() {
                        return ServedImage::Own(image, position);
                    }
                }
                Some(candidate) => {
                    let image = candidate.image();
                    let position = image.position();
                    if self.0.replacing().is_some() {
                        return ServedImage::Candidate(image, position);
                    }
                }
            }
        }
    }
}

impl<V: View> ServedImage<V> {
    pub(crate) fn state(&self) -> &V {
        match self {
            ServedImage::Own(image, _) => &image.state,
            ServedImage::Candidate(image, _) => image.state(),
        }
    }

    pub(crate) fn position(&self) -> Position {
        match self {
            ServedImage::Own(_, position) | ServedImage::Candidate(_, position) => *position,
        }
    }

    pub(crate) fn quarantine(&self) -> &Arc<Quarantine> {
        match self {
            ServedImage::Own(image, _) => image.quarantine(),
            ServedImage::Candidate(image, _) => image.quarantine(),
        }
    }

    /// The tag key by which it isolates poison.
    pub(crate) fn key(&self) -> Option<&'static str> {
        match self {
            ServedImage::Own(..) => V::KEY,
            ServedImage::Candidate(image, _) => image.key(),
        }
    }
}
