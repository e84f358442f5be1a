//! A projection in its database.

use std::{fmt, path::Path, sync::Arc};

use diptych::projection::{
    Database, DatabaseWork, ReaderName, RunnerHandle, SchemaObject, StoredCheckpoint,
    StoredVersion, SwitchPolicy, TargetError, VersionSlot,
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{
    Projection, Sqlite, bond,
    connection::{FileId, Open, OpenOutcome, Place},
    guard::Savepoints,
    schema, stored,
    transaction::{SqliteTransaction, described},
    trouble::{of_commit, of_file},
};

/// A [`Projection`] in a [`Sqlite`] database, to be run.
pub struct SqliteProjection<P> {
    projection: P,
    place: Sqlite,
    runner: Option<RunnerHandle>,
    beside: Option<SwitchPolicy>,
    /// The objects that `create` makes; `None` before it was run in memory.
    described: Option<Arc<[SchemaObject]>>,
    /// Taken out during each operation. After an error of the file it is opened again.
    open: Option<Open>,
    /// The `-wal` that this projection wrote for a database that was replaced since.
    left: Option<FileId>,
    /// The file was overwritten, perhaps by a copy that is not complete yet. It is opened again
    /// when the projection is resumed.
    is_overwritten: bool,
}

impl<P: Projection> Database for SqliteProjection<P> {
    type Event = P::Event;

    fn projection(&self) -> &str {
        self.projection.name()
    }

    fn version(&self) -> u32 {
        self.projection.version()
    }

    fn beside(&self) -> Option<SwitchPolicy> {
        self.beside
    }

    fn key(&self) -> Option<String> {
        self.projection.key().map(str::to_owned)
    }

    fn reader_names(&self) -> Vec<ReaderName> {
        let names = self.projection.readers().into_iter();
        names.map(|(name, object)| ReaderName { name, object }).collect()
    }

    fn transaction(&mut self, work: DatabaseWork<'_, P::Event>) -> Result<(), TargetError> {
        self.with(|this, open| {
            if this.attempt(open, work)? == Attempt::WantsSavepoints {
                open.savepoints = Savepoints::Allowed;
                this.attempt(open, work)?;
            }
            open.committed();
            Ok(())
        })
    }

    fn described(&mut self) -> Result<Arc<[SchemaObject]>, TargetError> {
        if let Some(described) = &self.described {
            return Ok(described.clone());
        }
        let described: Arc<[SchemaObject]> = described(&self.projection, &self.place)?.into();
        self.described = Some(described.clone());
        Ok(described)
    }

    fn peek(&mut self) -> Result<Option<StoredCheckpoint>, TargetError> {
        self.with(|this, open| {
            let reading = || this.file("reading the checkpoint");
            let count = schema::schema_count(&open.connection).map_err(reading())?;
            if open.checked.as_ref().is_none_or(|checked| checked.count() != count) {
                return Ok(None);
            }
            let (name, version) = (this.projection.name(), this.projection.version());
            let row = |slot| stored::checkpoint(&open.connection, &stored::row_name(name, slot));
            let found = row(VersionSlot::Served).map_err(reading())?;
            if found.is_some_and(|found| found.version != version) && this.beside.is_some() {
                return row(VersionSlot::Beside(version)).map_err(reading());
            }
            Ok(found.filter(|found| found.version == version))
        })
    }

    fn peek_versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        self.with(|this, open| {
            let versions = stored::versions(&open.connection, this.projection.name());
            versions.map_err(this.file("reading its versions"))
        })
    }

    fn resume(&mut self) {
        self.is_overwritten = false;
    }

    fn run_by(&mut self, runner: RunnerHandle) {
        self.runner = Some(runner);
    }
}

impl<P: Projection> SqliteProjection<P> {
    pub(crate) fn new(projection: P, place: Sqlite) -> SqliteProjection<P> {
        SqliteProjection {
            projection,
            place,
            runner: None,
            beside: None,
            described: None,
            open: None,
            left: None,
            is_overwritten: false,
        }
    }

