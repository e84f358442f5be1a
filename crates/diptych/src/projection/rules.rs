//! The rules of projections into a database: versions, changes of the schema, and checkpoints that
//! move only if they are where the runner expects them.

use std::{collections::HashSet, sync::Arc};

use super::{
    Checkpoint, TargetError,
    database::{CheckedSchema, DatabaseTransaction, Grouping, SchemaObject},
    slots::{PoisonRecord, ReaderName, StoredCheckpoint, VersionSlot},
};
use crate::{
    event::Recorded,
    follow::{SwitchPolicy, VersionState},
};

pub(super) type Tx<'a, E> = &'a mut dyn DatabaseTransaction<E>;

/// The program's own version of a projection.
pub(super) struct Design {
    /// The objects that it makes.
    pub(super) described: Arc<[SchemaObject]>,
    pub(super) readers: Vec<ReaderName>,
    pub(super) beside: Option<SwitchPolicy>,
}

/// The slot of the program's own version: the served one, or one beside it.
pub(super) fn own_slot<E>(tx: Tx<'_, E>, design: &Design) -> Result<VersionSlot, TargetError> {
    let version = tx.version();
    match design.beside {
        Some(_) if tx.stored(VersionSlot::Served)?.is_some_and(|it| it.version != version) => {
            Ok(VersionSlot::Beside(version))
        }
        _ => Ok(VersionSlot::Served),
    }
}

/// Makes the tables if they do not exist in this version, checks them, and reads the checkpoint.
pub(super) fn prepare<E>(
    tx: Tx<'_, E>,
    design: &Design,
) -> Result<(Option<Checkpoint>, CheckedSchema), TargetError> {
    tx.create_tables()?;
    check_names(tx, design)?;
    let (version, slot) = (tx.version(), own_slot(tx, design)?);
    let checkpoint = match (tx.stored(slot)?, slot) {
        (Some(found), _) if found.version == version => found.checkpoint,
        (_, VersionSlot::Beside(_)) => {
            begin_beside(tx, design)?;
            None
        }
        (Some(found), _) if found.version > version => {
            return Err(tx.broken(&format!(
                "the tables of projection {} have version {}, and this program has version \
                 {version}: run the newer program, or rebuild the projection to go back",
                tx.projection(),
                found.version
            )));
        }
        (found, _) => {
            if let Some(StoredCheckpoint { version: before, .. }) = found {
                tracing::warn!(
                    projection = tx.projection(),
                    before,
                    version,
                    "the tables have an older version: they are rebuilt from the log"
                );
            }
            rebuild(tx, design, slot)?;
            None
        }
    };
    Ok((checkpoint, check(tx, design)?))
}

/// Makes the tables of a version beside the served one. It leaves out the events that are left out
/// there for good.
fn begin_beside<E>(tx: Tx<'_, E>, design: &Design) -> Result<(), TargetError> {
    let version = tx.version();
    let present = tx.present()?;
    let is_there = |object: &&SchemaObject| present.iter().any(|it| it.name == object.name);
    if let Some(object) = design.described.iter().find(is_there) {
        return Err(tx.broken(&format!(
            "the {kind} {name} exists already: version {version} of projection {projection} is \
             built beside the served one, and needs other names in `create` and `apply`, such as \
             {name}_v{version}",
            kind = object.kind,
            name = object.name,
            projection = tx.projection(),
        )));
    }
    tracing::info!(projection = tx.projection(), version, "a version is built beside the served");
    let slot = VersionSlot::Beside(version);
    rebuild(tx, design, slot)?;
    let skipped = tx.poison(VersionSlot::Served)?.skipped;
    if !skipped.is_empty() {
        tx.set_poison(slot, &PoisonRecord { keys: Vec::new(), skipped })?;
    }
    tx.set_state(version, &VersionState::Building)
}

/// Begins the program's own version again, where it is. A program that builds beside the served
/// version does not touch that one.
pub(super) fn reset<E>(tx: Tx<'_, E>, design: &Design) -> Result<(), TargetError> {
    check_names(tx, design)?;
    let slot = own_slot(tx, design)?;
    let VersionSlot::Beside(version) = slot else {
        return rebuild(tx, design, slot);
    };
    match tx.stored(slot)? {
        None => begin_beside(tx, design),
        Some(_) => {
            rebuild(tx, design, slot)?;
            tx.set_state(version, &VersionState::Building)
        }
    }
}

/// Removes all objects of the slot, and makes those of this version.
fn rebuild<E>(tx: Tx<'_, E>, design: &Design, slot: VersionSlot) -> Result<(), TargetError> {
    if slot == VersionSlot::Served {
        // A rebuild has to help against a row that cannot be read, too.
        let served = tx.stored(slot).ok().flatten().map(|served| served.version);
        let version = served.unwrap_or(tx.version());
        hide(tx, version)?;
    }
    let old = tx.made(slot)?;
    tx.remove(&old)?;
    let before = tx.present()?;
    tx.create(&before)?;
    let mut made = tx.present()?;
    made.retain(|object| !before.contains(object));
    if let Some(missing) = design.described.iter().find(|object| !made.contains(object)) {
        return Err(tx.broken(&format!(
            "the {} {} exists already, and is not of projection {}: take another name",
            missing.kind,
            missing.name,
            tx.projection()
        )));
    }
    tx.begin(slot, &made, &design.readers)?;
    match slot {
        VersionSlot::Served => {
            let version = tx.version();
            show(tx, version)
        }
        VersionSlot::Beside(_) => Ok(()),
    }
}

