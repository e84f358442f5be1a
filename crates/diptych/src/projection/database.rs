//! The rules of projections into a database: versions, changes of the schema, and checkpoints that
//! move only if they are where the runner expects them. A database provides a few operations
//! ([`Database`], [`DatabaseTransaction`]), and becomes a [`Target`] by these rules.

use std::{collections::HashSet, sync::Arc};

use diptych_store::Timestamp;

use super::{Checkpoint, RunnerHandle, Target, TargetError};
use crate::event::{Event, Recorded};

/// A database that keeps the rows of one projection. Every `Database` is a [`Target`].
///
/// All methods may block.
pub trait Database: Send + 'static {
    /// The events that the projection applies.
    type Event: Event;

    /// The name of the projection, unique in its app and in the database.
    fn projection(&self) -> &str;

    /// Runs `work` in a transaction as if no other writer of the database ran meanwhile, and
    /// commits if it returns `Ok`. Rolls back if it returns an error.
    ///
    /// The database may roll back and run `work` again in a new transaction, for example after a
    /// serialisation failure.
    ///
    /// # Errors
    /// The error of `work`, of beginning, or of committing. Nothing was changed.
    fn transaction(&mut self, work: DatabaseWork<'_, Self::Event>) -> Result<(), TargetError>;

    /// The objects that the projection makes in an empty database other than this one. They depend
    /// on the program alone, so an implementation computes them once and keeps them. The rules call
    /// this before a transaction begins, because it runs code of the projection.
    ///
    /// # Errors
    /// [`TargetError`] of the projection or of the database.
    fn described(&mut self) -> Result<Arc<[SchemaObject]>, TargetError>;

    /// Reads the row of the projection without a lock, so that callers who wait for rows do not
    /// wait for writers. Returns `None` if the row has another version than this program, or if the
    /// schema may have changed since the last check. The rules then read the row in a transaction.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`].
    fn peek(&mut self) -> Result<Option<StoredCheckpoint>, TargetError> {
        Ok(None)
    }

    /// Looks again at a database that was broken. Called when the projection starts, resumes or is
    /// rebuilt.
    fn resume(&mut self) {}

    /// Passes the handle of the runner, as [`Target::run_by`] does.
    fn run_by(&mut self, _handle: RunnerHandle) {}
}

/// The work of one transaction.
pub type DatabaseWork<'a, E> =
    &'a mut dyn FnMut(&mut dyn DatabaseTransaction<E>) -> Result<(), TargetError>;

/// The operations of a database inside one transaction. All of them concern one projection.
///
/// Every error rolls the transaction back.
pub trait DatabaseTransaction<E> {
    /// The name of the projection.
    fn projection(&self) -> &str;

    /// The version of the projection in this program.
    fn version(&self) -> u32;

    /// [`TargetError::Broken`] for this fault, with the name of the database before it.
    fn broken(&self, fault: &str) -> TargetError;

    /// Creates the tables for checkpoints and for the objects of projections, if they do not exist.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn create_tables(&mut self) -> Result<(), TargetError>;

    /// The stored checkpoint; `None` if the database has no row of the projection.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn stored(&mut self) -> Result<Option<StoredCheckpoint>, TargetError>;

    /// Moves the checkpoint if the stored one is exactly `from` and its version is the one of this
    /// program. Returns whether it moved. `recorded_at` belongs to the last event, if there is one.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn move_checkpoint(
        &mut self,
        from: Option<Checkpoint>,
        to: Checkpoint,
        recorded_at: Option<Timestamp>,
    ) -> Result<bool, TargetError>;

    /// Stores the row of a projection that made these objects in this version, and has applied no
    /// events.
    ///
    /// # Errors
    /// [`TargetError`] of the database, also for objects that no projection may make.
    fn begin(&mut self, made: &[SchemaObject]) -> Result<(), TargetError>;

    /// The objects that the projection made, as [`begin`](DatabaseTransaction::begin) stored them,
    /// in order of creation.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn made(&mut self) -> Result<Vec<SchemaObject>, TargetError>;

    /// All objects in the database, in order of creation.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn present(&mut self) -> Result<Vec<SchemaObject>, TargetError>;

    /// Makes the objects of the projection. It must not change `before`, the objects of others.
    ///
    /// # Errors
    /// [`TargetError`] of the projection or of the database.
    fn create(&mut self, before: &[SchemaObject]) -> Result<(), TargetError>;

    /// Removes these objects. Skips those that do not exist.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn remove(&mut self, objects: &[SchemaObject]) -> Result<(), TargetError>;

    /// Checks the rules that the database has for the objects of the projection and the objects
    /// around them, for example about triggers of others on its tables. Returns how the events may
    /// be committed.
    ///
    /// # Errors
    /// [`TargetError::Broken`] if a rule is broken.
    fn check(
        &mut self,
        made: &[SchemaObject],
        present: &[SchemaObject],
    ) -> Result<Grouping, TargetError>;

    /// A number that changes with each change of the schema.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn schema_count(&mut self) -> Result<i64, TargetError>;

    /// The place of the checked schema. It belongs to the connection: a new connection begins with
    /// `None`, and a commit that fails sets it to `None`. The rules leave it empty when their work
    /// fails.
    fn checked(&mut self) -> &mut Option<CheckedSchema>;

    /// Applies these events.
    ///
    /// # Errors
    /// [`TargetError::Event`] for an event that the projection refuses, or [`TargetError`] of the
    /// database.
    fn apply(&mut self, schema: &CheckedSchema, events: &[Recorded<E>]) -> Result<(), TargetError>;
}

