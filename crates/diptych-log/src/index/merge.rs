//! Merges consecutive index files into one. Their sorted tables are merged directly, without
//! building columns in memory again.

use compact_str::CompactString;

use super::{
    hash::{NameKind, Seed},
    index_file::{Body, Coverage, IndexFile, assemble},
    name_table::Table,
    postings,
};
use crate::{by_name::ByName, format::frame::take_bytes};

/// The bytes of an index file over all events of `runs`; `None` if one of the files is malformed,
/// or if they are not consecutive.
pub(crate) fn merge(runs: &[IndexFile], coverage: &Coverage, seed: Seed) -> Option<Vec<u8>> {
    let offsets: Option<Vec<_>> =
        runs.iter().map(|run| run.offsets(0, run.len().saturating_sub(1))).collect();
    merge_at(runs, &offsets?.concat(), coverage, seed)
}

/// The bytes of an index file over all events of `runs`, whose frames are now at `offsets`.
pub(crate) fn merge_at(
    runs: &[IndexFile],
    offsets: &[u32],
    coverage: &Coverage,
    seed: Seed,
) -> Option<Vec<u8>> {
    let first = runs.first()?.first();
    let mut next = first;
    let mut shifts = Vec::new();
    for run in runs {
        if run.first() != next {
            return None;
        }
        shifts.push(u32::try_from(next.get() - first.get()).ok()?);
        next = next.plus(u64::from(run.len()));
    }
    if next.get() - first.get() != offsets.len() as u64 {
        return None;
    }
    let (types, type_names) = merge_types(runs)?;
    let sources = |table: fn(&IndexFile) -> &[u8]| {
        let sources = runs.iter().zip(&shifts);
        sources
            .map(|(run, shift)| TableEntries::new(table(run), *shift))
            .collect::<Option<Vec<_>>>()
    };
    let tags = merge_tags(sources(|run| run.tables().0)?, seed)?;
    let keys = merge_keys(sources(|run| run.tables().1)?, seed)?;
    let (types, type_names) = (&types, &type_names);
    Some(assemble(&Body { first, offsets, types, type_names, tags, keys }, coverage))
}

fn merge_types(runs: &[IndexFile]) -> Option<(Vec<u32>, Vec<CompactString>)> {
    let (mut types, mut names, mut ids) = (Vec::new(), Vec::new(), ByName::default());
    for run in runs {
        let number = |name: &CompactString| {
            *ids.entry(name.clone()).or_insert_with(|| {
                names.push(name.clone());
                names.len() as u32 - 1
            })
        };
        let numbers: Vec<u32> = run.type_names().iter().map(number).collect();
        for at in 0..run.len() {
            types.push(*numbers.get(run.type_at(at)? as usize)?);
        }
    }
    Some((types, names))
}

/// The entries of one table that are not merged yet.
struct TableEntries<'a> {
    /// The name of the first entry; `None` if no entry is left.
    name: Option<&'a [u8]>,
    /// The value of the first entry, and all entries after it.
    rest: &'a [u8],
    /// The number to add to the positions in this table.
    shift: u32,
}

impl<'a> TableEntries<'a> {
    fn new(entries: &'a [u8], shift: u32) -> Option<TableEntries<'a>> {
        let mut source = TableEntries { name: None, rest: entries, shift };
        source.go_on(entries)?;
        Some(source)
    }

    fn go_on(&mut self, rest: &'a [u8]) -> Option<()> {
        (self.name, self.rest) = match rest.is_empty() {
            true => (None, rest),
            false => take_bytes(rest).map(|(name, rest)| (Some(name), rest))?,
        };
        Some(())
    }
}

fn least<'a>(sources: &[TableEntries<'a>]) -> Option<&'a [u8]> {
    sources.iter().filter_map(|source| source.name).min()
}

fn merge_tags(mut sources: Vec<TableEntries<'_>>, seed: Seed) -> Option<Table> {
    let (mut table, mut positions) = (Table::with_capacity(seed, NameKind::Tag, 0), Vec::new());
    while let Some(name) = least(&sources) {
        positions.clear();
        for source in sources.iter_mut().filter(|source| source.name == Some(name)) {
            let rest = postings::decode(source.rest, source.shift, &mut positions)?;
            source.go_on(rest)?;
        }
        table.add(name, |out| postings::encode(&positions, out));
    }
    Some(table)
}

