//! Whole commits.

use std::collections::HashMap;

use diptych_store::{
    CommitBatch, CommitBatchBuilder, CommitFacts, CommitSize, Digest, InvalidRequest, Key, Limits,
    Position, ReadCommits, Timestamp, Tracking,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    damaged, one,
    page::{Events, commit_end, position, recorded_at, undecodable},
    seen, tracking_of,
};
use crate::{
    failure::Fault,
    history::{History, plain_name},
    schema::{position_of, stored_position},
    session::Session,
};

const START: &str = "select l.epoch, l.head, e.remaining, (
    select b.pos from diptych.event b
    where b.log = l.id and b.pos < $2 and b.remaining = 0 order by b.pos desc limit 1
  ) as before, (
    select f.pos + f.remaining from diptych.event f where f.log = l.id and f.pos = $2 + 1
  ) as first_end
  from diptych.log l left join diptych.event e on e.log = l.id and e.pos = $2
  where l.id = $1";

const EVENTS: &str = "select e.* from (
    select e.*, sum(octet_length(e.data) + coalesce(octet_length(e.meta), 0))
      over (order by e.pos rows unbounded preceding) as bytes
    from (
      select e.* from diptych.event e
      where e.log = $1 and e.pos > $2 and e.pos <= $3 order by e.pos limit $4
    ) e
  ) e
  where e.bytes <= $5 or e.pos <= $6
  order by e.pos";

const KEYS: &str = "select k.key, k.digest, k.last from diptych.key k
  where k.log = $1 and k.last > $2 and k.last <= $3";

const TRACKED: &str = "select t.last, t.has_events, t.recorded_at, t.source,
    t.position::text as position, t.origin, t.origin_epoch
  from diptych.tracked t
  where t.log = $1 and t.last >= $2 and t.last <= $3
  order by t.last, t.number";

/// Reads whole commits, as many as the limits allow.
pub(crate) async fn commits(
    session: &Session,
    history: &History,
    read: &ReadCommits,
    limits: &Limits,
) -> Result<CommitBatch, Fault> {
    let after = stored_position(read.after);
    let start = one(session, START, &[&history.log, &after]).await?;
    let head = seen(history, &start)?;
    read.check(head)?;
    check_start(&start, read.after)?;
    let first_end: Option<i64> = start.get("first_end");
    let first_end = first_end.unwrap_or(after);
    let most = read.limit_events.min(limits.batch_events);
    // The first commit is whole, whatever its size.
    let most = i64::try_from(most).unwrap_or(i64::MAX).max(first_end - after);
    let bytes = i64::try_from(limits.batch_bytes).unwrap_or(i64::MAX);
    let (log, upto) = (history.log, stored_position(head));
    let parameters: [crate::session::Parameter<'_>; 6] =
        [&log, &after, &upto, &most, &bytes, &first_end];
    let rows = session.query(EVENTS, &parameters).await?;
    let mut events = Events::of(&rows);
    events.name_types(session, history).await?;
    let last = events.rows().last().map_or(read.after, |row| position(row));
    let facts = Facts::of(session, log, (read.after, last)).await?;
    let batch = Commits { events, facts }.batch(read, limits, head)?;
    // Another epoch may have begun between the statements.
    let end = one(session, super::HEAD, &[&history.log]).await?;
    seen(history, &end)?;
    Ok(batch)
}

/// A commit has to end at the position where the read begins.
fn check_start(start: &Row, after: Position) -> Result<(), Fault> {
    match start.get::<_, Option<i32>>("remaining") {
        None if after == Position::START => Ok(()),
        None => {
            let what = format!("the event at position {after} is missing");
            Err(damaged("diptych.event", what).into())
        }
        Some(0) => Ok(()),
        Some(remaining) => {
            let before: Option<i64> = start.get("before");
            let first = before.map_or(Position::START, position_of).plus(1);
            let last = after.plus(u64::from(remaining.max(0).cast_unsigned()));
            Err(InvalidRequest::WithinCommit { position: after, first, last }.into())
        }
    }
}

/// Keys and tracking of some commits.
struct Facts {
    keys: HashMap<Position, Key>,
    /// The tracking of commits with events.
    tracked: HashMap<Position, Tracking>,
    /// The tracking of commits without events, in order.
    alone: HashMap<Position, Vec<(Timestamp, Tracking)>>,
}

impl Facts {
    async fn of(
        session: &Session,
        log: i16,
        (after, upto): (Position, Position),
    ) -> Result<Facts, Fault> {
        let (after, upto) = (stored_position(after), stored_position(upto));
        let mut facts =
            Facts { keys: HashMap::new(), tracked: HashMap::new(), alone: HashMap::new() };
        for row in session.query(KEYS, &[&log, &after, &upto]).await? {
            let digest: Uuid = row.get("digest");
            let key = Key::new(plain_name(row.get("key")), Digest(digest.into_bytes()));
            facts.keys.insert(position_of(row.get("last")), key);
        }
        for row in session.query(TRACKED, &[&log, &after, &upto]).await? {
            let (last, tracking) = (position_of(row.get("last")), tracking_of(&row)?);
            if row.get("has_events") {
                facts.tracked.insert(last, tracking);
            } else {
                facts.alone.entry(last).or_default().push((recorded_at(&row), tracking));
            }
        }
        Ok(facts)
    }
}

struct Commits<'r> {
    events: Events<'r>,
    facts: Facts,
}

impl Commits<'_> {
    fn batch(
        mut self,
        read: &ReadCommits,
        limits: &Limits,
        head: Position,
    ) -> Result<CommitBatch, Fault> {
        let (bytes, places) = self.events.encoded()?;
        let mut builder = CommitBatchBuilder::new();
        let mut upto = read.after;
        self.end_alone(&mut builder, upto);
        let mut index = 0;
        while let Some(first) = self.events.rows().get(index).copied() {
            if position(first) != upto.plus(1) {
                let what = format!("the event at position {} is missing", upto.plus(1));
                return Err(damaged("diptych.event", what).into());
            }
            let last = commit_end(first);
            let count = usize::try_from(last.get() - upto.get()).unwrap_or(usize::MAX);
            let Some(own) = places.get(index..index.saturating_add(count)) else { break };
            let (Some(from), Some(to)) = (own.first(), own.last()) else { break };
            let size = CommitSize { events: count, bytes: (to.end - from.start) as usize };
            if !builder.has_room(read, limits, size) {
                break;
            }
            let chunk = builder.chunk(bytes.slice(from.start as usize..to.end as usize));
            for (position, place) in (upto.get() + 1..).map(Position::new).zip(own) {
                let (start, end) = (place.start - from.start, place.end - from.start);
                let pushed = builder.push(position, recorded_at(first), chunk, start, end);
                pushed.map_err(|error| undecodable(position, &error.to_string()))?;
            }
            (upto, index) = (last, index + count);
            let facts = CommitFacts {
                recorded_at: recorded_at(first),
                key: self.facts.keys.remove(&last),
                tracking: self.facts.tracked.remove(&last),
            };
            builder.end_commit(last, facts);
            self.end_alone(&mut builder, upto);
        }
        Ok(builder.finish(upto, head))
    }

    /// The commits without events after this position.
    fn end_alone(&mut self, builder: &mut CommitBatchBuilder, last: Position) {
        for (recorded_at, tracking) in self.facts.alone.remove(&last).unwrap_or_default() {
            let facts = CommitFacts { recorded_at, key: None, tracking: Some(tracking) };
            builder.end_commit(last, facts);
        }
    }
}
