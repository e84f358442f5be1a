//! Copies whole commits, with positions, times, ids, keys and tracking.
//!
//! Each commit goes to the target on the condition that the target has no event at its place. So a
//! program that appends to the target meanwhile is noticed, and every commit is written once.

use std::collections::VecDeque;

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, CommitRef, Filter, InvalidRequest,
    Position, RawEvent, ReadCommits, Refusal, Store,
};
use pollster::block_on;

use crate::{
    copy::digest::LogDigest,
    exit::{Exit, Failure},
};

/// Commits that are accepted by the target and not synced.
const IN_FLIGHT_COMMITS: usize = 1_024;
/// Bytes of the payloads of these commits. One commit may be larger.
const IN_FLIGHT_BYTES: usize = 16 << 20;

/// The report of a copy.
#[derive(Debug)]
pub(crate) struct CopyReport {
    /// The last position of the copy.
    pub(crate) upto: Position,
    /// The number of events that were written.
    pub(crate) events: u64,
    /// The number of commits that were written.
    pub(crate) commits: u64,
    /// The number of events that the target had before.
    pub(crate) events_before: u64,
    pub(crate) source_digest: String,
    pub(crate) target_digest: String,
}

impl CopyReport {
    /// The report of this pass and of an earlier one into the same target.
    pub(crate) fn with(self, before: &CopyReport) -> CopyReport {
        CopyReport {
            events: before.events + self.events,
            commits: before.commits + self.commits,
            events_before: before.events_before,
            ..self
        }
    }

    pub(crate) fn digests_are_equal(&self) -> bool {
        self.source_digest == self.target_digest
    }
}

/// A copy that is about to begin.
pub(crate) struct CopyPass<'a> {
    from: &'a Store,
    to: &'a Store,
    /// The head of the source at the start.
    head: Position,
    /// The head of the target at the start.
    had: Position,
}

impl<'a> CopyPass<'a> {
    /// Refuses a target that is no beginning of the source. Nothing is written.
    pub(crate) fn begin(from: &'a Store, to: &'a Store) -> Result<CopyPass<'a>, Failure> {
        let head = block_on(from.known_head())?;
        let had = block_on(to.fresh_head())?;
        check_beginning(from, to, head, had)?;
        Ok(CopyPass { from, to, head, had })
    }

    /// Copies everything up to the head that the source had, and reads both logs for the digests.
    /// `show` gets the work, the number of events done, and their total.
    pub(crate) fn run(self, show: impl Fn(&'static str, u64, u64)) -> Result<CopyReport, Failure> {
        let to = self.to;
        let copied = self.copy(&show)?;
        let target_digest = digest(to, |done, total| show("compared", done, total))?;
        Ok(CopyReport { target_digest, ..copied })
    }

    /// Copies everything up to the head that the source had. The report has no digest of the
    /// target.
    pub(crate) fn copy(self, show: impl Fn(&'static str, u64, u64)) -> Result<CopyReport, Failure> {
        let CopyPass { from, to, head, had } = self;
        let in_flight = VecDeque::new();
        let mut writer = CommitWriter { to, had, in_flight, bytes: 0, events: 0, commits: 0 };
        let mut source = LogDigest::default();
        let mut upto = Position::START;
        loop {
            let batch = block_on(from.commits(ReadCommits::after(upto)))?;
            for commit in batch.iter() {
                source.add(commit);
                writer.write(commit)?;
            }
            upto = batch.upto();
            show("copied", upto.get(), head.get().max(upto.get()));
            if upto >= head {
                break;
            }
        }
        writer.settle()?;
        Ok(CopyReport {
            upto,
            events: writer.events,
            commits: writer.commits,
            events_before: had.get(),
            source_digest: source.finish(),
            target_digest: String::new(),
        })
    }
}

/// Refuses a target that is not the beginning of the source, as far as the last event of the target
/// shows that. The digests show the rest.
fn check_beginning(from: &Store, to: &Store, head: Position, had: Position) -> Result<(), Failure> {
    if had > head {
        return Err(Failure::input(format!(
            "the target has {had} events, and the source has {head}: it is no beginning of the \
             source; give an empty place for the copy"
        )));
    }
    let (theirs, ours) = (block_on(from.checksum(had))?, block_on(to.checksum(had))?);
    match theirs == ours {
        true => Ok(()),
        false => Err(differs_at(had)),
    }
}

fn differs_at(position: Position) -> Failure {
    Failure::input(format!(
        "the target differs from the source at position {position}: it is no beginning of the \
         source, because another program appended to it, or it comes from another log; give an \
         empty place for the copy"
    ))
}

/// The digest of the whole log.
fn digest(log: &Store, show: impl Fn(u64, u64)) -> Result<String, Failure> {
    let head = block_on(log.known_head())?;
    let (mut digest, mut upto) = (LogDigest::default(), Position::START);
    loop {
        let batch = block_on(log.commits(ReadCommits::after(upto)))?;
        batch.iter().for_each(|commit| digest.add(commit));
        upto = batch.upto();
        show(upto.get(), head.get());
        if upto >= head {
            return Ok(digest.finish());
        }
    }
}

/// Writes commits to the target.
struct CommitWriter<'a> {
    to: &'a Store,
    /// The head of the target at the start.
    had: Position,
    in_flight: VecDeque<(AcceptedCommit, usize)>,
    /// Bytes of the payloads in flight.
    bytes: usize,
    events: u64,
    commits: u64,
}