fn merge_keys(mut sources: Vec<TableEntries<'_>>, seed: Seed) -> Option<Table> {
    let mut table = Table::with_capacity(seed, NameKind::Key, 0);
    while let Some(name) = least(&sources) {
        let mut value = None;
        // If several files have the key, the last of them counts, as if one table had been filled
        // in the order of the commits.
        for source in sources.iter_mut().filter(|source| source.name == Some(name)) {
            let (digest, rest) = source.rest.split_first_chunk::<16>()?;
            let (first, rest) = rest.split_first_chunk::<4>()?;
            let (events, rest) = rest.split_first_chunk::<4>()?;
            let first = u32::from_le_bytes(*first).checked_add(source.shift)?;
            value = Some((digest, first, events));
            source.go_on(rest)?;
        }
        let (digest, first, events) = value?;
        table.add(name, |out| {
            out.extend_from_slice(digest);
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(events);
        });
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use diptych_store::{Digest, KeyedCommit, Position};
    use proptest::prelude::*;

    use super::*;
    use crate::index::{Columns, index_file::encode};

    #[test]
    fn a_merged_file_has_a_key_as_the_last_of_the_files_has_it() {
        let coverage = Coverage { end: 77, ..Coverage::default() };
        let columns = |events: &[u64]| {
            let mut columns = Columns::new(Position::new(events[0]));
            for event in events {
                columns.push(*event as u32 * 300, "paid", std::iter::empty());
                let first = Position::new(*event);
                let digest = Digest([*event as u8; 16]);
                columns.keys.insert("key".into(), KeyedCommit { first, last: first, digest });
            }
            columns
        };
        let files = [10, 11].map(|event| {
            let bytes = encode(&columns(&[event]), &coverage, Seed::random());
            IndexFile::parse(bytes.into()).unwrap().0
        });
        let seed = Seed::random();
        let merged = merge(&files, &coverage, seed).unwrap();
        assert_eq!(merged, encode(&columns(&[10, 11]), &coverage, seed));
    }

    proptest! {
        #[test]
        fn merging_files_gives_the_file_of_all_events(
            events in proptest::collection::vec((0u8..6, 0u8..9, any::<bool>()), 1..700),
            cuts in proptest::collection::vec(0usize..700, 0..4),
        ) {
            let build = |range: std::ops::Range<usize>| {
                let mut columns = Columns::new(Position::new(10 + range.start as u64));
                for at in range {
                    let (event_type, tag, keyed) = events[at];
                    let tags = [format!("all:{}", tag % 2), format!("one:{tag}{}", at % 50)];
                    let tags = tags.iter().map(String::as_str);
                    columns.push(at as u32 * 300, &format!("t{event_type}"), tags);
                    if keyed {
                        let first = Position::new(10 + at as u64);
                        let commit = KeyedCommit { first, last: first, digest: Digest([tag; 16]) };
                        columns.keys.insert(format!("k{at}").into(), commit);
                    }
                }
                columns
            };
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % events.len()).collect();
            cuts.extend([0, events.len()]);
            cuts.sort_unstable();
            let coverage = Coverage { end: 77, ..Coverage::default() };
            let piece = |cut: &[usize]| encode(&build(cut[0]..cut[1]), &coverage, Seed::random());
            let pieces = cuts.windows(2).map(piece);
            let runs: Vec<IndexFile> =
                pieces.map(|bytes| IndexFile::parse(bytes.into()).unwrap().0).collect();
            let seed = Seed::random();
            let merged = merge(&runs, &coverage, seed).unwrap();
            prop_assert_eq!(merged, encode(&build(0..events.len()), &coverage, seed));
            if let [_, second, .., last] = &runs[..] && second.first() != last.first() {
                prop_assert!(merge(&[last.clone(), second.clone()], &coverage, seed).is_none());
            }
        }
    }
}
