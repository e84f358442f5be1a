//! Group files of a log: asking them, and making them.
//!
//! A look-up asks the index of a segment only if its group says that this has something to say.
//! Eight complete segments make a group, and eight of those one of 64. So what a look-up costs
//! does not grow with the log, but for one question for each 64 segments. A segment that is in no
//! group yet is asked.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use crate::{
    catalog::{Catalog, Folders, Part, write_file},
    cold,
    disk::Disk,
    engine::Engine,
    index::{
        Index, Wanted,
        group::{self, Entry, Group, Name},
    },
};

/// Segments in a group of the first kind, and groups of the first kind in one of the second.
const FEW: u32 = 8;
const MANY: u32 = FEW * FEW;

/// `first-last.group`, by the sequences of its segments.
pub(crate) fn file_name(first: u32, last: u32) -> String {
    format!("{first:08}-{last:08}.group")
}

pub(crate) fn parse_file_name(name: &str) -> Option<(u32, u32)> {
    let (first, last) = name.strip_suffix(".group")?.split_once('-')?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let segments = last.checked_sub(first)?.checked_add(1)?;
    ((segments == FEW || segments == MANY) && first % segments == 1).then_some((first, last))
}

/// A group file, which is read when it is first needed.
#[derive(Debug)]
pub(crate) struct GroupFile {
    path: PathBuf,
    /// Sequences of its segments.
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// Nothing if it is no good: then all its segments are asked.
    group: OnceLock<Option<Group>>,
}

impl GroupFile {
    fn new(folders: &Folders, first: u32, last: u32) -> GroupFile {
        let path = folders.index.join(file_name(first, last));
        GroupFile { path, first, last, group: OnceLock::new() }
    }

    /// The segments that may have what is wanted, of whose `parts` this is: bit n stands for
    /// segment `first` + n.
    pub(crate) fn having(&self, disk: &dyn Disk, parts: &[Arc<Part>], wanted: Wanted<'_>) -> u64 {
        let group = self.group.get_or_init(|| self.load(disk, parts));
        group.as_ref().map_or(u64::MAX, |group| group.having(wanted))
    }

    fn load(&self, disk: &dyn Disk, parts: &[Arc<Part>]) -> Option<Group> {
        let group = disk
            .map(&self.path)
            .ok()
            .map(cold::ask_for_file)
            .and_then(Group::parse)
            .filter(|group| {
                let place =
                    (group.first, group.segments) == (self.first, self.last - self.first + 1);
                place
                    && seals(disk, parts, self.first, self.last).is_some_and(|seals| {
                        (0..).zip(seals).all(|(segment, seal)| group.seal(segment) == Some(seal))
                    })
            });
        if group.is_none() {
            tracing::warn!(file = %self.path.display(), "a group file is no good: it is not used");
        }
        group
    }

    fn is_good(&self, disk: &dyn Disk, parts: &[Arc<Part>]) -> bool {
        self.group.get_or_init(|| self.load(disk, parts)).is_some()
    }
}

/// The header checksums that these segments have or had in the order of arrival, 0 for one
/// without events.
fn seals(disk: &dyn Disk, parts: &[Arc<Part>], first: u32, last: u32) -> Option<Vec<u32>> {
    let mut seals = vec![0; (last - first + 1) as usize];
    for part in parts {
        let seal = seals.get_mut(part.segment.sequence.checked_sub(first)? as usize)?;
        if *seal == 0 {
            *seal = part.segment.published(disk).ok()?.head.seal;
        }
    }
    Some(seals)
}

/// A group among the parts of a catalog.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) file: Arc<GroupFile>,
    /// Indices of its parts.
    pub(crate) parts: std::ops::Range<usize>,
}

impl Placed {
    pub(crate) fn new(file: Arc<GroupFile>, parts: &[Arc<Part>]) -> Placed {
        let start = parts.partition_point(|part| part.segment.sequence < file.first);
        let end = parts.partition_point(|part| part.segment.sequence <= file.last);
        Placed { parts: start..end, file }
    }
}

/// The group files that are there, of segments before `active`. Those that another one has made
/// needless are removed.
pub(crate) fn list(disk: &dyn Disk, folders: &Folders, active: u32) -> Vec<Arc<GroupFile>> {
    let names = disk.list(&folders.index).unwrap_or_default();
    let mut spans: Vec<_> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    spans.sort_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    let (mut groups, mut next) = (Vec::new(), 0);
    for (first, last) in spans {
        if first >= next && last < active {
            groups.push(Arc::new(GroupFile::new(folders, first, last)));
            next = last + 1;
        } else {
            let _ = disk.remove(&folders.index.join(file_name(first, last)));
        }
    }
    groups
}

