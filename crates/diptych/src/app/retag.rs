//! Gives older events the tags that their types got later.
//!
//! For each type, the older events are read in pages. Each page's marks are one or a few commits,
//! the last with the position that was reached as its tracking. So a run that was killed, or a
//! second one beside it, continues there. Commits without tracking may be repeated, which does no
//! harm: marks are a set. At the end the keys are fenced, the rest is read, and the keys are
//! completed (see [`retags`](crate::event)).

use std::{collections::BTreeMap, sync::Arc};

use diptych_store::{
    Append, AppendError, Batch, Digest, Key, Position, RawEvent, Read, ReadError, Refusal, Store,
    SyncError, Tag, Tracking,
};
use uuid::Uuid;

use super::App;
use crate::{
    command::panel::LeftPanel,
    event::{
        AnyReading, Marks, RetagFailure, RetagType, SchemaError, StoredEvent, completed, fenced,
        marks_of, retagged,
    },
    snapshot::executable,
};

/// Number of events that are read at once, and marked by one commit.
const PAGE_EVENTS: usize = 256;
/// Maximum number of marks in one commit. Each has at most a tag and the positions of a page.
const COMMIT_MARKS: usize = 1_024;

/// The work of one [`App::retag`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetagReport {
    /// Number of stored events that were read.
    pub scanned: u64,
    /// Number of stored events that got tags.
    pub retagged: u64,
    /// The tags that older events have from now on.
    pub completed: Vec<RetaggedKey>,
}

/// A tag that all older events of a type have by now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetaggedKey {
    /// The name that the type has today.
    pub event_type: String,
    /// The key of the tag.
    pub key: String,
}

/// Why retagging ended early. The marks so far are kept, and a further call continues.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetagError {
    /// An event cannot be read as an event of today, so its tags are not known.
    #[error("the event at position {position} cannot be given its tags: {error}")]
    Event {
        /// The position of the event.
        position: Position,
        /// Why it cannot be read.
        #[source]
        error: SchemaError,
    },
    /// Events of this crate cannot be read or written.
    #[error(transparent)]
    Schema(SchemaError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log takes no commits.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The app was stopped.
    #[error("the app was stopped before retagging was completed: start it and call it again")]
    Stopped,
}

impl From<RetagFailure> for RetagError {
    fn from(failure: RetagFailure) -> RetagError {
        match failure {
            RetagFailure::Read(error) => RetagError::Read(error),
            RetagFailure::Schema(error) => RetagError::Schema(error),
        }
    }
}

impl From<SyncError> for RetagError {
    fn from(error: SyncError) -> RetagError {
        RetagError::Append(error.into())
    }
}

impl App {
    /// Gives older events the tags that they would get today: reads them through the upcasters,
    /// and appends where the events with each new tag are. From then on, rules and scopes over the
    /// tag see these events, in their places in the log. The events themselves stay as they are.
    ///
    /// This is for a type with upcasters or a version above 1 that [got a
    /// tag](crate::StartError::MissingTag) later. It covers the events of the app's views, of its
    /// projections, and of [`events`](crate::AppBuilder::events). The app has to be started with
    /// [`retagging`](crate::AppBuilder::retagging). After the completion, programs start without
    /// it.
    ///
    /// It works beside commands, of this app and of others. Two apps may do it at once. If it is
    /// interrupted, the next call continues, at most a page of events before the end of the last.
    ///
    /// When nearly all events are read, it ends the programs that would write more events without
    /// the tag: their commands fail with [`CommandError::Outdated`](crate::CommandError::Outdated),
    /// and they do not start any more. So in a rolling release, call it when the older release may
    /// go. This covers all programs with this or a later version of Diptych, and no other writers.
    ///
    /// # Errors
    /// [`RetagError`]; a further call continues.
    pub async fn retag(&self) -> Result<RetagReport, RetagError> {
        let mut report = RetagReport::default();
        for declared in &self.beside.declared {
            let declared = declared(&self.left.schema).map_err(RetagError::Schema)?;
            for of_type in declared.retaggable() {
                let retagging = Retagging { panel: &self.left, declared: &declared, of_type };
                while !retagging.round(&mut report).await? {}
            }
        }
        Ok(report)
    }
}

/// Retags the events of one type.
struct Retagging<'a> {
    panel: &'a LeftPanel,
    declared: &'a Arc<dyn AnyReading>,
    of_type: RetagType,
}

/// A walk through the events of a type.
struct Walk<'k> {
    /// The keys of the tags that are given.
    keys: Vec<&'k str>,
    /// The name of the walk in the tracking of the log.
    source: String,
    /// Number of completions in the log when it began.
    completions: u64,
    at: Position,
    /// The last position that is tracked.
    tracked: Position,
}

