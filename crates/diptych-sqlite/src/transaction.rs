//! One transaction of a projection, and the operations that the rules of projections use in it.

use std::{collections::HashSet, sync::Arc};

use diptych::{
    Position, Recorded, Timestamp,
    projection::{
        CheckedSchema, Checkpoint, DatabaseTransaction, Grouping, PoisonRecord, ReaderName,
        SampleAnswer, SchemaObject, StoredCheckpoint, StoredVersion, TargetError, VersionSlot,
        VersionState,
    },
};
use rusqlite::{Connection, Transaction};

use crate::{
    Projection, Sqlite,
    guard::{Guard, Rules, Savepoints},
    poison, sample, schema, stored,
    trouble::{of_create, of_event, of_file},
};

const ENDED: &str = "the transaction ended early, by a statement with OR ROLLBACK or by an error \
    of the database that was ignored; nothing of it was committed";

/// A transaction that has begun, with the projection that works in it.
pub(crate) struct SqliteTransaction<'a, P> {
    projection: &'a P,
    place: &'a Sqlite,
    tx: &'a Transaction<'a>,
    guard: &'a Guard,
    checked: &'a mut Option<CheckedSchema>,
    savepoints: Savepoints,
    wants_savepoints: bool,
    /// The position of the last event of the batch.
    last: Option<Position>,
}

impl<'a, P: Projection> SqliteTransaction<'a, P> {
    pub(crate) fn new(
        projection: &'a P,
        place: &'a Sqlite,
        tx: &'a Transaction<'a>,
        guard: &'a Guard,
        checked: &'a mut Option<CheckedSchema>,
        savepoints: Savepoints,
    ) -> SqliteTransaction<'a, P> {
        let (wants_savepoints, last) = (false, None);
        SqliteTransaction {
            projection,
            place,
            tx,
            guard,
            checked,
            savepoints,
            wants_savepoints,
            last,
        }
    }

    /// Whether an event needs savepoints in a batch that has none. That event was not applied, and
    /// the work must run again with savepoints.
    pub(crate) fn wants_savepoints(&self) -> bool {
        self.wants_savepoints
    }

    /// The position of the last event of the batch.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last
    }

    fn row_name(&self, slot: VersionSlot) -> String {
        stored::row_name(self.projection.name(), slot)
    }

    fn file(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> TargetError + use<'a, P> {
        let path = &self.place.path;
        move |error| of_file(path, doing, error)
    }

    /// Applies one event. Returns false if it was not applied, because it needs savepoints.
    fn apply_one(&self, rules: Rules, event: &Recorded<P::Event>) -> Result<bool, TargetError> {
        let (tx, at) = (self.tx, event.position);
        let around = |sql| {
            let done = tx.prepare_cached(sql).and_then(|mut around| around.execute(()));
            done.map_err(|error| of_event(&self.place.path, at, error.into(), None))
        };
        let has_savepoint = rules.allow_savepoints();
        if has_savepoint {
            around("SAVEPOINT diptych_event")?;
        }
        let ran = self.guard.during(rules, || self.projection.apply(tx, event));
        if ran.wants_savepoints {
            return Ok(false);
        }
        let outcome = ran.outcome.unwrap_or_else(|panic| Err(panic.into()));
        outcome.map_err(|error| of_event(&self.place.path, at, error, ran.refused))?;
        if ran.rolled_back || tx.is_autocommit() {
            return Err(TargetError::event(at, ENDED));
        }
        if has_savepoint {
            around("RELEASE diptych_event")?;
        }
        Ok(true)
    }
}

/// Runs `create` in memory, and returns the objects that it made.
pub(crate) fn described<P: Projection>(
    projection: &P,
    place: &Sqlite,
) -> Result<Vec<SchemaObject>, TargetError> {
    let trying = || |error| of_file(&place.path, "trying `create` in memory", error);
    let guard = Guard::default();
    let mut memory = Connection::open_in_memory().map_err(trying())?;
    guard.watch(&mut memory).map_err(trying())?;
    let tx = memory.transaction().map_err(trying())?;
    create_in(projection, place, &guard, &tx, &[])?;
    let made = schema::present(&tx).map_err(trying())?;
    refers_to_its_own(projection, place, &tx, &made)?;
    Ok(made)
}