    /// Builds a raised version beside the one in the database, and lets it take its place by this
    /// policy. Without this, a raised version removes the tables of the old one, and readers see
    /// incomplete rows until it has caught up.
    ///
    /// The version needs tables with names of its own, and
    /// [names for readers](Projection::readers). The policy applies from the first version on: it
    /// does no harm while there is one version only.
    #[must_use]
    pub fn beside(mut self, policy: SwitchPolicy) -> SqliteProjection<P> {
        self.beside = Some(policy);
        self
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&Self, &mut Open) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let mut open = self.opened()?;
        let outcome = work(self, &mut open);
        let in_trouble =
            matches!(outcome, Err(TargetError::Unavailable { .. } | TargetError::Broken { .. }));
        if !in_trouble && open.connection.is_autocommit() {
            self.open = Some(open);
        }
        outcome
    }

    /// The database at its path, which may have been replaced since the last operation.
    fn opened(&mut self) -> Result<Open, TargetError> {
        if let Some(mut open) = self.open.take() {
            let place = open.look();
            if place == Place::Same {
                return Ok(open);
            }
            self.left = open.abandon();
            self.is_overwritten = place == Place::Overwritten;
        }
        match self.is_overwritten {
            true => Err(self.broken(OVERWRITTEN.to_owned())),
            false => self.connect(),
        }
    }

    fn connect(&mut self) -> Result<Open, TargetError> {
        loop {
            let foreign = match Open::at(&self.place, self.runner.clone()) {
                Ok(OpenOutcome::Sound(open)) => return Ok(open),
                Ok(OpenOutcome::Foreign(open)) => open,
                Ok(OpenOutcome::InMemory) => {
                    let reason = "a database in memory is gone when it is closed: name a file";
                    return Err(TargetError::Broken { reason: reason.to_owned(), source: None });
                }
                Err(_) if self.path().is_dir() => {
                    return Err(self.broken("it is a folder: name a file".to_owned()));
                }
                Err(error) => return Err(self.file("opening it")(error)),
            };
            let is_left = self.left.take().is_some_and(|left| foreign.wal_id() == Some(left));
            if !is_left {
                foreign.abandon();
                return Err(self.broken(FOREIGN.to_owned()));
            }
            // This projection wrote that `-wal` for the previous file. It holds no data of the
            // present file.
            let what = format!("{}: removing the -wal of another file", self.path().display());
            foreign.remove_wal().map_err(|error| TargetError::unavailable(&what, error))?;
        }
    }

    /// Runs the work in one transaction. It is committed, unless an event wants savepoints.
    fn attempt(
        &self,
        open: &mut Open,
        work: DatabaseWork<'_, P::Event>,
    ) -> Result<Attempt, TargetError> {
        let Open { connection, guard, checked, savepoints, files } = open;
        let tx = self.begin(connection)?;
        let stamp = bond::last(&tx).map_err(self.file("reading the stamp of the last commit"))?;
        let (projection, place) = (&self.projection, &self.place);
        let mut session =
            SqliteTransaction::new(projection, place, &tx, guard, checked, *savepoints);
        let outcome = work(&mut session);
        if session.wants_savepoints() {
            return Ok(Attempt::WantsSavepoints);
        }
        outcome?;
        let last = session.last();
        files.stamp(&tx, stamp).map_err(self.file("noting a commit"))?;
        tx.commit().map_err(|error| {
            *checked = None;
            of_commit(self.path(), last, error)
        })?;
        Ok(Attempt::Committed)
    }

    fn begin<'a>(&self, connection: &'a mut Connection) -> Result<Transaction<'a>, TargetError> {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        tx.map_err(self.file("beginning to write"))
    }

    fn path(&self) -> &Path {
        &self.place.path
    }

    fn file(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> TargetError {
        move |error| of_file(self.path(), doing, error)
    }

    fn broken(&self, what: String) -> TargetError {
        let reason = format!("{}: {what}", self.path().display());
        TargetError::Broken { reason, source: None }
    }
}

const FOREIGN: &str = "the database was replaced, and the -wal beside it belongs to the file that \
    was there before: stop all programs that have the database open; remove the -wal and the -shm \
    to go on from the rows in the file, or remove the file as well to begin anew; then resume the \
    projection";

const OVERWRITTEN: &str = "the database was overwritten while it was open: when the copy is \
    complete, resume the projection to go on from the rows that are in it, or rebuild it";

/// The end of a transaction whose work did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Committed,
    /// It was rolled back. Run the work again with savepoints allowed.
    WantsSavepoints,
}

impl<P> fmt::Debug for SqliteProjection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteProjection").field("place", &self.place).finish_non_exhaustive()
    }
}
