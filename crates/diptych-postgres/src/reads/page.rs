//! One batch of events, by a filter or all, in both directions.

use std::{collections::HashMap, ops::Range, sync::Arc, sync::LazyLock};

use bytes::Bytes;
use diptych_store::{
    Batch, BatchBuilder, Direction, EventChecksum, Filter, Limits, Position, Read, Timestamp,
};
use tokio_postgres::Row;

use super::{damaged, seen};
use crate::{
    failure::Fault,
    history::History,
    parts::EventColumns,
    schema::{position_of, stored_position},
    session::{Parameter, Session},
    text::FilterColumns,
};

/// The most that a page may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageLimits {
    pub(crate) events: usize,
    /// Bytes of the encoded events. The first one always fits.
    pub(crate) bytes: usize,
}

impl PageLimits {
    pub(crate) fn of(limits: &Limits) -> PageLimits {
        PageLimits { events: limits.batch_events, bytes: limits.batch_bytes }
    }
}

static ALL_FORWARDS: LazyLock<String> = LazyLock::new(|| page_sql(&all_events(""), ""));
static ALL_BACKWARDS: LazyLock<String> = LazyLock::new(|| page_sql(&all_events("desc"), "desc"));
static TAGGED_FORWARDS: LazyLock<String> = LazyLock::new(|| page_sql(&tagged_events(""), ""));
static TAGGED_BACKWARDS: LazyLock<String> =
    LazyLock::new(|| page_sql(&tagged_events("desc"), "desc"));
static SOME_FORWARDS: LazyLock<String> = LazyLock::new(|| page_sql(&some_events(""), ""));
static SOME_BACKWARDS: LazyLock<String> = LazyLock::new(|| page_sql(&some_events("desc"), "desc"));

/// The statement of a page: the log, the bounds, and the most events and bytes are its first
/// parameters. An event is there if those before it fit.
fn page_sql(events: &str, order: &str) -> String {
    format!(
        "select l.epoch, l.head, c.last as commit_end, e.pos, e.type, e.recorded_at, e.remaining,
          e.tags, e.meta, e.data
        from diptych.log l
        left join lateral (
          select c.pos + c.remaining as last from diptych.event c
          where c.log = l.id and c.pos = least($3, l.head)
        ) c on true
        left join lateral (
          select * from (
            select e.*, sum(octet_length(e.data) + coalesce(octet_length(e.meta), 0))
              over (order by e.pos {order} rows unbounded preceding) as bytes
            from ({events}) e
          ) e
          where e.bytes - octet_length(e.data) - coalesce(octet_length(e.meta), 0) <= $5
        ) e on true
        where l.id = $1"
    )
}

fn all_events(order: &str) -> String {
    format!(
        "select e.* from diptych.event e
        where e.log = $1 and e.pos > $2 and e.pos <= least($3, l.head)
        order by e.pos {order} limit $4"
    )
}

/// The matches of one item with tags, found by its rarest tag. They come in the order of the index,
/// and each event is looked up once. Without `offset 0` the server may join with all events.
fn tagged_events(order: &str) -> String {
    let rarest = rarest("($7::bigint[])[1]", "($8::text[])[1]");
    format!(
        "select e.* from diptych.tag t
        cross join lateral (
          select e.* from diptych.event e where e.log = $1 and e.pos = t.pos offset 0
        ) e
        where t.log = $1 and t.h = ({rarest}) and t.pos > $2 and t.pos <= least($3, l.head)
          and (($9::text[])[1] is null or t.type = any(array(
            select n.id from diptych.type_name n where n.name = any(($9::text[])[1]::text[])
          )))
          and e.tags @> (select ($6::text[])[1]::text[])
        order by t.pos {order} limit $4"
    )
}

/// The hash of the rarest tag of an item: this hash, unless there are several.
fn rarest(hash: &str, hashes: &str) -> String {
    format!(
        "case when {hashes} is null then {hash} else (
          select h.h from unnest({hashes}::bigint[]) as h(h)
          order by (
            select count(*) from (
              select from diptych.tag s
              where s.log = $1 and s.h = h.h and s.pos > $2 and s.pos <= least($3, l.head)
              limit 1000
            ) s
          )
          limit 1
        ) end"
    )
}

