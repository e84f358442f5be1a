//! The rules that all databases of projections share, tested with a database in memory.

use std::sync::Arc;

use diptych::{
    Event, Metadata, Position, Recorded, Timestamp, Uuid,
    projection::{
        CheckedSchema, Checkpoint, Database, DatabaseTransaction, DatabaseWork, Grouping,
        PoisonRecord, ReaderName, SampleAnswer, SchemaObject, StoredCheckpoint, StoredVersion,
        Target, TargetError, VersionSlot, VersionState,
    },
    store::{Epoch, LogId, LogIdentity},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("counted")]
struct Counted {
    number: u64,
}

/// The contents of a database, which several connections share.
#[derive(Clone, Default)]
struct Contents {
    row: Option<StoredCheckpoint>,
    made: Vec<SchemaObject>,
    objects: Vec<SchemaObject>,
    numbers: Vec<u64>,
    schema_count: i64,
}

/// A connection of a projection to a database in memory.
#[derive(Clone)]
struct MemoryDatabase {
    contents: Arc<Mutex<Contents>>,
    version: u32,
    /// The objects that the projection creates.
    creates: Vec<SchemaObject>,
    checked: Option<CheckedSchema>,
    grouping: Grouping,
    refused: Option<u64>,
    /// Rolls the work of each transaction back once, and runs it again.
    runs_twice: bool,
}

struct MemoryTransaction<'a> {
    contents: Contents,
    database: &'a mut MemoryDatabase,
}

fn table(name: &str, sql: &str) -> SchemaObject {
    SchemaObject { kind: "table".to_owned(), name: name.to_owned(), sql: sql.to_owned() }
}

impl MemoryDatabase {
    fn new(contents: &Arc<Mutex<Contents>>, version: u32) -> MemoryDatabase {
        MemoryDatabase {
            contents: contents.clone(),
            version,
            creates: vec![table("numbers", "number")],
            checked: None,
            grouping: Grouping::Batch,
            refused: None,
            runs_twice: false,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) {
        let mut contents = self.contents.lock();
        change(&mut contents);
        contents.schema_count += 1;
    }

    fn numbers(&self) -> Vec<u64> {
        self.contents.lock().numbers.clone()
    }

    fn broken(&mut self) -> String {
        reason(self.checkpoint().map(drop))
    }
}

impl Database for MemoryDatabase {
    type Event = Counted;

    fn projection(&self) -> &str {
        "counter"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn described(&mut self) -> Result<Arc<[SchemaObject]>, TargetError> {
        Ok(self.creates.clone().into())
    }

    fn transaction(&mut self, work: DatabaseWork<'_, Counted>) -> Result<(), TargetError> {
        let shared = self.contents.clone();
        let mut committed = shared.lock();
        if self.runs_twice {
            let checked = self.checked.clone();
            let mut aborted = MemoryTransaction { contents: committed.clone(), database: self };
            let _ = work(&mut aborted);
            self.checked = checked;
        }
        let mut tx = MemoryTransaction { contents: committed.clone(), database: self };
        work(&mut tx)?;
        *committed = tx.contents;
        Ok(())
    }
}

impl DatabaseTransaction<Counted> for MemoryTransaction<'_> {
    fn projection(&self) -> &str {
        "counter"
    }

    fn version(&self) -> u32 {
        self.database.version
    }

    fn broken(&self, fault: &str) -> TargetError {
        TargetError::Broken { reason: format!("memory: {fault}"), source: None }
    }

    fn create_tables(&mut self) -> Result<(), TargetError> {
        Ok(())
    }

    fn stored(&mut self, _: VersionSlot) -> Result<Option<StoredCheckpoint>, TargetError> {
        Ok(self.contents.row)
    }

    fn move_checkpoint(
        &mut self,
        _: VersionSlot,
        from: Option<Checkpoint>,
        to: Checkpoint,
        _: Option<Timestamp>,
    ) -> Result<bool, TargetError> {
        let version = self.database.version;
        let is_there = self.contents.row == Some(StoredCheckpoint { version, checkpoint: from });
        if is_there {
            self.contents.row = Some(StoredCheckpoint { version, checkpoint: Some(to) });
        }
        Ok(is_there)
    }

