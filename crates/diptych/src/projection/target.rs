//! A database becomes a target of projections by the rules for all databases.

use super::{
    Checkpoint, RunnerHandle, Target, TargetError,
    database::Database,
    rules::{self, Batch, Design},
    slots::{PoisonRecord, StoredVersion},
    versions,
};
use crate::{
    event::Recorded,
    follow::{SwitchPolicy, VersionChange, VersionOutcome},
};

fn design<D: Database>(database: &mut D) -> Result<Design, TargetError> {
    let described = database.described()?;
    Ok(Design { described, readers: database.reader_names(), beside: database.beside() })
}

fn apply<D: Database>(
    database: &mut D,
    runs: &[&[Recorded<D::Event>]],
    from: Option<Checkpoint>,
    to: Checkpoint,
    poison: Option<&PoisonRecord>,
) -> Result<(), TargetError> {
    let design = design(database)?;
    database.transaction(&mut |tx| {
        // The checked schema is taken out, because tables that this transaction makes may be
        // rolled back.
        let known = match tx.checked().take() {
            Some(known) => known,
            // A database that was put in the place of another may have no tables.
            None => rules::prepare(tx, &design)?.1,
        };
        let schema = rules::apply(tx, &design, known, Batch { runs, from, to, poison })?;
        *tx.checked() = Some(schema);
        Ok(())
    })
}

impl<D: Database> Target for D {
    type Event = D::Event;

    fn name(&self) -> &str {
        self.projection()
    }

    fn checkpoint(&mut self) -> Result<Option<Checkpoint>, TargetError> {
        self.resume();
        let design = design(self)?;
        let mut checkpoint = None;
        self.transaction(&mut |tx| {
            let (found, schema) = rules::prepare(tx, &design)?;
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
        apply(self, &[events], from, to, None)
    }

    fn isolates_by(&self) -> Option<String> {
        self.key()
    }

    fn poison(&mut self) -> Result<PoisonRecord, TargetError> {
        let design = design(self)?;
        let mut poison = PoisonRecord::default();
        self.transaction(&mut |tx| {
            let slot = rules::own_slot(tx, &design)?;
            poison = tx.poison(slot)?;
            Ok(())
        })?;
        Ok(poison)
    }

    fn apply_isolated(
        &mut self,
        runs: &[&[Recorded<D::Event>]],
        from: Option<Checkpoint>,
        to: Checkpoint,
        poison: Option<&PoisonRecord>,
    ) -> Result<(), TargetError> {
        apply(self, runs, from, to, poison)
    }

    fn reset(&mut self) -> Result<(), TargetError> {
        self.resume();
        let design = design(self)?;
        self.transaction(&mut |tx| {
            *tx.checked() = None;
            tx.create_tables()?;
            rules::reset(tx, &design)
        })
    }

    fn run_by(&mut self, handle: RunnerHandle) {
        Database::run_by(self, handle);
    }

    fn confirm(&mut self, stored: Option<Checkpoint>) -> Result<(), TargetError> {
        let found = match self.peek()? {
            Some(found) => found.checkpoint,
            None => {
                let design = design(self)?;
                let mut found = None;
                self.transaction(&mut |tx| {
                    found = rules::confirmed(tx, &design)?;
                    Ok(())
                })?;
                // Tables that were made are committed even if the checkpoint differs, so that
                // readers find them.
                found
            }
        };
        if found == stored { Ok(()) } else { Err(TargetError::Moved { found }) }
    }

    fn own_version(&self) -> Option<u32> {
        Database::beside(self).map(|_| Database::version(self))
    }

    fn switches_itself(&self) -> bool {
        Database::beside(self) == Some(SwitchPolicy::Automatic)
    }

    fn versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        match Database::beside(self) {
            Some(_) => self.peek_versions(),
            None => Ok(Vec::new()),
        }
    }

    fn change(&mut self, change: VersionChange) -> Result<VersionOutcome, TargetError> {
        let design = design(self)?;
        let mut outcome = VersionOutcome::Done;
        self.transaction(&mut |tx| {
            *tx.checked() = None;
            outcome = versions::change(tx, &design, change)?;
            Ok(())
        })?;
        Ok(outcome)
    }
}