impl CommitWriter<'_> {
    /// Writes the commit, unless the target has it.
    fn write(&mut self, commit: CommitRef<'_>) -> Result<(), Failure> {
        if self.is_there(commit)? {
            return Ok(());
        }
        let events: Vec<RawEvent> = commit.events().map(|event| event.to_raw()).collect();
        let count = events.len() as u64;
        let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
        while self.in_flight.len() >= IN_FLIGHT_COMMITS
            || !self.in_flight.is_empty() && self.bytes + bytes > IN_FLIGHT_BYTES
        {
            self.settle_first()?;
        }
        let free =
            AppendCondition { fail_if: Filter::everything(), after: commit.first().before() };
        let mut append = Append::events(events).condition(free);
        append.key = commit.key().cloned();
        append.tracking = commit.tracking().cloned();
        append.recorded_at = Some(commit.recorded_at());
        let accepted = block_on(self.to.append(append)).map_err(|error| refused(commit, error))?;
        if accepted.last != commit.last() || accepted.recorded_at != commit.recorded_at() {
            return Err(differs_at(commit.last()));
        }
        self.events += count;
        self.commits += 1;
        self.bytes += bytes;
        self.in_flight.push_back((accepted, bytes));
        Ok(())
    }

    /// Whether the target had the commit at the start, or later tracking that took its place.
    fn is_there(&self, commit: CommitRef<'_>) -> Result<bool, Failure> {
        if commit.last() > self.had {
            return match commit.first() <= self.had {
                true => Err(differs_at(self.had)),
                false => Ok(false),
            };
        }
        let Some(tracking) = commit.tracking().filter(|_| commit.events().len() == 0) else {
            return Ok(true);
        };
        let stored = block_on(self.to.tracked(&tracking.source))?;
        let is_stored = stored.is_some_and(|stored| stored.position >= tracking.position);
        match is_stored || commit.last() == self.had {
            true => Ok(is_stored),
            false => Err(differs_at(commit.last())),
        }
    }

    fn settle(&mut self) -> Result<(), Failure> {
        while !self.in_flight.is_empty() {
            self.settle_first()?;
        }
        Ok(())
    }

    fn settle_first(&mut self) -> Result<(), Failure> {
        if let Some((accepted, bytes)) = self.in_flight.pop_front() {
            block_on(accepted.synced())?;
            self.bytes -= bytes;
        }
        Ok(())
    }
}

