//! Brings the states of a decision up to date, and checks whether a state is up to date.

use diptych_store::{HistoryPoint, Position, Read};

use super::{
    accepted::{Above, Within},
    error::CommandError,
    panel::LeftPanel,
    state::Slot,
};
use crate::snapshot::{self, Snapshots};

/// Applies published events, then the events that this process accepted and that are not published.
///
/// A cold state applies all published events. A warm state applies them only up to `need`, unless
/// this process seems to have written newer matching ones.
pub(super) async fn catch_up(
    panel: &LeftPanel,
    slot: &mut dyn Slot,
    need: Position,
) -> Result<(), CommandError> {
    if slot.is_cold() {
        let mut head = panel.head.position();
        if let Some(place) = &panel.snapshots {
            // A snapshot of another process can be above the head, and is not useless then.
            head = panel.store.fresh_head().await?;
            load_snapshot(panel, slot, &**place, head).await?;
        }
        read(panel, slot, head).await?;
    } else {
        let head = panel.head.position();
        let wanted = match panel.accepted_window.may_have_written(slot.filter(), slot.position()) {
            true => head,
            false => need,
        };
        // The loop below finds events that are accepted and not published: they are in the window.
        read(panel, slot, wanted.min(head)).await?;
    }
    loop {
        let head = panel.head.position();
        match panel.accepted_window.above(slot.filter(), slot.position(), head) {
            Above::Nothing => return Ok(()),
            Above::Known { found, upto } => slot.fold_accepted(&found, upto)?,
            Above::Unknown { .. } if slot.position() < head => read(panel, slot, head).await?,
            Above::Unknown { until } => {
                // Once these events are published, they can be read from the log.
                let head = panel.head.upto(until).await?;
                read(panel, slot, head).await?;
            }
        }
    }
}

/// The position of an event that the state lacks, if there is one. This checks the published
/// events, and the accepted ones up to `newest`, where the newest state of the same decision ends.
///
/// If the log has other writers, the caller asks for the fresh head first.
///
/// A state above the published position is only known to be complete up to its own position.
/// Together with a newer state, it could show the rule a combination that never existed.
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
        match panel.accepted_window.within(slot.filter(), slot.position(), newest) {
            Within::Nothing => slot.considered(newest),
            Within::Match(at) => return Ok(Some(at)),
            Within::Unknown => panel.published_upto(newest).await?,
        }
    }
}

/// Loads a snapshot, if it belongs to the history of the log.
async fn load_snapshot(
    panel: &LeftPanel,
    slot: &mut dyn Slot,
    place: &dyn Snapshots,
    head: Position,
) -> Result<(), CommandError> {
    let Some(HistoryPoint { position, checksum, .. }) =
        slot.load_snapshot(place, panel.identity, head)
    else {
        return Ok(());
    };
    if panel.lineage.checksum(position).await? != Some(checksum) {
        slot.forget(place, &snapshot::of_a_lost_history(position));
    }
    Ok(())
}

async fn read(panel: &LeftPanel, slot: &mut dyn Slot, upto: Position) -> Result<(), CommandError> {
    // A snapshot has the older events of its boundary, and all later events carry their tags.
    let retagged = match slot.is_cold() && slot.position() == Position::START {
        true => slot.retagged(),
        false => None,
    };
    let marked = match retagged {
        Some(boundary) => Some(boundary.find(&panel.store).await?),
        None => None,
    };
    while slot.position() < upto || slot.is_cold() {
        let (after, upto) = (slot.position(), upto.max(slot.position()));
        let batch = match &marked {
            Some(marked) => marked.page(&panel.store, after, upto, usize::MAX).await?,
            None => panel.store.read(slot.filter(), Read::after(after).upto(upto)).await?,
        };
        let done = batch.upto() >= upto;
        slot.fold(&batch)?;
        if !done {
            // Folding a long history yields to other tasks on this thread.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
