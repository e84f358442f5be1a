//! Finding where a log ends. The search changes nothing and only reports what to remove or cut off,
//! so that a verification can search as well.

use std::path::{Path, PathBuf};

use diptych_store::{Corruption, Position};

use super::{
    End, Last, ListedSegment, Opening,
    here::Here,
    of_segment,
    tail::{Tail, Unread},
};
use crate::{
    catalog::segment::Segment,
    error::{OpenError, corruption, io_error},
    format::{
        head::PublishedHead,
        manifest::State,
        segment::{self, BadHeader, Header},
    },
    options::LogOptions,
};

/// The end of a log, before anything is changed.
pub(super) struct FoundEnd {
    /// The last segment that is in use, and its end; `None` in a folder that never had one.
    last: Option<(Last, Unread)>,
    /// Segments behind it that were never finished; the last one comes first.
    unfinished: Vec<PathBuf>,
    /// One of these had a header: the log continues in a new segment.
    begins_anew: bool,
}

/// The end of the log with this last segment.
pub(super) fn end_in(last: &Last, tail: &Tail) -> PublishedHead {
    let Last { header, .. } = last;
    PublishedHead {
        position: header.base.plus(u64::from(tail.recovered.next)).before(),
        end: tail.recovered.end,
        identity: header.identity,
        segment: header.sequence,
    }
}