/// The matches of each item are found by its rarest tag, or by its types.
fn some_events(order: &str) -> String {
    let rarest = rarest("i.hash", "i.hashes");
    format!(
        "select e.* from (
          select distinct m.pos
          from unnest($6::text[], $7::bigint[], $8::text[], $9::text[])
            as i(tags, hash, hashes, types)
          cross join lateral (
            (
              select t.pos from diptych.tag t
              where i.hash is not null and t.log = $1
                and t.h = ({rarest})
                and t.pos > $2 and t.pos <= least($3, l.head)
                and (i.types is null or t.type = any(array(
                  select n.id from diptych.type_name n where n.name = any(i.types::text[])
                )))
                and (
                  select e.tags @> i.tags::text[] from diptych.event e
                  where e.log = $1 and e.pos = t.pos
                )
              order by t.pos {order} limit $4
            )
            union all
            (
              select e.pos
              from diptych.type_name n cross join lateral (
                select e.pos from diptych.event e
                where e.log = $1 and e.type = n.id and e.pos > $2 and e.pos <= least($3, l.head)
                order by e.pos {order} limit $4
              ) e
              where i.hash is null and i.types is not null and n.name = any(i.types::text[])
            )
          ) m
          order by m.pos {order} limit $4
        ) p
        cross join lateral (
          select e.* from diptych.event e where e.log = $1 and e.pos = p.pos
        ) e"
    )
}

