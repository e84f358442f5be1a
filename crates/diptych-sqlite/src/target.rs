//! A projection in its database.

use std::{collections::HashSet, fmt, path::Path};

use diptych::{
    Recorded,
    projection::{Checkpoint, Target, TargetError},
};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::{
    Projection, Sqlite,
    guard::{Guard, Rules},
    stored::{self, Object},
    trouble::{of_commit, of_create, of_event, of_file},
};

/// How many statements of a projection are kept prepared.
const CACHED_STATEMENTS: usize = 64;

/// A [`Projection`] in a [`Sqlite`] database, to be run.
pub struct SqliteProjection<P> {
    projection: P,
    place: Sqlite,
    /// Taken out while it is worked with. After trouble with the file it is opened again.
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    guard: Guard,
    /// To what the projection may write; none as long as it was not looked at.
    rules: Option<Rules>,
}

impl<P: Projection> Target for SqliteProjection<P> {
    type Event = P::Event;

    fn name(&self) -> &str {
        self.projection.name()
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
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
        self.with(|this, open| {
            let Open { connection, guard, rules } = open;
            let wanted = this.described()?;
            let tx = this.begin(connection)?;
            *rules = None;
            this.make_anew(guard, &tx, &wanted)?;
            tx.commit().map_err(this.file("the commit of a reset"))
        })
    }
}