impl Opening<'_> {
    /// Finds the last segment that is in use, removes the unfinished ones behind it, and cuts off
    /// an incomplete commit.
    pub(super) fn find_end(
        &self,
        listed: &mut Vec<ListedSegment>,
        options: &LogOptions,
        here: &Here,
    ) -> Result<End, OpenError> {
        let FoundEnd { last, unfinished, begins_anew } = self.look_for_end(listed, options)?;
        // The last one first, so that a crash leaves no gap between segments.
        for path in &unfinished {
            self.remove_segment(path)?;
        }
        // An earlier open may have ended between the removal of a segment and its sync. A loss of
        // power could bring the name back, behind commits that went elsewhere.
        let manifest = self.evidence.manifest();
        let was_closed = manifest.is_some_and(|manifest| manifest.state == State::Clean);
        if last.is_some() && unfinished.is_empty() && !was_closed {
            let dir = &self.folders.segments;
            self.disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        }
        let (last, unread) = match last {
            Some(found) => found,
            None => {
                let last = self.create_first(options, here)?;
                let unread = self.read_tail(&last, &[])?;
                (last, unread)
            }
        };
        let path = &last.segment.path;
        self.settle(&last, &unread).map_err(io_error("repair the end of", path))?;
        // Only now: until here they may prove that something is missing.
        self.remove_runs(&unread.needless, &[]);
        let tail = unread.tail;
        last.segment.publish(tail.recovered.end);
        let begins_anew = begins_anew || tail.recovered.torn;
        Ok(End { last, tail, begins_anew })
    }

    /// Finds where the whole commits end, and changes nothing; `None` in a folder without a log.
    pub(super) fn end_as_found(
        &self,
        listed: &mut Vec<ListedSegment>,
        options: &LogOptions,
    ) -> Result<Option<End>, OpenError> {
        let FoundEnd { last, .. } = self.look_for_end(listed, options)?;
        Ok(last.map(|(last, Unread { tail, .. })| {
            last.segment.publish(tail.recovered.end);
            End { last, tail, begins_anew: false }
        }))
    }

    /// Finds the last segment that is in use, and reads the frames that its index does not cover.
    ///
    /// # Errors
    /// Also if records are missing that anything in the folder proves to have been durable.
    pub(super) fn look_for_end(
        &self,
        listed: &mut Vec<ListedSegment>,
        options: &LogOptions,
    ) -> Result<FoundEnd, OpenError> {
        let (mut unfinished, mut begins_anew) = (Vec::new(), false);
        while let Some(last) = self.last_segment(listed, &mut unfinished, options)? {
            let Last { header, segment, .. } = &last;
            let index = self.list_index(header.sequence)?;
            let unread = self.read_tail(&last, of_segment(&index, header.sequence))?;
            let end = unread.tail.recovered.end;
            if let Some(what) = self.evidence.durable_loss(&end_in(&last, &unread.tail)) {
                return Err(corruption(&segment.path, end, what).into());
            }
            self.evidence.must_have_manifest(&self.folders.root, header)?;
            self.must_go_on(listed, &last)?;
            // Every segment but the first begins with a control record, in the same write as its
            // first commit. Without that record it holds nothing, and the sources that the record
            // lists are still in the segment before.
            let empty = end == segment::HEADER as u64;
            if !empty || header.sequence == 1 {
                return Ok(FoundEnd { last: Some((last, unread)), unfinished, begins_anew });
            }
            unfinished.push(segment.path.clone());
            begins_anew = true;
        }
        self.refuse_if_held(1, Position::new(1), &self.folders.segments)?;
        Ok(FoundEnd { last: None, unfinished, begins_anew })
    }

    /// Opens the last segment with a finished header, and adds those behind it to `unfinished`.
    fn last_segment(
        &self,
        listed: &mut Vec<ListedSegment>,
        unfinished: &mut Vec<PathBuf>,
        options: &LogOptions,
    ) -> Result<Option<Last>, OpenError> {
        while let Some(ListedSegment { sequence, base }) = listed.pop() {
            let path = self.folders.segments.join(segment::file_name(sequence, base));
            let file = match self.reads_only() {
                true => self.disk.open_read(&path, options.segment_bytes),
                false => self.disk.open(&path, options.segment_bytes),
            };
            let file = file.map_err(io_error("open", &path))?;
            let bytes = file.read_at(0, segment::HEADER).map_err(io_error("read", &path))?;
            match Header::parse(&bytes) {
                Ok(header) if header.is_last(sequence, base) => {
                    let segment = Segment::planned(&self.maps, &self.folders.segments, &header);
                    segment.activate(file.clone());
                    return Ok(Some(Last { header, file, segment: segment.into() }));
                }
                Err(BadHeader::Newer(format)) => {
                    return Err(OpenError::Newer { file: path.display().to_string(), format });
                }
                _ => {}
            }
            // No frame is ever written before the header is durable, so a file that is not longer
            // than a header never held anything.
            let size = file.size().map_err(io_error("look at", &path))?;
            if size > segment::HEADER as u64 {
                return Err(corruption(&path, 0, "the header of the segment is damaged").into());
            }
            if let Ok(header) = Header::parse(&bytes) {
                self.must_be_own(listed, &header, &path)?;
            }
            self.refuse_if_held(sequence, base, &path)?;
            unfinished.push(path);
        }
        Ok(None)
    }

    /// Refuses to remove a file whose whole header belongs to another place, unless a loss of power
    /// may have put it there: then it is that of another segment of this log.
    fn must_be_own(
        &self,
        before: &[ListedSegment],
        found: &Header,
        path: &Path,
    ) -> Result<(), OpenError> {
        let mut own = self.evidence.identities().map(|(_, identity)| identity).next();
        if let Some(ListedSegment { sequence, base }) = before.last() {
            let before = self.folders.segments.join(segment::file_name(*sequence, *base));
            let file = self.disk.open(&before, 0).map_err(io_error("open", &before))?;
            let bytes = file.read_at(0, segment::HEADER).map_err(io_error("read", &before))?;
            own = Header::parse(&bytes).ok().map(|header| header.identity).or(own);
        }
        if own.is_some_and(|own| own.id == found.identity.id) {
            return Ok(());
        }
        let what = format!(
            "it is segment {} of {}, which is not this log",
            found.sequence, found.identity
        );
        let place = format!("{} at byte 0", path.display());
        let advice = "move it out of the folder, and find out how it came there".to_owned();
        Err(Corruption { place, what, advice }.into())
    }

    /// Refuses to treat a segment as never used if anything in the folder proves that it was.
    fn refuse_if_held(&self, sequence: u32, base: Position, path: &Path) -> Result<(), OpenError> {
        // Fails if an index file is about this or a later segment.
        self.list_index(sequence - 1)?;
        match self.evidence.durable_content(sequence, base) {
            None => Ok(()),
            Some(what) => Err(corruption(path, 0, what).into()),
        }
    }

    fn remove_segment(&self, path: &Path) -> Result<(), OpenError> {
        tracing::warn!(file = %path.display(), "removed a segment that was never finished");
        self.disk.remove(path).map_err(io_error("remove", path))?;
        let dir = &self.folders.segments;
        self.disk.sync_dir(dir).map_err(io_error("sync", dir))
    }
}
