//! Where and when a log is opened, and the manifest that says so.

use diptych_store::LogIdentity;

use super::{End, Opening, evidence::Evidence};
use crate::{
    disk::{Disk, FolderPlace},
    error::{OpenError, io_error},
    folder::{Folders, manifest},
    format::{
        frame::Link,
        manifest::{ActiveSegment, Manifest, Role, Run, SealedSegment, State},
        segment,
    },
    options::Durability,
};

/// The place and the run in which a log is opened.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub(super) place: Option<FolderPlace>,
    pub(super) run: Run,
}

impl Here {
    pub(super) fn now(
        disk: &dyn Disk,
        folders: &Folders,
        evidence: &Evidence,
        durability: Durability,
    ) -> Result<Here, OpenError> {
        let root = &folders.root;
        let place = disk.place(root).map_err(io_error("ask for the place of", root))?;
        let run = manifest::begin_run(disk, root, evidence.nonce(), durability)?;
        Ok(Here { place, run })
    }

    /// The manifest of a log that has no segment yet.
    pub(super) fn begin(&self, identity: LogIdentity) -> Manifest {
        Manifest {
            identity,
            role: Role::Primary,
            state: State::Open,
            place: self.place,
            run: self.run.clone(),
            active: ActiveSegment::NONE,
            sealed: None,
            restored_from: None,
            archive: None,
        }
    }
}

/// Gives a folder the identity of the log that moves there, before it has a segment. From then on
/// it is that log, and takes only the commits of the move.
pub(crate) fn begin_arrival(
    disk: &dyn Disk,
    folders: &Folders,
    identity: LogIdentity,
    from: &str,
) -> Result<(), OpenError> {
    let here = Here::now(disk, folders, &Evidence::default(), Durability::Synced)?;
    let role = Role::Arriving { from: from.to_owned() };
    manifest::replace(disk, &folders.root, &Manifest { role, ..here.begin(identity) })
}

impl Opening<'_> {
    /// The manifest of a log that was found to end here, and is open from now on.
    pub(super) fn manifest_of(&self, end: &End, here: &Here) -> Result<Manifest, OpenError> {
        let header = &end.last.header;
        let migrates = header.format < segment::FORMAT;
        let position = header.base.plus(u64::from(end.tail.recovered.next)).before();
        let active = ActiveSegment {
            sequence: header.sequence,
            base: header.base,
            end: end.tail.recovered.end,
            position,
        };
        let link = self.link_in(&end.last)?;
        let sealed = link.map(|Link { chain, bytes }| {
            let sequence = header.sequence.saturating_sub(1);
            SealedSegment { sequence, bytes, chain }
        });
        Ok(Manifest {
            state: if migrates { State::Migrating } else { State::Open },
            active,
            sealed,
            role: self.evidence.role(),
            archive: self.evidence.manifest().and_then(|noted| noted.archive.clone()),
            ..here.begin(header.identity)
        })
    }
}