/// The failure of a commit that the target did not take.
fn refused(commit: CommitRef<'_>, error: AppendError) -> Failure {
    match &error {
        AppendError::Invalid(InvalidRequest::RecordedAt { .. }) => Failure::input(
            "the target takes the times of events from its clock, so the copy would have other \
             times: start its server with `diptych serve --receive-copy` until the copy is \
             complete, or copy into a folder on the machine of the server, then serve that folder",
        ),
        AppendError::Refused(Refusal::Conflict { .. })
        | AppendError::Invalid(InvalidRequest::AboveHead { .. }) => Failure::new(
            Exit::Refused,
            format!(
                "another program appends to the target, which has another event at position {}: \
                 give an empty place for the copy that no other program uses",
                commit.first()
            ),
        ),
        _ => {
            let place = format!("the commit {} to {}", commit.first(), commit.last());
            Failure::from(error).and(&format!("{place} was not copied"))
        }
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::{
        Digest, Epoch, Key, LogId, LogIdentity, Memory, Tag, TimeSource, Timestamp, Tracking,
    };
    use uuid::Uuid;

    use super::*;

    fn caller() -> Store {
        Store::new(Memory::new().time(TimeSource::Caller))
    }

    fn append(store: &Store, append: Append) {
        block_on(async { store.append(append).await.unwrap().synced().await.unwrap() });
    }

    /// The next commit of a test, all of whose facts depend on `n`.
    fn commit(n: u64) -> Append {
        let event = |m: u64| {
            let event = RawEvent::new("counted", format!("{n}.{m}"));
            event.tag(Tag::new("n", n.to_string())).id(Uuid::from_u128(n.into()))
        };
        let mut append = Append::events((0..n % 3 + 1).map(event));
        append.recorded_at = Some(Timestamp::from_micros(i64::try_from(n).unwrap() * 1_000));
        append.key(Key::new(format!("key-{n}"), Digest::of(&n.to_le_bytes())))
    }

    fn tracking(source: &str, position: u64) -> Append {
        let id = LogId::from_bytes([7; 16]);
        let origin = LogIdentity { id, epoch: Epoch::from_u64(1) };
        let mut append = Append::default().tracking(Tracking::new(source, position).origin(origin));
        append.recorded_at = Some(Timestamp::from_micros(1_000_000));
        append
    }

    fn copied(from: &Store, to: &Store) -> Result<CopyReport, Failure> {
        CopyPass::begin(from, to)?.run(|_, _, _| {})
    }

    #[test]
    fn a_copy_keeps_commits_times_keys_and_tracking() {
        let (from, to) = (caller(), caller());
        for n in 1..=40 {
            append(&from, commit(n));
        }
        append(&from, tracking("a", 1));
        append(&from, tracking("b", 5));
        append(&from, tracking("a", 2));
        let report = copied(&from, &to).unwrap();
        assert!(report.digests_are_equal(), "{report:?}");
        assert_eq!((report.commits, report.events_before), (42, 0));
        let (ours, theirs) = (block_on(to.keyed("key-7")), block_on(from.keyed("key-7")));
        assert_eq!(ours.unwrap(), theirs.unwrap());
        let stored = block_on(to.tracked("a")).unwrap().unwrap();
        assert_eq!((stored.position.get(), stored.origin.is_some()), (2, true));
    }

    #[test]
    fn a_copy_is_continued_from_every_prefix_and_writes_nothing_twice() {
        let mut appends: Vec<Append> = (1..=6).map(commit).collect();
        appends.insert(0, tracking("a", 1));
        appends.insert(3, tracking("a", 2));
        appends.insert(4, tracking("b", 1));
        appends.insert(5, tracking("a", 3));
        appends.push(tracking("b", 2));
        for append in &mut appends {
            append.recorded_at = Some(Timestamp::from_micros(1_000_000));
        }
        for prefix in 0..=appends.len() {
            let to = caller();
            let part = caller();
            for made in &appends[..prefix] {
                append(&part, made.clone());
            }
            assert!(copied(&part, &to).unwrap().digests_are_equal(), "{prefix}");
            assert_eq!(copied(&part, &to).unwrap().commits, 0, "{prefix}");
            for made in &appends[prefix..] {
                append(&part, made.clone());
            }
            let report = copied(&part, &to).unwrap();
            assert!(report.digests_are_equal(), "{prefix}: {report:?}");
        }
        assert!(copied(&caller(), &caller()).unwrap().digests_are_equal(), "an empty log");
    }

    #[test]
    fn a_target_that_is_no_beginning_of_the_source_is_refused_and_unchanged() {
        let from = caller();
        (1..=5).for_each(|n| append(&from, commit(n)));
        let other = caller();
        append(&other, commit(9));
        let error = copied(&from, &other).unwrap_err().to_string();
        assert!(error.contains("differs from the source at position 1"), "{error}");
        assert_eq!(other.head().position().get(), 1);
        let longer = caller();
        assert!(copied(&from, &longer).unwrap().digests_are_equal());
        append(&longer, commit(6));
        let error = copied(&from, &longer).unwrap_err().to_string();
        assert!(error.contains("no beginning of the source"), "{error}");
    }

    #[test]
    fn a_target_that_differs_below_its_last_event_gives_another_digest() {
        let (from, to) = (caller(), caller());
        (1..=3).for_each(|n| append(&from, commit(n)));
        let mut other = commit(1);
        other.key = None;
        append(&to, other);
        let report = copied(&from, &to).unwrap();
        assert!(!report.digests_are_equal());
    }

    #[test]
    fn a_target_with_a_clock_refuses_the_copy_and_says_what_to_do() {
        let from = caller();
        append(&from, commit(1));
        let error = copied(&from, &Store::new(Memory::new())).unwrap_err().to_string();
        assert!(error.contains("`diptych serve --receive-copy`"), "{error}");
        assert!(error.contains("copy into a folder on the machine of the server"), "{error}");
    }
}
