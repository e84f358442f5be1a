//! One transaction of a projection, and the operations that the rules of projections use in it.

use diptych::{
    Position, Recorded, Timestamp,
    projection::{
        CheckedSchema, Checkpoint, DatabaseTransaction, Grouping, PoisonRecord, ReaderName,
        SampleAnswer, SchemaObject, StoredCheckpoint, StoredVersion, TargetError, VersionSlot,
        VersionState, caught,
    },
};

use crate::{
    Projection,
    link::{Link, quoted},
    rows::RowBuffers,
    sample, schema, stored,
    transaction::{Transaction, may_create},
    trouble::{StatementError, Trouble, of_event, of_place, trouble},
};

const IGNORED: &str = "a statement failed, and `apply` did not return its error: return it, \
    because nothing of the transaction can be committed after it";

/// The schema in which `create` is tried. It is never committed.
const TRIAL: &str = "diptych_trial";

/// A transaction that has begun, with the projection that works in it.
pub(crate) struct PostgresTransaction<'a, P> {
    pub(crate) projection: &'a P,
    /// The schema of the projection.
    pub(crate) schema: &'a str,
    /// The server and the database, for messages.
    pub(crate) place: &'a str,
    pub(crate) link: &'a mut Link,
    /// The position of the last event of the batch.
    pub(crate) last: Option<Position>,
}

impl<P: Projection> PostgresTransaction<'_, P> {
    fn row_name(&self, slot: VersionSlot) -> String {
        stored::row_name(self.projection.name(), slot)
    }

    fn at<'b>(&self, doing: &'b str) -> impl Fn(StatementError) -> TargetError + use<'b, P> {
        let place = self.place.to_owned();
        move |error| of_place(&place, doing, error)
    }

    /// Applies one event.
    fn apply_one(
        &mut self,
        rows: &mut RowBuffers,
        event: &Recorded<P::Event>,
    ) -> Result<(), TargetError> {
        let mut tx = Transaction::new(self.link, rows);
        let ran = caught(|| self.projection.apply(&mut tx, event));
        let outcome = ran.unwrap_or_else(|panic| Err(panic.into()));
        outcome.map_err(|error| of_event(self.place, event.position, error))?;
        match self.link.has_failed {
            true => Err(TargetError::event(event.position, IGNORED)),
            false => Ok(()),
        }
    }

    /// Applies the events. Rows that wait at the end are sent.
    pub(crate) fn apply_run(
        &mut self,
        rows: &mut RowBuffers,
        events: &[Recorded<P::Event>],
    ) -> Result<(), TargetError> {
        for event in events {
            self.apply_one(rows, event)?;
        }
        let Some(last) = events.last() else { return Ok(()) };
        rows.flush(self.link).map_err(|error| of_event(self.place, last.position, error.into()))
    }
}

/// Runs `create` in a schema that is rolled back, and returns the objects that it made.
pub(crate) fn described<P: Projection>(
    projection: &P,
    place: &str,
    link: &mut Link,
) -> Result<Vec<SchemaObject>, TargetError> {
    let trying = |error| of_place(place, "trying `create` in a schema of its own", error);
    link.begin().map_err(trying)?;
    let name = quoted(TRIAL);
    let trial = format!("create schema {name}; set local search_path = {name}");
    let made = link.batch(&trial).map_err(trying).and_then(|()| {
        create_in(projection, place, link)?;
        let made = schema::present(link).map_err(trying)?;
        refers_to_its_own(projection, place, link, &made)?;
        Ok(made)
    });
    link.roll_back().map_err(trying)?;
    made
}

fn create_in<P: Projection>(
    projection: &P,
    place: &str,
    link: &mut Link,
) -> Result<(), TargetError> {
    let failed = |error: StatementError| {
        let what = format!("{place}: `create` of the projection failed");
        match trouble(&error) {
            Trouble::Passing => TargetError::unavailable(&what, error),
            Trouble::Database | Trouble::Statement => TargetError::broken(&what, error),
        }
    };
    let statements = caught(|| projection.create()).map_err(|panic| {
        TargetError::broken(&format!("{place}: `create` of the projection failed"), panic)
    })?;
    for sql in statements {
        may_create(&sql).and_then(|()| link.execute_once(&sql)).map_err(failed)?;
    }
    link.forget_plans();
    Ok(())
}

/// Refuses foreign keys to tables of other projections. With such a key the rows of this projection
/// would decide whether the other projection can remove its rows.
fn refers_to_its_own<P: Projection>(
    projection: &P,
    place: &str,
    link: &mut Link,
    made: &[SchemaObject],
) -> Result<(), TargetError> {
    let found = schema::foreign_reference(link, &names(made))
        .map_err(|error| of_place(place, "reading its schema", error))?;
    let Some((table, foreign)) = found else { return Ok(()) };
    let fault = format!(
        "table {table} of projection {} refers to {foreign}, which does not belong to this \
         projection: leave out REFERENCES {foreign}, or make both tables in one projection",
        projection.name()
    );
    Err(broken(place, &fault))
}

fn names(objects: &[SchemaObject]) -> Vec<String> {
    objects.iter().map(|object| object.name.clone()).collect()
}

fn broken(place: &str, fault: &str) -> TargetError {
    TargetError::Broken { reason: format!("{place}: {fault}"), source: None }
}

