//! Commits of a wrong store.

use std::{
    cmp::Reverse,
    sync::{Arc, Weak, atomic::Ordering},
};

use parking_lot::MutexGuard;

use super::{CommitRow, EventRow, Flaw, State, TrackingRow, WrongStore, dawdle};
use crate::{
    append::{Append, AppendCondition, Digest, Key, KeyedCommit, Tracking},
    commits::CommitFacts,
    encoding,
    error::{AppendError, InvalidRequest, Refusal, Unavailable},
    event::{Metadata, RawEvent},
    head::CommitNumber,
    limits::Limits,
    position::Position,
    tag::Tag,
    time::{TimeSource, Timestamp},
};

/// The values that an append answers with.
pub(super) struct CommitAnswer {
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) recorded_at: Timestamp,
    /// The number of the commit.
    pub(super) commit: u64,
}

impl WrongStore {
    /// Commits the append, as far as the flaw allows.
    pub(super) fn commit(&self, append: Append) -> Result<CommitAnswer, AppendError> {
        if self.0.ended.load(Ordering::Acquire) {
            return Err(Unavailable::Closed.into());
        }
        let append = self.received(append);
        self.check_limits(&append)?;
        if let Err(invalid) = self.check_size(&append) {
            if self.is(Flaw::WritesUpToTheInvalidEvent) {
                self.write_valid(&append);
            }
            return Err(invalid.into());
        }
        let early = self.is(Flaw::TakesTimeBeforeTheLock).then(|| {
            let now = Timestamp::now();
            (0..self.asked() % 4).for_each(|_| dawdle());
            now
        });
        let mut state = self.0.state.lock();
        if let Err(error) = self.check(&state, &append) {
            self.refuse(&mut state, &append);
            if let AppendError::Refused(_) = error
                && self.has_other_handles()
            {
                self.publish_refusal(&state);
            }
            return Err(error);
        }
        if self.is(Flaw::ChecksBeforeTheLock) {
            MutexGuard::unlocked(&mut state, dawdle);
        }
        let writes = !append.events.is_empty() || append.tracking.is_some();
        let recorded_at = match early {
            _ if !writes => state.recorded_at,
            Some(early) => early,
            None => self.stamp(append.recorded_at, &state)?,
        };
        let before = std::mem::replace(&mut state.recorded_at, recorded_at);
        let recorded_at_said = match self.0.flaw {
            Some(Flaw::AcceptedSaysTheTimeBefore) => before,
            Some(Flaw::AcceptedSaysTheTimeGiven) => append.recorded_at.unwrap_or(recorded_at),
            Some(Flaw::AcceptedSaysTheClockForNothing) if !writes => Timestamp::now(),
            _ => recorded_at,
        };
        let (first, last, commit) = self.write(&mut state, append, recorded_at);
        Ok(CommitAnswer { first, last, recorded_at: recorded_at_said, commit })
    }

    /// The request as this store understands it.
    fn received(&self, mut append: Append) -> Append {
        for event in &mut append.events {
            self.receive(event);
        }
        let name = |text: &str| self.name(text);
        if let Some(key) = &mut append.key {
            key.name = name(&key.name).into();
        }
        if let Some(tracking) = &mut append.tracking {
            tracking.source = name(&tracking.source).into();
        }
        match self.0.flaw {
            Some(Flaw::ReversesCommits) => append.events.reverse(),
            Some(Flaw::CutsLargeCommits) => append.events.truncate(1_000),
            Some(Flaw::AcceptsKeysWithoutEvents) if append.events.is_empty() => append.key = None,
            Some(Flaw::TracksOnlyWithEvents) if append.events.is_empty() => append.tracking = None,
            Some(Flaw::WritesEmptyCommits) if append.events.is_empty() => {
                append.events.push(RawEvent::new("empty", []));
            }
            Some(Flaw::ChecksTheFirstConditionOnly) => append.conditions.truncate(1),
            Some(Flaw::Checks16Conditions) => append.conditions.truncate(16),
            Some(Flaw::TrackingHasFourBytes) => {
                if let Some(tracking) = &mut append.tracking {
                    tracking.position = Position::new(tracking.position.get() & 0xffff_ffff);
                }
            }
            Some(Flaw::TakesTheLowestPositionForAll) => {
                let lowest = append.conditions.iter().map(|condition| condition.after).min();
                let lowest = lowest.unwrap_or_default();
                append.conditions.iter_mut().for_each(|condition| condition.after = lowest);
            }
            Some(Flaw::TakesTheHighestPositionForAll) => {
                let highest = append.conditions.iter().map(|condition| condition.after).max();
                let highest = highest.unwrap_or_default();
                append.conditions.iter_mut().for_each(|condition| condition.after = highest);
            }
            _ => {}
        }
        append
    }