    fn begin(
        &mut self,
        _: VersionSlot,
        made: &[SchemaObject],
        _: &[ReaderName],
    ) -> Result<(), TargetError> {
        let version = self.database.version;
        self.contents.row = Some(StoredCheckpoint { version, checkpoint: None });
        self.contents.made = made.to_vec();
        Ok(())
    }

    fn made(&mut self, _: VersionSlot) -> Result<Vec<SchemaObject>, TargetError> {
        Ok(self.contents.made.clone())
    }

    // It has no versions side by side: `diptych-sqlite` tests the rules for these.

    fn versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        Ok(Vec::new())
    }

    fn move_version(&mut self, _: VersionSlot, _: VersionSlot) -> Result<(), TargetError> {
        Err(self.broken("it has one version"))
    }

    fn set_state(&mut self, _: u32, _: &VersionState) -> Result<(), TargetError> {
        Err(self.broken("it has one version"))
    }

    fn forget(&mut self, _: u32) -> Result<(), TargetError> {
        Err(self.broken("it has one version"))
    }

    fn readers(&mut self, _: u32) -> Result<Vec<ReaderName>, TargetError> {
        Ok(Vec::new())
    }

    fn poison(&mut self, _: VersionSlot) -> Result<PoisonRecord, TargetError> {
        Ok(PoisonRecord::default())
    }

    fn set_poison(&mut self, _: VersionSlot, _: &PoisonRecord) -> Result<(), TargetError> {
        Err(self.broken("it isolates no keys"))
    }

    fn reader_object(&self, reader: &ReaderName) -> SchemaObject {
        table(&reader.name, &reader.object)
    }

    fn show(&mut self, _: &ReaderName) -> Result<(), TargetError> {
        Err(self.broken("it has no names for readers"))
    }

    fn answers(&mut self) -> Result<Vec<SampleAnswer>, TargetError> {
        Ok(Vec::new())
    }

    fn sample_row(&mut self, _: usize, _: usize) -> Result<Option<String>, TargetError> {
        Ok(None)
    }

    fn present(&mut self) -> Result<Vec<SchemaObject>, TargetError> {
        Ok(self.contents.objects.clone())
    }

    fn create(&mut self, before: &[SchemaObject]) -> Result<(), TargetError> {
        for object in self.database.creates.clone() {
            if !before.iter().any(|existing| existing.name == object.name) {
                self.contents.objects.push(object);
                self.contents.schema_count += 1;
            }
        }
        Ok(())
    }

    fn remove(&mut self, objects: &[SchemaObject]) -> Result<(), TargetError> {
        self.contents.objects.retain(|object| !objects.iter().any(|gone| gone.name == object.name));
        self.contents.schema_count += 1;
        self.contents.numbers.clear();
        Ok(())
    }

    fn check(&mut self, _: &[SchemaObject], _: &[SchemaObject]) -> Result<Grouping, TargetError> {
        Ok(self.database.grouping)
    }

    fn schema_count(&mut self) -> Result<i64, TargetError> {
        Ok(self.contents.schema_count)
    }

    fn checked(&mut self) -> &mut Option<CheckedSchema> {
        &mut self.database.checked
    }

    fn apply(
        &mut self,
        schema: &CheckedSchema,
        events: &[Recorded<Counted>],
    ) -> Result<(), TargetError> {
        assert!(schema.names().contains("numbers"));
        for event in events {
            if self.database.refused == Some(event.number) {
                return Err(TargetError::event(event.position, "not this one"));
            }
            self.contents.numbers.push(event.number);
        }
        Ok(())
    }
}

fn counted(position: u64) -> Recorded<Counted> {
    Recorded {
        position: Position::new(position),
        recorded_at: Timestamp::from_micros(0),
        id: Uuid::from_u128(1),
        metadata: Metadata::default(),
        event: Counted { number: position },
    }
}

fn at(position: u64) -> Checkpoint {
    let log = LogIdentity { id: LogId::from_bytes([7; 16]), epoch: Epoch::from_u64(1) };
    Checkpoint { log, position: Position::new(position), checksum: None }
}

#[track_caller]
fn reason(outcome: Result<(), TargetError>) -> String {
    match outcome {
        Err(TargetError::Broken { reason, .. }) => reason,
        other => panic!("not broken: {other:?}"),
    }
}