/// The row of a projection: the version that made its tables, and their checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// The version of the projection.
    pub version: u32,
    /// `None` before the first batch.
    pub checkpoint: Option<Checkpoint>,
}

/// An object of a database that a projection can make: a table, an index, a view, a trigger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaObject {
    /// The kind of object, as the database calls it.
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// Its definition, by which a change is detected.
    pub sql: String,
}

/// How the events of a batch may be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// All events of a batch together.
    Batch,
    /// Each position separately, because the database has checks that run only at a commit. The
    /// result of such a check must not depend on where a batch ends.
    Position,
}

/// The objects of a projection, after a check that the database has them as the projection's code
/// makes them.
#[derive(Clone, Debug)]
pub struct CheckedSchema {
    objects: Vec<SchemaObject>,
    names: Arc<HashSet<String>>,
    count: i64,
    grouping: Grouping,
}

impl CheckedSchema {
    /// The names of the objects, which the projection may write to.
    pub fn names(&self) -> &Arc<HashSet<String>> {
        &self.names
    }

    /// The [`schema_count`](DatabaseTransaction::schema_count) at the check.
    pub fn count(&self) -> i64 {
        self.count
    }
}

impl<D: Database> Target for D {
    type Event = D::Event;

    fn name(&self) -> &str {
        self.projection()
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        self.resume();
        let described = self.described()?;
        let mut checkpoint = None;
        self.transaction(&mut |tx| {
            let (found, schema) = prepare(tx, &described)?;
            *tx.checked() = Some(schema);
            checkpoint = found;
            Ok(())
        })?;
        Ok(checkpoint)
    }

    fn apply(
        &mut self,
        events: &[Recorded<D::Event>],
        from: Option<Checkpoint>,
        to: Checkpoint,
    ) -> Result<(), TargetError> {
        let described = self.described()?;
        self.transaction(&mut |tx| {
            // The checked schema is taken out, because tables that this transaction makes may be
            // rolled back.
            let known = match tx.checked().take() {
                Some(known) => known,
                // A database that was put in the place of another may have no tables.
                None => prepare(tx, &described)?.1,
            };
            let schema = apply(tx, known, events, from, to)?;
            *tx.checked() = Some(schema);
            Ok(())
        })
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        self.resume();
        let described = self.described()?;
        self.transaction(&mut |tx| {
            *tx.checked() = None;
            tx.create_tables()?;
            rebuild(tx, &described)
        })
    }

    fn run_by(&mut self, handle: RunnerHandle) {
        Database::run_by(self, handle);
    }

    fn confirm(&mut self, stored: Option<Checkpoint>) -> Result<(), TargetError> {
        let found = match self.peek()? {
            Some(found) => found.checkpoint,
            None => {
                let described = self.described()?;
                let mut found = None;
                self.transaction(&mut |tx| {
                    found = confirmed(tx, &described)?;
                    Ok(())
                })?;
                // Tables that were made are committed even if the checkpoint differs, so that
                // readers find them.
                found
            }
        };
        if found == stored { Ok(()) } else { Err(TargetError::Moved { found }) }
    }
}

type Tx<'a, E> = &'a mut dyn DatabaseTransaction<E>;

/// Makes the tables if they do not exist in this version, checks them, and reads the checkpoint.
fn prepare<E>(
    tx: Tx<'_, E>,
    described: &[SchemaObject],
) -> Result<(Option<Checkpoint>, CheckedSchema), TargetError> {
    tx.create_tables()?;
    let version = tx.version();
    let checkpoint = match tx.stored()? {
        Some(found) if found.version == version => found.checkpoint,
        Some(found) if found.version > version => {
            return Err(tx.broken(&format!(
                "the tables of projection {} have version {}, and this program has version \
                 {version}: run the newer program, or rebuild the projection to go back",
                tx.projection(),
                found.version
            )));
        }
        found => {
            if let Some(StoredCheckpoint { version: before, .. }) = found {
                tracing::warn!(
                    projection = tx.projection(),
                    before,
                    version,
                    "the tables have an older version: they are rebuilt from the log"
                );
            }
            rebuild(tx, described)?;
            None
        }
    };
    Ok((checkpoint, check(tx, described)?))
}