fn create_in<P: Projection>(
    projection: &P,
    place: &Sqlite,
    guard: &Guard,
    tx: &Transaction<'_>,
    before: &[SchemaObject],
) -> Result<(), TargetError> {
    let existing: HashSet<_> = before.iter().map(|object| object.name.clone()).collect();
    let rules = Rules::Create { existing: Arc::new(existing) };
    let ran = guard.during(rules, || projection.create(tx));
    // The guard would not check a cached statement again in `apply`.
    tx.flush_prepared_statement_cache();
    let outcome = ran.outcome.unwrap_or_else(|panic| Err(panic.into()));
    outcome.map_err(|error| of_create(&place.path, error, ran.refused))?;
    match ran.rolled_back || tx.is_autocommit() {
        true => Err(broken(place, ENDED)),
        false => Ok(()),
    }
}

/// Refuses foreign keys to tables of other projections. With such a key the rows of this projection
/// would decide whether the other projection can remove its rows.
fn refers_to_its_own<P: Projection>(
    projection: &P,
    place: &Sqlite,
    tx: &Transaction<'_>,
    made: &[SchemaObject],
) -> Result<(), TargetError> {
    let found = schema::foreign_reference(tx, made)
        .map_err(|error| of_file(&place.path, "reading its schema", error))?;
    let Some((table, foreign)) = found else { return Ok(()) };
    let fault = format!(
        "table {table} of projection {} refers to {foreign}, which does not belong to this \
         projection: leave out REFERENCES {foreign}, or make both tables in one projection",
        projection.name()
    );
    Err(broken(place, &fault))
}

fn broken(place: &Sqlite, fault: &str) -> TargetError {
    let reason = format!("{}: {fault}", place.path.display());
    TargetError::Broken { reason, source: None }
}

