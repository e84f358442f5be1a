//! The running checksums of a segment, as verification computes them. Checkpoint records, links and
//! index files are compared with them.

use std::collections::BTreeMap;

use crate::{
    format::{
        chain::{self, Chain},
        frame::{self, CONTROL, Link},
        frame_order::ArrivalOrder,
        recovery::FrameAt,
        segment::{self, Head},
    },
    index::{Coverage, IndexFile},
};

/// The running checksums of a segment that is scanned.
#[derive(Debug)]
pub(super) struct Sums {
    chain: Chain,
    /// The running checksum before each checkpoint record, by the record's offset in the order of
    /// arrival. `clustered` has them by the record's offset in the clustered segment.
    checkpoints: BTreeMap<u64, Chain>,
    clustered: BTreeMap<u64, Chain>,
    control_bytes: u64,
    /// The link to the segment before, from the first record.
    link: Option<Link>,
    /// Offset of the first checkpoint record that does not match the records before it.
    wrong: Option<u64>,
}

impl Sums {
    /// `seal` is the checksum of the header in the order of arrival.
    pub(super) fn begin(seal: u32) -> Sums {
        Sums {
            chain: Chain::begin(seal),
            checkpoints: BTreeMap::new(),
            clustered: BTreeMap::new(),
            control_bytes: 0,
            link: None,
            wrong: None,
        }
    }

    pub(super) fn add(&mut self, commit: &[FrameAt<'_>]) {
        for FrameAt { offset, frame } in commit {
            if frame.has(CONTROL) {
                let content = frame.content().unwrap_or(&[]);
                if *offset == segment::HEADER as u64 {
                    self.link = frame::take_link(content);
                }
                if let Some(says) = frame::take_checkpoint(content) {
                    self.checkpoints.insert(*offset, self.chain);
                    let clustered = segment::HEADER as u64 + self.control_bytes;
                    self.clustered.insert(clustered, self.chain);
                    let is_wrong = says != self.chain.to_u64();
                    self.wrong = self.wrong.or(is_wrong.then_some(*offset));
                }
                self.control_bytes += frame.size() as u64;
            }
            self.chain.add_frame(frame);
        }
    }

    /// The running checksum of the whole segment.
    pub(super) fn chain(&self) -> Chain {
        self.chain
    }

    pub(super) fn link(&self) -> Option<Link> {
        self.link
    }

    /// Offset of the first checkpoint record that does not match the records before it.
    pub(super) fn wrong(&self) -> Option<u64> {
        self.wrong
    }

    /// Whether an index file is bound to these records. `offsets` are the offsets of its events in
    /// the order of arrival.
    pub(super) fn bind(
        &self,
        run: &IndexFile,
        coverage: &Coverage,
        arrived: &ArrivalOrder<'_>,
        offsets: &[u32],
    ) -> bool {
        let head = Head::of(&arrived.header);
        let places = match coverage.checksum == head.checksum {
            true => &self.checkpoints,
            false => &self.clustered,
        };
        let sample = || {
            let offset = |at: u32| offsets.get(at as usize).copied();
            chain::sample(&arrived.bytes, &head, run.len(), offset)
        };
        match coverage.proof {
            0 => coverage.chain == self.chain || coverage.chain == sample(),
            proof => places.get(&proof) == Some(&coverage.chain),
        }
    }
}
