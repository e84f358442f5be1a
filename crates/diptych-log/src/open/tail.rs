//! The end of the last segment: using its index files, scanning the frames behind those, and
//! cutting off an incomplete commit.
//!
//! The subtle thing is what may be trusted. An index file is evidence that the records that it
//! covers were durable, and were these records. If it covers more bytes than there are, or other
//! records, then either the segment has changed or the file is of another copy of the log. An open
//! cannot tell the two cases apart, so it refuses the log.

use std::{io, path::Path, sync::Arc};

use diptych_store::{Corruption, Position};

use super::{Last, ListedIndexFile, ListedSegment, Opening};
use crate::{
    catalog::{
        part::IndexPart,
        rebuild::{LastCommit, Rebuilt},
    },
    disk::{DiskFile, prefetch},
    error::{OpenError, corruption, io_error},
    folder::derived,
    format::{
        chain::{self, Chain, Checkpoint},
        frame::{self, Link},
        recovery::{self, Recovery, ScanStart},
        segment::{self, Head, Header, Order, may_precede},
    },
    index::{Coverage, IndexFile, index_file},
};

/// The content of the last segment.
pub(super) struct Tail {
    /// Parts in files, then the one in memory.
    pub(super) parts: Vec<Arc<IndexPart>>,
    pub(super) recovered: Recovery,
    pub(super) tracking: frame::TrackingTable,
    pub(super) last_commit: Option<LastCommit>,
    /// Offset of the first frame of the part in memory.
    pub(super) from: u64,
    /// The running checksum of all its frames.
    pub(super) chain: Chain,
}

/// The end of the log as it was found, before anything is cut off.
pub(super) struct Unread {
    pub(super) tail: Tail,
    /// Bytes of the file; in a backup, at most up to its end.
    size: u64,
    /// Offset of `bytes` in the file.
    start: u64,
    bytes: Vec<u8>,
    /// Index files that are not used.
    pub(super) needless: Vec<ListedIndexFile>,
}

struct LastIndexFiles {
    chain: Vec<(Arc<IndexPart>, Coverage)>,
    proven: u64,
    /// Files that others have replaced, or that are unusable.
    needless: Vec<ListedIndexFile>,
}

/// An index file, and what it proves.
pub(super) struct LoadedIndexFile {
    evidence: index_file::IndexFileEvidence,
    /// `None` if it is of an older format.
    run: Option<(IndexFile, Coverage)>,
}

impl LoadedIndexFile {
    /// Whether it is about this segment, as its name says.
    pub(super) fn is_about(&self, segment: u32) -> bool {
        self.evidence.segment == segment
    }
}

