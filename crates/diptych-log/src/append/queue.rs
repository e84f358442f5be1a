//! Accepted commits on their way to the disk.

use std::sync::Arc;

use diptych_store::{CommitNumber, Position};

use crate::{
    catalog::{part::IndexPart, segment::Segment},
    format::{
        frame::TrackingTable,
        manifest::SealedSegment,
        segment::{Head, Header},
    },
    maintain::indexer::IndexJob,
};

/// The commits that one write takes to the disk, and what is published when it succeeded.
#[derive(Debug)]
pub(crate) struct WriteBatch {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) position: Position,
    pub(crate) commit: CommitNumber,
    pub(crate) tracking: Arc<TrackingTable>,
    /// Sequence number of the batch.
    pub(crate) number: u64,
    /// The index of the newest events, which large commits are still to be added to.
    pub(crate) tail: Arc<IndexPart>,
    /// How many pieces are written. If there is no space for the next one, the writer goes on with
    /// it later.
    pub(crate) done: usize,
    /// The last segment that was created for these commits, and what it says about the one before.
    pub(crate) begun: Option<(Header, Option<SealedSegment>)>,
}

/// Accepted commits that are not being written yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bytes: usize,
}

/// Bytes to write at one place of one segment.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) segment: Arc<Segment>,
    pub(crate) checksum: u32,
    /// Set if the segment begins with this piece: its file is to be created with this header.
    pub(crate) create: Option<Header>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    /// Parts of the index that are complete once this piece is written.
    pub(crate) jobs: Vec<IndexJob>,
}

impl Queue {
    /// Adds bytes to write at `offset` of the segment. Copies them behind other bytes of the
    /// segment, or takes them if they are the first.
    pub(crate) fn push(
        &mut self,
        segment: &Arc<Segment>,
        head: Head,
        offset: u64,
        bytes: &mut Vec<u8>,
    ) {
        self.bytes += bytes.len();
        let same = |piece: &&mut Piece| Arc::ptr_eq(&piece.segment, segment);
        if let Some(piece) = self.pieces.last_mut().filter(same) {
            return piece.bytes.extend_from_slice(bytes);
        }
        self.pieces.push(Piece {
            segment: segment.clone(),
            checksum: head.checksum,
            create: None,
            offset,
            bytes: std::mem::take(bytes),
            jobs: Vec::new(),
        });
    }
}
