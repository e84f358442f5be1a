//! The names of types and tags that the published events have, from the index alone.

use std::collections::{BTreeSet, HashMap};

use diptych_store::{Position, ReadError};

use crate::{catalog::Catalog, disk::Disk, index::Index};

/// The names of the types of the events up to `head`, in order. Goes through the index, not through
/// the log.
pub(super) fn type_names(
    disk: &dyn Disk,
    catalog: &Catalog,
    head: Position,
) -> Result<Vec<String>, ReadError> {
    let mut names = BTreeSet::new();
    for part in &catalog.parts {
        // Only a part in memory can reach beyond the head: files hold only synced events.
        let Some(published) = head.plus(1).get().checked_sub(part.first.get()) else { break };
        part.ask(disk, |index| {
            let mut add = |name: &str| {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            };
            match index {
                Index::Memory(columns) => {
                    let published = usize::try_from(published).unwrap_or(usize::MAX);
                    let used = columns.types.iter().take(published);
                    used.filter_map(|number| columns.type_names.get(*number as usize))
                        .for_each(|name| add(name));
                }
                // The file may list a type without having an event of that type.
                Index::File(run) => {
                    let counted = run.type_names().iter().zip(run.count_types());
                    counted.filter(|(_, count)| *count > 0).for_each(|(name, _)| add(name));
                }
            }
        })?;
    }
    Ok(names.into_iter().collect())
}

/// How many there are of each name, most first.
pub(super) type Counts = Vec<(String, u64)>;

/// Counts for a report, of the events up to `head`: by type, and tags by key.
pub(super) fn count_names(
    disk: &dyn Disk,
    catalog: &Catalog,
    head: Position,
) -> Result<(Counts, Counts), ReadError> {
    let (mut types, mut keys) = (HashMap::new(), HashMap::new());
    for part in &catalog.parts {
        // Only a part in memory can reach beyond the head: files hold only synced events.
        let Some(published) = head.plus(1).get().checked_sub(part.first.get()) else { break };
        part.ask(disk, |index| {
            let mut add_tag = |tag: &str, count: usize| {
                let key = tag.split_once(':').map_or(tag, |(key, _)| key);
                *keys.entry(key.to_owned()).or_default() += count as u64;
            };
            match index {
                Index::Memory(columns) => {
                    let published = usize::try_from(published).unwrap_or(usize::MAX);
                    for number in columns.types.iter().take(published) {
                        if let Some(name) = columns.type_names.get(*number as usize) {
                            *types.entry(name.to_string()).or_default() += 1;
                        }
                    }
                    for (tag, list) in &columns.tags {
                        add_tag(tag, list.partition_point(|at| (*at as usize) < published));
                    }
                }
                Index::File(run) => {
                    for (name, count) in run.type_names().iter().zip(run.count_types()) {
                        *types.entry(name.to_string()).or_default() += count;
                    }
                    run.tags().for_each(|(tag, list)| add_tag(tag, list.len()));
                }
            }
        })?;
    }
    Ok((most_first(types), most_first(keys)))
}

fn most_first(counts: HashMap<String, u64>) -> Counts {
    let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    counts.sort_by(|(name, count), (other, than)| than.cmp(count).then_with(|| name.cmp(other)));
    counts
}
