//! Questions to the log. Each statement reads the head together with its answer, so both are of one
//! state of the database: no event up to that head can be missing.

mod commits;
mod page;

use diptych_store::{
    Corruption, Digest, Epoch, EventChecksum, Filter, KeyedCommit, LogId, LogIdentity, Position,
    Read, Tag, Tracking, Unavailable,
};
use tokio_postgres::Row;
use uuid::Uuid;

pub(crate) use commits::commits;
pub(crate) use page::{PageLimits, page};

use crate::{
    failure::Fault,
    history::{History, plain_name},
    schema::{position_of, stored_position},
    session::{Parameter, Session},
    text::{array, escape, tag_hash},
};

const HEAD: &str = "select epoch, head from diptych.log where id = $1";

/// The head of the log.
pub(crate) async fn head(session: &Session, history: &History) -> Result<Position, Fault> {
    let row = one(session, HEAD, &[&history.log]).await?;
    seen(history, &row)
}

/// The checksum of the event at this position, or `None` above the head.
pub(crate) async fn checksum(
    session: &Session,
    history: &History,
    position: Position,
) -> Result<Option<EventChecksum>, Fault> {
    if position == Position::START {
        return Ok(Some(EventChecksum::START));
    }
    let read = Read::after(position.before()).upto(position).limit(1);
    let limits = PageLimits { events: 1, bytes: 0 };
    let batch = match page(session, history, &Filter::everything(), &read, limits).await {
        Err(Fault::Answer(diptych_store::ReadError::Invalid(_))) => return Ok(None),
        batch => batch?,
    };
    let event = batch.get(0).filter(|event| event.position() == position);
    Ok(event.map(|event| EventChecksum::of(&event)))
}

/// The position of the last matching event.
pub(crate) async fn last(
    session: &Session,
    history: &History,
    filter: &Filter,
    upto: Position,
) -> Result<Option<Position>, Fault> {
    let read = Read::backwards().upto(upto).limit(1);
    let limits = PageLimits { events: 1, bytes: 0 };
    let batch = page(session, history, filter, &read, limits).await?;
    Ok(batch.get(0).map(|event| event.position()))
}

const COUNT: &str = "select l.epoch, l.head, (
    select count(*) from diptych.tag t
    where t.log = l.id and t.h = $2 and t.pos <= least($3, l.head) and (
      select e.tags @> $4::text::text[] from diptych.event e where e.log = l.id and e.pos = t.pos
    )
  ) as count
  from diptych.log l where l.id = $1";

/// The number of events with this tag.
pub(crate) async fn count(
    session: &Session,
    history: &History,
    tag: &Tag,
    upto: Position,
) -> Result<u64, Fault> {
    let hash = tag_hash(history.identity.id, tag.as_str());
    let tags = array(std::iter::once(tag.as_str()));
    let upto = stored_position(upto);
    let row = one(session, COUNT, &[&history.log, &hash, &upto, &tags]).await?;
    seen(history, &row)?;
    Ok(row.get::<_, i64>("count").max(0).cast_unsigned())
}

const KEYED: &str = "select l.epoch, l.head, k.first, k.last, k.digest
  from diptych.log l left join diptych.key k on k.log = l.id and k.key = $2
  where l.id = $1";

/// The commit with this key.
pub(crate) async fn keyed(
    session: &Session,
    history: &History,
    key: &str,
) -> Result<Option<KeyedCommit>, Fault> {
    let row = one(session, KEYED, &[&history.log, &escape(key)]).await?;
    seen(history, &row)?;
    let digest: Option<Uuid> = row.get("digest");
    Ok(digest.map(|digest| KeyedCommit {
        first: position_of(row.get("first")),
        last: position_of(row.get("last")),
        digest: Digest(digest.into_bytes()),
    }))
}

const TRACKED: &str = "select l.epoch, l.head, t.source, t.position::text as position, t.origin,
    t.origin_epoch, t.at
  from diptych.log l left join diptych.tracking t on t.log = l.id and t.source = $2
  where l.id = $1";

/// The tracking of this source, and the head when it was stored.
pub(crate) async fn tracked(
    session: &Session,
    history: &History,
    source: &str,
) -> Result<Option<(Tracking, Position)>, Fault> {
    let row = one(session, TRACKED, &[&history.log, &escape(source)]).await?;
    seen(history, &row)?;
    let at: Option<i64> = row.get("at");
    at.map(|at| Ok((tracking_of(&row)?, position_of(at)))).transpose()
}

const TYPES: &str = "select l.epoch, l.head, array(
    select n.name from diptych.type_name n
    where (
      select e.pos from diptych.event e where e.log = l.id and e.type = n.id
      order by e.pos limit 1
    ) is not null
  ) as names
  from diptych.log l where l.id = $1";

/// The names of the types that the log has.
pub(crate) async fn types(session: &Session, history: &History) -> Result<Vec<String>, Fault> {
    let row = one(session, TYPES, &[&history.log]).await?;
    seen(history, &row)?;
    let names: Vec<&str> = row.get("names");
    let mut names: Vec<_> = names.into_iter().map(plain_name).collect();
    names.sort_unstable();
    Ok(names)
}

/// The row of a question about the log.
async fn one(
    session: &Session,
    sql: &'static str,
    parameters: &[Parameter<'_>],
) -> Result<Row, Fault> {
    let row = session.query_one(sql, parameters).await?;
    row.ok_or_else(|| crate::failure::server("the log is gone from its database").into())
}

/// Publishes the head that a statement found.
fn seen(history: &History, row: &Row) -> Result<Position, Fault> {
    let head = history.seen(row.get("epoch"), row.get("head"));
    head.map_err(|changed| Unavailable::HistoryChanged(changed).into())
}

fn tracking_of(row: &Row) -> Result<Tracking, Fault> {
    let (source, position): (&str, &str) = (row.get("source"), row.get("position"));
    let (origin, epoch): (Option<Uuid>, Option<i64>) = (row.get("origin"), row.get("origin_epoch"));
    let number: u64 = position.parse().map_err(|_| {
        damaged("diptych.tracking", format!("the position {position} is none of a source"))
    })?;
    let tracking = Tracking::new(plain_name(source), number);
    Ok(match origin.zip(epoch) {
        Some((id, epoch)) => tracking.origin(LogIdentity {
            id: LogId::from_bytes(id.into_bytes()),
            epoch: Epoch::from_u64(epoch.cast_unsigned()),
        }),
        None => tracking,
    })
}

fn damaged(place: &str, what: String) -> Corruption {
    Corruption {
        place: place.to_owned(),
        what,
        advice: "restore the database, or find out who changed its rows".to_owned(),
    }
}