    fn receive(&self, event: &mut RawEvent) {
        event.event_type = self.name(&event.event_type).into();
        event.tags.iter_mut().for_each(|tag| *tag = Tag::stored(&self.name(tag.as_str())));
        if let Some(actor) = &mut event.metadata.actor {
            *actor = self.name(actor).into();
        }
        match self.0.flaw {
            Some(Flaw::ForgetsMetadata) => event.metadata = Metadata::default(),
            Some(Flaw::SortsTags) => event.tags.sort(),
            Some(Flaw::CutsLargePayloads) => event.payload.truncate(0xffff),
            Some(Flaw::VersionsHaveTwoBytes) => event.version &= 0xffff,
            Some(Flaw::DropsTagsWithoutValue) => event.tags.retain(|tag| !tag.value().is_empty()),
            Some(Flaw::MovesTimesIntoTheCalendar) => {
                let at = &mut event.metadata.occurred_at;
                *at = at.map(|at| at.clamp(Timestamp::MIN, Timestamp::MAX));
            }
            Some(Flaw::EndsPayloadsAtNul) => {
                let nul = event.payload.iter().position(|byte| *byte == 0);
                event.payload.truncate(nul.unwrap_or(usize::MAX));
            }
            _ => {}
        }
    }

    fn name(&self, text: &str) -> String {
        match self.0.flaw {
            Some(Flaw::TrimsNames) => text.trim().to_owned(),
            Some(Flaw::CutsLongNames) => text.chars().take(128).collect(),
            Some(Flaw::AcceptsEmptyNames) if text.is_empty() => "?".to_owned(),
            _ => text.to_owned(),
        }
    }

    /// The limits that this store enforces.
    pub(super) fn enforced(&self) -> Limits {
        let mut limits = self.0.limits.clone();
        let change = match self.0.flaw {
            Some(Flaw::IgnoresLimits) => |limit: &mut usize| *limit = usize::MAX,
            Some(Flaw::LimitsAreOneTooSmall) => |limit: &mut usize| *limit -= 1,
            _ => return limits,
        };
        let held_to = [
            &mut limits.event_bytes,
            &mut limits.type_bytes,
            &mut limits.tag_bytes,
            &mut limits.tags_per_event,
            &mut limits.metadata_bytes,
            &mut limits.commit_events,
            &mut limits.commit_bytes,
            &mut limits.commit_conditions,
            &mut limits.key_bytes,
            &mut limits.source_bytes,
            &mut limits.tracking_sources,
            &mut limits.filter_items,
            &mut limits.filter_terms,
        ];
        held_to.into_iter().for_each(change);
        limits
    }

    fn check_limits(&self, append: &Append) -> Result<(), InvalidRequest> {
        let limits = self.enforced();
        if !self.is(Flaw::BoundsEachFilterAlone) {
            return append.check(&limits);
        }
        append.conditions.iter().try_for_each(|condition| condition.fail_if.check(&limits))?;
        Append { conditions: Vec::new(), ..append.clone() }.check(&limits)
    }

    fn check_size(&self, append: &Append) -> Result<(), InvalidRequest> {
        let (limits, mut bytes) = (self.enforced(), Vec::new());
        for event in &append.events {
            encoding::encode(event, &limits, &mut bytes)?;
        }
        let limit = limits.commit_bytes;
        match bytes.len() > limit {
            true => Err(InvalidRequest::too_large("commit", bytes.len(), limit, "commit_bytes")),
            false => Ok(()),
        }
    }

