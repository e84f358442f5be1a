//! A projection whose rows are written in the transaction of each append.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use diptych::{
    Upcasters,
    projection::{Checkpoint, Database, EventReader, Target, TargetError},
    store::{LogId, LogIdentity},
};
use diptych_postgres::{InlineRows, PLAN_SETTINGS, RowsBatch, RowsError, RowsStart};
use tokio_postgres::Client;

use crate::{
    Postgres, Projection,
    link::{Link, PreparedStatements, quoted},
    schema,
    session::PostgresTransaction,
    stored,
    target::PostgresProjection,
    trouble::of_place,
};

/// The database in messages: it is the one of the store.
const PLACE: &str = "the database of the log";

/// A [`Projection`] in the database of a log, whose rows are written in the transaction of each
/// append: [`StoreBuilder::inline`](diptych_postgres::StoreBuilder::inline) takes it.
///
/// The code of the projection is the same as of one that follows the log. An event that it refuses
/// is not appended, so it never poisons a key.
pub struct InlineProjection<P: Projection> {
    target: PostgresProjection<P>,
    schema: String,
    answer_time: Duration,
    upcasters: Arc<Upcasters>,
    reader: Option<(LogId, EventReader<P::Event>)>,
    /// The connection of the last transaction, and its statements.
    prepared: (Weak<Client>, PreparedStatements),
}

impl<P: Projection> InlineProjection<P> {
    /// This projection in the schema `public` of the database of the log.
    pub fn new(projection: P) -> InlineProjection<P> {
        let place = Postgres::at(String::new());
        InlineProjection {
            schema: place.schema.clone(),
            answer_time: place.answer_time,
            target: PostgresProjection::inline(projection, place),
            upcasters: Arc::default(),
            reader: None,
            prepared: (Weak::new(), PreparedStatements::new()),
        }
    }

    /// Another schema, which is made if it does not exist.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> InlineProjection<P> {
        self.schema = schema.into();
        self.target.set_schema(&self.schema);
        self
    }

    /// The upcasters of the app, for events of older versions.
    #[must_use]
    pub fn upcasters(mut self, upcasters: Upcasters) -> InlineProjection<P> {
        self.upcasters = Arc::new(upcasters);
        self
    }

    fn read(&mut self, log: LogId) -> Result<&EventReader<P::Event>, RowsError> {
        let known = self.reader.take().filter(|(of, _)| *of == log);
        let reader = match known {
            Some((_, reader)) => reader,
            None => EventReader::new(self.upcasters.clone(), log)
                .map_err(|error| RowsError::Broken { reason: error.to_string() })?,
        };
        Ok(&self.reader.insert((log, reader)).1)
    }

    /// Makes and checks the tables, and finds the checkpoint.
    fn prepare(&mut self, client: &Arc<Client>) -> Result<Option<Checkpoint>, TargetError> {
        let mut link = Link::over(client, self.answer_time, PreparedStatements::new())?;
        let settings = format!("{} set timezone = 'UTC'; set datestyle = 'ISO'", plain("set"));
        let ready = format!("set search_path = {}; {settings}", quoted(&self.schema));
        link.batch(&ready).map_err(|error| of_place(PLACE, "preparing the connection", error))?;
        self.target.lend(link, PLACE.to_owned());
        let found = self.target.checkpoint()?;
        let poison = self.target.poison()?;
        let name = self.target.code().name().to_owned();
        if !poison.keys.is_empty() || !poison.skipped.is_empty() {
            return Err(broken(format!(
                "projection {name} has poisoned keys or left out events, so its rows are no fold \
                 of the log: rebuild it by a raised version"
            )));
        }
        let made: Vec<String> =
            self.target.described()?.iter().map(|object| object.name.clone()).collect();
        let Some((mut link, _)) = self.target.take_back() else {
            return Err(TargetError::unavailable(PLACE, "the connection is gone"));
        };
        let deferred = schema::has_deferred_rules(&mut link, &made);
        if deferred.map_err(|error| of_place(PLACE, "reading its schema", error))? {
            return Err(broken(format!(
                "a table of projection {name} has a deferred constraint, which would be checked \
                 for all commits of a transaction at once: leave out DEFERRABLE"
            )));
        }
        Ok(found)
    }

    /// Writes rows in the transaction that has begun on this connection.
    fn write_rows(&mut self, link: &mut Link, batch: &RowsBatch) -> Result<(), RowsError> {
        let mut events = Vec::new();
        let reader = self.read(batch.log.id)?;
        for event in batch.events.iter() {
            if let Err(error) = reader.read(&event, &mut events) {
                return Err(RowsError::Refused { reason: error.to_string() });
            }
        }
        let settings = format!(
            "set local search_path = {}; {} set local timezone = 'UTC'; \
             set local datestyle = 'ISO'",
            quoted(&self.schema),
            plain("set local"),
        );
        let failed = |error| rows_error(of_place(PLACE, "moving the checkpoint", error));
        let projection = self.target.code();
        let (log, position, checksum) = (batch.log, batch.upto, Some(batch.checksum));
        let to = Checkpoint { log, position, checksum };
        let named = (self.schema.as_str(), projection.name(), projection.version());
        let moved = stored::move_inline(link, &settings, named, batch.after, to, batch.recorded_at);
        if !moved.map_err(failed)? {
            return Err(RowsError::Moved { expected: batch.after });
        }
        let mut session = PostgresTransaction {
            projection,
            schema: &self.schema,
            place: PLACE,
            link,
            last: None,
        };
        session.apply_run(&mut Default::default(), &events).map_err(rows_error)
    }
}

impl<P: Projection> InlineRows for InlineProjection<P> {
    fn name(&self) -> String {
        format!("{}.{}", self.schema, self.target.code().name())
    }

    fn version(&self) -> u32 {
        self.target.code().version()
    }

    fn begin(&mut self, client: &Arc<Client>, log: LogIdentity) -> Result<RowsStart, RowsError> {
        let found = self.prepare(client);
        // The connection ends with the client of the store.
        self.target.take_back();
        let reached = found.map_err(rows_error)?.map(|it| (it.log, it.position, it.checksum));
        Ok(RowsStart { filter: self.read(log.id)?.filter(), reached })
    }

    fn write(&mut self, client: &Arc<Client>, batch: &RowsBatch) -> Result<(), RowsError> {
        let (of, statements) = std::mem::take(&mut self.prepared);
        let is_same = of.upgrade().is_some_and(|of| Arc::ptr_eq(&of, client));
        let statements = if is_same { statements } else { PreparedStatements::new() };
        let link = Link::over(client, self.answer_time, statements);
        let mut link = link.map_err(rows_error)?;
        let written = self.write_rows(&mut link, batch);
        if written.is_ok() {
            self.prepared = (Arc::downgrade(client), link.into_statements());
        }
        written
    }
}

/// The settings of plans that the store has made for its own statements, as the server has them.
fn plain(set: &str) -> String {
    PLAN_SETTINGS.map(|(name, _)| format!("{set} {name} = default;")).concat()
}

fn broken(reason: String) -> TargetError {
    TargetError::Broken { reason: format!("{PLACE}: {reason}"), source: None }
}

fn rows_error(error: TargetError) -> RowsError {
    match error {
        TargetError::Event { reason, .. } => RowsError::Refused { reason },
        TargetError::Unavailable { reason, .. } => RowsError::Passing { reason },
        error => RowsError::Broken { reason: error.to_string() },
    }
}

impl<P: Projection> fmt::Debug for InlineProjection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineProjection").field("schema", &self.schema).finish_non_exhaustive()
    }
}