/// Reads one batch of matching events.
pub(crate) async fn page(
    session: &Session,
    history: &History,
    filter: &Filter,
    read: &Read,
    limits: PageLimits,
) -> Result<Batch, Fault> {
    let is_all = filter.is_everything();
    let (forwards, backwards) = match filter.items() {
        _ if is_all => (&ALL_FORWARDS, &ALL_BACKWARDS),
        [item] if !item.tags.is_empty() => (&TAGGED_FORWARDS, &TAGGED_BACKWARDS),
        _ => (&SOME_FORWARDS, &SOME_BACKWARDS),
    };
    let sql = match read.direction {
        Direction::Forwards => forwards.as_str(),
        Direction::Backwards => backwards.as_str(),
    };
    let limit = read.limit.min(limits.events);
    let (after, upto) = (stored_position(read.after), stored_position(read.upto));
    let most_events = i64::try_from(limit).unwrap_or(i64::MAX);
    let most_bytes = i64::try_from(limits.bytes).unwrap_or(i64::MAX);
    let items = FilterColumns::of(history.identity.id, filter);
    let mut parameters: Vec<Parameter<'_>> =
        vec![&history.log, &after, &upto, &most_events, &most_bytes];
    if !is_all {
        parameters.extend([&items.tags as Parameter<'_>, &items.hash, &items.hashes, &items.types]);
    }
    let rows = session.query(sql, &parameters).await?;
    let Some(first) = rows.first() else {
        return Err(crate::failure::server("the log is gone from its database").into());
    };
    let head = seen(history, first)?;
    let Some((low, high)) = BatchBuilder::range(read, head)? else {
        return Ok(BatchBuilder::nothing(read));
    };
    let mut events = Events::of(&rows);
    events.name_types(session, history).await?;
    if is_all {
        events.check_dense(low, high, read.direction)?;
    }
    let commit_end: Option<i64> = first.get("commit_end");
    let bounds = PageBounds { low, high, commit_end: commit_end.map_or(high, position_of) };
    let batch = events.batch(&bounds, read.direction, limit, limits.bytes)?;
    mark(history, &batch, read.direction);
    Ok(batch)
}

/// Remembers the last event of the batch, by which an earlier state of the log is noticed.
fn mark(history: &History, batch: &Batch, direction: Direction) {
    let last = match direction {
        Direction::Forwards => batch.len().checked_sub(1),
        Direction::Backwards => Some(0),
    };
    if let Some(event) = last.and_then(|last| batch.get(last))
        && event.position() > history.mark().0
    {
        history.set_mark(event.position(), EventChecksum::of(&event));
    }
}

/// The positions that the statement considered.
struct PageBounds {
    low: Position,
    high: Position,
    /// The end of the commit of the event at `high`.
    commit_end: Position,
}

/// The events of a statement.
pub(super) struct Events<'r> {
    rows: Vec<&'r Row>,
    names: HashMap<i32, Arc<str>>,
}

impl<'r> Events<'r> {
    /// The rows that have an event.
    pub(super) fn of(rows: &'r [Row]) -> Events<'r> {
        let has_event = |row: &&Row| row.get::<_, Option<i64>>("pos").is_some();
        Events { rows: rows.iter().filter(has_event).collect(), names: HashMap::new() }
    }

    pub(super) async fn name_types(
        &mut self,
        session: &Session,
        history: &History,
    ) -> Result<(), Fault> {
        let ids = self.rows.iter().map(|row| row.get("type"));
        self.names = history.type_names(session, ids).await?;
        Ok(())
    }

    /// A log has an event at each position up to its head.
    fn check_dense(
        &self,
        low: Position,
        high: Position,
        direction: Direction,
    ) -> Result<(), Fault> {
        let mut expected = match direction {
            Direction::Forwards => low.get(),
            Direction::Backwards => high.get(),
        };
        for row in &self.rows {
            if position(row).get() != expected {
                let what = format!("the event at position {expected} is missing");
                return Err(damaged("diptych.event", what).into());
            }
            expected = match direction {
                Direction::Forwards => expected + 1,
                Direction::Backwards => expected.saturating_sub(1),
            };
        }
        Ok(())
    }

    /// The encoded events in one piece of memory, and the place of each.
    pub(super) fn encoded(&self) -> Result<(Bytes, Vec<Range<u32>>), Fault> {
        let (mut bytes, mut places) = (Vec::new(), Vec::with_capacity(self.rows.len()));
        for row in &self.rows {
            let id: i32 = row.get("type");
            let Some(event_type) = self.names.get(&id) else {
                let what = format!("type {id} of the event at {} is missing", position(row));
                return Err(damaged("diptych.type_name", what).into());
            };
            let columns = EventColumns {
                event_type,
                tags: row.get("tags"),
                meta: row.get("meta"),
                payload: row.get("data"),
            };
            let start = bytes.len();
            columns.encode(&mut bytes);
            let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            places.push(offset(start)..offset(bytes.len()));
        }
        Ok((Bytes::from(bytes), places))
    }

    fn batch(
        &self,
        bounds: &PageBounds,
        direction: Direction,
        limit: usize,
        most_bytes: usize,
    ) -> Result<Batch, Fault> {
        let (bytes, places) = self.encoded()?;
        let mut builder = BatchBuilder::with_capacity(self.rows.len());
        let chunk = builder.chunk(bytes);
        let mut size = 0;
        // The last event of a batch that a limit cut short: more events may match after it.
        let mut cut = None;
        let mut last = None;
        for (row, place) in self.rows.iter().zip(places) {
            size += (place.end - place.start) as usize;
            if size > most_bytes && last.is_some() {
                cut = last;
                break;
            }
            let (position, at) = (position(row), recorded_at(row));
            let pushed = builder.push(position, at, chunk, place.start, place.end);
            pushed.map_err(|error| undecodable(position, &error.to_string()))?;
            last = Some(*row);
        }
        // A larger event is alone, and the statement found no other.
        if size > most_bytes || builder.len() == limit {
            cut = last;
        }
        let (upto, commit_end) = match (cut, direction) {
            (Some(row), Direction::Forwards) => (position(row), commit_end(row)),
            (None, Direction::Forwards) => (bounds.high, bounds.commit_end),
            (Some(row), Direction::Backwards) => (position(row), position(row)),
            (None, Direction::Backwards) => (bounds.low, bounds.low),
        };
        Ok(builder.finish(upto, commit_end))
    }

    pub(super) fn rows(&self) -> &[&'r Row] {
        &self.rows
    }
}

pub(super) fn position(row: &Row) -> Position {
    position_of(row.get("pos"))
}

pub(super) fn recorded_at(row: &Row) -> Timestamp {
    Timestamp::from_micros(row.get("recorded_at"))
}

/// The last position of the commit of this event.
pub(super) fn commit_end(row: &Row) -> Position {
    let remaining: i32 = row.get("remaining");
    position(row).plus(u64::from(remaining.max(0).cast_unsigned()))
}

pub(super) fn undecodable(position: Position, error: &str) -> Fault {
    damaged("diptych.event", format!("the event at position {position}: {error}")).into()
}
