//! Other servers and timelines that took a log over: the epoch that the log gets, and the record
//! for its operator.

use diptych_store::{Epoch, Position};
use tokio_postgres::Row;

use crate::{
    failure::Fault,
    loss::Loss,
    schema::{LogRow, NewLog, ServerName, position_of, stored_position},
    session::Session,
};

const NEW_EPOCH: &str = "update diptych.log set epoch = $3 where id = $1 and epoch = $2";
const SET_SERVER: &str = "update diptych.log set system_id = $2, timeline = $3, database_id = $4
  where id = $1 and (system_id, timeline, database_id) is distinct from ($2, $3, $4)
  returning id";

/// The log of this name. If it came to another database, on this cluster or another one, its
/// history may go on in both, so it gets a new epoch here.
pub(crate) async fn find_log(
    session: &Session,
    name: &str,
    new: &NewLog,
) -> Result<Option<LogRow>, Fault> {
    let is = ServerName::of(session).await?;
    let mut row = LogRow::of(session, name).await?;
    if row.is_none() {
        LogRow::make(session, name, is, new).await?;
        row = LogRow::of(session, name).await?;
    }
    let Some(found) = row else { return Ok(None) };
    if found.server == is {
        return Ok(row);
    }
    if is.is_elsewhere(&found.server) {
        set_new_epoch(session, found.id, found.identity.epoch).await?;
        tracing::warn!(
            log = name,
            head = stored_position(found.head),
            "the log came to another database or cluster, where it has a new epoch"
        );
    } else if is.differs(&found.server) {
        tracing::warn!(
            log = name, was = ?found.server, is = ?is, head = stored_position(found.head),
            "another timeline has the log: a standby took over, or the database was restored. \
             Commits that it had not received are gone, and this program has seen none of them, so \
             it cannot tell. Programs that saw them find that out"
        );
    }
    set_server(session, &found, is, SeenEvents::None).await?;
    LogRow::of(session, name).await
}

/// Gives the log the next epoch, unless it has another one already.
pub(crate) async fn set_new_epoch(session: &Session, log: i16, was: Epoch) -> Result<(), Fault> {
    let [was, next] = [was, was.next()].map(|epoch| epoch.to_u64().cast_signed());
    session.query(NEW_EPOCH, &[&log, &was, &next]).await.map(drop)
}

/// Names the server in the row of the log. The first program that does so after a change of the
/// timeline records it.
pub(crate) async fn set_server(
    session: &Session,
    row: &LogRow,
    is: ServerName,
    seen: SeenEvents<'_>,
) -> Result<(), Fault> {
    if is == row.server {
        return Ok(());
    }
    let set =
        session.query(SET_SERVER, &[&row.id, &is.system_id, &is.timeline, &is.database]).await?;
    // A copy in another database is no takeover.
    let is_copy = is.is_elsewhere(&row.server) && matches!(seen, SeenEvents::None);
    if set.is_empty() || is_copy || !is.differs(&row.server) {
        return Ok(());
    }
    Takeover { row, is, seen }.record(session).await
}

/// Records a loss, and names the server in the row of the log.
pub(crate) async fn record_loss(session: &Session, row: &LogRow, loss: &Loss) -> Result<(), Fault> {
    let is = ServerName::of(session).await?;
    Takeover { row, is, seen: SeenEvents::Lost(loss) }.record(session).await?;
    let ServerName { system_id, timeline, database } = is;
    session.query(SET_SERVER, &[&row.id, &system_id, &timeline, &database]).await.map(drop)
}

/// Another server or timeline that has a log, as a program found it.
#[derive(Clone, Debug)]
struct Takeover<'a> {
    row: &'a LogRow,
    is: ServerName,
    seen: SeenEvents<'a>,
}

/// The events that a program had seen before a takeover.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SeenEvents<'a> {
    /// None, so it cannot know whether events are missing.
    None,
    /// Events up to here, and all are there.
    Kept(Position),
    Lost(&'a Loss),
}

const RECORD: &str = "insert into diptych.takeover (
    log, epoch, was_system_id, was_timeline, system_id, timeline, head, seen, differs_from,
    differs_by, commits, most_commits
  )
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

impl Takeover<'_> {
    /// Keeps it in the database, for the report of its operator. The log itself does not need it,
    /// so a program without the right to do that goes on.
    async fn record(&self, session: &Session) -> Result<(), Fault> {
        let Takeover { row, is, seen } = self;
        let (was, epoch) = (row.server, row.identity.epoch.to_u64().cast_signed());
        let head = stored_position(row.head);
        let (seen, loss) = match *seen {
            SeenEvents::None => (None, None),
            SeenEvents::Kept(seen) => (Some(stored_position(seen)), None),
            SeenEvents::Lost(loss) => (Some(stored_position(loss.seen)), Some(loss)),
        };
        let from = loss.map(|loss| stored_position(loss.common.plus(1)));
        let by = loss.map(|loss| stored_position(loss.differs_by));
        let commits = loss.map(|loss| loss.own.0.cast_signed());
        let most = loss.map(|loss| loss.own.1.cast_signed());
        let recorded = session
            .query(
                RECORD,
                &[
                    &row.id,
                    &epoch,
                    &was.system_id,
                    &was.timeline,
                    &is.system_id,
                    &is.timeline,
                    &head,
                    &seen,
                    &from,
                    &by,
                    &commits,
                    &most,
                ],
            )
            .await;
        match recorded {
            Err(fault @ Fault::Statement(_)) => {
                let error = fault.into_read_error();
                tracing::warn!(%error, "the takeover is not recorded in diptych.takeover");
                Ok(())
            }
            recorded => recorded.map(drop),
        }
    }
}

/// The takeovers that a report has.
const RECORDED: &str = "select to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') as at,
    was_timeline, timeline, head, seen, differs_from, differs_by, commits, most_commits
  from diptych.takeover where log = $1 order by id desc limit 10";

/// The last takeovers of a log as sentences, the newest first.
pub(crate) async fn recorded(session: &Session, log: &LogRow) -> Result<Vec<String>, Fault> {
    let rows = match session.query(RECORDED, &[&log.id]).await {
        // The role may not read them.
        Err(Fault::Statement(_)) => return Ok(Vec::new()),
        rows => rows?,
    };
    Ok(rows.iter().map(sentence).collect())
}

fn sentence(row: &Row) -> String {
    let (at, head): (&str, i64) = (row.get("at"), row.get("head"));
    let timelines: (Option<i64>, Option<i64>) = (row.get("was_timeline"), row.get("timeline"));
    let timeline = match timelines {
        (Some(was), Some(is)) if was != is => format!("timeline {is} after {was}"),
        (_, Some(is)) => format!("timeline {is}"),
        (_, None) => "an unknown timeline".to_owned(),
    };
    let position = |name: &str| row.get::<_, Option<i64>>(name).map(position_of);
    let number = |name: &str| row.get::<_, Option<i64>>(name).unwrap_or_default().cast_unsigned();
    let found = match (position("seen"), position("differs_from"), position("differs_by")) {
        (Some(seen), Some(from), Some(differs_by)) => {
            let own = (number("commits"), number("most_commits"));
            let loss = Loss { common: from.before(), differs_by, seen, own };
            format!("acknowledged commits are gone: {}", loss.of("a program"))
        }
        (Some(seen), ..) => {
            format!("a program that had seen events up to {seen} found all of them")
        }
        (None, ..) => "the program that found that had seen no events before, so it cannot tell \
                       whether acknowledged commits are missing"
            .to_owned(),
    };
    format!("{at} UTC, at position {head}, {timeline}: {found}")
}
