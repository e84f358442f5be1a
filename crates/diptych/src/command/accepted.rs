//! The events of commits that this process accepted and that are not published yet. A decision can
//! rest on them, while reads of the store return synced events only.
//!
//! A state at position p may apply an event of this window only if every event in between is known.
//! Up to the published head, events are known by reading. Above the head, they are known if the
//! commits in the window follow each other without a gap. A gap is a commit of another process, or
//! a commit that is being entered. Then the decision waits until the gap is published, as it would
//! without this window.

use std::{
    any::TypeId,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diptych_store::{Filter, FilterItem, Position, RawEvent, Tag, Timestamp};
use parking_lot::Mutex;

/// If the window holds at least this number of commits, the next commit to enter first drops the
/// published ones. Otherwise they are dropped when a caller has time.
const KEPT_COMMITS: usize = 1024;
/// If the window holds at least these payload bytes, the next commit to enter first drops the
/// published commits.
const KEPT_BYTES: usize = 4 << 20;

/// The events of commits that were accepted and are not published yet.
#[derive(Default)]
pub(crate) struct AcceptedWindow {
    /// Whether the window holds anything. With a store that publishes at once it stays empty, and
    /// the lock is not taken.
    any: AtomicBool,
    window: Mutex<AcceptedCommits>,
    latest: Latest,
}

/// The last position at which this process entered an event with each tag in the window. It is kept
/// when the event is published. A command reads newer events into an older state before it decides.
/// Otherwise it would meet a conflict, and a conflict waits for a sync.
///
/// A position is only a hint. Several tags can share a place by their hash, so it may be too high.
/// It is too low for tags of commits that were never entered or whose events were not kept.
struct Latest(Box<[AtomicU64]>);

/// Number of places. Tags in use seldom share a place; the table takes 256 KiB.
const PLACES: usize = 1 << 15;

impl Default for Latest {
    fn default() -> Latest {
        Latest((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Latest {
    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.0.get(hash as usize % PLACES)
    }

    fn wrote(&self, hash: u64, position: u64) {
        if let Some(place) = self.place(hash) {
            place.fetch_max(position, Ordering::Relaxed);
        }
    }

    fn of(&self, tag: &Tag) -> u64 {
        self.place(hash_tag(tag)).map_or(0, |place| place.load(Ordering::Relaxed))
    }
}

#[derive(Default)]
struct AcceptedCommits {
    /// In the order of their positions.
    commits: VecDeque<Commit>,
    /// Bytes of their payloads.
    bytes: usize,
    /// Positions of events by the hash of a tag. Collisions do no harm, because each match is
    /// checked.
    by_tag: HashMap<u64, VecDeque<u64>, RandomState>,
    /// All events up to here are published, and are dropped from the window.
    published: u64,
    /// Up to here there may be commits whose events were not kept. Their events are unknown until
    /// this position is published.
    unknown: u64,
}

struct Commit {
    first: u64,
    last: u64,
    /// There is no gap from here to the end of the commit.
    run: u64,
    recorded_at: Timestamp,
    events: Arc<[RawEvent]>,
}

/// An accepted event.
pub struct AcceptedEvent {
    pub(crate) position: Position,
    pub(crate) recorded_at: Timestamp,
    events: Arc<[RawEvent]>,
    index: usize,
}

impl AcceptedEvent {
    pub(crate) fn event(&self) -> Option<&RawEvent> {
        self.events.get(self.index)
    }
}

/// The known matches above the position of a state.
pub(crate) enum Above {
    /// No event in the window matches.
    Nothing,
    /// These events match, and every event between the state's position and `upto` is known.
    Known { found: Vec<AcceptedEvent>, upto: Position },
    /// An event at or below `until` matches, and some events before it are not known. They have to
    /// be published and read.
    Unknown { until: Position },
}

/// The known matches between two positions.
pub(crate) enum Within {
    /// There is no match.
    Nothing,
    /// The last match is here.
    Match(Position),
    /// Some events between are not known, or are published by now.
    Unknown,
}

impl AcceptedWindow {
    /// Enters a commit. `head` is the published position.
    pub(crate) fn enter(
        &self,
        first: Position,
        recorded_at: Timestamp,
        events: Arc<[RawEvent]>,
        head: Position,
    ) {
        let mut window = self.window.lock();
        window.published = window.published.max(head.get());
        if window.commits.len() >= KEPT_COMMITS || window.bytes >= KEPT_BYTES {
            window.forget();
        }
        window.enter(first.get(), recorded_at, events, &self.latest);
        self.any.store(!window.is_empty(), Ordering::Release);
    }

    /// Enters a commit whose events were not kept.
    pub(crate) fn enter_unknown(&self, last: Position, head: Position) {
        let mut window = self.window.lock();
        window.published = window.published.max(head.get());
        window.unknown = window.unknown.max(last.get());
        self.any.store(!window.is_empty(), Ordering::Release);
    }

    /// Whether the hints say that this process wrote a matching event above `position`. For a
    /// filter without tags the answer is always `false`.
    pub(crate) fn may_have_written(&self, filter: &Filter, position: Position) -> bool {
        filter.items().iter().any(|item| {
            let newer = |tag: &Tag| self.latest.of(tag) > position.get();
            !item.tags.is_empty() && item.tags.iter().all(newer)
        })
    }

    /// The matches above a state's `position`. `head` is the published position.
    pub(crate) fn above(&self, filter: &Filter, position: Position, head: Position) -> Above {
        if !self.any.load(Ordering::Acquire) {
            return Above::Nothing;
        }
        let mut window = self.window.lock();
        window.published = window.published.max(head.get());
        if window.is_published() {
            window.forget();
            self.any.store(false, Ordering::Release);
            return Above::Nothing;
        }
        window.above(filter, position.get())
    }

    /// Drops published commits, unless another command uses the window at this moment. A command
    /// calls this after its sync, when it holds no gate that others wait for.
    pub(crate) fn tidy(&self, head: Position) {
        if let Some(mut window) = self.window.try_lock() {
            window.published = window.published.max(head.get());
            window.forget();
        }
    }

    /// Whether the window has the event at this position.
    pub(crate) fn has(&self, position: Position) -> bool {
        self.window.lock().commit(position.get()).is_some()
    }

    /// The matches above `position`, up to `upto`.
    pub(crate) fn within(&self, filter: &Filter, position: Position, upto: Position) -> Within {
        self.window.lock().within(filter, position.get(), upto.get())
    }
}

impl AcceptedCommits {
    fn enter(
        &mut self,
        first: u64,
        recorded_at: Timestamp,
        events: Arc<[RawEvent]>,
        latest: &Latest,
    ) {
        let last = first + (events.len() as u64).saturating_sub(1);
        if events.is_empty() || last <= self.published {
            for (position, event) in (first..).zip(events.iter()) {
                event.tags.iter().for_each(|tag| latest.wrote(hash_tag(tag), position));
            }
            return;
        }
        for (position, event) in (first..).zip(events.iter()) {
            self.bytes += event.payload.len();
            for tag in &event.tags {
                let hash = hash_tag(tag);
                latest.wrote(hash, position);
                let positions = self.by_tag.entry(hash).or_default();
                let at = positions.partition_point(|other| *other < position);
                // An event may carry a tag twice.
                if positions.get(at) != Some(&position) {
                    positions.insert(at, position);
                }
            }
        }
        let at = self.commits.partition_point(|commit| commit.first < first);
        self.commits.insert(at, Commit { first, last, run: first, recorded_at, events });
        // Commits can be entered out of order. The run of the later ones is then extended.
        let before = at.checked_sub(1).and_then(|at| self.commits.get(at));
        let mut before = before.map(|commit| (commit.last, commit.run));
        for commit in self.commits.range_mut(at..) {
            commit.run = match before {
                Some((last, run)) if last + 1 == commit.first => run,
                _ => commit.first,
            };
            before = Some((commit.last, commit.run));
        }
    }

    /// Drops published commits.
    fn forget(&mut self) {
        while let Some(commit) = self.commits.front()
            && commit.last <= self.published
        {
            for (position, event) in (commit.first..).zip(commit.events.iter()) {
                self.bytes -= event.payload.len();
                for tag in &event.tags {
                    let hash = hash_tag(tag);
                    let Some(positions) = self.by_tag.get_mut(&hash) else { continue };
                    while positions.front().is_some_and(|first| *first <= position) {
                        positions.pop_front();
                    }
                    if positions.is_empty() {
                        self.by_tag.remove(&hash);
                    }
                }
            }
            self.commits.pop_front();
        }
    }

    fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.unknown <= self.published
    }

    fn is_published(&self) -> bool {
        let last = self.commits.back().map_or(0, |commit| commit.last);
        last.max(self.unknown) <= self.published
    }

    fn within(&self, filter: &Filter, position: u64, upto: u64) -> Within {
        let run = self.commit(upto).map(|commit| commit.run);
        if position < self.published || run.is_none_or(|run| run > position + 1) {
            return Within::Unknown;
        }
        let matches = self.all_matches(filter, position);
        let last = matches.into_iter().rfind(|at| *at <= upto);
        last.map_or(Within::Nothing, |last| Within::Match(Position::new(last)))
    }

    /// The positions of the matching events after `above`, in order.
    fn all_matches(&self, filter: &Filter, above: u64) -> Vec<u64> {
        let mut matches = Vec::new();
        for item in filter.items() {
            self.matches(item, above, &mut matches);
        }
        matches.sort_unstable();
        matches.dedup();
        matches
    }

    fn above(&self, filter: &Filter, position: u64) -> Above {
        if self.unknown > self.published.max(position) {
            return Above::Unknown { until: Position::new(self.unknown) };
        }
        let matches = self.all_matches(filter, position);
        let Some(&until) = matches.last() else { return Above::Nothing };
        let Some(commit) = self.commit(until) else { return Above::Nothing };
        if commit.run > position + 1 || position < self.published {
            return Above::Unknown { until: Position::new(until) };
        }
        let upto = Position::new(commit.last);
        let found = matches.into_iter().filter_map(|position| {
            let commit = self.commit(position)?;
            let index = usize::try_from(position - commit.first).ok()?;
            let (recorded_at, events) = (commit.recorded_at, commit.events.clone());
            Some(AcceptedEvent { position: Position::new(position), recorded_at, events, index })
        });
        Above::Known { found: found.collect(), upto }
    }

    fn matches(&self, item: &FilterItem, above: u64, matches: &mut Vec<u64>) {
        let Some(tag) = item.tags.first() else {
            let from = self.commits.partition_point(|commit| commit.last <= above);
            for commit in self.commits.range(from..) {
                let positions = commit.first.max(above + 1)..=commit.last;
                matches.extend(positions.filter(|position| self.is_match(item, *position)));
            }
            return;
        };
        let Some(positions) = self.by_tag.get(&hash_tag(tag)) else { return };
        let from = positions.partition_point(|position| *position <= above);
        let above = positions.range(from..).copied();
        matches.extend(above.filter(|position| self.is_match(item, *position)));
    }

    fn is_match(&self, item: &FilterItem, position: u64) -> bool {
        let Some(commit) = self.commit(position) else { return false };
        let index = usize::try_from(position - commit.first).ok();
        index.and_then(|index| commit.events.get(index)).is_some_and(|event| {
            item.matches_parts(&event.event_type, || event.tags.iter().map(Tag::as_str))
        })
    }

    fn commit(&self, position: u64) -> Option<&Commit> {
        let at = self.commits.partition_point(|commit| commit.last < position);
        self.commits.get(at).filter(|commit| commit.first <= position)
    }
}

/// One hash for the whole process, so that a tag has one hash everywhere. It is random, so that an
/// attacker cannot choose tags that collide.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::default);

fn hash_tag(tag: &Tag) -> u64 {
    HASH.hash_one(tag.as_str())
}

/// The hash that leads commands on one boundary to the same gate. It covers the tags of the item,
/// or its types if it has no tags.
pub(crate) fn hash_item(item: &FilterItem) -> u64 {
    let mut hasher = HASH.build_hasher();
    for tag in &item.tags {
        tag.as_str().hash(&mut hasher);
    }
    if item.tags.is_empty() {
        for name in &item.types {
            name.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The hash of a state's identity: its fold and its boundary.
pub(crate) fn hash_state<F: 'static>(boundary: &Filter) -> u64 {
    let mut hasher = HASH.build_hasher();
    TypeId::of::<F>().hash(&mut hasher);
    for item in boundary.items() {
        for tag in &item.tags {
            tag.as_str().hash(&mut hasher);
        }
        for name in &item.types {
            name.hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &'static str, tags: &[&str]) -> RawEvent {
        let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap());
        tags.fold(RawEvent::new(event_type, b"{}"), RawEvent::tag)
    }

    fn enter(accepted_window: &AcceptedWindow, first: u64, events: Vec<RawEvent>, head: u64) {
        let at = Timestamp::from_micros(first as i64);
        accepted_window.enter(Position::new(first), at, events.into(), Position::new(head));
    }

    fn ask(accepted_window: &AcceptedWindow, filter: &str, position: u64, head: u64) -> String {
        let filter: Filter = filter.parse().unwrap();
        match accepted_window.above(&filter, Position::new(position), Position::new(head)) {
            Above::Nothing => "nothing".to_owned(),
            Above::Unknown { until } => format!("unknown until {until}"),
            Above::Known { found, upto } => {
                let found: Vec<_> = found.iter().map(|found| found.position.get()).collect();
                format!("{found:?} upto {upto}")
            }
        }
    }

    #[test]
    fn what_follows_without_a_gap_is_known() {
        let accepted_window = AcceptedWindow::default();
        enter(&accepted_window, 11, vec![event("a", &["k:1"]), event("b", &["k:1", "k:2"])], 10);
        enter(&accepted_window, 13, vec![event("a", &["k:2"])], 10);
        assert_eq!(ask(&accepted_window, "tag=k:1", 10, 10), "[11, 12] upto 12");
        assert_eq!(ask(&accepted_window, "tag=k:2", 10, 10), "[12, 13] upto 13");
        assert_eq!(ask(&accepted_window, "tag=k:1 tag=k:2", 10, 10), "[12] upto 12");
        assert_eq!(ask(&accepted_window, "type=a tag=k:1 or type=a", 10, 10), "[11, 13] upto 13");
        assert_eq!(ask(&accepted_window, "tag=k:1", 12, 10), "nothing");
        assert_eq!(ask(&accepted_window, "tag=k:3", 10, 10), "nothing");
        assert_eq!(ask(&accepted_window, "nothing", 10, 10), "nothing");
    }

    #[test]
    fn a_gap_and_what_was_not_read_yet_are_unknown() {
        let accepted_window = AcceptedWindow::default();
        enter(&accepted_window, 11, vec![event("a", &["k:1"])], 10);
        enter(&accepted_window, 13, vec![event("a", &["k:1"])], 10);
        assert_eq!(ask(&accepted_window, "tag=k:1", 10, 10), "unknown until 13");
        assert_eq!(ask(&accepted_window, "tag=k:1", 12, 10), "[13] upto 13");
        // The commit in between was accepted earlier and is entered later.
        enter(&accepted_window, 12, vec![event("a", &["k:2"])], 10);
        assert_eq!(ask(&accepted_window, "tag=k:1", 10, 10), "[11, 13] upto 13");
        assert_eq!(ask(&accepted_window, "tag=k:1", 7, 10), "unknown until 13");
    }

    #[test]
    fn where_a_tag_was_written_last_is_known_for_longer() {
        let accepted_window = AcceptedWindow::default();
        enter(&accepted_window, 5, vec![event("a", &["k:1", "k:2"])], 9);
        enter(&accepted_window, 11, vec![event("a", &["k:2"])], 10);
        let written = |filter: &str, position| {
            let filter: Filter = filter.parse().unwrap();
            accepted_window.may_have_written(&filter, Position::new(position))
        };
        assert!(written("tag=k:1", 4) && !written("tag=k:1", 5));
        assert!(written("tag=k:2", 10) && !written("tag=k:2", 11));
        // Some item must have only newer tags.
        assert!(!written("tag=k:1 tag=k:2", 5) && written("tag=k:1 or tag=k:2", 5));
        assert!(!written("type=a", 0) && !written("nothing", 0));
    }

    #[test]
    fn what_is_published_is_forgotten() {
        let accepted_window = AcceptedWindow::default();
        enter(&accepted_window, 1, vec![event("a", &["k:1"]), event("a", &["k:1"])], 0);
        enter(&accepted_window, 3, vec![event("a", &["k:1", "k:1"])], 0);
        assert_eq!(ask(&accepted_window, "tag=k:1", 0, 2), "unknown until 3");
        assert_eq!(ask(&accepted_window, "tag=k:1", 2, 2), "[3] upto 3");
        assert_eq!(ask(&accepted_window, "tag=k:1", 2, 3), "nothing");
        assert!(accepted_window.window.lock().by_tag.is_empty());
        enter(&accepted_window, 2, vec![event("a", &["k:1"])], 3);
        assert!(accepted_window.window.lock().commits.is_empty());
    }

    #[test]
    fn below_a_commit_that_was_not_kept_nothing_is_known() {
        let accepted_window = AcceptedWindow::default();
        accepted_window.enter_unknown(Position::new(11), Position::new(10));
        assert_eq!(ask(&accepted_window, "tag=k:9", 10, 10), "unknown until 11");
        enter(&accepted_window, 12, vec![event("a", &["k:1"])], 10);
        assert_eq!(ask(&accepted_window, "tag=k:1", 10, 10), "unknown until 11");
        assert_eq!(ask(&accepted_window, "tag=k:1", 11, 10), "[12] upto 12");
        assert_eq!(ask(&accepted_window, "tag=k:1", 11, 11), "[12] upto 12");
        assert_eq!(ask(&accepted_window, "tag=k:9", 11, 12), "nothing");
        assert!(!accepted_window.any.load(Ordering::Relaxed));
    }

    fn ask_within(
        accepted_window: &AcceptedWindow,
        filter: &str,
        position: u64,
        upto: u64,
    ) -> String {
        let filter: Filter = filter.parse().unwrap();
        match accepted_window.within(&filter, Position::new(position), Position::new(upto)) {
            Within::Nothing => "nothing".to_owned(),
            Within::Unknown => "unknown".to_owned(),
            Within::Match(at) => at.to_string(),
        }
    }

    #[test]
    fn a_state_is_compared_with_a_newer_one_up_to_its_end() {
        let accepted_window = AcceptedWindow::default();
        enter(&accepted_window, 11, vec![event("a", &["k:1"])], 10);
        enter(&accepted_window, 12, vec![event("a", &["k:2"]), event("b", &["k:2"])], 10);
        enter(&accepted_window, 14, vec![event("a", &["k:1"])], 10);
        assert_eq!(ask_within(&accepted_window, "tag=k:2", 10, 11), "nothing");
        assert_eq!(ask_within(&accepted_window, "tag=k:1", 10, 13), "11");
        assert_eq!(ask_within(&accepted_window, "tag=k:1", 11, 13), "nothing");
        assert_eq!(ask_within(&accepted_window, "tag=k:2", 10, 14), "13");
        // A gap in between, and a position above all known commits.
        assert_eq!(ask_within(&accepted_window, "tag=k:2", 9, 14), "unknown");
        assert_eq!(ask_within(&accepted_window, "tag=k:2", 14, 15), "unknown");
        enter(&accepted_window, 16, vec![event("a", &["k:3"])], 12);
        assert_eq!(ask_within(&accepted_window, "tag=k:2", 14, 16), "unknown");
        assert_eq!(ask_within(&accepted_window, "tag=k:2", 11, 14), "unknown", "published by now");
    }
}
