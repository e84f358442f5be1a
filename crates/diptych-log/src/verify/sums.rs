//! The running checksums of a segment, as verification finds them: what the records say of those
//! before them, and what index files are bound to.

use std::collections::BTreeMap;

use crate::{
    chain::{self, Chain},
    frame::{self, CONTROL, Link},
    index::{Coverage, Run},
    layout::Arrived,
    recovery::Placed,
    segment::{self, Head},
};

/// The running checksums of a segment that is scanned.
#[derive(Debug)]
pub(super) struct Sums {
    chain: Chain,
    /// The running checksum in front of each checkpoint record: by its place in the order of
    /// arrival, and in the clustered segment.
    checkpoints: BTreeMap<u64, Chain>,
    clustered: BTreeMap<u64, Chain>,
    control_bytes: u64,
    /// What the first record says of the segment before.
    link: Option<Link>,
    /// The first checkpoint record that says something else.
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

    pub(super) fn add(&mut self, commit: &[Placed<'_>]) {
        for Placed { offset, frame } in commit {
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

    /// Where the first checkpoint record is that says something else than the records before it.
    pub(super) fn wrong(&self) -> Option<u64> {
        self.wrong
    }

    /// Whether an index file is bound to these records. `offsets` are those in the order of
    /// arrival of the events that it is about.
    pub(super) fn bind(
        &self,
        run: &Run,
        coverage: &Coverage,
        arrived: &Arrived<'_>,
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