impl<P: Projection> DatabaseTransaction<P::Event> for SqliteTransaction<'_, P> {
    fn projection(&self) -> &str {
        self.projection.name()
    }

    fn version(&self) -> u32 {
        self.projection.version()
    }

    fn broken(&self, fault: &str) -> TargetError {
        broken(self.place, fault)
    }

    fn create_tables(&mut self) -> Result<(), TargetError> {
        stored::create_tables(self.tx).map_err(self.file("creating its own tables"))
    }

    fn stored(&mut self, slot: VersionSlot) -> Result<Option<StoredCheckpoint>, TargetError> {
        let found = stored::checkpoint(self.tx, &self.row_name(slot));
        found.map_err(self.file("reading what is stored about projections"))
    }

    fn move_checkpoint(
        &mut self,
        slot: VersionSlot,
        from: Option<Checkpoint>,
        to: Checkpoint,
        recorded_at: Option<Timestamp>,
    ) -> Result<bool, TargetError> {
        let (name, version) = (self.row_name(slot), self.projection.version());
        let moved = stored::move_checkpoint(self.tx, &name, version, from, to, recorded_at);
        moved.map_err(self.file("moving the checkpoint"))
    }

    fn begin(
        &mut self,
        slot: VersionSlot,
        made: &[SchemaObject],
        readers: &[ReaderName],
    ) -> Result<(), TargetError> {
        refers_to_its_own(self.projection, self.place, self.tx, made)?;
        let (name, version) = (self.projection.name(), self.projection.version());
        let row = self.row_name(slot);
        stored::begin(self.tx, &row, version, made)
            .and_then(|()| stored::set_readers(self.tx, name, version, readers))
            .map_err(self.file("noting its tables"))
    }

    fn made(&mut self, slot: VersionSlot) -> Result<Vec<SchemaObject>, TargetError> {
        let made = stored::made_by(self.tx, &self.row_name(slot));
        made.map_err(self.file("reading its schema"))
    }

    fn versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        let versions = stored::versions(self.tx, self.projection.name());
        versions.map_err(self.file("reading its versions"))
    }

    fn move_version(&mut self, from: VersionSlot, to: VersionSlot) -> Result<(), TargetError> {
        let (from, to) = (self.row_name(from), self.row_name(to));
        stored::rename(self.tx, &from, &to).map_err(self.file("switching versions"))
    }

    fn set_state(&mut self, version: u32, state: &VersionState) -> Result<(), TargetError> {
        let noted = stored::set_state(self.tx, self.projection.name(), version, state);
        noted.map_err(self.file("noting the state of a version"))
    }

    fn forget(&mut self, version: u32) -> Result<(), TargetError> {
        let gone = stored::forget(self.tx, self.projection.name(), version);
        gone.map_err(self.file("removing a version"))
    }

    fn readers(&mut self, version: u32) -> Result<Vec<ReaderName>, TargetError> {
        let readers = stored::readers(self.tx, self.projection.name(), version);
        readers.map_err(self.file("reading the names for readers"))
    }

    fn poison(&mut self, slot: VersionSlot) -> Result<PoisonRecord, TargetError> {
        let found = poison::stored(self.tx, &self.row_name(slot));
        found.map_err(self.file("reading the poisoned keys"))
    }

    fn set_poison(&mut self, slot: VersionSlot, record: &PoisonRecord) -> Result<(), TargetError> {
        let noted = poison::store(self.tx, &self.row_name(slot), record);
        noted.map_err(self.file("noting the poisoned keys"))
    }

    fn reader_object(&self, reader: &ReaderName) -> SchemaObject {
        schema::reader_view(reader)
    }

    fn show(&mut self, reader: &ReaderName) -> Result<(), TargetError> {
        let made = self.tx.execute_batch(&schema::reader_view(reader).sql);
        made.map_err(self.file("making a view for readers"))
    }

    fn answers(&mut self) -> Result<Vec<SampleAnswer>, TargetError> {
        Ok(sample::answers(self.projection, self.tx, self.guard))
    }

    fn sample_row(&mut self, question: usize, row: usize) -> Result<Option<String>, TargetError> {
        Ok(sample::row(self.projection, self.tx, self.guard, question, row))
    }

    fn present(&mut self) -> Result<Vec<SchemaObject>, TargetError> {
        schema::present(self.tx).map_err(self.file("reading its schema"))
    }

    fn create(&mut self, before: &[SchemaObject]) -> Result<(), TargetError> {
        create_in(self.projection, self.place, self.guard, self.tx, before)
    }

    fn remove(&mut self, objects: &[SchemaObject]) -> Result<(), TargetError> {
        schema::remove(self.tx, objects).map_err(self.file("removing its tables"))
    }

    fn check(
        &mut self,
        made: &[SchemaObject],
        present: &[SchemaObject],
    ) -> Result<Grouping, TargetError> {
        let reading = || self.file("reading its schema");
        if let Some((rule, table)) = schema::foreign_rule(self.tx, made).map_err(reading())? {
            return Err(self.broken(&format!(
                "{} {} on table {table} does not belong to projection {}, and could change or \
                 refuse its rows: drop it, then rebuild the projection",
                rule.kind,
                rule.name,
                self.projection.name()
            )));
        }
        match schema::has_deferred_keys(self.tx, made, present).map_err(reading())? {
            true => Ok(Grouping::Position),
            false => Ok(Grouping::Batch),
        }
    }

    fn schema_count(&mut self) -> Result<i64, TargetError> {
        schema::schema_count(self.tx).map_err(self.file("reading its schema"))
    }

    fn checked(&mut self) -> &mut Option<CheckedSchema> {
        self.checked
    }

    fn apply(
        &mut self,
        schema: &CheckedSchema,
        events: &[Recorded<P::Event>],
    ) -> Result<(), TargetError> {
        self.last = events.last().map(|event| event.position);
        let rules = Rules::Write { own: schema.names().clone(), savepoints: self.savepoints };
        for event in events {
            if !self.apply_one(rules.clone(), event)? {
                self.wants_savepoints = true;
                return Err(self.broken("an event wants savepoints: the work runs again"));
            }
        }
        Ok(())
    }
}