impl Engine {
    /// Makes all groups that can be made. One that cannot be written is not missed by anybody but
    /// who waits for an answer.
    pub(crate) fn group_all(&self) {
        while self.group_one() {}
    }

    /// Makes the next group, if there is one to make.
    pub(crate) fn group_one(&self) -> bool {
        let catalog = self.catalog();
        let active = catalog.parts.last().map_or(0, |part| part.segment.sequence);
        let many = self.group_many(&catalog, active);
        many.or_else(|| self.group_few(&catalog, active)).unwrap_or(false)
    }

    /// Eight groups of eight that are there become one.
    fn group_many(&self, catalog: &Catalog, active: u32) -> Option<bool> {
        let starts = (1..active).step_by(MANY as usize).filter(|first| first + MANY <= active);
        for first in starts {
            let last = first + MANY - 1;
            let within = |group: &&Placed| group.file.first >= first && group.file.last <= last;
            let members: Vec<_> = catalog.groups.iter().filter(within).collect();
            if members.len() != FEW as usize {
                continue;
            }
            let groups = members.iter().map(|member| member.file.group.get().cloned().flatten());
            let Some(groups) = groups.collect::<Option<Vec<Group>>>() else { continue };
            let seals = (first..=last).zip(groups.iter().flat_map(|group| {
                (0..group.segments).map(|segment| group.seal(segment).unwrap_or(0))
            }));
            let seals: Vec<u32> = seals.map(|(_, seal)| seal).collect();
            let bytes = group::encode(first, &seals, &group::merge(&groups));
            return Some(self.place_group(first, last, &bytes));
        }
        None
    }

    /// The first eight complete segments that are in no group become one.
    fn group_few(&self, catalog: &Catalog, active: u32) -> Option<bool> {
        let starts = (1..active).step_by(FEW as usize).filter(|first| first + FEW <= active);
        for first in starts {
            let last = first + FEW - 1;
            let of = |group: &Placed| group.file.first <= first && group.file.last >= last;
            if let Some(there) = catalog.groups.iter().find(|group| of(group)) {
                let parts = catalog.parts.get(there.parts.clone()).unwrap_or(&[]);
                if there.file.is_good(self.disk(), parts) {
                    continue;
                }
            }
            let parts = catalog.parts.iter();
            let parts: Vec<_> = parts
                .filter(|part| (first..=last).contains(&part.segment.sequence))
                .cloned()
                .collect();
            if parts.iter().any(|part| part.path().is_none()) {
                // One is still to be written out.
                return None;
            }
            let entries = self.names(&parts, first)?;
            let seals = seals(self.disk(), &parts, first, last)?;
            return Some(self.place_group(first, last, &group::encode(first, &seals, &entries)));
        }
        None
    }

    fn names(&self, parts: &[Arc<Part>], first: u32) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        for part in parts {
            let set = 1 << (part.segment.sequence - first);
            let added = part.ask(self.disk(), |index| {
                let Index::File(run) = index else { return };
                let types = run.type_names().iter().map(|name| Name::Type(name).hash());
                entries.extend(types.map(|hash| (hash, set)));
                entries.extend(run.tag_names().map(|name| (Name::Tag(name).hash(), set)));
                entries.extend(run.key_names().map(|name| (Name::Key(name).hash(), set)));
            });
            added.ok()?;
        }
        Some(group::collect(entries))
    }

    /// Writes a group and takes it in; answers whether that went well.
    fn place_group(&self, first: u32, last: u32, bytes: &[u8]) -> bool {
        let file = GroupFile::new(&self.folders, first, last);
        let written = write_file(self.disk(), &file.path, bytes);
        let mapped = written.and_then(|()| self.disk().map(&file.path));
        let group = match mapped.map(Group::parse) {
            Ok(Some(group)) => group,
            Ok(None) => {
                return self.no_group(&file.path, "it is not what was written a moment ago");
            }
            Err(error) => return self.no_group(&file.path, &error.to_string()),
        };
        let _ = file.group.set(Some(group));
        let mut needless = Vec::new();
        {
            let mut catalog = self.catalog.write();
            let mut groups: Vec<_> =
                catalog.groups.iter().map(|group| group.file.clone()).collect();
            groups.retain(|group| {
                let stays = group.last < first || group.first > last;
                if !stays && group.path != file.path {
                    needless.push(group.path.clone());
                }
                stays
            });
            groups.push(Arc::new(file));
            groups.sort_by_key(|group| group.first);
            *catalog = Arc::new(Catalog::new(catalog.parts.clone(), groups));
        }
        for path in needless {
            let _ = self.disk().remove(&path);
        }
        true
    }

    fn no_group(&self, path: &Path, error: &str) -> bool {
        tracing::warn!(file = %path.display(), error, "a group file cannot be written");
        false
    }
}
