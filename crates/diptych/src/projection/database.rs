//! The operations that a database provides for projections ([`Database`],
//! [`DatabaseTransaction`]). By the rules for all databases it becomes a [`Target`](super::Target).

use std::{collections::HashSet, sync::Arc};

use diptych_store::Timestamp;

use super::{
    Checkpoint, RunnerHandle, TargetError,
    slots::{PoisonRecord, ReaderName, SampleAnswer, StoredCheckpoint, StoredVersion, VersionSlot},
};
use crate::{
    event::{Event, Recorded},
    follow::{SwitchPolicy, VersionState},
};

/// A database that keeps the rows of one projection. Every `Database` is a
/// [`Target`](super::Target).
///
/// All methods may block.
pub trait Database: Send + 'static {
    /// The events that the projection applies.
    type Event: Event;

    /// The name of the projection, unique in its app and in the database.
    fn projection(&self) -> &str;

    /// The version of the projection in this program.
    fn version(&self) -> u32;

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

    /// When a raised version takes the place of the served one, if it is built beside that.
    /// With `None` it is built in its place.
    fn beside(&self) -> Option<SwitchPolicy> {
        None
    }

    /// The key of the tag whose values the rows belong to, as in
    /// [`Target::isolates_by`](super::Target::isolates_by).
    fn key(&self) -> Option<String> {
        None
    }

    /// The names under which readers find the objects of the projection, whatever its version. A
    /// switch makes them stand for the objects of another version.
    fn reader_names(&self) -> Vec<ReaderName> {
        Vec::new()
    }

    /// Reads the row of the projection without a lock, so that callers who wait for rows do not
    /// wait for writers. Returns `None` if the row has another version than this program, or if the
    /// schema may have changed since the last check. The rules then read the row in a transaction.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`].
    fn peek(&mut self) -> Result<Option<StoredCheckpoint>, TargetError> {
        Ok(None)
    }

    /// Reads the rows of all versions without a lock, the served one first.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`].
    fn peek_versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        Ok(Vec::new())
    }

    /// Looks again at a database that was broken. Called when the projection starts, resumes or is
    /// rebuilt.
    fn resume(&mut self) {}

    /// Passes the handle of the runner, as [`Target::run_by`](super::Target::run_by) does.
    fn run_by(&mut self, _handle: RunnerHandle) {}
}

/// The work of one transaction.
pub type DatabaseWork<'a, E> =
    &'a mut dyn FnMut(&mut dyn DatabaseTransaction<E>) -> Result<(), TargetError>;

/// The operations of a database inside one transaction. All of them concern one projection.
///
/// The database keeps a row and a list of objects for each version of the projection, in a
/// [slot](VersionSlot).
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

    /// The checkpoint in this slot; `None` if the slot is empty.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn stored(&mut self, slot: VersionSlot) -> Result<Option<StoredCheckpoint>, TargetError>;

    /// Moves the checkpoint in this slot if the stored one is exactly `from` and its version is the
    /// one of this program. Returns whether it moved. `recorded_at` belongs to the last event, if
    /// there is one.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn move_checkpoint(
        &mut self,
        slot: VersionSlot,
        from: Option<Checkpoint>,
        to: Checkpoint,
        recorded_at: Option<Timestamp>,
    ) -> Result<bool, TargetError>;

    /// Stores the row of this version, which made these objects, has these names for readers, and
    /// has applied no events. It has no poisoned keys. Events that are left out for good stay so.
    ///
    /// # Errors
    /// [`TargetError`] of the database, also for objects that no projection may make.
    fn begin(
        &mut self,
        slot: VersionSlot,
        made: &[SchemaObject],
        readers: &[ReaderName],
    ) -> Result<(), TargetError>;

    /// The objects of the version in this slot, as [`begin`](DatabaseTransaction::begin) stored
    /// them, in order of creation.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn made(&mut self, slot: VersionSlot) -> Result<Vec<SchemaObject>, TargetError>;

    /// The rows of all versions, the served one first.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn versions(&mut self) -> Result<Vec<StoredVersion>, TargetError>;

    /// Moves the row and the list of objects from one slot to an empty one.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn move_version(&mut self, from: VersionSlot, to: VersionSlot) -> Result<(), TargetError>;

    /// Stores the state of a version that is not served.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn set_state(&mut self, version: u32, state: &VersionState) -> Result<(), TargetError>;

    /// Removes the row of this version, its list of objects, its state and its names for readers.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn forget(&mut self, version: u32) -> Result<(), TargetError>;

    /// The names for readers that this version stored.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn readers(&mut self, version: u32) -> Result<Vec<ReaderName>, TargetError>;

    /// The poisoned keys of the version in this slot.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn poison(&mut self, slot: VersionSlot) -> Result<PoisonRecord, TargetError>;

    /// Stores the poisoned keys of the version in this slot, in place of those before.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn set_poison(&mut self, slot: VersionSlot, poison: &PoisonRecord) -> Result<(), TargetError>;

    /// The object that [`show`](DatabaseTransaction::show) makes.
    fn reader_object(&self, reader: &ReaderName) -> SchemaObject;

    /// Makes the object by which readers find the rows under this name, such as a view.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn show(&mut self, reader: &ReaderName) -> Result<(), TargetError>;

    /// Answers the questions by which versions are compared, from the objects that the names for
    /// readers stand for now. A question that fails is an answer, too.
    ///
    /// # Errors
    /// [`TargetError::Unavailable`] or [`TargetError::Broken`] of the database itself.
    fn answers(&mut self) -> Result<Vec<SampleAnswer>, TargetError>;

    /// A row of the answer to a question, as text; `None` beyond its end.
    ///
    /// # Errors
    /// [`TargetError`] of the database.
    fn sample_row(&mut self, question: usize, row: usize) -> Result<Option<String>, TargetError>;

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
    names: Arc<HashSet<String>>,
    count: i64,
    grouping: Grouping,
}

impl CheckedSchema {
    pub(super) fn new(objects: &[SchemaObject], count: i64, grouping: Grouping) -> CheckedSchema {
        let names = Arc::new(objects.iter().map(|object| object.name.clone()).collect());
        CheckedSchema { names, count, grouping }
    }

    pub(super) fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The names of the objects, which the projection may write to.
    pub fn names(&self) -> &Arc<HashSet<String>> {
        &self.names
    }

    /// The [`schema_count`](DatabaseTransaction::schema_count) at the check.
    pub fn count(&self) -> i64 {
        self.count
    }
}
