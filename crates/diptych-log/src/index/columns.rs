//! The index of consecutive events in memory. The newest events have one, and an index file is
//! built from one.

use compact_str::CompactString;
use diptych_store::{KeyedCommit, Position};
use hashbrown::hash_map::EntryRef;
use smallvec::SmallVec;

use crate::by_name::ByName;

/// Most tags of a part have few events, which are stored inline.
pub(crate) type Positions = SmallVec<[u32; 4]>;

/// Columns over the events from `first` on. The positions in `tags` are relative to `first`; those
/// in `keys` are positions of the log.
///
/// The offsets say where the frame of each event starts in its segment. The columns have the keys
/// of the commits whose first event they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) first: Position,
    pub(crate) offsets: Vec<u32>,
    pub(crate) types: Vec<u32>,
    pub(crate) type_names: Vec<CompactString>,
    type_ids: ByName<CompactString, u32>,
    pub(crate) tags: ByName<CompactString, Positions>,
    pub(crate) keys: ByName<CompactString, KeyedCommit>,
}

impl Columns {
    pub(crate) fn new(first: Position) -> Columns {
        Columns { first, ..Columns::default() }
    }

    /// Empty columns, with room for about as many events as `before` has.
    pub(crate) fn after(first: Position, before: &Columns) -> Columns {
        let mut columns = Columns::new(first);
        // If `before` was much smaller, these columns still grow; if it was larger, some room stays
        // unused.
        columns.offsets.reserve(before.offsets.len());
        columns.types.reserve(before.types.len());
        columns.tags.reserve(before.tags.len());
        columns.keys.reserve(before.keys.len());
        columns
    }

    /// Number of events.
    pub(crate) fn len(&self) -> u32 {
        self.offsets.len() as u32
    }

    pub(crate) fn push<'t>(
        &mut self,
        offset: u32,
        event_type: &str,
        tags: impl Iterator<Item = &'t str>,
    ) {
        let at = self.len();
        self.offsets.push(offset);
        let event_type = self.type_number(event_type);
        self.types.push(event_type);
        for tag in tags {
            self.push_tag(tag, at);
        }
    }

    fn push_tag(&mut self, tag: &str, at: u32) {
        let positions = match self.tags.entry_ref(tag) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) => entry.insert_with_key(tag.into(), Positions::new()),
        };
        // A tag that an event carries twice counts once.
        if positions.last() != Some(&at) {
            positions.push(at);
        }
    }

    fn type_number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.type_ids.get(name) {
            return *number;
        }
        let number = self.type_names.len() as u32;
        self.type_names.push(name.into());
        self.type_ids.insert(name.into(), number);
        number
    }

    pub(crate) fn type_id(&self, name: &str) -> Option<u32> {
        self.type_ids.get(name).copied()
    }

    /// The columns of `count` events from `first` on, if they are all here.
    pub(crate) fn slice(&self, first: Position, count: u32) -> Option<Columns> {
        let start = u32::try_from(first.get().checked_sub(self.first.get())?).ok()?;
        let end = start.checked_add(count)?;
        let range = start as usize..end as usize;
        let mut slice = Columns::new(first);
        slice.offsets = self.offsets.get(range.clone())?.to_vec();
        for number in self.types.get(range)? {
            let number = slice.type_number(self.type_names.get(*number as usize)?);
            slice.types.push(number);
        }
        for (tag, positions) in &self.tags {
            let within = positions.iter().filter(|at| (start..end).contains(at));
            let within: Positions = within.map(|at| at - start).collect();
            if !within.is_empty() {
                slice.tags.insert(tag.clone(), within);
            }
        }
        let last = first.plus(u64::from(count));
        let keys = self.keys.iter().filter(|(_, commit)| (first..last).contains(&commit.first));
        slice.keys = keys.map(|(name, commit)| (name.clone(), *commit)).collect();
        Some(slice)
    }

    /// Replaces the offsets after the frames of the segment were put into another order. `offsets`
    /// has those of all events of the segment, which begins at `base`.
    pub(crate) fn move_to(&mut self, base: Position, offsets: &[u32]) {
        let skipped = (self.first.get() - base.get()) as usize;
        let moved = offsets.iter().skip(skipped).take(self.offsets.len());
        self.offsets = moved.copied().collect();
    }
}
