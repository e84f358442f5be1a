//! The names in folders, as a process sees them and as they are on the disk.
//!
//! A change of a name is atomic, and each change is durable or lost independently of the others. So
//! until a folder is synced, the creation of a file can be lost although its later rename is not.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::Random;

/// The folder or file that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    /// A file, by its number.
    File(usize),
}

/// All folders and files by path. The root folder has no entry and always exists.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    current: BTreeMap<PathBuf, Entry>,
    durable: BTreeMap<PathBuf, Entry>,
    unsynced: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Entry),
    Remove(PathBuf),
    /// Both names are in the same folder.
    Rename {
        from: PathBuf,
        to: PathBuf,
        entry: Entry,
    },
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            NameChange::Add(path, _)
            | NameChange::Remove(path)
            | NameChange::Rename { to: path, .. } => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            NameChange::Add(path, entry) => {
                names.insert(path.clone(), *entry);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename { from, to, entry } => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
        }
    }
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Entry> {
        if is_root(path) {
            return Some(Entry::Folder);
        }
        self.current.get(path).copied()
    }

    /// Whether the folder exists that a path is in.
    pub(super) fn has_parent(&self, path: &Path) -> bool {
        let parent = path.parent().map(|parent| self.get(parent));
        parent == Some(Some(Entry::Folder))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.current.iter().filter_map(|(path, entry)| match entry {
            Entry::File(number) => Some((path.as_path(), *number)),
            Entry::Folder => None,
        })
    }

    /// The names in a folder, without the path of the folder.
    pub(super) fn list(&self, folder: &Path) -> Vec<String> {
        let names = self.current.keys().filter(|path| path.parent() == Some(folder));
        names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    }

    pub(super) fn add(&mut self, path: &Path, entry: Entry) {
        self.change(NameChange::Add(path.to_owned(), entry));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(NameChange::Remove(path.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, entry: Entry) {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(NameChange::Rename { from, to, entry });
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    pub(super) fn sync_all(&mut self) {
        self.unsynced.clear();
        self.durable = self.current.clone();
    }

    pub(super) fn sync(&mut self, folder: &Path) {
        self.sync_those(folder, |_| true);
    }

    /// Makes only the names of folders in this folder durable.
    pub(super) fn sync_folders(&mut self, folder: &Path) {
        self.sync_those(folder, |change| matches!(change, NameChange::Add(_, Entry::Folder)));
    }

    fn sync_those(&mut self, folder: &Path, which: impl Fn(&NameChange) -> bool) {
        let is_synced =
            |change: &NameChange| change.path().parent() == Some(folder) && which(change);
        let (synced, rest) = std::mem::take(&mut self.unsynced).into_iter().partition(is_synced);
        self.unsynced = rest;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| change.apply(&mut self.durable));
    }

    /// The names after a loss of power: the durable names, with any of the later changes. If a
    /// folder is lost, all its content is lost with it.
    pub(super) fn after_power_loss(&self, random: &mut Random) -> Names {
        let percent = *random.pick(&[0, 50, 50, 100]).unwrap_or(&0);
        let mut names = self.durable.clone();
        for change in &self.unsynced {
            if random.chance(percent) {
                change.apply(&mut names);
            }
        }
        let found = names.clone();
        names.retain(|path, _| {
            let mut above = path.ancestors().skip(1);
            above.all(|folder| is_root(folder) || found.get(folder) == Some(&Entry::Folder))
        });
        Names { current: names.clone(), durable: names, unsynced: Vec::new() }
    }
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}
