//! How inline projections come into step with the log: each catches up like a follower, then the
//! rest under the lock of the log's row, which names it from then on.

use std::sync::Arc;

use diptych_store::{EventChecksum, Filter, LogIdentity, Position, Read, ReadError};

use super::{InlineSet, LOCKED, RowsBatch, RowsError, set::RowsEntry};
use crate::{
    error::OpenError,
    failure::{Fault, Pauses, server},
    history::History,
    link::Link,
    reads::{self, PageLimits},
    schema::position_of,
    session::Session,
};

const NAMED: &str = "select head, inline from diptych.log where id = $1";
/// One program at a time catches up. The lock goes with the connection.
const ALONE: &str = "select pg_try_advisory_lock(hashtextextended(
    'diptych inline ' || $1::smallint || ' ' || $2::text, 0)) as is_alone";
const END: &str = "update diptych.log set inline = array_remove(inline, $2) where id = $1";
const NAME: &str = "update diptych.log set inline = array_append(inline, $2) where id = $1";

/// Why a step did not end.
enum StepEnd {
    Fault(Fault),
    Rows(RowsError),
}

impl From<Fault> for StepEnd {
    fn from(fault: Fault) -> StepEnd {
        StepEnd::Fault(fault)
    }
}

impl From<RowsError> for StepEnd {
    fn from(error: RowsError) -> StepEnd {
        StepEnd::Rows(error)
    }
}

/// Brings all inline projections of a store in step with the log, and names them in its row.
pub(crate) async fn start(
    link: &Link,
    reader: &Session,
    set: &Arc<InlineSet>,
) -> Result<(), OpenError> {
    for (at, entry) in set.entries().iter().enumerate() {
        if link.is_replica() {
            return Err(OpenError::Inline {
                place: link.place().to_owned(),
                projection: entry.name.clone(),
                problem: "the store reads from a replica, and writes no rows: give it the address \
                          of the primary, or leave the projection out"
                    .to_owned(),
            });
        }
        let history = link.history();
        let mut newcomer = Newcomer { link, reader, history, set, at, entry };
        newcomer.join().await.map_err(|end| match end {
            StepEnd::Fault(fault) => OpenError::of(link.place().to_owned(), fault),
            StepEnd::Rows(error) => OpenError::Inline {
                place: link.place().to_owned(),
                projection: entry.name.clone(),
                problem: error.to_string(),
            },
        })?;
    }
    Ok(())
}

/// A projection that comes into step.
struct Newcomer<'a> {
    link: &'a Link,
    /// Reads the log.
    reader: &'a Session,
    history: History,
    set: &'a Arc<InlineSet>,
    at: usize,
    entry: &'a RowsEntry,
}