#[track_caller]
fn assert_moved(outcome: Result<(), TargetError>, expected: Option<Checkpoint>) {
    match outcome {
        Err(TargetError::Moved { found }) => assert_eq!(found, expected),
        other => panic!("not moved: {other:?}"),
    }
}

/// Returns a database that has applied the events 1 and 2.
fn filled() -> (Arc<Mutex<Contents>>, MemoryDatabase) {
    let contents = Arc::default();
    let mut database = MemoryDatabase::new(&contents, 1);
    assert_eq!(database.checkpoint().unwrap(), None);
    database.apply(&[counted(1), counted(2)], None, at(2)).unwrap();
    (contents, database)
}

#[test]
fn rows_and_checkpoint_move_together() {
    let (contents, mut database) = filled();
    assert_eq!((database.checkpoint().unwrap(), database.numbers()), (Some(at(2)), vec![1, 2]));
    let mut other = MemoryDatabase::new(&contents, 1);
    assert_eq!(other.checkpoint().unwrap(), Some(at(2)));
    database.refused = Some(4);
    let refused = database.apply(&[counted(3), counted(4)], Some(at(2)), at(4));
    assert!(matches!(refused, Err(TargetError::Event { .. })), "{refused:?}");
    assert_eq!((database.checkpoint().unwrap(), database.numbers()), (Some(at(2)), vec![1, 2]));
}

#[test]
fn a_runner_with_an_outdated_checkpoint_changes_nothing() {
    let (_, mut database) = filled();
    for from in [None, Some(at(1)), Some(at(3))] {
        assert_moved(database.apply(&[counted(3)], from, at(3)), Some(at(2)));
    }
    assert_eq!(database.numbers(), [1, 2]);
}

#[test]
fn a_new_connection_checks_the_schema_before_it_applies() {
    let (contents, _) = filled();
    let mut other = MemoryDatabase::new(&contents, 1);
    other.apply(&[counted(3)], Some(at(2)), at(3)).unwrap();
    assert_eq!(other.numbers(), [1, 2, 3]);
    let mut changed = MemoryDatabase::new(&contents, 1);
    changed.creates = vec![table("numbers", "number, text")];
    let reason = reason(changed.apply(&[counted(4)], Some(at(3)), at(4)));
    assert!(reason.contains("raise the version"), "{reason}");
    assert_eq!(other.numbers(), [1, 2, 3]);
}

#[test]
fn a_higher_version_rebuilds_and_a_lower_one_is_refused() {
    let (contents, mut old) = filled();
    let mut new = MemoryDatabase::new(&contents, 2);
    new.creates = vec![table("totals", "total")];
    assert_eq!(new.checkpoint().unwrap(), None);
    assert!(new.numbers().is_empty());
    assert_eq!(contents.lock().objects, new.creates);
    let outdated = reason(old.apply(&[counted(3)], Some(at(2)), at(3)));
    assert!(outdated.contains("were rebuilt in version 2"), "{outdated}");
    let lower = MemoryDatabase::new(&contents, 1).broken();
    assert!(lower.contains("version 2, and this program has version 1"), "{lower}");
    assert!(lower.starts_with("memory: "), "{lower}");
}

#[test]
fn tables_that_changed_without_a_new_version_are_an_error() {
    let (contents, database) = filled();
    let mut changed = MemoryDatabase::new(&contents, 1);
    changed.creates.push(table("more", "x"));
    assert!(changed.broken().contains("(table more), and its version did not"));
    database.change(|contents| contents.objects[0].sql = "other".to_owned());
    let mut again = MemoryDatabase::new(&contents, 1);
    assert!(again.broken().contains("table numbers of projection counter was changed: rebuild"));
    database.change(|contents| contents.objects.clear());
    assert!(again.broken().contains("table numbers of projection counter was removed: rebuild"));
    again.reset().unwrap();
    assert_eq!(again.checkpoint().unwrap(), None);
    again.apply(&[counted(1)], None, at(1)).unwrap();
    assert_eq!(again.numbers(), [1]);
}

