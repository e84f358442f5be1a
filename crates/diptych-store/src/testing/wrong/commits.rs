//! Where commits end, whole commits, and the end of the log, as a wrong store tells them.

use super::{CommitRow, Flaw, State, WrongStore, broken};
use crate::{
    checksum::{ContentChecksum, EventChecksum},
    commits::{CommitBatch, CommitBatchBuilder, CommitSize, ReadCommits},
    error::{InvalidRequest, ReadError},
    head::CommitNumber,
    position::Position,
    time::Timestamp,
};

impl WrongStore {
    /// The end of the log, for all handles.
    pub(super) fn find_fresh_head(&self) -> Result<Position, ReadError> {
        let state = self.0.state.lock();
        if self.is(Flaw::FreshHeadIsTheHead) {
            return Ok(self.published());
        }
        if self.has_other_handles() && !self.is(Flaw::FreshHeadMovesNoHead) {
            self.0.publisher.publish(state.last.into(), CommitNumber(state.commits));
        }
        Ok(match self.is(Flaw::FreshHeadIsOneTooLow) {
            true => Position::new(state.last).before(),
            false => state.last.into(),
        })
    }

    /// Whether the log has other handles, whose commits this one shows later.
    pub(super) fn has_other_handles(&self) -> bool {
        self.0.handles.lock().len() > 1
    }

    /// Shows the commits that a refusal rests on.
    pub(super) fn publish_refusal(&self, state: &State) {
        if !self.is(Flaw::RefusalsMoveNoHead) {
            self.0.publisher.publish(state.last.into(), CommitNumber(state.commits));
        }
    }

    /// The last position that checks consider.
    pub(super) fn checked_upto(&self) -> Position {
        match self.is(Flaw::ChecksMissOtherHandles) && self.0.second_from.is_some() {
            true => self.published(),
            false => Position::MAX,
        }
    }

    /// Whether look-ups of this handle show a commit that ends here.
    pub(super) fn looks_up(&self, last: Position) -> bool {
        let misses = self.is(Flaw::LookUpsMissOtherHandles);
        !misses || self.0.second_from.is_none_or(|opened_at| last <= opened_at)
    }

    pub(super) fn find_checksum(
        &self,
        position: Position,
    ) -> Result<Option<EventChecksum>, ReadError> {
        if position == Position::START {
            return Ok(Some(EventChecksum::START));
        }
        let state = self.0.state.lock();
        let stored = state.events.iter().find(|stored| stored.position == position);
        Ok(stored.map(|stored| {
            let recorded_at = match self.is(Flaw::ChecksumsLeaveOutTheTime) {
                true => Timestamp::NEVER,
                false => stored.recorded_at,
            };
            ContentChecksum::of(&stored.event).at(position, recorded_at)
        }))
    }

    pub(super) fn commit_end(&self, state: &State, position: Position) -> Position {
        match self.0.flaw {
            Some(Flaw::CommitEndIsUpto) => return position,
            Some(Flaw::CommitEndIsTheHead) => return self.published(),
            _ => {}
        }
        let row = state.rows.iter().find(|row| row.last >= position.get());
        row.map_or(position, |row| row.last.into())
    }

    pub(super) fn whole_commits(&self, read: &ReadCommits) -> Result<CommitBatch, ReadError> {
        let (state, head) = (self.0.state.lock(), self.published());
        let after = read.after.get();
        read.check(head)?;
        let around = |row: &&CommitRow| row.first <= after && after < row.last;
        if let Some(row) = state.rows.iter().find(around)
            && !self.is(Flaw::CommitsBeginAnywhere)
        {
            let (position, first, last) = (read.after, row.first.into(), row.last.into());
            return Err(InvalidRequest::WithinCommit { position, first, last }.into());
        }
        let (mut builder, mut upto) = (CommitBatchBuilder::new(), read.after);
        for row in self.rows_after(&state, after).filter(|row| row.last <= head.get()) {
            let Some(end) = self.add_commit(&state, &row, read, &mut builder)? else { break };
            upto = end;
            if end.get() < row.last {
                break;
            }
        }
        Ok(builder.finish(upto, head))
    }

    /// The commits after this position, as this store understands them.
    fn rows_after(&self, state: &State, after: u64) -> impl Iterator<Item = CommitRow> {
        let mut rows: Vec<CommitRow> = Vec::new();
        let last_time = state.recorded_at;
        for row in &state.rows {
            let mut row = row.clone();
            let joins = self.is(Flaw::JoinsCommits);
            match rows.last_mut() {
                Some(before) if joins && before.last > 1 && row.first <= row.last => {
                    before.last = row.last;
                    continue;
                }
                _ => {}
            }
            match self.0.flaw {
                Some(Flaw::LeavesOutTrackingAlone) if row.first > row.last => continue,
                Some(Flaw::CommitsForgetKeys) => row.facts.key = None,
                Some(Flaw::CommitsForgetLateKeys) if row.last > 64 => row.facts.key = None,
                Some(Flaw::CommitsForgetLateTracking) if row.last > 64 => {
                    row.facts.tracking = None;
                }
                Some(Flaw::CommitsForgetDigests) => {
                    if let Some(key) = &mut row.facts.key {
                        key.digest = Default::default();
                    }
                }
                Some(Flaw::CommitsForgetTracking) => row.facts.tracking = None,
                Some(Flaw::CommitsForgetOrigins) => {
                    if let Some(tracking) = &mut row.facts.tracking {
                        tracking.origin = None;
                    }
                }
                Some(Flaw::CommitsHaveTheLastTime) => row.facts.recorded_at = last_time,
                _ => {}
            }
            rows.push(row);
        }
        let starts = self.is(Flaw::CommitsBeginAnywhere);
        rows.into_iter().filter(move |row| row.first > after || starts && row.last > after)
    }

    /// Adds a commit. Returns where the batch ends now, or `None` if there is no room.
    fn add_commit(
        &self,
        state: &State,
        row: &CommitRow,
        read: &ReadCommits,
        builder: &mut CommitBatchBuilder,
    ) -> Result<Option<Position>, ReadError> {
        let after = read.after.get();
        let is_of = |position: u64| position > after && (row.first..=row.last).contains(&position);
        let mut events: Vec<_> =
            state.events.iter().filter(|stored| is_of(stored.position.get())).collect();
        let size = |events: &[&super::EventRow]| CommitSize {
            events: events.len(),
            bytes: events.iter().map(|stored| stored.bytes.len()).sum(),
        };
        let limits = match self.is(Flaw::IgnoresBatchLimits) {
            true => &crate::limits::Limits::default(),
            false => &self.0.limits,
        };
        if !events.is_empty() && !builder.has_room(read, limits, size(&events)) {
            return Ok(None);
        }
        let most = read.limit_events.min(limits.batch_events).max(1);
        if self.is(Flaw::SplitsCommits) {
            events.truncate(most);
        }
        let mut last = row.last.into();
        for stored in events {
            let chunk = builder.chunk(stored.bytes.clone());
            let end = stored.bytes.len() as u32;
            let pushed = builder.push(stored.position, stored.recorded_at, chunk, 0, end);
            pushed.map_err(|error| broken(&error.to_string()))?;
            last = stored.position;
        }
        builder.end_commit(last, row.facts.clone());
        Ok(Some(last))
    }
}
