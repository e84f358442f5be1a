//! The content of one file: its durable bytes, the changes since, and the bytes that a reader sees.
//!
//! The model is a page cache. A write changes whole sectors in memory. Each sector reaches the disk
//! independently, at any time, in any order, or never. So after a loss of power a sector has its
//! content after some write to it, or its content at the last sync. The model needs no separate
//! choice of an order of writes, because each sector makes its own choice.

use super::Random;

/// Bytes that a disk writes as a whole or not at all.
pub(super) const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    current: Vec<u8>,
    /// Ranges that were shared and must not be written to again.
    shared: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum Change {
    /// The whole sectors that a write touched, as they are in memory after it. They begin at
    /// `start` and end at the end of the file at the latest. If the write made the file longer,
    /// `grown_to` is the new length.
    Write { start: usize, sectors: Vec<u8>, grown_to: Option<usize> },
    /// A new length that `set_size` set.
    Size(usize),
}

impl File {
    pub(super) fn size(&self) -> usize {
        self.current.len()
    }

    pub(super) fn read(&self, start: usize, length: usize) -> &[u8] {
        let end = start.saturating_add(length).min(self.current.len());
        self.current.get(start..end).unwrap_or(&[])
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        // A write of equal bytes changes nothing.
        if self.current.get(offset..end) != Some(bytes) {
            self.refuse_shared(offset, end);
        }
        let before = self.current.len();
        put(&mut self.current, offset, bytes);
        let start = offset / SECTOR * SECTOR;
        let sectors_end = end.next_multiple_of(SECTOR).min(self.current.len());
        self.unsynced.push(Change::Write {
            start,
            sectors: self.read(start, sectors_end - start).to_vec(),
            grown_to: (end > before).then_some(end),
        });
    }

    pub(super) fn set_size(&mut self, size: usize) {
        self.refuse_shared(size, self.current.len());
        self.current.resize(size, 0);
        self.unsynced.push(Change::Size(size));
    }

    pub(super) fn share(&mut self, start: usize, end: usize) -> Option<Vec<u8>> {
        let bytes = self.current.get(start..end)?.to_vec();
        let is_known = |&(from, to): &(usize, usize)| from <= start && end <= to;
        if start < end && !self.shared.iter().any(is_known) {
            self.shared.retain(|&(from, to)| !(start <= from && to <= end));
            self.shared.push((start, end));
        }
        Some(bytes)
    }

    /// Callers that share bytes promise that the bytes never change. On a real disk the bytes are
    /// mapped, and a change would be undefined behaviour. So this panics: no caller could handle
    /// such an error.
    fn refuse_shared(&self, start: usize, end: usize) {
        let overlaps = |&&(from, to): &&(usize, usize)| start < to && from < end;
        if let Some((from, to)) = self.shared.iter().find(overlaps) {
            panic!("bytes {start}..{end} are changed, of which {from}..{to} are shared");
        }
    }

    /// Makes all changes so far durable.
    pub(super) fn sync(&mut self) {
        let mut size = self.durable.len();
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { start, sectors, grown_to } => {
                    put(&mut self.durable, start, &sectors);
                    size = grown_to.unwrap_or(size);
                }
                Change::Size(new) => {
                    self.durable.resize(new, 0);
                    size = new;
                }
            }
        }
        self.durable.resize(size, 0);
    }

    /// Fails a sync: any part of the changes is durable. The rest never will be, because its pages
    /// count as clean from now on. Readers still see all changes. Only the length can still be
    /// synced, because a file system keeps it in another place.
    pub(super) fn fail_sync(&mut self, random: &mut Random, stale: &[u8]) {
        self.durable = self.survivor(random, stale);
        self.unsynced.clear();
        if self.durable.len() != self.current.len() {
            self.unsynced.push(Change::Size(self.current.len()));
        }
    }

    /// The file after a loss of power.
    pub(super) fn after_power_loss(&self, random: &mut Random, stale: &[u8]) -> File {
        let durable = self.survivor(random, stale);
        File { current: durable.clone(), durable, ..File::default() }
    }

    /// The file for the next process, which has shared no bytes yet.
    pub(super) fn after_process_kill(&self) -> File {
        File { shared: Vec::new(), ..self.clone() }
    }

    /// The bytes on the disk if nothing more reaches it: the durable bytes, and any part of the
    /// later changes.
    fn survivor(&self, random: &mut Random, stale: &[u8]) -> Vec<u8> {
        let fate = Fate::pick(random, self.unsynced.len());
        let mut platter =
            Platter { bytes: self.durable.clone(), filler: Filler::pick(random, stale) };
        let mut size = self.durable.len();
        for (at, change) in self.unsynced.iter().enumerate() {
            match change {
                Change::Write { start, sectors, grown_to } => {
                    for (number, sector) in sectors.chunks(SECTOR).enumerate() {
                        if fate.keeps_sector(at, random) {
                            platter.put(start + number * SECTOR, sector, random);
                        }
                    }
                    if let Some(grown_to) = grown_to
                        && fate.keeps_size(at, random)
                    {
                        size = *grown_to;
                    }
                }
                Change::Size(new) => {
                    if fate.keeps_size(at, random) {
                        platter.bytes.resize(*new, 0);
                        size = *new;
                    }
                }
            }
        }
        platter.reach(size, random);
        platter.bytes.truncate(size);
        platter.bytes
    }
}

