//! Bringing a decision's states up to date, and telling whether one is.

use diptych_store::{HistoryPoint, Position, Read};

use super::{
    error::CommandError,
    panel::LeftPanel,
    state::Slot,
    unsynced::{Above, Within},
};
use crate::snapshot::{self, Snapshots};

/// Brings a state up to everything published at least up to `need`, and to what this process
/// had accepted since.
pub(super) async fn catch_up(
    panel: &LeftPanel,
    slot: &mut dyn Slot,
    need: Position,
) -> Result<(), CommandError> {
    if slot.is_cold() {
        let head = panel.head.position();
        if let Some(place) = &panel.snapshots {
            recall(panel, slot, &**place, head).await?;
        }
        read(panel, slot, head).await?;
    } else {
        let head = panel.head.position();
        let wanted = match panel.unsynced.may_have_written(slot.filter(), slot.position()) {
            true => head,
            false => need,
        };
        // What is needed may be accepted and not published: then it is found below.
        read(panel, slot, wanted.min(head)).await?;
    }
    loop {
        let head = panel.head.position();
        match panel.unsynced.above(slot.filter(), slot.position(), head) {
            Above::Nothing => return Ok(()),
            Above::Known { found, upto } => slot.fold_accepted(&found, upto)?,
            Above::Unknown { .. } if slot.position() < head => read(panel, slot, head).await?,
            Above::Unknown { until } => {
                // What was waited for is nowhere but in the log now.
                let head = panel.head.after(until.before()).await?;
                read(panel, slot, head).await?;
            }
        }
    }
}

/// Whether something came that is not in the state, as far as is published and up to
/// `newest`, the end of the newest state of the same decision: then where.
///
/// A state beyond what is published is complete up to its own position and no further, so
/// beside one that is newer it might never have been.
pub(super) async fn overtaken(
    panel: &LeftPanel,
    slot: &mut dyn Slot,
    newest: Position,
) -> Result<Option<Position>, CommandError> {
    loop {
        let head = panel.head.position();
        if slot.position() < head {
            let last = panel.store.last(slot.filter(), head).await?;
            if let Some(at) = last.filter(|at| *at > slot.position()) {
                return Ok(Some(at));
            }
            slot.considered(head);
        }
        if slot.position() >= newest {
            return Ok(None);
        }
        match panel.unsynced.within(slot.filter(), slot.position(), newest) {
            Within::Nothing => slot.considered(newest),
            Within::Match(at) => return Ok(Some(at)),
            Within::Unknown => panel.published_upto(newest).await?,
        }
    }
}

/// Begins from what was kept outside the log, if that is of the history that the log has.
async fn recall(
    panel: &LeftPanel,
    slot: &mut dyn Slot,
    place: &dyn Snapshots,
    head: Position,
) -> Result<(), CommandError> {
    let Some(HistoryPoint { position, checksum, .. }) = slot.recall(place, panel.identity, head)
    else {
        return Ok(());
    };
    if panel.lineage.checksum(position).await? != Some(checksum) {
        slot.forget(place, &snapshot::of_a_lost_history(position));
    }
    Ok(())
}

async fn read(panel: &LeftPanel, slot: &mut dyn Slot, upto: Position) -> Result<(), CommandError> {
    while slot.position() < upto || slot.is_cold() {
        let read = Read::after(slot.position()).upto(upto.max(slot.position()));
        let batch = panel.store.read(slot.filter(), read).await?;
        let done = batch.upto() >= upto;
        slot.fold(&batch)?;
        if !done {
            // A long history is folded in turns with what else runs on this thread.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
