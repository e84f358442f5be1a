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

use diptych_store::{Head, Position, Tag, Timestamp};

use super::{
    View, ViewOptions,
    shown::{CandidateSide, ShownView},
    snapshots::{self, SnapshotWriter},
    version::Version,
};
use crate::{
    follow::{
        Division, FailedEvents, Failures, FollowState, Follower, FollowerStop, Halt, Pace,
        PoisonedGroup, Portion, Quarantine, SkipNote, SkippedEvent, Slice, VersionChange,
        VersionOutcome,
    },
    panics::caught,
    snapshot::SavedState,
};

/// How long folding waits for a running query before it clones the view. Most queries take
/// microseconds.
const FOR_A_QUERY: Duration = Duration::from_millis(1);
/// How long the thread sleeps between two checks whether a long query has ended.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);
/// The time after which an idle view looks whether its candidate has replaced it for good.
const FOR_A_CANDIDATE: Duration = Duration::from_secs(1);

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
    /// Events that `apply` failed on in this rebuild.
    failed_anew: FailedEvents,
    /// Set if this view is the candidate of another one.
    candidate: Option<Box<dyn CandidateSide>>,
    /// A candidate does not pass this position.
    limit: Option<Position>,
    /// Its state was given up.
    is_gone: bool,
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
    owed: Option<Portion<V::Event>>,
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
            failed_anew: FailedEvents::new(),
            candidate: None,
            limit: None,
            is_gone: false,
        }
    }

    /// Makes it the candidate of another view.
    pub(crate) fn beside(mut self, candidate: Box<dyn CandidateSide>) -> LeftRight<V> {
        self.candidate = Some(candidate);
        self
    }

    fn division<'a>(&self, failed: &'a FailedEvents) -> Division<'a> {
        Division { key: V::KEY, most: self.options.poisoned_keys, failed, released: None }
    }

    /// A copy equal to the shown one, to fold into.
    fn hidden(&mut self) -> Result<Version<V>, Halt> {
        if let Some(RetiredVersion { image, owed }) = self.retired.take()
            && let Some(mut image) = self.sole(image)
        {
            if owed.is_none_or(|portion| image.take(&portion).is_ok()) {
                return Ok(image);
            }
            discard(image);
        }
        self.cloned()
    }

    /// Waits until no query uses the copy, and returns it. Returns `None` if the follower has to
    /// end, or if the wait gets long and the view may have another copy.
    fn sole(&mut self, mut image: Arc<Version<V>>) -> Option<Version<V>> {
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
                if let Some(candidate) = &mut self.candidate {
                    candidate.let_go();
                }
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
            Ok(state) => {
                let (bytes, quarantine) = (now.payload_bytes(), now.quarantine().clone());
                Ok(Version::new(state, position, bytes, quarantine, self.live.alive()))
            }
            Err(panic) => {
                let reason = format!("the view could not be cloned: {panic}");
                Err(Halt::At(FollowerStop { at: position.plus(1), reason }))
            }
        }
    }

    /// Shows this copy, to which the portion was applied.
    fn show(&mut self, hidden: Version<V>, portion: Portion<V::Event>) {
        let (upto, events) = (portion.slice.upto, portion.slice.events().len());
        self.report(hidden.quarantine());
        let image = self.live.swap(hidden);
        self.live.progress.advance_to(upto, events);
        let mut retired = RetiredVersion { image, owed: Some(portion) };
        // If no query uses the retired copy, it gets the slice at once, and the events need not be
        // kept.
        if let Some(image) = Arc::get_mut(&mut retired.image)
            && let Some(portion) = retired.owed.take()
            && image.take(&portion).is_err()
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
        let is_poisoned = self.live.now().quarantine().is_poisoned();
        // A snapshot has no place for poisoned keys: the next start finds them again.
        if !writer.is_due_after(events) || self.rebuild != Rebuild::No || is_poisoned {
            return;
        }
        let retired = self.retired.as_ref().filter(|retired| retired.owed.is_none());
        let image = retired.map(|retired| retired.image.clone());
        writer.begin(image.unwrap_or_else(|| self.live.held()));
    }

    /// Notes that no further event up to here matches this view.
    fn considered(&self, upto: Position) {
        self.live.considered(upto);
        self.live.progress.advance_to(upto, 0);
    }

    /// Applies a slice to the copy that is folded beside the shown one.
    fn take_anew(&mut self, mut anew: Version<V>, slice: &Slice<V::Event>) -> Result<(), Halt> {
        let portion =
            Portion::of(slice.clone(), anew.quarantine(), &self.division(&self.failed_anew));
        if let Err(stopped) = portion.and_then(|portion| anew.take(&portion)) {
            discard(anew);
            if V::KEY.is_some() && self.failed_anew.len() < self.options.poisoned_keys.max(1) {
                let is_new = !self.failed_anew.contains_key(&stopped.at);
                if is_new && self.rebuild == Rebuild::Going {
                    // The state is lost. The next one leaves the event out.
                    self.failed_anew.insert(stopped.at, stopped.reason);
                    return self
                        .begin_anew()
                        .map_err(|reason| Halt::At(FollowerStop { at: Position::new(1), reason }));
                }
            }
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
        self.report(anew.quarantine());
        let image = self.live.swap(anew);
        if self.rebuild == Rebuild::Going {
            self.rebuild = Rebuild::No;
        }
        self.live.progress.advance_to(slice.upto, slice.events().len());
        discard(image);
    }
}