/// Writes `bytes` at `offset`. If that is beyond the end, zeros fill the gap.
fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

/// The fate of the unsynced changes of one file. Independent random choices for each sector would
/// almost never give the extreme cases, so these cases are chosen explicitly.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Everything,
    Nothing,
    /// The length arrives and the data does not.
    SizesOnly,
    /// All changes before this one, in order, and a part of this one.
    Upto(usize),
    /// Most sectors of all changes.
    Torn,
    /// Any sectors of any changes, and any of their lengths.
    Scattered,
}

impl Fate {
    fn pick(random: &mut Random, changes: usize) -> Fate {
        match random.below(8) {
            0 => Fate::Everything,
            1 => Fate::Nothing,
            2 => Fate::SizesOnly,
            3 | 4 => Fate::Upto(random.index(changes)),
            5 => Fate::Torn,
            _ => Fate::Scattered,
        }
    }

    fn keeps_sector(self, at: usize, random: &mut Random) -> bool {
        match self {
            Fate::Everything => true,
            Fate::Nothing | Fate::SizesOnly => false,
            Fate::Upto(last) => at < last || at == last && random.chance(50),
            Fate::Torn => random.chance(85),
            Fate::Scattered => random.chance(50),
        }
    }

    fn keeps_size(self, at: usize, random: &mut Random) -> bool {
        match self {
            Fate::Everything | Fate::SizesOnly | Fate::Torn => true,
            Fate::Nothing => false,
            Fate::Upto(last) => at <= last,
            Fate::Scattered => random.chance(50),
        }
    }
}

/// The sectors of a file that reached the disk.
struct Platter<'a> {
    bytes: Vec<u8>,
    filler: Filler<'a>,
}

impl Platter<'_> {
    fn put(&mut self, start: usize, sector: &[u8], random: &mut Random) {
        self.reach(start, random);
        put(&mut self.bytes, start, sector);
    }

    /// Makes the file at least this long. The rest of a sector that was begun is zeros. Sectors
    /// that were never written can have any content.
    fn reach(&mut self, size: usize, random: &mut Random) {
        let begun = self.bytes.len().next_multiple_of(SECTOR);
        if self.bytes.len() < size {
            self.bytes.resize(begun.min(size), 0);
        }
        while self.bytes.len() < size {
            let sector = self.filler.sector(random);
            self.bytes.extend_from_slice(&sector);
        }
    }
}

/// The content of sectors that belong to a file and were never written.
enum Filler<'a> {
    Zeros,
    Noise,
    /// Bytes that another file left there.
    Stale(&'a [u8]),
}

impl Filler<'_> {
    fn pick<'a>(random: &mut Random, stale: &'a [u8]) -> Filler<'a> {
        match random.below(4) {
            0 => Filler::Noise,
            1 => Filler::Stale(stale),
            _ => Filler::Zeros,
        }
    }

    fn sector(&self, random: &mut Random) -> Vec<u8> {
        let mut sector = match self {
            Filler::Zeros => Vec::new(),
            Filler::Noise => random.bytes(SECTOR),
            Filler::Stale(stale) => {
                let sectors: Vec<_> = stale.chunks(SECTOR).collect();
                random.pick(&sectors).map_or(Vec::new(), |sector| sector.to_vec())
            }
        };
        sector.resize(SECTOR, 0);
        sector
    }
}