impl<P: Projection> SqliteProjection<P> {
    pub(crate) fn new(projection: P, place: Sqlite) -> SqliteProjection<P> {
        SqliteProjection { projection, place, open: None }
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&Self, &mut Open) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let open = self.open.take().filter(|open| !has_moved(&open.connection));
        let mut open = open.map_or_else(|| self.connect(), Ok)?;
        let outcome = work(self, &mut open);
        let in_trouble =
            matches!(outcome, Err(TargetError::Unavailable { .. } | TargetError::Broken { .. }));
        if !in_trouble && open.connection.is_autocommit() {
            self.open = Some(open);
        }
        outcome
    }

    fn connect(&self) -> Result<Open, TargetError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.place.path, flags);
        let mut connection = connection.map_err(self.file("opening it"))?;
        if connection.path().is_none_or(str::is_empty) {
            let reason = "a database in memory is gone when it is closed: name a file".to_owned();
            return Err(TargetError::Broken { reason, source: None });
        }
        let guard = Guard::default();
        let set_up = |connection: &mut Connection| {
            connection.busy_timeout(self.place.busy_timeout)?;
            let mode: String =
                connection
                    .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            // A WAL that is not synced loses commits, and nothing else. A rollback journal that is
            // not synced may lose the database.
            let synchronous = if mode == "wal" { "normal" } else { "full" };
            connection.pragma_update(None, "synchronous", synchronous)?;
            connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
            guard.watch(connection)
        };
        set_up(&mut connection).map_err(self.file("opening it"))?;
        Ok(Open { connection, guard, rules: None })
    }

    /// Makes the tables if there are none of this version, and reads the checkpoint.
    fn prepare(&self, open: &mut Open) -> Result<Option<Checkpoint>, TargetError> {
        let Open { connection, guard, rules } = open;
        let (name, version) = (self.projection.name(), self.projection.version());
        let wanted = self.described()?;
        let tx = self.begin(connection)?;
        stored::create_tables(&tx).map_err(self.file("creating its own tables"))?;
        let reading = "reading what is stored about projections";
        let found = stored::checkpoint(&tx, name).map_err(self.file(reading))?;
        let checkpoint = match found {
            Some(found) if found.version == version => {
                self.check(&tx, &wanted)?;
                found.checkpoint
            }
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
        let made = stored::made_by(&tx, name).map_err(self.file(reading))?;
        tx.commit().map_err(self.file("the commit of new tables"))?;
        *rules = Some(Rules::Write { own: stored::names(&made) });
        Ok(checkpoint)
    }

    /// What `create` makes, tried out in memory.
    fn described(&self) -> Result<Vec<Object>, TargetError> {
        let guard = Guard::default();
        let trying = || self.file("trying `create` in memory");
        let mut memory = Connection::open_in_memory().map_err(trying())?;
        guard.watch(&mut memory).map_err(trying())?;
        let tx = memory.transaction().map_err(trying())?;
        self.create(&guard, &tx, &[])?;
        stored::present(&tx).map_err(trying())
    }

    /// Whether the tables are there, and as `create` makes them.
    fn check(&self, tx: &Transaction<'_>, wanted: &[Object]) -> Result<(), TargetError> {
        let name = self.projection.name();
        let reading = "reading its schema";
        let made = stored::made_by(tx, name).map_err(self.file(reading))?;
        let [were, are] = [&made[..], wanted].map(|all| all.iter().collect::<HashSet<_>>());
        if let Some(changed) = were.symmetric_difference(&are).next() {
            return Err(self.broken(format!(
                "`create` of projection {name} changed ({} {}), and its version did not: raise \
                 the version, so that the tables are made anew",
                changed.kind, changed.name
            )));
        }
        let present = stored::present(tx).map_err(self.file(reading))?;
        let is_gone = |made: &&Object| {
            let is_it = |there: &Object| there.kind == made.kind && there.name == made.name;
            made.kind == "table" && !present.iter().any(is_it)
        };
        match made.iter().find(is_gone) {
            Some(gone) => Err(self.broken(format!(
                "table {} of projection {name} was removed: reset the projection",
                gone.name
            ))),
            None => Ok(()),
        }
    }

    /// Removes what it made whenever, whatever that was, and makes its tables.
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
        stored::begin(tx, name, version, &made).map_err(self.file("noting its tables"))
    }

    fn create(
        &self,
        guard: &Guard,
        tx: &Transaction<'_>,
        before: &[Object],
    ) -> Result<(), TargetError> {
        let rules = Rules::Create { existing: stored::names(before) };
        let (outcome, refused) = guard.during(rules, || self.projection.create(tx));
        let outcome = outcome.unwrap_or_else(|panic| Err(panic.into()));
        outcome.map_err(|error| of_create(&self.place.path, error, refused))?;
        match tx.is_autocommit() {
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
        if open.rules.is_none() {
            self.prepare(open)?;
        }
        let Open { connection, guard, rules } = open;
        let rules = rules.clone().unwrap_or_default();
        let (name, version) = (self.projection.name(), self.projection.version());
        let last = events.last();
        let tx = self.begin(connection)?;
        // First, so that nothing is done by whoever is not the one to do it.
        let recorded_at = last.map(|event| event.recorded_at);
        let moved = stored::move_checkpoint(&tx, name, version, from, to, recorded_at);
        if !moved.map_err(self.file("moving the checkpoint"))? {
            return Err(self.moved(&tx));
        }
        for event in events {
            self.take_in_one(&tx, guard, rules.clone(), event)?;
        }
        let last = last.map(|event| event.position);
        tx.commit().map_err(|error| of_commit(&self.place.path, last, error))
    }

    fn take_in_one(
        &self,
        tx: &Transaction<'_>,
        guard: &Guard,
        rules: Rules,
        event: &Recorded<P::Event>,
    ) -> Result<(), TargetError> {
        let (outcome, refused) = guard.during(rules, || self.projection.apply(tx, event));
        let outcome = outcome.unwrap_or_else(|panic| Err(panic.into()));
        let at = event.position;
        outcome.map_err(|error| of_event(&self.place.path, at, error, refused))?;
        match tx.is_autocommit() {
            true => Err(TargetError::event(at, ENDED)),
            false => Ok(()),
        }
    }

    /// Why the checkpoint is not where it was thought to be.
    fn moved(&self, tx: &Transaction<'_>) -> TargetError {
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

/// Whether the file is not at its place any more: what is written to it, nobody will read.
#[cfg(unix)]
fn has_moved(connection: &Connection) -> bool {
    let mut has_moved = 0;
    let asked = rusqlite::FileControl::HasMoved(&mut has_moved);
    connection.file_control(Some(rusqlite::MAIN_DB), asked).is_ok() && has_moved != 0
}

/// Where files cannot be removed while they are open.
#[cfg(not(unix))]
fn has_moved(_: &Connection) -> bool {
    false
}

impl<P> fmt::Debug for SqliteProjection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteProjection").field("place", &self.place).finish_non_exhaustive()
    }
}