/// Candidates.
impl<V: View> LeftRight<V> {
    /// Gives up the state of a view that its candidate replaced for good.
    fn let_go(&mut self) -> Result<(), Halt> {
        if std::mem::replace(&mut self.is_gone, true) {
            return Ok(());
        }
        discard((self.retired.take(), self.anew.take(), self.writer.take()));
        let position = self.live.now().position();
        let state = caught(V::default)
            .map_err(|reason| Halt::At(FollowerStop { at: position.plus(1), reason }))?;
        let image = Version::new(state, position, 0, Arc::default(), self.live.alive());
        discard(self.live.swap(image));
        Ok(())
    }
}

/// Poisoned keys.
impl<V: View> LeftRight<V> {
    /// Shows the number of poisoned keys in the metrics of the view.
    fn report(&self, quarantine: &Quarantine) {
        if V::KEY.is_some() {
            self.live.progress.poisoned(quarantine.poisoned_keys());
        }
    }

    /// Begins a copy from the start of the log, which leaves out the skipped events.
    fn begin_anew(&mut self) -> Result<(), String> {
        let state = caught(V::default)?;
        // The shown copy gets no events until the new one takes its place.
        discard((self.retired.take(), self.anew.take()));
        self.rebuild = Rebuild::Going;
        let skipped = self.live.now().quarantine().skipped().to_vec();
        let quarantine = Arc::new(Quarantine::with_skipped(skipped));
        self.anew = Some(Version::new(state, Position::START, 0, quarantine, self.live.alive()));
        Ok(())
    }

    /// A copy with the held events of this group, except those that fail again.
    fn released(
        &self,
        group: &PoisonedGroup,
        held: &[Slice<V::Event>],
        base: &Arc<Quarantine>,
        failed: &FailedEvents,
    ) -> Result<Result<Version<V>, FollowerStop>, String> {
        let cloned = self.cloned();
        let mut image = cloned.map_err(|halt| format!("the view could not be cloned: {halt:?}"))?;
        let mut quarantine = base.clone();
        for slice in held {
            let division = Division { released: Some(group), ..self.division(failed) };
            let portion = Portion::of(slice.clone(), &quarantine, &division);
            let portion = portion.map_err(|stopped| stopped.to_string())?;
            quarantine = portion.quarantine.clone();
            if let Err(stopped) = image.take(&portion) {
                discard(image);
                return Ok(Err(stopped));
            }
        }
        image.set_quarantine(quarantine);
        Ok(Ok(image))
    }
}

impl<V: View> Follower for LeftRight<V> {
    type Event = V::Event;

    fn failures(&self) -> Failures {
        match V::KEY {
            Some(_) => Failures::Contain,
            None => Failures::End,
        }
    }

