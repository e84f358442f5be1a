//! Opening a log for reading, beside the process that writes it. Takes no lock that outlasts the
//! open, and changes nothing.
//!
//! The subtle thing is where the log ends. While another process has it open, the log ends at the
//! published head. Otherwise it ends where an open for writing would find its end: behind the last
//! whole commit. So a log that was killed, or that lost its published head, is read to its end.

use std::{path::Path, sync::Arc, thread, time::Duration};

use diptych_store::LogIdentity;

use super::{End, OpenLog, Opening, assemble, check_options, evidence::Evidence, newest_seed};
use crate::{
    catalog::{
        Catalog,
        filter_file::FilterSpan,
        maps::{FilesOwner, Maps},
        part::IndexPart,
    },
    disk::Disk,
    error::OpenError,
    folder::{
        Folders, found_end, hold,
        mark::{self, FolderKind},
    },
    format::head::PublishedHead,
    index::Seed,
    options::LogOptions,
};

/// Attempts while another process changes files, and the pause between them.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(2);

/// A log that was opened for reading.
pub(crate) struct OpenForReading {
    pub(crate) log: OpenLog,
    pub(crate) kind: FolderKind,
}

/// Opens the log, or the backup, in a folder for reading.
///
/// # Errors
/// [`OpenError`] if there is no log, or it is damaged so that an open for writing would refuse it.
pub(crate) fn open(root: &Path, options: LogOptions) -> Result<OpenForReading, OpenError> {
    check_options(&options)?;
    let folders = Folders::new(root);
    let disk = hold::pin(&*options.disk, root)?;
    let maps = Maps::new(options.tuning.mapped_files, FilesOwner::Elsewhere);
    let options = LogOptions { disk, ..options };
    repeated(|| open_once(&folders, &options, &maps))
}

fn open_once(
    folders: &Folders,
    options: &LogOptions,
    maps: &Arc<Maps>,
) -> Result<OpenForReading, OpenError> {
    let (disk, root) = (&*options.disk, &folders.root);
    let kind = mark::kind(disk, root)?;
    let upto = match kind {
        FolderKind::Backup(end) => Some(end),
        FolderKind::Log => published_by_writer(disk, folders)?,
    };
    let is_live = upto.is_some() && matches!(kind, FolderKind::Log);
    let evidence = match upto {
        None => Evidence::left_in(disk, root)?,
        Some(_) => Evidence::default(),
    };
    let seed = newest_seed(disk, &folders.index)?;
    let opening =
        Opening { disk, folders, evidence, backup: upto, seed, maps: maps.clone(), is_live };
    let log = opening.read(options, None)?;
    Ok(OpenForReading { log, kind })
}

/// The published head, or the end that is found in its place, if another process has the log open.
fn published_by_writer(
    disk: &dyn Disk,
    folders: &Folders,
) -> Result<Option<PublishedHead>, OpenError> {
    match hold::lock_shared(disk, &folders.root) {
        // Released at once: a process that opens the log now must not be held up.
        Ok(_released) => Ok(None),
        Err(OpenError::Held { .. }) => {
            Ok(found_end::visible_end(disk, folders)?.map(|end| end.head))
        }
        Err(other) => Err(other),
    }
}

/// Opens the log again, up to `upto`, because files changed or a segment began. Parts of the index
/// that are as before are taken over from `before`.
pub(crate) fn again(
    (folders, options): (&Folders, &LogOptions),
    (maps, seed): (&Arc<Maps>, Seed),
    (upto, kind): (PublishedHead, FolderKind),
    before: &Catalog,
) -> Result<OpenLog, OpenError> {
    let disk = &*options.disk;
    let is_live = matches!(kind, FolderKind::Log);
    repeated(|| {
        let (evidence, backup, maps) = (Evidence::default(), Some(upto), maps.clone());
        Opening { disk, folders, evidence, backup, seed, maps, is_live }.read(options, Some(before))
    })
}