impl Retagging<'_> {
    fn name(&self) -> &'static str {
        self.of_type.known.name
    }

    fn store(&self) -> &Store {
        &self.panel.store
    }

    /// Gives the tags that are not given yet. Returns whether nothing is left to do: another app
    /// may have completed some of them meanwhile.
    async fn round(&self, report: &mut RetagReport) -> Result<bool, RetagError> {
        let (name, retags) = (self.name(), self.panel.schema.retags());
        retags.refresh(self.store(), self.store().fresh_head().await?).await?;
        let Some(mut walk) = self.begin().await? else { return Ok(true) };
        let head = self.store().fresh_head().await?;
        self.walk(&mut walk, head, report).await?;
        // From the fence on, no event without these tags can come. A key that no event lacks so far
        // is fenced, too: an older program could write the first such event after this run.
        let (sources, known) = (&self.of_type.sources, retags.keys());
        let new = walk.keys.iter().filter(|key| !known.is_fenced(name, key, sources));
        let events = new.map(|key| fenced(name, key, sources)).collect::<Result<Vec<_>, _>>();
        let events = events.map_err(RetagError::Schema)?;
        if !events.is_empty() {
            self.store().append(Append::events(events)).await?.synced().await?;
        }
        let head = self.store().fresh_head().await?;
        self.walk(&mut walk, head, report).await?;
        let mut lacking = Vec::new();
        for key in &walk.keys {
            if self.store().last(&marks_of(name, key), Position::MAX).await?.is_some() {
                lacking.push(*key);
            }
        }
        self.complete(walk, lacking, report).await
    }

    /// The walk for the tags that are not given yet, from where an earlier run ended.
    async fn begin(&self) -> Result<Option<Walk<'static>>, RetagError> {
        let name = self.name();
        let known = self.panel.schema.retags().keys();
        let untagged = self.panel.schema.untagged(self.store(), &**self.declared).await?;
        let is_missing = |key: &str| {
            untagged.iter().any(|missing| missing.event_type == name && missing.key == key)
        };
        let tags = self.of_type.known.tags.iter().copied();
        let keys: Vec<_> =
            tags.clone().filter(|key| !known.has(name, key) || is_missing(key)).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let missing = untagged.iter().filter(|missing| missing.event_type == name);
        let missing: Vec<_> = missing.filter(|missing| keys.contains(&&*missing.key)).collect();
        // A type with other tags, and another build of the program, which may make them in another
        // way, walk anew. Otherwise the walk goes on where the last one ended, unless that one
        // passed an event that lacks a tag now.
        let build = match executable() {
            Some(digest) => format!("{digest:?}"),
            // Each run then counts as another build.
            None => Uuid::new_v4().to_string(),
        };
        let mut tags: Vec<_> = tags.collect();
        tags.sort_unstable();
        let mut attempt = 0;
        loop {
            let digest = Digest::of(format!("{name:?} {tags:?} {build} {attempt}").as_bytes());
            let mut source = format!("diptych:retag/{name}/{digest}");
            if source.len() > self.store().limits().source_bytes {
                source = format!("diptych:retag/{digest}");
            }
            let tracked = self.store().tracked(&source).await?;
            let tracked = tracked.map_or(Position::START, |tracking| tracking.position);
            let passed = missing.iter().map(|missing| missing.position);
            let passed: Vec<_> = passed.filter(|at| *at <= tracked).collect();
            if self.are_marked(&passed, &keys).await? {
                let completions = known.generation;
                return Ok(Some(Walk { keys, source, completions, at: tracked, tracked }));
            }
            attempt += 1;
        }
    }

    /// Whether the events at these positions have marks for all the tags of these keys that they
    /// lack.
    async fn are_marked(&self, passed: &[Position], keys: &[&str]) -> Result<bool, RetagError> {
        for at in passed {
            let one = Read::after(at.before()).upto(*at);
            let batch = self.store().read(&self.of_type.filter(), one).await?;
            for event in batch.iter() {
                let lacking = self.declared.lacking(&StoredEvent::of(&event));
                let lacking =
                    lacking.map_err(|error| RetagError::Event { position: *at, error })?;
                let tags = lacking.into_iter().filter(|(missing, tag)| {
                    missing.event_type == self.name() && keys.contains(&tag.key())
                });
                let tags: Vec<_> = tags.map(|(_, tag)| tag).collect();
                let marks = Marks::read(self.store(), None, &tags).await?;
                if !tags.iter().all(|tag| marks.has(self.name(), tag, *at)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Marks the events up to here.
    async fn walk(
        &self,
        walk: &mut Walk<'_>,
        upto: Position,
        report: &mut RetagReport,
    ) -> Result<(), RetagError> {
        let filter = self.of_type.filter();
        while walk.at < upto {
            if self.panel.running.is_stopped() {
                return Err(RetagError::Stopped);
            }
            let read = Read::after(walk.at).upto(upto).limit(PAGE_EVENTS);
            let page = self.store().read(&filter, read).await?;
            let (events, retagged) = self.marks(walk, &page)?;
            let end = page.upto();
            let (mut at, events_read) = (end, page.len() as u64);
            if !events.is_empty() {
                at = at.max(self.commit(walk, events, end).await?);
            }
            walk.at = at;
            report.scanned += events_read;
            report.retagged += retagged;
            // Other tasks on this thread go on.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The marks for a page, and the number of its events that get tags.
    fn marks(&self, walk: &Walk<'_>, page: &Batch) -> Result<(Vec<RawEvent>, u64), RetagError> {
        let mut marks: BTreeMap<Tag, Vec<u64>> = BTreeMap::new();
        let mut events = 0;
        for event in page.iter() {
            let position = event.position();
            let lacking = self.declared.lacking(&StoredEvent::of(&event));
            let lacking = lacking.map_err(|error| RetagError::Event { position, error })?;
            let mut is_retagged = false;
            for (missing, tag) in lacking {
                if missing.event_type != self.name() || !walk.keys.contains(&tag.key()) {
                    continue;
                }
                is_retagged = true;
                let positions = marks.entry(tag).or_default();
                if positions.last() != Some(&position.get()) {
                    positions.push(position.get());
                }
            }
            events += u64::from(is_retagged);
        }
        let marks = marks.into_iter();
        let marks = marks.map(|(tag, positions)| retagged(self.name(), &tag, positions));
        Ok((marks.collect::<Result<_, _>>().map_err(RetagError::Schema)?, events))
    }

    /// Appends marks, and then the position up to which the events were read. Returns the position
    /// from which to read on: another run may be further.
    async fn commit(
        &self,
        walk: &mut Walk<'_>,
        events: Vec<RawEvent>,
        upto: Position,
    ) -> Result<Position, RetagError> {
        let most = self.store().limits().commit_events.clamp(1, COMMIT_MARKS);
        let mut chunks = events.chunks(most).peekable();
        while let Some(chunk) = chunks.next() {
            let mut append = Append::events(chunk.iter().cloned());
            if chunks.peek().is_none() {
                append = append.tracking(Tracking::new(&walk.source, upto));
            }
            match self.store().append(append).await {
                Ok(accepted) => drop(accepted.synced().await?),
                Err(AppendError::Refused(Refusal::AlreadyTracked { tracked, .. })) => {
                    walk.tracked = tracked;
                    return Ok(tracked);
                }
                Err(error) => return Err(error.into()),
            }
        }
        walk.tracked = upto;
        Ok(upto)
    }

    /// Tells that all events have their tags of these keys. Returns whether nothing is left to do.
    async fn complete(
        &self,
        mut walk: Walk<'_>,
        keys: Vec<&str>,
        report: &mut RetagReport,
    ) -> Result<bool, RetagError> {
        if keys.is_empty() {
            // The next run need not read these events again.
            if walk.tracked < walk.at {
                let (at, tracking) = (walk.at, Tracking::new(&walk.source, walk.at));
                match self.store().append(Append::default().tracking(tracking)).await {
                    Ok(accepted) => drop(accepted.synced().await?),
                    Err(AppendError::Refused(Refusal::AlreadyTracked { .. })) => {}
                    Err(error) => return Err(error.into()),
                }
                walk.tracked = at;
            }
            return Ok(true);
        }
        let events = keys.iter().map(|key| completed(self.name(), key, walk.at));
        let events = events.collect::<Result<Vec<_>, _>>().map_err(RetagError::Schema)?;
        // Two runs at once complete it once.
        let digest = Digest::of(format!("{} {}", walk.source, walk.completions).as_bytes());
        let key = Key::new(format!("diptych:retag-completed/{digest}"), digest);
        let is_first = match self.store().append(Append::events(events).key(key)).await {
            Ok(accepted) => {
                accepted.synced().await?;
                true
            }
            Err(AppendError::Refused(Refusal::KeyTaken { .. })) => false,
            Err(error) => return Err(error.into()),
        };
        let head = self.store().fresh_head().await?;
        self.panel.schema.retags().refresh(self.store(), head).await?;
        report.completed.extend(
            keys.into_iter()
                .map(|key| RetaggedKey { event_type: self.name().to_owned(), key: key.to_owned() }),
        );
        Ok(is_first)
    }
}