    fn write_valid(&self, append: &Append) {
        let (limits, mut bytes) = (self.enforced(), Vec::new());
        let valid = |event: &&RawEvent| encoding::encode(event, &limits, &mut bytes).is_ok();
        let valid = append.events.iter().take_while(valid).cloned().collect::<Vec<_>>();
        self.write(&mut self.0.state.lock(), Append::events(valid), Timestamp::now());
    }

    fn check(&self, state: &State, append: &Append) -> Result<(), AppendError> {
        let head = match self.is(Flaw::ComparesConditionsWithItsHead) {
            true => self.published(),
            false => Position::new(state.last),
        };
        if !self.is(Flaw::AcceptsPositionsAboveTheHead) {
            append.check_positions(head)?;
        }
        let tracking = || self.check_tracking(state, append);
        let key = || Ok(self.check_key(state, append)?);
        let conditions = || Ok(self.check_conditions(state, append)?);
        match self.0.flaw {
            Some(Flaw::SkipsChecksWithoutEvents) if append.events.is_empty() => Ok(()),
            Some(Flaw::SkipsTheConditionUnderAKey) if append.key.is_some() => {
                tracking().and_then(|()| key())
            }
            Some(Flaw::ChecksKeyFirst) => {
                key().and_then(|()| tracking()).and_then(|()| conditions())
            }
            Some(Flaw::ChecksConditionFirst) => {
                conditions().and_then(|()| tracking()).and_then(|()| key())
            }
            _ => tracking().and_then(|()| key()).and_then(|()| conditions()),
        }
    }

    fn check_tracking(&self, state: &State, append: &Append) -> Result<(), AppendError> {
        let Some(given) = &append.tracking else {
            return Ok(());
        };
        let Some(stored) = self.tracking_in(state, &given.source) else {
            return self.check_sources(state);
        };
        let at = match self.0.flaw {
            Some(Flaw::TrackingRefusalsSayTheHead) => Position::new(state.last),
            Some(Flaw::ChecksMissTheNewestCommit) if stored.at.get() == state.last => return Ok(()),
            _ => stored.at,
        };
        let mut given = given.clone();
        match self.0.flaw {
            Some(Flaw::TakesTheSamePositionAgain) => given.position = given.position.plus(1),
            Some(Flaw::NeedsTheNextPosition)
                if given.position != stored.tracking.position.plus(1) =>
            {
                given.position = Position::START;
            }
            Some(Flaw::IgnoresOrigins | Flaw::TracksWithoutOrigin) => {
                given.origin = stored.tracking.origin;
            }
            _ => {}
        }
        Ok(given.check_against(&stored.tracking, at)?)
    }

    fn check_sources(&self, state: &State) -> Result<(), AppendError> {
        let mut sources: Vec<_> = state.tracking.iter().map(|old| &old.tracking.source).collect();
        sources.sort();
        sources.dedup();
        let (sources, limit) = (sources.len() + 1, self.enforced().tracking_sources);
        if sources > limit {
            let what = "tracking sources";
            return Err(InvalidRequest::too_many(what, sources, limit, "tracking_sources").into());
        }
        Ok(())
    }

    fn check_key(&self, state: &State, append: &Append) -> Result<(), Refusal> {
        let Some(key) = &append.key else {
            return Ok(());
        };
        let Some(mut commit) = self.key_in(state, &key.name) else {
            return Ok(());
        };
        if commit.last > self.checked_upto() {
            return Ok(());
        }
        let last = Position::new(state.last);
        match self.0.flaw {
            Some(Flaw::ChecksMissTheNewestCommit) if commit.last == last => return Ok(()),
            Some(Flaw::KeyRefusalsSayTheHead) => (commit.first, commit.last) = (last, last),
            Some(Flaw::IgnoresDigests) => commit.digest = key.digest,
            Some(Flaw::ComparesHalfADigest) if commit.digest.0[..8] == key.digest.0[..8] => {
                commit.digest = key.digest;
            }
            _ => {}
        }
        Err(commit.refuse(key))
    }