impl Newcomer<'_> {
    /// Catches up until the row of the log names it. A follower can do the same meanwhile.
    async fn join(&mut self) -> Result<(), StepEnd> {
        let (mut pauses, mut tries) = (Pauses::new(), 0);
        loop {
            let session = self.link.connect(None).await?;
            self.wait_for_others(&session).await?;
            match self.catch_up(&session).await {
                Err(StepEnd::Rows(RowsError::Moved { .. } | RowsError::Passing { .. }))
                    if tries < TRIES =>
                {
                    (tries, _) = (tries + 1, pauses.wait().await);
                }
                joined => return joined,
            }
        }
    }

    /// Waits until no other program brings it into step.
    async fn wait_for_others(&self, session: &Session) -> Result<(), StepEnd> {
        let mut pauses = Pauses::new();
        loop {
            let row = session.query_one(ALONE, &[&self.history.log, &self.entry.name]).await?;
            if row.is_some_and(|row| row.get("is_alone")) {
                return Ok(());
            }
            pauses.wait().await;
        }
    }

    async fn catch_up(&self, session: &Session) -> Result<(), StepEnd> {
        let is_named = self.make_way(session).await?;
        let (client, log) = (session.client().clone(), self.history.identity);
        let begin = move |rows: &mut dyn super::InlineRows| rows.begin(&client, log);
        let found = self.set.on_thread(self.at, begin).await?;
        let mut after = self.place_of(found.reached).await?;
        if is_named {
            return Ok(());
        }
        after = self.come_near(session, &found.filter, after).await?;
        // The last events are written under the lock, because others append all the time.
        session.execute("begin").await?;
        let named = names(session, LOCKED, &self.history).await?;
        match self.entry.version_in(&named) {
            Some(version) if version == self.entry.version => {}
            Some(_) => {
                let expected = after;
                return Err(RowsError::Moved { expected }.into());
            }
            None => {
                // No append can come between, so the rows reach the head.
                while let Some(next) = self.next(&found.filter, after).await? {
                    self.write(session, &next).await?;
                    after = next.upto;
                }
                session.query(NAME, &[&self.history.log, &self.entry.text()]).await?;
            }
        }
        session.execute("commit").await?;
        tracing::info!(
            projection = self.entry.name,
            version = self.entry.version,
            position = after.get(),
            "the rows of each append are written in its transaction"
        );
        Ok(())
    }

    /// Writes rows until few events are left, while others append. If they are faster, pages are
    /// written under the lock, which holds them up, and more at a time for as long as they still
    /// are.
    async fn come_near(
        &self,
        session: &Session,
        filter: &Filter,
        mut after: Position,
    ) -> Result<Position, StepEnd> {
        let (mut left, mut held_pages) = (self.left(after).await?, 0);
        while left > PAGE_EVENTS as u64 {
            let mut goal = after.plus(left);
            while after < goal {
                session.execute("begin").await?;
                if held_pages > 0 {
                    names(session, LOCKED, &self.history).await?;
                }
                for _ in 0..held_pages.max(1) {
                    let Some(next) = self.next(filter, after).await? else {
                        goal = after;
                        break;
                    };
                    self.write(session, &next).await?;
                    after = next.upto;
                }
                session.execute("commit").await?;
            }
            let before = left;
            left = self.left(after).await?;
            if left > before / 2 {
                held_pages = (2 * held_pages).max(1);
            }
        }
        Ok(after)
    }

    /// Ends an older version, whose rows are rebuilt. Returns whether this one is named.
    async fn make_way(&self, session: &Session) -> Result<bool, StepEnd> {
        let named = names(session, NAMED, &self.history).await?;
        let own = self.entry.version;
        match self.entry.version_in(&named) {
            None => Ok(false),
            Some(version) if version == own => Ok(true),
            Some(version) if version > own => Err(RowsError::Broken {
                reason: format!(
                    "the log has it in version {version}, and this program has version {own}: run \
                     the newer program, or end it by diptych.end_inline"
                ),
            }
            .into()),
            Some(version) => {
                tracing::warn!(
                    projection = self.entry.name,
                    before = version,
                    version = own,
                    "the older version is not written with appends any more: the rows are rebuilt"
                );
                let old = RowsEntry { name: self.entry.name.clone(), version }.text();
                session.query(END, &[&self.history.log, &old]).await?;
                Ok(false)
            }
        }
    }

    /// The position that the rows have reached in this log. Rows of an older epoch are of this
    /// history if the log has the event that they have reached.
    async fn place_of(
        &self,
        reached: Option<(LogIdentity, Position, Option<EventChecksum>)>,
    ) -> Result<Position, StepEnd> {
        let Some((log, position, checksum)) = reached else { return Ok(Position::START) };
        let rebuild = "rebuild it: raise its version, or remove its tables and its row of \
            diptych_checkpoint";
        if log.id != self.history.identity.id {
            let (is, was) = (self.history.identity.id, log.id);
            let reason = format!("its rows are of log {was}, and this is log {is}; {rebuild}");
            return Err(RowsError::Broken { reason }.into());
        }
        let found = reads::checksum(self.reader, &self.history, position).await?;
        if found.is_none() || checksum.is_some() && checksum != found {
            let reason = format!(
                "its rows are of position {position} of a history that the log does not have; \
                 {rebuild}"
            );
            return Err(RowsError::Broken { reason }.into());
        }
        Ok(position)
    }

    /// How many events the rows lack.
    async fn left(&self, after: Position) -> Result<u64, StepEnd> {
        let head = reads::head(self.reader, &self.history).await?;
        Ok(head.get().saturating_sub(after.get()))
    }

    /// The next events, or `None` at the head.
    async fn next(&self, filter: &Filter, after: Position) -> Result<Option<RowsBatch>, StepEnd> {
        let limits = PageLimits::of(&self.link.options().limits);
        let head = reads::head(self.reader, &self.history).await?;
        if after >= head {
            return Ok(None);
        }
        let read = Read::after(after).upto(head).limit(PAGE_EVENTS);
        let events = reads::page(self.reader, &self.history, filter, &read, limits).await?;
        let upto = events.upto();
        let checksum = reads::checksum(self.reader, &self.history, upto).await?;
        let Some(checksum) = checksum else {
            return Err(Fault::Answer(ReadError::from(server("the log became shorter"))).into());
        };
        let last = events.iter().next_back();
        let recorded_at = last.map(|event| event.recorded_at());
        let log = self.history.identity;
        Ok(Some(RowsBatch { log, events, after, upto, checksum, recorded_at }))
    }

    async fn write(&self, session: &Session, batch: &RowsBatch) -> Result<(), StepEnd> {
        let (client, batch) = (session.client().clone(), batch.clone());
        let write = move |rows: &mut dyn super::InlineRows| rows.write(&client, &batch);
        Ok(self.set.on_thread(self.at, write).await?)
    }
}

/// Events that are written in one transaction while a projection catches up.
const PAGE_EVENTS: usize = 1_024;
/// How often a step that another program disturbed is tried again.
const TRIES: u32 = 20;

/// The inline projections that the row of the log names.
async fn names(
    session: &Session,
    sql: &'static str,
    history: &History,
) -> Result<Vec<String>, Fault> {
    let row = session.query_one(sql, &[&history.log]).await?;
    let Some(row) = row else { return Err(server("the log is gone from its database").into()) };
    history.publish(position_of(row.get("head")));
    Ok(row.get("inline"))
}