/// Repeats an attempt that may have failed because another process changed files meanwhile.
fn repeated<T>(attempt: impl Fn() -> Result<T, OpenError>) -> Result<T, OpenError> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(OpenError::Io { .. } | OpenError::Corrupt(_)) => thread::sleep(PAUSE),
            done => return done,
        }
    }
    attempt()
}

impl Opening<'_> {
    fn read(&self, options: &LogOptions, before: Option<&Catalog>) -> Result<OpenLog, OpenError> {
        let mut listed = self.list_segments()?;
        let end = match &self.backup {
            Some(upto) => self.end_of_backup(&mut listed, upto, options)?,
            None => {
                let found = self.end_as_found(&mut listed, options)?;
                found.ok_or_else(|| hold::no_log(&self.folders.root))?
            }
        };
        let End { last, tail, .. } = &end;
        let mut parts = self.sealed_parts(&listed, &last.header)?;
        if let Some(before) = before {
            parts = taken_over(self.disk, parts, before);
        }
        parts.extend(tail.parts.iter().cloned());
        let identity: LogIdentity = last.header.identity;
        let (maps, folders) = (self.maps.clone(), self.folders.clone());
        let mut log =
            assemble(options.clone(), folders, (identity, self.seed), (maps, parts), end)?;
        if let Some(before) = before {
            let filters = log.catalog.filters.iter().map(|span| {
                let known = before.filters.iter().find(|old| is_as_before(old, span));
                known.map_or_else(|| span.file.clone(), |known| known.file.clone())
            });
            let filters = filters.collect();
            log.catalog = Catalog::new(log.catalog.parts, filters);
        }
        Ok(log)
    }
}

fn is_as_before(old: &FilterSpan, new: &FilterSpan) -> bool {
    let span = |filter: &FilterSpan| (filter.file.first, filter.file.last);
    span(old) == span(new) && !old.file.is_unusable()
}

/// The parts of complete segments as they were just listed, with those in their place that an
/// earlier catalog has and that are still good. If one segment was replaced, others may have been
/// too, so all are compared with their files, and not found one after another by the same read.
fn taken_over(
    disk: &dyn Disk,
    listed: Vec<Arc<IndexPart>>,
    before: &Catalog,
) -> Vec<Arc<IndexPart>> {
    let mut parts = Vec::with_capacity(listed.len());
    let some_replaced = before.parts.iter().any(|part| part.segment.is_replaced());
    for of_segment in listed.chunk_by(|one, next| Arc::ptr_eq(&one.segment, &next.segment)) {
        let Some(first) = of_segment.first() else { continue };
        let old = before.of_segment(first.segment.sequence);
        let old_segment = old.first().map(|part| &part.segment);
        match old_segment.filter(|old| old.base == first.segment.base) {
            Some(replaced) if replaced.is_replaced() => {
                first.segment.comes_after(replaced);
                parts.extend(of_segment.iter().cloned());
            }
            Some(segment)
                if is_still_good(old, of_segment)
                    && (!some_replaced || segment.is_as_mapped(disk)) =>
            {
                parts.extend(old.iter().cloned());
            }
            _ => parts.extend(of_segment.iter().cloned()),
        }
    }
    parts
}

/// Whether these parts can stay: the same files are listed; or no files cover the segment yet, and
/// the parts do, because they were read while it was written.
fn is_still_good(old: &[Arc<IndexPart>], listed: &[Arc<IndexPart>]) -> bool {
    let span = |part: &Arc<IndexPart>| (part.first, part.last_in_file(), part.is_listed());
    let same = old.iter().map(span).eq(listed.iter().map(span));
    let none_listed = listed.iter().all(|part| !part.is_listed());
    let events = |parts: &[Arc<IndexPart>]| parts.iter().map(|part| part.events()).sum::<u32>();
    same || none_listed && events(old) == events(listed)
}