impl<P: Projection> DatabaseTransaction<P::Event> for PostgresTransaction<'_, P> {
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
        stored::create_tables(self.link, self.schema).map_err(self.at("creating its own tables"))
    }

    fn stored(&mut self, slot: VersionSlot) -> Result<Option<StoredCheckpoint>, TargetError> {
        let found = stored::checkpoint(self.link, &self.row_name(slot));
        found.map_err(self.at("reading what is stored about projections"))
    }

    fn move_checkpoint(
        &mut self,
        slot: VersionSlot,
        from: Option<Checkpoint>,
        to: Checkpoint,
        recorded_at: Option<Timestamp>,
    ) -> Result<bool, TargetError> {
        let (name, version) = (self.row_name(slot), self.projection.version());
        let moved = stored::move_checkpoint(self.link, (&name, version), from, to, recorded_at);
        moved.map_err(self.at("moving the checkpoint"))
    }

    fn begin(
        &mut self,
        slot: VersionSlot,
        made: &[SchemaObject],
        readers: &[ReaderName],
    ) -> Result<(), TargetError> {
        refers_to_its_own(self.projection, self.place, self.link, made)?;
        let (name, version) = (self.projection.name(), self.projection.version());
        let row = self.row_name(slot);
        stored::begin(self.link, &row, version, made)
            .and_then(|()| stored::set_readers(self.link, name, version, readers))
            .map_err(self.at("noting its tables"))
    }

    fn made(&mut self, slot: VersionSlot) -> Result<Vec<SchemaObject>, TargetError> {
        let made = stored::made_by(self.link, &self.row_name(slot));
        made.map_err(self.at("reading its schema"))
    }

    fn versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        let versions = stored::versions(self.link, self.projection.name());
        versions.map_err(self.at("reading its versions"))
    }

    fn move_version(&mut self, from: VersionSlot, to: VersionSlot) -> Result<(), TargetError> {
        let (from, to) = (self.row_name(from), self.row_name(to));
        stored::rename(self.link, &from, &to).map_err(self.at("switching versions"))
    }

    fn set_state(&mut self, version: u32, state: &VersionState) -> Result<(), TargetError> {
        let noted = stored::set_state(self.link, self.projection.name(), version, state);
        noted.map_err(self.at("noting the state of a version"))
    }

    fn forget(&mut self, version: u32) -> Result<(), TargetError> {
        let gone = stored::forget(self.link, self.projection.name(), version);
        gone.map_err(self.at("removing a version"))
    }

    fn readers(&mut self, version: u32) -> Result<Vec<ReaderName>, TargetError> {
        let readers = stored::readers(self.link, self.projection.name(), version);
        readers.map_err(self.at("reading the names for readers"))
    }

    fn poison(&mut self, slot: VersionSlot) -> Result<PoisonRecord, TargetError> {
        let found = stored::poison(self.link, &self.row_name(slot));
        found.map_err(self.at("reading the poisoned keys"))
    }

    fn set_poison(&mut self, slot: VersionSlot, record: &PoisonRecord) -> Result<(), TargetError> {
        let noted = stored::set_poison(self.link, &self.row_name(slot), record);
        noted.map_err(self.at("noting the poisoned keys"))
    }

    fn reader_object(&self, reader: &ReaderName) -> SchemaObject {
        schema::reader_view(reader)
    }

    fn show(&mut self, reader: &ReaderName) -> Result<(), TargetError> {
        schema::show(self.link, reader).map_err(self.at("making a view for readers"))
    }

    fn answers(&mut self) -> Result<Vec<SampleAnswer>, TargetError> {
        let questions = self.projection.compared();
        sample::answers(self.link, questions).map_err(self.at("comparing versions"))
    }

    fn sample_row(&mut self, question: usize, row: usize) -> Result<Option<String>, TargetError> {
        match self.projection.compared().get(question) {
            Some(question) => {
                sample::row(self.link, question, row).map_err(self.at("comparing versions"))
            }
            None => Ok(None),
        }
    }

    fn present(&mut self) -> Result<Vec<SchemaObject>, TargetError> {
        schema::present(self.link).map_err(self.at("reading its schema"))
    }

    fn create(&mut self, _before: &[SchemaObject]) -> Result<(), TargetError> {
        create_in(self.projection, self.place, self.link)
    }

    fn remove(&mut self, objects: &[SchemaObject]) -> Result<(), TargetError> {
        schema::remove(self.link, objects).map_err(self.at("removing its tables"))
    }

    fn check(
        &mut self,
        made: &[SchemaObject],
        _present: &[SchemaObject],
    ) -> Result<Grouping, TargetError> {
        let names = names(made);
        let found = schema::foreign_rule(self.link, &names);
        if let Some((kind, rule, table)) = found.map_err(self.at("reading its schema"))? {
            return Err(self.broken(&format!(
                "{kind} {rule} on table {table} does not belong to projection {}, and could \
                 change or refuse its rows: drop it, then rebuild the projection",
                self.projection.name()
            )));
        }
        let deferred = schema::has_deferred_rules(self.link, &names);
        match deferred.map_err(self.at("reading its schema"))? {
            true => Ok(Grouping::Position),
            false => Ok(Grouping::Batch),
        }
    }

    fn schema_count(&mut self) -> Result<i64, TargetError> {
        schema::schema_count(self.link).map_err(self.at("reading its schema"))
    }

    fn checked(&mut self) -> &mut Option<CheckedSchema> {
        &mut self.link.checked
    }

    fn apply(
        &mut self,
        _schema: &CheckedSchema,
        events: &[Recorded<P::Event>],
    ) -> Result<(), TargetError> {
        let [first, last] = [events.first(), events.last()];
        self.last = last.map(|event| event.position);
        let mut rows = RowBuffers::default();
        let applied = self.apply_run(&mut rows, events);
        let is_one = first.map(|event| event.position) == self.last;
        match applied {
            // Rows of several events were sent together, so each event is tried by itself.
            Err(TargetError::Event { .. }) if rows.were_refused && !is_one => {
                Err(TargetError::OneByOne)
            }
            applied => applied,
        }
    }
}