#[test]
fn a_change_of_the_schema_while_a_projection_runs_is_checked() {
    let (_, mut database) = filled();
    database.change(|contents| contents.objects.push(table("of_others", "x")));
    database.apply(&[counted(3)], Some(at(2)), at(3)).unwrap();
    database.change(|contents| contents.objects.retain(|object| object.name != "numbers"));
    let reason = reason(database.apply(&[counted(4)], Some(at(3)), at(4)));
    assert!(reason.contains("was removed"), "{reason}");
    assert_eq!(database.numbers(), [1, 2, 3]);
}

#[test]
fn objects_of_others_are_neither_taken_over_nor_removed() {
    let contents = Arc::default();
    let mut database = MemoryDatabase::new(&contents, 1);
    database.change(|contents| contents.objects.push(table("numbers", "number")));
    assert!(database.broken().contains("table numbers exists already"));
    database.change(|contents| contents.objects[0].name = "of_others".to_owned());
    assert_eq!(database.checkpoint().unwrap(), None);
    database.reset().unwrap();
    let names: Vec<_> = contents.lock().objects.iter().map(|object| object.name.clone()).collect();
    assert_eq!(names, ["of_others", "numbers"]);
}

#[test]
fn a_database_with_checks_at_the_commit_gets_one_position_at_a_time() {
    let contents = Arc::default();
    let mut database = MemoryDatabase::new(&contents, 1);
    database.grouping = Grouping::Position;
    let many = database.apply(&[counted(1), counted(2)], None, at(2));
    assert!(matches!(many, Err(TargetError::OneByOne)), "{many:?}");
    assert!(database.numbers().is_empty());
    database.apply(&[counted(1), counted(1)], None, at(1)).unwrap();
    database.apply(&[], Some(at(1)), at(2)).unwrap();
    assert_eq!((database.numbers(), database.checkpoint().unwrap()), (vec![1, 1], Some(at(2))));
}

#[test]
fn a_confirmation_detects_a_moved_or_missing_checkpoint() {
    let (contents, mut database) = filled();
    database.confirm(Some(at(2))).unwrap();
    assert_moved(database.confirm(Some(at(1))), Some(at(2)));
    database.change(|contents| contents.objects.push(table("of_others", "x")));
    database.confirm(Some(at(2))).unwrap();
    contents.lock().row = None;
    let gone = reason(database.confirm(Some(at(2))));
    assert!(gone.contains("checkpoint of projection counter is gone"), "{gone}");
    database.reset().unwrap();
    database.confirm(None).unwrap();
}

#[test]
fn work_that_runs_again_after_a_rollback_has_its_effect_once() {
    let contents = Arc::default();
    let mut database = MemoryDatabase::new(&contents, 1);
    database.runs_twice = true;
    assert_eq!(database.checkpoint().unwrap(), None);
    database.apply(&[counted(1)], None, at(1)).unwrap();
    assert_eq!((database.numbers(), database.checkpoint().unwrap()), (vec![1], Some(at(1))));
}

/// Regression: the first batch after the replacement of a database failed, and its rollback removed
/// the new tables. The schema counted as checked, so the next batch wrote to missing tables.
#[test]
fn tables_that_were_rolled_back_with_a_batch_are_created_again() {
    let contents = Arc::default();
    let mut database = MemoryDatabase::new(&contents, 1);
    database.refused = Some(1);
    let refused = database.apply(&[counted(1)], None, at(1));
    assert!(matches!(refused, Err(TargetError::Event { .. })), "{refused:?}");
    assert!(contents.lock().objects.is_empty());
    assert_moved(database.apply(&[counted(1)], Some(at(7)), at(8)), None);
    database.refused = None;
    database.apply(&[counted(1)], None, at(1)).unwrap();
    assert_eq!((database.numbers(), contents.lock().objects.len()), (vec![1], 1));
}

/// Regression: a confirmation rolled back the tables that it had created in a database without
/// rows. Readers of the projection found no tables until the next event.
#[test]
fn a_confirmation_creates_the_tables_of_a_replaced_database() {
    let contents = Arc::default();
    let mut database = MemoryDatabase::new(&contents, 1);
    assert_moved(database.confirm(Some(at(2))), None);
    assert_eq!(contents.lock().objects.len(), 1);
    database.confirm(None).unwrap();
}
