//! A projection in its database.

use std::{collections::HashSet, fmt, path::Path};

use diptych::{
    Recorded,
    projection::{Checkpoint, RunnerHandle, Target, TargetError},
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{
    Projection, Sqlite,
    connection::{FileId, Open, Opened, Place},
    guard::{Guard, Rules, Savepoints},
    stored::{self, Made, Object},
    trouble::{of_commit, of_create, of_event, of_file},
};

/// A [`Projection`] in a [`Sqlite`] database, to be run.
pub struct SqliteProjection<P> {
    projection: P,
    place: Sqlite,
    runner: Option<RunnerHandle>,
    /// Taken out during each operation. After an error of the file it is opened again.
    open: Option<Open>,
    /// The `-wal` that this projection wrote for a database that was replaced since.
    left: Option<FileId>,
    /// The file was overwritten, perhaps by a copy that is not complete yet. It is opened again
    /// when the projection is resumed.
    is_overwritten: bool,
}

impl<P: Projection> Target for SqliteProjection<P> {
    type Event = P::Event;

    fn name(&self) -> &str {
        self.projection.name()
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        self.is_overwritten = false;
        self.with(Self::prepare)
    }

    fn apply(
        &mut self,
        events: &[Recorded<P::Event>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        self.with(|this, open| this.take_in(open, events, from, to))
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        self.is_overwritten = false;
        self.with(|this, open| {
            let wanted = this.described()?;
            open.made = None;
            let Open { connection, guard, files, .. } = &mut *open;
            let tx = this.begin(connection)?;
            this.make_anew(guard, &tx, &wanted)?;
            files.stamp(&tx).map_err(this.file("noting a commit"))?;
            tx.commit().map_err(this.file("the commit of a reset"))?;
            open.committed();
            Ok(())
        })
    }

    fn run_by(&mut self, runner: RunnerHandle) {
        self.runner = Some(runner);
    }

    fn confirm(&mut self, stored: Option<Checkpoint>) -> Result<(), TargetError> {
        self.with(|this, open| {
            let reading = || this.file("reading the checkpoint");
            let schema = stored::schema_count(&open.connection).map_err(reading())?;
            if open.made.as_ref().is_none_or(|made| made.schema != schema) {
                let found = this.prepare(open)?;
                return if found == stored { Ok(()) } else { Err(TargetError::Moved { found }) };
            }
            let found = stored::checkpoint(&open.connection, this.projection.name());
            match found.map_err(reading())? {
                Some(found)
                    if found.version == this.projection.version() && found.checkpoint == stored =>
                {
                    Ok(())
                }
                _ => Err(this.moved(&open.connection)),
            }
        })
    }
}

impl<P: Projection> SqliteProjection<P> {
    pub(crate) fn new(projection: P, place: Sqlite) -> SqliteProjection<P> {
        SqliteProjection {
            projection,
            place,
            runner: None,
            open: None,
            left: None,
            is_overwritten: false,
        }
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
                Ok(Opened::Sound(open)) => return Ok(open),
                Ok(Opened::Foreign(open)) => open,
                Ok(Opened::InMemory) => {
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
            // This projection wrote that `-wal` for the previous file, and it holds no data of this
            // one.
            let what = format!("{}: removing the -wal of another file", self.path().display());
            foreign.remove_wal().map_err(|error| TargetError::unavailable(&what, error))?;
        }
    }

    /// Makes the tables if they do not exist in this version, and reads the checkpoint.
    fn prepare(&self, open: &mut Open) -> Result<Option<Checkpoint>, TargetError> {
        let Open { connection, guard, made, files, .. } = &mut *open;
        let (name, version) = (self.projection.name(), self.projection.version());
        let wanted = self.described()?;
        let tx = self.begin(connection)?;
        stored::create_tables(&tx).map_err(self.file("creating its own tables"))?;
        let reading = "reading what is stored about projections";
        let found = stored::checkpoint(&tx, name).map_err(self.file(reading))?;
        let checkpoint = match found {
            Some(found) if found.version == version => found.checkpoint,
            Some(found) if found.version > version => {
                return Err(self.broken(format!(
                    "projection {name} is there in version {}, and this program has version \
                     {version}: run the newer program, or reset it to go back",
                    found.version
                )));
            }
            found => {
                if let Some(found) = found {
                    let before = found.version;
                    tracing::warn!(
                        projection = name,
                        before,
                        version,
                        "the tables are of an older version: they are made anew from the log"
                    );
                }
                self.make_anew(guard, &tx, &wanted)?;
                None
            }
        };
        *made = Some(self.check(&tx, &wanted)?);
        files.stamp(&tx).map_err(self.file("noting a commit"))?;
        tx.commit().map_err(self.file("the commit of new tables"))?;
        open.committed();
        Ok(checkpoint)
    }

    /// Runs `create` in memory and returns the objects that it makes.
    fn described(&self) -> Result<Vec<Object>, TargetError> {
        let guard = Guard::default();
        let trying = || self.file("trying `create` in memory");
        let mut memory = Connection::open_in_memory().map_err(trying())?;
        guard.watch(&mut memory).map_err(trying())?;
        let tx = memory.transaction().map_err(trying())?;
        self.create(&guard, &tx, &[])?;
        let made = stored::present(&tx).map_err(trying())?;
        self.refers_to_its_own(&tx, &made)?;
        Ok(made)
    }

    /// Refuses foreign keys to tables of other projections: the rows of one would decide whether
    /// the other can remove its own.
    fn refers_to_its_own(&self, tx: &Transaction<'_>, made: &[Object]) -> Result<(), TargetError> {
        let found = stored::foreign_reference(tx, made).map_err(self.file("reading its schema"))?;
        let Some((table, foreign)) = found else { return Ok(()) };
        Err(self.broken(format!(
            "table {table} of projection {} refers to {foreign}, which is not of this projection: \
             leave out REFERENCES {foreign}, or make both tables in one projection",
            self.projection.name()
        )))
    }

    /// Checks that the objects of the projection exist as `create` makes them, and that no foreign
    /// rules act on them.
    fn check(&self, tx: &Transaction<'_>, wanted: &[Object]) -> Result<Made, TargetError> {
        let name = self.projection.name();
        let reading = || self.file("reading its schema");
        let objects = stored::made_by(tx, name).map_err(reading())?;
        let [were, are] = [&objects[..], wanted].map(|all| all.iter().collect::<HashSet<_>>());
        if let Some(changed) = were.symmetric_difference(&are).next() {
            return Err(self.broken(format!(
                "`create` of projection {name} changed ({} {}), and its version did not: raise \
                 the version, so that the tables are made anew",
                changed.kind, changed.name
            )));
        }
        let present = stored::present(tx).map_err(reading())?;
        if let Some(gone) = objects.iter().find(|made| !present.contains(made)) {
            let is_it = |there: &&Object| there.kind == gone.kind && there.name == gone.name;
            let was = if present.iter().any(|there| is_it(&there)) { "changed" } else { "removed" };
            return Err(self.broken(format!(
                "{} {} of projection {name} was {was}: reset the projection",
                gone.kind, gone.name
            )));
        }
        if let Some((rule, table)) = stored::foreign_rule(tx, &objects).map_err(reading())? {
            return Err(self.broken(format!(
                "{} {} on table {table} is not of projection {name}, and would decide what is in \
                 its rows: drop it, then reset the projection",
                rule.kind, rule.name
            )));
        }
        let deferred = stored::has_deferred_keys(tx, &objects, &present).map_err(reading())?;
        Ok(Made {
            names: stored::names(&objects),
            objects,
            schema: stored::schema_count(tx).map_err(reading())?,
            has_deferred_keys: deferred,
        })
    }

    /// Removes all objects that any version of it made, and makes its tables.
    fn make_anew(
        &self,
        guard: &Guard,
        tx: &Transaction<'_>,
        wanted: &[Object],
    ) -> Result<(), TargetError> {
        let (name, version) = (self.projection.name(), self.projection.version());
        let clear = || {
            stored::create_tables(tx)?;
            stored::remove(tx, &stored::made_by(tx, name)?)?;
            stored::present(tx)
        };
        let before = clear().map_err(self.file("removing its tables"))?;
        self.create(guard, tx, &before)?;
        let mut made = stored::present(tx).map_err(self.file("reading its schema"))?;
        made.retain(|object| !before.contains(object));
        if let Some(missing) = wanted.iter().find(|wanted| !made.contains(wanted)) {
            return Err(self.broken(format!(
                "there is a {} {} already, which is not of projection {name}: take another name",
                missing.kind, missing.name
            )));
        }
        self.refers_to_its_own(tx, &made)?;
        stored::begin(tx, name, version, &made).map_err(self.file("noting its tables"))
    }

    fn create(
        &self,
        guard: &Guard,
        tx: &Transaction<'_>,
        before: &[Object],
    ) -> Result<(), TargetError> {
        let rules = Rules::Create { existing: stored::names(before) };
        let ran = guard.during(rules, || self.projection.create(tx));
        // The guard would not check a cached statement again in `apply`.
        tx.flush_prepared_statement_cache();
        let outcome = ran.outcome.unwrap_or_else(|panic| Err(panic.into()));
        outcome.map_err(|error| of_create(&self.place.path, error, ran.refused))?;
        match ran.rolled_back || tx.is_autocommit() {
            true => Err(self.broken(ENDED.to_owned())),
            false => Ok(()),
        }
    }

    fn take_in(
        &self,
        open: &mut Open,
        events: &[Recorded<P::Event>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        if open.made.is_none() {
            self.prepare(open)?;
        }
        if self.take_in_batch(open, events, from, to)? == Batch::WantsSavepoints {
            open.savepoints = Savepoints::Allowed;
            self.take_in_batch(open, events, from, to)?;
        }
        open.committed();
        Ok(())
    }

    fn take_in_batch(
        &self,
        open: &mut Open,
        events: &[Recorded<P::Event>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<Batch, TargetError> {
        let Open { connection, guard, made, savepoints, files } = open;
        let (name, version) = (self.projection.name(), self.projection.version());
        let last = events.last();
        let tx = self.begin(connection)?;
        // The checkpoint moves first, so that a runner with an outdated checkpoint changes nothing.
        let recorded_at = last.map(|event| event.recorded_at);
        let moved = stored::move_checkpoint(&tx, name, version, from, to, recorded_at);
        if !moved.map_err(self.file("moving the checkpoint"))? {
            return Err(self.moved(&tx));
        }
        let made = self.as_it_is_now(&tx, made)?;
        let last = last.map(|event| event.position);
        if made.has_deferred_keys && events.first().map(|event| event.position) != last {
            return Err(TargetError::OneByOne);
        }
        let rules = Rules::Write { own: made.names.clone(), savepoints: *savepoints };
        for event in events {
            if self.take_in_one(&tx, guard, rules.clone(), event)? == Batch::WantsSavepoints {
                return Ok(Batch::WantsSavepoints);
            }
        }
        files.stamp(&tx).map_err(self.file("noting a commit"))?;
        tx.commit().map_err(|error| of_commit(&self.place.path, last, error))?;
        Ok(Batch::Taken)
    }

    /// The objects that it made, checked again if the schema changed. Until the commit no other
    /// program can change it.
    fn as_it_is_now<'a>(
        &self,
        tx: &Transaction<'_>,
        made: &'a mut Option<Made>,
    ) -> Result<&'a Made, TargetError> {
        let count = stored::schema_count(tx).map_err(self.file("reading its schema"))?;
        let now = match made.take() {
            Some(made) if made.schema == count => made,
            Some(made) => self.check(tx, &made.objects)?,
            None => self.check(tx, &self.described()?)?,
        };
        Ok(made.insert(now))
    }

    fn take_in_one(
        &self,
        tx: &Transaction<'_>,
        guard: &Guard,
        rules: Rules,
        event: &Recorded<P::Event>,
    ) -> Result<Batch, TargetError> {
        let at = event.position;
        let around = |sql| {
            let done = tx.prepare_cached(sql).and_then(|mut around| around.execute(()));
            done.map_err(|error| of_event(&self.place.path, at, error.into(), None))
        };
        let has_savepoint = rules.allow_savepoints();
        if has_savepoint {
            around("SAVEPOINT diptych_event")?;
        }
        let ran = guard.during(rules, || self.projection.apply(tx, event));
        if ran.wants_savepoints {
            return Ok(Batch::WantsSavepoints);
        }
        let outcome = ran.outcome.unwrap_or_else(|panic| Err(panic.into()));
        outcome.map_err(|error| of_event(&self.place.path, at, error, ran.refused))?;
        if ran.rolled_back || tx.is_autocommit() {
            return Err(TargetError::event(at, ENDED));
        }
        if has_savepoint {
            around("RELEASE diptych_event")?;
        }
        Ok(Batch::Taken)
    }

    /// The error for a checkpoint that is not where this runner expected it.
    fn moved(&self, tx: &Connection) -> TargetError {
        let (name, version) = (self.projection.name(), self.projection.version());
        match stored::checkpoint(tx, name) {
            Ok(Some(found)) if found.version == version => {
                TargetError::Moved { found: found.checkpoint }
            }
            Ok(Some(found)) => self.broken(format!(
                "the tables of projection {name} were made anew in version {}, and this program \
                 has version {version}: let only one of them run",
                found.version
            )),
            Ok(None) => self.broken(format!(
                "the row of projection {name} in diptych_checkpoint is gone: reset the projection"
            )),
            Err(error) => self.file("reading the checkpoint")(error),
        }
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

const ENDED: &str = "the transaction ended on the way, by a statement with OR ROLLBACK or an error \
    of the database that was passed over; nothing of it was committed";

const FOREIGN: &str = "the database was replaced, and the -wal beside it is of the one that \
    was there before: stop all programs that have it open and remove the -wal and the -shm, to go \
    on from the rows in the file, or the file, too, to begin anew; then resume the projection";

const OVERWRITTEN: &str = "the database was overwritten while it was open: when the copy is \
    complete, resume the projection to go on from the rows that are in it, or reset it";

/// The outcome of a batch or an event that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    Taken,
    /// It was not applied. Try it again with savepoints allowed.
    WantsSavepoints,
}

impl<P> fmt::Debug for SqliteProjection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteProjection").field("place", &self.place).finish_non_exhaustive()
    }
}