impl Opening<'_> {
    /// Checks that the last segment belongs to one log with the segment before it and the published
    /// head: its identity becomes that of the log.
    pub(super) fn must_go_on(
        &self,
        before: &[ListedSegment],
        last: &Last,
    ) -> Result<(), OpenError> {
        let path = &last.segment.path;
        let mut others = Vec::new();
        if let Some(ListedSegment { sequence, base }) = before.last() {
            let before = self.folders.segments.join(segment::file_name(*sequence, *base));
            let file = self.disk.open_read(&before, 0).map_err(io_error("open", &before))?;
            let bytes = file.read_at(0, segment::HEADER).map_err(io_error("read", &before))?;
            // If the header is damaged, reading that segment reports it.
            if let Ok(header) = Header::parse(&bytes) {
                let events = last.header.base.get().saturating_sub(base.get());
                self.must_follow(&*file, &before, &header, (last, events))?;
                others.push((before, header.identity));
            }
        }
        let files = self.evidence.identities();
        let files = files.map(|(name, identity)| (self.folders.root.join(name), identity));
        for (other, identity) in others.into_iter().chain(files) {
            if !may_precede(identity, last.header.identity) {
                let (other, here) = (other.display(), last.header.identity);
                return Err(two_logs(
                    path,
                    16,
                    format!("it is of {here}, and {other} of {identity}"),
                ));
            }
        }
        self.must_be_noted(before, last)
    }

    /// Checks that the segment that the manifest knows follows the segment that it knows as sealed.
    fn must_be_noted(&self, before: &[ListedSegment], last: &Last) -> Result<(), OpenError> {
        let Some(sealed) = self.evidence.sealed() else { return Ok(()) };
        let sequence = sealed.sequence + 1;
        let (path, link) = if last.header.sequence == sequence {
            (last.segment.path.clone(), self.link_in(last)?)
        } else {
            let Some(after) = before.iter().find(|listed| listed.sequence == sequence) else {
                return Ok(());
            };
            let name = segment::file_name(sequence, after.base);
            let path = self.folders.segments.join(name);
            let file = self.disk.open_read(&path, 0).map_err(io_error("open", &path))?;
            let bytes = file.read_at(0, segment::HEADER).map_err(io_error("read", &path))?;
            // If the header is damaged, reading that segment reports it.
            let Ok(header) = Header::parse(&bytes) else { return Ok(()) };
            let link = first_link(&*file, &header).map_err(io_error("read", &path))?;
            (path, link)
        };
        match link {
            Some(Link { chain, bytes }) if (chain, bytes) != (sealed.chain, sealed.bytes) => {
                let what = "it goes on from other records than those that the manifest knows";
                Err(two_logs(&path, segment::HEADER as u64, what.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The link in the first record of a segment to the segment before; `None` if there is none, or
    /// an older version wrote it.
    pub(super) fn link_in(&self, last: &Last) -> Result<Option<Link>, OpenError> {
        let link = first_link(&*last.file, &last.header);
        link.map_err(io_error("read", &last.segment.path))
    }

    /// Checks that the last segment continues the records that the one before it ends with.
    fn must_follow(
        &self,
        file: &dyn DiskFile,
        path: &Path,
        header: &Header,
        (last, events): (&Last, u64),
    ) -> Result<(), OpenError> {
        let link = self.link_in(last)?;
        // It is clustered only if a newer segment is missing, which another check reports.
        let Some(link) = link.filter(|_| header.order == Order::Arrival) else { return Ok(()) };
        let size = file.size().map_err(io_error("look at", path))?;
        let end = size.saturating_sub(frame::CHECKPOINT as u64);
        let end = file.read_at(end, frame::CHECKPOINT).map_err(io_error("read", path))?;
        let head = Head::of(header);
        let fits = match Checkpoint::at(&end, &head) {
            Some(checkpoint) => chain::fits(size, Some(checkpoint), &link, events),
            // Perhaps only the record at the end of the segment is damaged: its other records show.
            None => {
                let whole = usize::try_from(size).unwrap_or(usize::MAX);
                let bytes = file.read_at(0, whole).map_err(io_error("read", path))?;
                chain::ends_as(&bytes, &head, &link, events)
            }
        };
        fits.map_err(|damaged| {
            let what = format!("{}; the next one is {}", damaged.what, last.segment.path.display());
            two_logs(path, damaged.offset, what)
        })
    }

    /// The content and the evidence of an index file; `None` if it is missing, not whole, or about
    /// other events than its name says.
    pub(super) fn load_run(
        &self,
        listed: &ListedIndexFile,
    ) -> Result<Option<LoadedIndexFile>, OpenError> {
        let path = self.folders.index.join(listed.file_name());
        let bytes = derived::if_there(self.maps.map(self.disk, &path));
        let bytes = bytes.map_err(io_error("read", &path))?.map(prefetch::ask_for_file);
        let Some(bytes) = bytes else { return Ok(None) };
        let run = IndexFile::parse(bytes.clone());
        let evidence = match &run {
            Some((run, coverage)) => listed.names(run).then(|| coverage.evidence()),
            None => index_file::evidence(&bytes),
        };
        Ok(evidence.map(|evidence| LoadedIndexFile { evidence, run }))
    }

    pub(super) fn read_tail(
        &self,
        last: &Last,
        index: &[ListedIndexFile],
    ) -> Result<Unread, OpenError> {
        let Last { header, file, segment } = last;
        let failed = |what| io_error(what, &segment.path);
        let size = file.size().map_err(failed("look at"))?;
        let size = self.backup.map_or(size, |end| size.min(end.end));
        let runs = self.runs_of(last, size, index)?;
        let covered = runs.chain.last().map(|(_, coverage)| coverage.clone());
        let covered = covered.unwrap_or(Coverage {
            end: segment::HEADER as u64,
            chain: Chain::begin(header.checksum()),
            ..Coverage::default()
        });
        let next: u32 = runs.chain.iter().map(|(part, _)| part.events()).sum();
        let from = ScanStart {
            offset: covered.end,
            next,
            time: covered.time,
            checksum: header.checksum(),
        };
        let unread = usize::try_from(size.saturating_sub(covered.end)).unwrap_or(usize::MAX);
        let bytes = file.read_at(covered.end, unread).map_err(failed("read"))?;
        let first = header.base.plus(u64::from(next));
        let mut built = Rebuilt::new(header.base, (first, Position::MAX), covered.chain);
        built.tracking = covered.tracking;
        built.last_commit = (next > 0).then_some(LastCommit::Here(covered.time));
        let recovered = recovery::recover(&bytes, from, |commit| built.add(commit))
            .map_err(|error| corruption(&segment.path, error.offset, error.what))?;
        if recovered.end < runs.proven {
            let what = format!("records up to byte {} were durable and are gone", runs.proven);
            return Err(corruption(&segment.path, recovered.end, what).into());
        }
        let mut parts: Vec<_> = runs.chain.into_iter().map(|(part, _)| part).collect();
        let tracking = built.tracking;
        parts.push(Arc::new(IndexPart::memory(segment.clone(), built.columns)));
        let (last_commit, chain) = (built.last_commit, built.chain);
        let tail = Tail { parts, recovered, tracking, last_commit, from: covered.end, chain };
        Ok(Unread { tail, size, start: covered.end, bytes, needless: runs.needless })
    }

    /// The usable index files of the last segment, and up to where they prove it durable.
    fn runs_of(
        &self,
        last: &Last,
        size: u64,
        listed: &[ListedIndexFile],
    ) -> Result<LastIndexFiles, OpenError> {
        let Last { header, segment, .. } = last;
        let mut found = LastIndexFiles {
            chain: Vec::new(),
            proven: segment::HEADER as u64,
            needless: Vec::new(),
        };
        let mut next = header.base;
        let mut used = Vec::new();
        for run in listed {
            let name = run.file_name();
            let Some(LoadedIndexFile { evidence, run: whole }) = self.load_run(run)? else {
                continue;
            };
            if !self.proves(last, &name, &evidence, size)? {
                continue;
            }
            found.proven = found.proven.max(evidence.end);
            let Some((loaded, coverage)) = whole else { continue };
            if coverage.proof > 0 {
                self.must_be_bound(last, &name, &coverage)?;
                let proven = coverage.proof + frame::CHECKPOINT as u64;
                if !self.is_live || proven <= size {
                    found.proven = found.proven.max(proven);
                }
            }
            // If the running checksum at its end is not known, the segment is scanned instead.
            let is_next = loaded.first() == next && loaded.len() > 0;
            if is_next && coverage.proof == coverage.end {
                next = next.plus(u64::from(loaded.len()));
                let path = self.folders.index.join(name);
                let part = IndexPart::loaded(segment.clone(), path, loaded);
                found.chain.push((Arc::new(part), coverage));
                used.push(*run);
            }
        }
        found.needless = listed.iter().filter(|run| !used.contains(run)).copied().collect();
        Ok(found)
    }

    /// Whether an index file proves something of the last segment.
    fn proves(
        &self,
        Last { header, segment, .. }: &Last,
        name: &str,
        evidence: &index_file::IndexFileEvidence,
        size: u64,
    ) -> Result<bool, OpenError> {
        if evidence.segment != header.sequence {
            return Ok(false);
        }
        if evidence.checksum != header.checksum() {
            let what = format!("it is another segment than {name} is about");
            return Err(two_logs(&segment.path, 0, what));
        }
        if evidence.end > size && self.is_live {
            // The log has gone on meanwhile, behind the end that is read.
            return Ok(false);
        }
        if evidence.end > size {
            let what = format!("{name} proves it durable up to byte {}", evidence.end);
            return Err(corruption(&segment.path, size, what).into());
        }
        Ok(true)
    }

    /// Checks that the checkpoint record that an index file names is there, and agrees with it.
    fn must_be_bound(&self, last: &Last, name: &str, coverage: &Coverage) -> Result<(), OpenError> {
        let Last { header, file, segment } = last;
        let bytes = file.read_at(coverage.proof, frame::CHECKPOINT);
        let bytes = bytes.map_err(io_error("read", &segment.path))?;
        match Checkpoint::at(&bytes, &Head::of(header)) {
            Some(checkpoint) if checkpoint.chain == coverage.chain => Ok(()),
            Some(_) => {
                let what = format!("its records up to here are not those that {name} is about");
                Err(two_logs(&segment.path, coverage.proof, what))
            }
            None => {
                let what = format!("there is no whole record, and {name} rests on one");
                Err(two_logs(&segment.path, coverage.proof, what))
            }
        }
    }

    /// Cuts off an incomplete commit, and makes the rest durable. Bytes that are not proven to be
    /// synced are written again: after a failed sync a system may show bytes that it will never
    /// bring to the disk, and take them for clean. If nothing is proven, the header is written
    /// again, too, and the name of the file is made durable.
    pub(super) fn settle(&self, last: &Last, unread: &Unread) -> io::Result<()> {
        let Last { header, file, .. } = last;
        let Unread { tail: Tail { recovered, .. }, size, start, bytes, .. } = unread;
        if recovered.torn {
            let cut = size - recovered.end;
            tracing::warn!(bytes = cut, "cut off an unfinished commit at the end of the log");
        }
        if *size > recovered.end {
            file.set_size(recovered.end)?;
        }
        let all = recovered.unproven == segment::HEADER as u64;
        if all {
            file.write_at(0, &header.encode())?;
        }
        let range = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
        let unproven = bytes.get(range(recovered.unproven)..range(recovered.end)).unwrap_or(&[]);
        if !unproven.is_empty() {
            file.write_at(recovered.unproven, unproven)?;
        }
        if all || *size > recovered.end || !unproven.is_empty() {
            file.sync()?;
        }
        if all {
            self.disk.sync_dir(&self.folders.segments)?;
        }
        Ok(())
    }
}

fn first_link(file: &dyn DiskFile, header: &Header) -> io::Result<Option<Link>> {
    let start = file.read_at(0, segment::HEADER + frame::HEADER)?;
    let size = frame::size(start.get(segment::HEADER..).unwrap_or(&[]));
    let start = file.read_at(0, segment::HEADER + size)?;
    Ok(chain::link_in(&start, header))
}

/// The error about a file of another log, or of a copy of this one that went another way.
pub(super) fn two_logs(path: &Path, offset: u64, what: String) -> OpenError {
    let advice = "one of the two files is of another log or of another copy of this one: put the \
                  right one back, or, if the wrong one is the published head or an index file, \
                  remove it, and it is made anew";
    let place = format!("{} at byte {offset}", path.display());
    Corruption { place, what, advice: advice.to_owned() }.into()
}