    fn open(&mut self, head: &Head) -> Result<(), Halt> {
        if std::mem::replace(&mut self.is_open, true) {
            return Ok(());
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let skipped = match V::KEY {
            Some(_) => writer.skipped(),
            None => Vec::new(),
        };
        let quarantine = Arc::new(Quarantine::with_skipped(skipped));
        if let Some(saved) = writer.newest(head.position()) {
            let SavedState { fold, position, payload_bytes, .. } = saved;
            let alive = self.live.alive();
            let image = Version::new(fold, position, payload_bytes, quarantine, alive);
            self.live.swap(image);
            self.live.progress.advance_to(position, 0);
        } else if !quarantine.is_empty() {
            let state = caught(V::default)
                .map_err(|reason| Halt::At(FollowerStop { at: Position::new(1), reason }))?;
            let image = Version::new(state, Position::START, 0, quarantine, self.live.alive());
            self.live.swap(image);
        }
        Ok(())
    }

    fn position(&self) -> Position {
        match &self.anew {
            Some(anew) => anew.position(),
            None => self.live.now().position(),
        }
    }

    fn pace(&mut self) -> Result<Pace, Halt> {
        if self.live.is_dropped() {
            self.let_go()?;
            let reason = "dropped: its candidate answers in its place".to_owned();
            return Ok(Pace::Hold { reason });
        }
        let Some(candidate) = &mut self.candidate else { return Ok(Pace::On) };
        if self.anew.is_some() {
            // The shown state is at another position.
            self.limit = candidate.limit();
            return Ok(Pace::On);
        }
        let (pace, limit) = candidate.pace();
        self.limit = limit;
        Ok(pace)
    }

    fn looks_after(&self) -> Option<Duration> {
        self.live.has_candidate().then_some(FOR_A_CANDIDATE)
    }

    fn change(&mut self, change: VersionChange) -> Result<VersionOutcome, String> {
        match &mut self.candidate {
            Some(_) if self.anew.is_some() => {
                Err("the candidate is being rebuilt: wait until that is done".to_owned())
            }
            Some(candidate) => candidate.change(change),
            None => Err("it is no candidate: give the command to the candidate of the view".into()),
        }
    }

    fn take(&mut self, slice: Slice<V::Event>) -> Result<(), Halt> {
        let slice = match self.limit {
            Some(limit) if slice.upto > limit => slice.before(limit.plus(1)),
            _ => slice,
        };
        if slice.upto <= self.position() {
            return Ok(());
        }
        if let Some(anew) = self.anew.take() {
            return self.take_anew(anew, &slice);
        }
        let (mut slice, mut failed, mut stop) = (slice, FailedEvents::new(), None);
        // After a failure the copy has a part of the slice. Another one gets the slice without the
        // event that failed, or the events before it.
        loop {
            let before = self.live.now().quarantine().clone();
            let portion = match Portion::of(slice.clone(), &before, &self.division(&failed)) {
                Ok(portion) => portion,
                Err(stopped) => {
                    slice = slice.before(stopped.at);
                    stop = Some(stopped);
                    continue;
                }
            };
            if slice.events().is_empty() && !slice.has_failures() {
                self.considered(slice.upto);
                break;
            }
            let mut hidden = if failed.is_empty() { self.hidden()? } else { self.cloned()? };
            match hidden.take(&portion) {
                Ok(()) => {
                    self.show(hidden, portion);
                    break;
                }
                Err(stopped) => {
                    discard(hidden);
                    if failed.insert(stopped.at, stopped.reason.clone()).is_some() {
                        return Err(Halt::At(stopped));
                    }
                }
            }
        }
        stop.map_or(Ok(()), |stopped| Err(Halt::At(stopped)))
    }

    fn restart(&mut self) -> Result<(), String> {
        self.failed_anew.clear();
        self.begin_anew()?;
        if let Some(candidate) = &mut self.candidate {
            candidate.begin_again();
        }
        if let Some(writer) = &mut self.writer {
            writer.forget();
        }
        Ok(())
    }

    fn poisoned_group(&self, key: &Tag) -> Option<PoisonedGroup> {
        self.live.now().quarantine().group(key)
    }

    fn release(
        &mut self,
        key: &Tag,
        held: Vec<Slice<V::Event>>,
        skip: Option<SkipNote>,
    ) -> Result<(), String> {
        if self.anew.is_some() {
            return Err("the view is being rebuilt: wait until it has reached its old position, \
                        then try again"
                .to_owned());
        }
        let before = self.live.now().quarantine().clone();
        let (Some(group), Some(poisoned)) = (before.group(key), before.key(key)) else {
            return Err(format!("{key} is not poisoned"));
        };
        let mut base = before.without(&group);
        if let Some(note) = skip {
            let (position, reason) = (group.failed, poisoned.reason.clone());
            let at = Timestamp::now();
            base.skip(SkippedEvent { position, key: key.clone(), reason, at, note });
            if let Some(writer) = &self.writer {
                writer.save_skipped(base.skipped())?;
            }
        }
        let (base, mut failed) = (Arc::new(base), FailedEvents::new());
        let image = loop {
            match self.released(&group, &held, &base, &failed)? {
                Ok(image) => break image,
                Err(stopped) => match failed.insert(stopped.at, stopped.reason.clone()) {
                    None => {}
                    Some(_) => return Err(stopped.to_string()),
                },
            }
        };
        discard(self.retired.take());
        self.report(image.quarantine());
        let still = image.quarantine().key(key).map(|poisoned| poisoned.reason.clone());
        self.live.swap(image);
        match still {
            None => Ok(()),
            Some(reason) => Err(format!("{key} is still poisoned: {reason}")),
        }
    }

    fn save(&mut self) -> Result<(), String> {
        match &mut self.writer {
            Some(_) if self.rebuild != Rebuild::No => {
                Err("the view is being rebuilt, and has not reached \
                 its old position: wait for that, or rebuild it again"
                    .to_owned())
            }
            Some(_) if self.live.now().quarantine().is_poisoned() => {
                Err("the view has poisoned keys, and a snapshot has no place for them: retry them \
                     or skip their events first"
                    .to_owned())
            }
            Some(writer) => writer.now(&self.live.held()),
            None => Err("the app keeps no snapshots of this view: ask for them with \
                         `AppBuilder::snapshots`"
                .to_owned()),
        }
    }

    fn rests(&mut self) {
        if let Some(candidate) = &mut self.candidate {
            candidate.let_go();
        }
    }

    fn close(&mut self) {
        if self.rebuild != Rebuild::No || self.live.now().quarantine().is_poisoned() {
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