    /// The commit with this key.
    pub(super) fn key_in(&self, state: &State, name: &str) -> Option<KeyedCommit> {
        let same = |(key, ..): &&(Key, Position, Position)| match self.0.flaw {
            Some(Flaw::KeysIgnoreCase) => key.name.eq_ignore_ascii_case(name),
            _ => key.name == name,
        };
        let remembered = match self.0.flaw {
            Some(Flaw::ForgetsOldKeys) => 100,
            _ => usize::MAX,
        };
        let found = state.keys.iter().rev().take(remembered).find(same);
        let found = found.map(|&(ref key, first, last)| KeyedCommit {
            first,
            last: if self.is(Flaw::KeysFindTheFirstEventOnly) { first } else { last },
            digest: key.digest,
        });
        let tagged = |stored: &&EventRow| stored.event.tags.iter().any(|tag| tag.as_str() == name);
        match (found, self.is(Flaw::TakesTagsForKeys)) {
            (None, true) => state.events.iter().find(tagged).map(|stored| KeyedCommit {
                first: stored.position,
                last: stored.position,
                digest: Digest::default(),
            }),
            (found, _) => found,
        }
    }

    /// The tracking of this source.
    pub(super) fn tracking_in<'a>(
        &self,
        state: &'a State,
        source: &str,
    ) -> Option<&'a TrackingRow> {
        let together = self.is(Flaw::TracksAllSourcesTogether);
        let mut newest_first = state.tracking.iter().rev();
        newest_first.find(|stored| together || stored.tracking.source == source)
    }

    fn check_conditions(&self, state: &State, append: &Append) -> Result<(), Refusal> {
        let conflict = |number: usize| {
            let at = self.conflict(state, append, number)?;
            Some((at, Reverse(append.conditions[number].after)))
        };
        let found: Vec<_> = (0..append.conditions.len()).filter_map(conflict).collect();
        let answer = match self.0.flaw {
            Some(Flaw::RefusesOnlyIfAllAreViolated) if found.len() < append.conditions.len() => {
                None
            }
            Some(Flaw::ConflictsNameTheFirstViolation) => found.first(),
            _ => found.iter().max(),
        };
        let Some(&(at, Reverse(after))) = answer else {
            return Ok(());
        };
        let after = match self.is(Flaw::ConflictsNameTheFirstPosition) {
            true => append.conditions[0].after,
            false => after,
        };
        Err(Refusal::Conflict { at, after })
    }

    /// The event that violates the condition of this number.
    fn conflict(&self, state: &State, append: &Append, number: usize) -> Option<Position> {
        let AppendCondition { ref fail_if, after } = append.conditions[number];
        let low = match self.0.flaw {
            Some(Flaw::IgnoresConditions) => return None,
            Some(Flaw::ConditionsIncludeTheirPosition) => after,
            Some(Flaw::ConditionsSkipOne) => after.plus(2),
            Some(Flaw::ConditionsSeeTheNewest100) => {
                after.max(state.last.saturating_sub(100).into()).plus(1)
            }
            Some(Flaw::TakesThePositionForAVersion) => Position::new(1),
            _ => after.plus(1),
        };
        let newest = match self.0.flaw {
            Some(Flaw::ChecksMissTheNewestCommit) => state.commits,
            Some(Flaw::LaterConditionsMissTheNewestCommit) if number > 0 => state.commits,
            _ => u64::MAX,
        };
        let everything = self.is(Flaw::TakesEveryConditionForEverything);
        let items = self.understood(state, fail_if);
        let seen = self.checked_upto();
        let most_tags = match self.0.flaw {
            Some(Flaw::ConditionsMissEventsOf9Tags) => 8,
            Some(Flaw::ConditionsMissEventsOf33Tags) => 32,
            _ => usize::MAX,
        };
        let conflicts = |stored: &&EventRow| {
            let matches = everything || self.times_matched(&items, &stored.event) > 0;
            let matches = matches && stored.event.tags.len() <= most_tags;
            (low..=seen).contains(&stored.position) && stored.commit != newest && matches
        };
        let found = match self.0.flaw {
            Some(Flaw::ConflictsNameTheFirstMatch) => state.events.iter().find(conflicts),
            _ => state.events.iter().rfind(conflicts),
        };
        let own = |event: &RawEvent| self.times_matched(&items, event) > 0;
        match found.map(|stored| stored.position) {
            Some(at) if self.is(Flaw::TakesThePositionForAVersion) && at == after => None,
            Some(at) if self.is(Flaw::FarConflictsNameTheNextEvent) => {
                Some(if state.last - at.get() > 64 { at.plus(1) } else { at })
            }
            None if self.is(Flaw::ChecksItsOwnEvents) && append.events.iter().any(own) => {
                Some(state.next.into())
            }
            found => found,
        }
    }

    /// The changes that a refusal wrongly makes.
    fn refuse(&self, state: &mut MutexGuard<'_, State>, append: &Append) {
        match self.0.flaw {
            Some(Flaw::WritesBeforeItChecks) => {
                let events = Append::events(append.events.clone());
                self.write(state, events, Timestamp::now());
            }
            Some(Flaw::KeepsTheKeyOfARefusedCommit) => {
                let head = state.last.into();
                state.keys.extend(append.key.clone().map(|key| (key, head, head)));
            }
            Some(Flaw::KeepsTheTrackingOfARefusedCommit) => {
                self.track(state, append.tracking.clone(), false);
            }
            Some(Flaw::KeepsTheTimeOfARefusedCommit) => {
                state.recorded_at = state.recorded_at.max(append.recorded_at.unwrap_or_default());
            }
            Some(Flaw::FailsAfterARefusal) => self.0.ended.store(true, Ordering::Release),
            _ => {}
        }
    }

    fn stamp(&self, given: Option<Timestamp>, state: &State) -> Result<Timestamp, InvalidRequest> {
        let last = state.recorded_at;
        match self.0.flaw {
            Some(Flaw::ClockGoesBack) => {
                let earlier = Timestamp::now().as_micros() - 1_000_000 * state.commits as i64;
                Ok(Timestamp::from_micros(earlier))
            }
            Some(Flaw::AcceptsAnyTime) => Ok(given.unwrap_or_else(Timestamp::now).max(last)),
            Some(Flaw::IgnoresTheCallersTime) => TimeSource::Clock.next(None, last),
            Some(Flaw::TakesTimeThatWentBack) => self.0.time.next(given, Timestamp::NEVER),
            _ => self.0.time.next(given, last),
        }
    }

    fn write(
        &self,
        state: &mut MutexGuard<'_, State>,
        append: Append,
        recorded_at: Timestamp,
    ) -> (Position, Position, u64) {
        if !append.events.is_empty() || append.tracking.is_some() {
            state.commits += 1;
        }
        let commit = state.commits;
        if self.is(Flaw::LeavesGaps) && !append.events.is_empty() {
            state.next += 1;
        }
        let first = state.next;
        let last = first + append.events.len() as u64 - 1;
        if !self.is(Flaw::TakesPositionsBeforeTheLock) {
            state.next = last + 1;
        }
        match self.0.flaw {
            Some(Flaw::TakesPositionsBeforeTheLock) => {
                MutexGuard::unlocked(state, dawdle);
                state.next = last + 1;
            }
            Some(Flaw::FillsGapsLater) => {
                let turns = commit % 3;
                MutexGuard::unlocked(state, || (0..turns).for_each(|_| dawdle()));
            }
            Some(Flaw::PublishesBeforeItWrites) => {
                self.0.publisher.publish(last.into(), CommitNumber(commit));
                MutexGuard::unlocked(state, dawdle);
            }
            _ => {}
        }
        self.insert(state, &append.events, first, recorded_at);
        let before = state.last;
        state.last = before.max(last);
        if !append.events.is_empty() || append.tracking.is_some() {
            let (key, tracking) = (append.key.clone(), append.tracking.clone());
            let facts = CommitFacts { recorded_at, key, tracking };
            state.rows.push(CommitRow { first, last, facts });
        }
        if let Some(key) = append.key
            && !self.is(Flaw::ForgetsKeys)
        {
            state.keys.push((key, first.into(), last.into()));
        }
        self.track(state, append.tracking, append.events.is_empty());
        self.publish(first, state.last, before, commit);
        match self.0.flaw {
            Some(Flaw::AnswersOnePositionTooHigh) => {
                ((first + 1).into(), (last + 1).into(), commit)
            }
            Some(Flaw::AnswersZeroWithoutEvents) if append.events.is_empty() => {
                (Position::START, Position::START, commit)
            }
            _ => (first.into(), last.into(), commit),
        }
    }

    fn insert(
        &self,
        state: &mut MutexGuard<'_, State>,
        events: &[RawEvent],
        first: u64,
        recorded_at: Timestamp,
    ) {
        let one_by_one = self.is(Flaw::WritesEventByEvent);
        for (offset, event) in (0..).zip(events) {
            let position = match one_by_one {
                true => Position::new(state.events.len() as u64 + 1),
                false => Position::new(first + offset),
            };
            let recorded_at = match self.is(Flaw::StampsEveryEvent) {
                true => Timestamp::from_micros(recorded_at.as_micros() + offset as i64),
                false => recorded_at,
            };
            let stored = self.stored(event, position, recorded_at, state.commits);
            let place = state.events.partition_point(|other| other.position <= position);
            state.events.insert(place, stored);
            if one_by_one {
                MutexGuard::unlocked(state, dawdle);
            }
        }
    }

    fn stored(
        &self,
        event: &RawEvent,
        position: Position,
        recorded_at: Timestamp,
        commit: u64,
    ) -> EventRow {
        let (mut bytes, limits) = (Vec::new(), self.enforced());
        encoding::encode(event, &limits, &mut bytes)
            .expect("an event that is too large was refused");
        let mut found_by = event.clone();
        let mut tags: Vec<Tag> = Vec::new();
        for tag in &event.tags {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        found_by.tags = tags;
        EventRow {
            position,
            recorded_at,
            commit,
            event: found_by,
            tags_as_given: event.tags.clone(),
            bytes: bytes.into(),
        }
    }

    fn track(&self, state: &mut State, tracking: Option<Tracking>, alone: bool) {
        let at = state.last.into();
        state.tracking.extend(tracking.map(|mut tracking| {
            if self.is(Flaw::TracksWithoutOrigin) {
                tracking.origin = None;
            }
            TrackingRow { tracking, at, alone }
        }));
    }

    fn publish(&self, first: u64, last: u64, before: u64, commit: u64) {
        let publish = |position: u64| {
            self.0.publisher.publish(position.into(), CommitNumber(commit));
        };
        match self.0.flaw {
            Some(Flaw::PublishesOneCommitLate) if first > last => {}
            Some(Flaw::PublishesOneCommitLate) => publish(before),
            Some(Flaw::HeadCountsCommits) => publish(commit),
            Some(Flaw::HeadRunsAhead) => publish(last + 10),
            Some(Flaw::PublishesEventByEvent) => (first..=last).for_each(|position| {
                publish(position);
                dawdle();
            }),
            _ => publish(last),
        }
        self.publish_elsewhere(before, commit);
    }

    /// Publishes on the other handles. Each shows a commit only after the next one was made.
    fn publish_elsewhere(&self, before: u64, commit: u64) {
        if self.is(Flaw::HeadsIgnoreOtherHandles) {
            return;
        }
        for other in self.0.handles.lock().iter().filter_map(Weak::upgrade) {
            if !Arc::ptr_eq(&other, &self.0) {
                other.publisher.publish(before.into(), CommitNumber(commit.saturating_sub(1)));
            }
        }
    }
}