/// Removes all objects that any version of the projection made, and makes those of this version.
fn rebuild<E>(tx: Tx<'_, E>, described: &[SchemaObject]) -> Result<(), TargetError> {
    let old = tx.made()?;
    tx.remove(&old)?;
    let before = tx.present()?;
    tx.create(&before)?;
    let mut made = tx.present()?;
    made.retain(|object| !before.contains(object));
    if let Some(missing) = described.iter().find(|object| !made.contains(object)) {
        return Err(tx.broken(&format!(
            "the {} {} exists already, and is not of projection {}: take another name",
            missing.kind,
            missing.name,
            tx.projection()
        )));
    }
    tx.begin(&made)
}

/// Checks that the objects of the projection exist as its code makes them now.
fn check<E>(tx: Tx<'_, E>, described: &[SchemaObject]) -> Result<CheckedSchema, TargetError> {
    let objects = tx.made()?;
    let [were, are] = [&objects[..], described].map(|all| all.iter().collect::<HashSet<_>>());
    if let Some(changed) = were.symmetric_difference(&are).next() {
        return Err(tx.broken(&format!(
            "`create` of projection {} changed ({} {}), and its version did not: raise the \
             version, so that the tables are rebuilt",
            tx.projection(),
            changed.kind,
            changed.name
        )));
    }
    let present = tx.present()?;
    if let Some(gone) = objects.iter().find(|object| !present.contains(object)) {
        let is_it = |there: &SchemaObject| there.kind == gone.kind && there.name == gone.name;
        let was = if present.iter().any(is_it) { "changed" } else { "removed" };
        return Err(tx.broken(&format!(
            "{} {} of projection {} was {was}: rebuild the projection",
            gone.kind,
            gone.name,
            tx.projection()
        )));
    }
    let grouping = tx.check(&objects, &present)?;
    Ok(CheckedSchema {
        names: Arc::new(objects.iter().map(|object| object.name.clone()).collect()),
        objects,
        count: tx.schema_count()?,
        grouping,
    })
}

/// Applies the events, and returns the schema, checked again if it changed since the last check.
fn apply<E>(
    tx: Tx<'_, E>,
    known: CheckedSchema,
    events: &[Recorded<E>],
    from: Option<Checkpoint>,
    to: Checkpoint,
) -> Result<CheckedSchema, TargetError> {
    // The checkpoint moves first, so that a runner with an outdated checkpoint changes nothing.
    let recorded_at = events.last().map(|event| event.recorded_at);
    if !tx.move_checkpoint(from, to, recorded_at)? {
        let found = tx.stored()?;
        return Err(moved(tx, found));
    }
    // Until the commit no other program can change the schema.
    let schema = match tx.schema_count()? == known.count {
        true => known,
        false => check(tx, &known.objects)?,
    };
    let [first, last] = [events.first(), events.last()].map(|event| event.map(|it| it.position));
    match schema.grouping {
        Grouping::Position if first != last => Err(TargetError::OneByOne),
        Grouping::Batch | Grouping::Position => {
            tx.apply(&schema, events)?;
            Ok(schema)
        }
    }
}

/// The stored checkpoint, with the schema checked if it changed since the last check.
fn confirmed<E>(
    tx: Tx<'_, E>,
    described: &[SchemaObject],
) -> Result<Option<Checkpoint>, TargetError> {
    let count = tx.schema_count()?;
    if tx.checked().as_ref().is_none_or(|checked| checked.count != count) {
        let (found, schema) = prepare(tx, described)?;
        *tx.checked() = Some(schema);
        return Ok(found);
    }
    match tx.stored()? {
        Some(found) if found.version == tx.version() => Ok(found.checkpoint),
        found => Err(moved(tx, found)),
    }
}

/// The error for a stored checkpoint that is not where this runner expected it.
fn moved<E>(tx: Tx<'_, E>, found: Option<StoredCheckpoint>) -> TargetError {
    let (name, version) = (tx.projection(), tx.version());
    match found {
        Some(StoredCheckpoint { version: stored, checkpoint }) if stored == version => {
            TargetError::Moved { found: checkpoint }
        }
        Some(StoredCheckpoint { version: stored, .. }) => tx.broken(&format!(
            "the tables of projection {name} were rebuilt in version {stored}, and this program \
             has version {version}: let only one of them run"
        )),
        None => tx.broken(&format!(
            "the row with the checkpoint of projection {name} is gone: rebuild the projection"
        )),
    }
}