/// Takes the names for readers from the objects of this version.
pub(super) fn hide<E>(tx: Tx<'_, E>, version: u32) -> Result<(), TargetError> {
    let readers = tx.readers(version)?;
    let objects: Vec<_> = readers.iter().map(|reader| tx.reader_object(reader)).collect();
    tx.remove(&objects)
}

/// Gives the names for readers to the objects of this version.
pub(super) fn show<E>(tx: Tx<'_, E>, version: u32) -> Result<(), TargetError> {
    let readers = tx.readers(version)?;
    if readers.is_empty() {
        return Ok(());
    }
    let present = tx.present()?;
    for reader in &readers {
        if present.iter().any(|object| object.name == reader.name) {
            return Err(tx.broken(&format!(
                "{} exists already, so it cannot be the name under which readers find {} of \
                 projection {}: take another name",
                reader.name,
                reader.object,
                tx.projection()
            )));
        }
        tx.show(reader)?;
    }
    Ok(())
}

/// Checks that each name for readers stands for an object of this version.
fn check_names<E>(tx: Tx<'_, E>, design: &Design) -> Result<(), TargetError> {
    let name = tx.projection();
    if let Some((_, number)) = name.rsplit_once("@v")
        && number.parse::<u32>().is_ok()
    {
        return Err(tx.broken(&format!(
            "a projection cannot be named {name}: the database gives such names to its versions"
        )));
    }
    let is_made = |name: &str| design.described.iter().any(|object| object.name == name);
    for ReaderName { name, object } in &design.readers {
        if !is_made(object) {
            return Err(tx.broken(&format!(
                "readers are to find {object} under the name {name}, and `create` of projection \
                 {} does not make {object}",
                tx.projection()
            )));
        }
        if is_made(name) {
            return Err(tx.broken(&format!(
                "`create` of projection {} makes {name}, which is a name for readers: give the \
                 object a name of its version, such as {name}_v{}",
                tx.projection(),
                tx.version()
            )));
        }
    }
    Ok(())
}

/// Checks that the objects of the projection exist as its code makes them now.
fn check<E>(tx: Tx<'_, E>, design: &Design) -> Result<CheckedSchema, TargetError> {
    let slot = own_slot(tx, design)?;
    let objects = tx.made(slot)?;
    let [were, are] =
        [&objects[..], &design.described[..]].map(|all| all.iter().collect::<HashSet<_>>());
    if let Some(changed) = were.symmetric_difference(&are).next() {
        return Err(tx.broken(&format!(
            "`create` of projection {} changed ({} {}), and its version did not: raise the \
             version, so that the tables are rebuilt",
            tx.projection(),
            changed.kind,
            changed.name
        )));
    }
    let mut readers = tx.readers(tx.version())?;
    readers.sort();
    let mut named = design.readers.clone();
    named.sort();
    if readers != named {
        return Err(tx.broken(&format!(
            "the names for readers of projection {} changed, and its version did not: raise the \
             version",
            tx.projection()
        )));
    }
    let present = tx.present()?;
    let shown = match slot {
        VersionSlot::Served => readers.iter().map(|reader| tx.reader_object(reader)).collect(),
        VersionSlot::Beside(_) => Vec::new(),
    };
    let mut needed = objects.iter().chain(&shown);
    if let Some(gone) = needed.find(|object| !present.contains(object)) {
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
    let count = tx.schema_count()?;
    Ok(CheckedSchema::new(&objects, count, grouping))
}

/// Events that are applied in one transaction.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a, E> {
    /// In order; the events between two runs are held back.
    pub(super) runs: &'a [&'a [Recorded<E>]],
    pub(super) from: Option<Checkpoint>,
    pub(super) to: Checkpoint,
    /// The poisoned keys after the batch, if they changed.
    pub(super) poison: Option<&'a PoisonRecord>,
}

/// Applies the events, and returns the schema, checked again if it changed since the last check.
pub(super) fn apply<E>(
    tx: Tx<'_, E>,
    design: &Design,
    known: CheckedSchema,
    batch: Batch<'_, E>,
) -> Result<CheckedSchema, TargetError> {
    let Batch { runs, from, to, poison } = batch;
    let [first, last] = [runs.first(), runs.last()];
    let (first, last) = (first.and_then(|run| run.first()), last.and_then(|run| run.last()));
    // The checkpoint moves first, so that a runner with an outdated checkpoint changes nothing.
    // Held events that are applied later are older than the checkpoint, which stays where it is.
    let recorded_at = last.filter(|_| from != Some(to)).map(|event| event.recorded_at);
    let slot = own_slot(tx, design)?;
    if !tx.move_checkpoint(slot, from, to, recorded_at)? {
        let found = tx.stored(slot)?;
        return Err(moved(tx, found));
    }
    // Until the commit no other program can change the schema.
    let schema = match tx.schema_count()? == known.count() {
        true => known,
        false => check(tx, design)?,
    };
    let [first, last] = [first, last].map(|event| event.map(|event| event.position));
    if schema.grouping() == Grouping::Position && first != last {
        return Err(TargetError::OneByOne);
    }
    for run in runs {
        tx.apply(&schema, run)?;
    }
    if let Some(poison) = poison {
        tx.set_poison(slot, poison)?;
    }
    Ok(schema)
}

/// The stored checkpoint, with the schema checked if it changed since the last check.
pub(super) fn confirmed<E>(
    tx: Tx<'_, E>,
    design: &Design,
) -> Result<Option<Checkpoint>, TargetError> {
    let count = tx.schema_count()?;
    if tx.checked().as_ref().is_none_or(|checked| checked.count() != count) {
        let (found, schema) = prepare(tx, design)?;
        *tx.checked() = Some(schema);
        return Ok(found);
    }
    let slot = own_slot(tx, design)?;
    match tx.stored(slot)? {
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
