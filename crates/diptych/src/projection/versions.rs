//! Versions of a projection side by side in one database: they are compared through the names that
//! readers use, and switched in one transaction.

use super::{
    TargetError,
    rules::{Design, Tx, hide, own_slot, show},
    slots::{SampleAnswer, StoredVersion, VersionSlot},
};
use crate::follow::{VersionChange, VersionOutcome, VersionState};

/// Carries out a change of versions in this transaction.
pub(super) fn change<E>(
    tx: Tx<'_, E>,
    design: &Design,
    change: VersionChange,
) -> Result<VersionOutcome, TargetError> {
    let versions = tx.versions()?;
    let Some(served) = versions.iter().find(|it| it.slot == VersionSlot::Served) else {
        return Err(tx.broken("the database has no row of the projection: resume it"));
    };
    if let VersionChange::Drop(version) = change {
        return drop_version(tx, design, &versions, version);
    }
    let own = own_slot(tx, design)?;
    let to = match change {
        VersionChange::Back { .. } => {
            let kept = versions.iter().filter(|it| it.state == VersionState::Kept);
            kept.max_by_key(|it| it.row.version)
        }
        _ => versions.iter().find(|it| it.slot == own),
    };
    let Some(to) = to else {
        return Err(failed("the database keeps no other version of the projection".to_owned()));
    };
    let is_back = matches!(change, VersionChange::Back { .. });
    if to.slot == VersionSlot::Served {
        return match change {
            VersionChange::Compare => {
                Err(failed("nothing is built beside the served version".to_owned()))
            }
            _ => Ok(VersionOutcome::Done),
        };
    }
    let (compares, needs_equal_position) = match change {
        VersionChange::Forward { compares, needs_equal_position } => {
            (compares, needs_equal_position)
        }
        VersionChange::Back { needs_equal_position } => (false, needs_equal_position),
        VersionChange::Compare | VersionChange::Drop(_) => (true, true),
    };
    // The transaction locks the database, so both stay where they are until the commit.
    if needs_equal_position && to.row.checkpoint != served.row.checkpoint {
        let (served, other) = (served.position(), to.position());
        return Ok(VersionOutcome::Unequal { served, other });
    }
    if is_back {
        tracing::warn!(
            projection = tx.projection(),
            from = served.row.version,
            to = to.row.version,
            "a switch back to an older version"
        );
    }
    let is_only_a_look = change == VersionChange::Compare;
    exchange(tx, served, to, compares, is_only_a_look)
}

/// Gives the names for readers to the other version, and moves the rows, if no comparison speaks
/// against it.
fn exchange<E>(
    tx: Tx<'_, E>,
    served: &StoredVersion,
    to: &StoredVersion,
    compares: bool,
    is_only_a_look: bool,
) -> Result<VersionOutcome, TargetError> {
    let (old, new) = (served.row.version, to.row.version);
    let before = if compares { tx.answers()? } else { Vec::new() };
    let poison = if compares { more_poison(tx, served, to)? } else { None };
    point(tx, old, new)?;
    let difference = match compares {
        true if poison.is_none() => difference(tx, &before, old, new)?,
        _ => poison,
    };
    if difference.is_some() || is_only_a_look {
        point(tx, new, old)?;
        let at = to.position();
        let state = match &difference {
            Some(difference) => VersionState::Different { at, difference: difference.clone() },
            None => VersionState::Equal { at },
        };
        tx.set_state(new, &state)?;
    }
    if let Some(difference) = difference {
        return Ok(VersionOutcome::Different { difference });
    }
    if !is_only_a_look {
        tx.move_version(VersionSlot::Served, VersionSlot::Beside(old))?;
        tx.move_version(VersionSlot::Beside(new), VersionSlot::Served)?;
        tx.set_state(old, &VersionState::Kept)?;
        tracing::info!(
            projection = tx.projection(),
            from = old,
            to = new,
            position = to.position().get(),
            "another version is served"
        );
    }
    Ok(VersionOutcome::Done)
}

/// The first key that is poisoned in the new version only.
fn more_poison<E>(
    tx: Tx<'_, E>,
    served: &StoredVersion,
    to: &StoredVersion,
) -> Result<Option<String>, TargetError> {
    let more = tx.poison(to.slot)?.keys;
    if more.is_empty() {
        return Ok(None);
    }
    let known = tx.poison(served.slot)?.keys;
    let mut more = more.into_iter().filter(|row| known.iter().all(|it| it.key != row.key));
    Ok(more.next().map(|row| {
        format!(
            "the key {} is poisoned in version {} only, by the event at position {}: {}",
            row.key, to.row.version, row.failed, row.reason
        )
    }))
}

/// Makes the names for readers stand for the objects of another version.
fn point<E>(tx: Tx<'_, E>, from: u32, to: u32) -> Result<(), TargetError> {
    hide(tx, from)?;
    show(tx, to)
}

/// The first difference between the answers of the old version and those of the new one. On
/// return the names for readers stand for the new version.
fn difference<E>(
    tx: Tx<'_, E>,
    before: &[SampleAnswer],
    old: u32,
    new: u32,
) -> Result<Option<String>, TargetError> {
    let after = tx.answers()?;
    for (at, (was, is)) in before.iter().zip(&after).enumerate() {
        let question = &was.question;
        let (had, has) = match (&was.rows, &is.rows) {
            (Ok(had), Ok(has)) if had == has => continue,
            (Ok(had), Ok(has)) => (had, has),
            (Err(error), _) => {
                return Ok(Some(format!("{question}: version {old} has no answer: {error}")));
            }
            (_, Err(error)) => {
                return Ok(Some(format!("{question}: version {new} has no answer: {error}")));
            }
        };
        let alike = had.iter().zip(has).take_while(|(had, has)| had == has).count();
        let new_row = tx.sample_row(at, alike)?;
        point(tx, new, old)?;
        let old_row = tx.sample_row(at, alike)?;
        point(tx, old, new)?;
        let row = |row: Option<String>| row.unwrap_or_else(|| "no row".to_owned());
        return Ok(Some(format!(
            "{question}: row {}: version {old} has {}, version {new} has {} ({} and {} rows)",
            alike + 1,
            row(old_row),
            row(new_row),
            had.len(),
            has.len()
        )));
    }
    Ok(None)
}

fn drop_version<E>(
    tx: Tx<'_, E>,
    design: &Design,
    versions: &[StoredVersion],
    version: u32,
) -> Result<VersionOutcome, TargetError> {
    let Some(found) = versions.iter().find(|it| it.row.version == version) else {
        return Err(failed(format!("the database has no version {version} of the projection")));
    };
    if found.slot == VersionSlot::Served {
        return Err(failed(format!("version {version} is served: switch to another one first")));
    }
    if found.slot == own_slot(tx, design)? {
        return Err(failed(format!(
            "this program builds version {version}, and would begin it again: end the program \
             first, or rebuild the projection"
        )));
    }
    let objects = tx.made(found.slot)?;
    tx.remove(&objects)?;
    tx.forget(version)?;
    Ok(VersionOutcome::Done)
}

/// A command that cannot be carried out. The database is sound.
fn failed(reason: String) -> TargetError {
    TargetError::Refused { reason }
}
