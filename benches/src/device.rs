//! The disk and the memory as the system tells of them: flushes, sizes, caches, processes.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise, major, minor};

/// How often the disk below a folder was told to make its cache durable.
pub struct Flushes {
    stat: PathBuf,
}

fn stat_of(folder: &Path) -> Option<PathBuf> {
    let device = fs::metadata(folder).ok()?.dev();
    Some(format!("/sys/dev/block/{}:{}/stat", major(device), minor(device)).into())
}

/// Bytes that were read from the disk below a folder since the system started; 0 if unknown.
pub fn read_bytes(folder: &Path) -> u64 {
    let stat = stat_of(folder).and_then(|stat| fs::read_to_string(stat).ok());
    stat.and_then(|stat| number_of(&stat, 3)).unwrap_or(0) * 512
}

impl Flushes {
    /// Nothing where the system does not count them.
    pub fn of(folder: &Path) -> Option<Flushes> {
        let flushes = Flushes { stat: stat_of(folder)? };
        let before = flushes.count()?;
        // A file system in memory counts nothing, and some disks do not either.
        let probe = folder.join("flush-probe");
        let file = File::create(&probe).ok()?;
        file.set_len(1).and_then(|()| file.sync_all()).ok()?;
        fs::remove_file(probe).ok()?;
        (flushes.count()? > before).then_some(flushes)
    }

    /// Since the system started; not a small number.
    pub fn count(&self) -> Option<u64> {
        number_of(&fs::read_to_string(&self.stat).ok()?, 16)
    }
}

/// The numbers of a disk: the third is of sectors that were read, the sixteenth of flush requests
/// that were completed.
fn number_of(stat: &str, place: usize) -> Option<u64> {
    stat.split_whitespace().nth(place - 1)?.parse().ok()
}

/// Bytes of the files of a folder.
pub struct Sizes {
    /// In blocks of 4 KiB that are not all zeroes.
    pub used: u64,
    /// What the file system has given to them.
    pub allocated: u64,
}

impl Sizes {
    pub fn of(folder: &Path) -> Sizes {
        let mut sizes = Sizes { used: 0, allocated: 0 };
        let mut piece = vec![0; 1 << 20];
        for file in files(folder) {
            let mut file = File::open(file).unwrap();
            sizes.allocated += file.metadata().unwrap().blocks() * 512;
            loop {
                match file.read(&mut piece).unwrap() {
                    0 => break,
                    read => sizes.used += used_bytes(&piece[..read]),
                }
            }
        }
        sizes
    }
}

fn used_bytes(piece: &[u8]) -> u64 {
    let used = piece.chunks(4_096).filter(|block| block.iter().any(|byte| *byte != 0));
    used.map(|block| block.len() as u64).sum()
}

/// The files of a folder and of those in it.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Lets the system forget what is in the files of a folder; nobody may have them open. Says how.
pub fn drop_cache(folder: &Path) -> &'static str {
    rustix::fs::sync();
    if fs::write("/proc/sys/vm/drop_caches", "1").is_ok() {
        return "the page cache of the system was dropped";
    }
    for file in files(folder) {
        let file = File::open(file).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
    "the files were dropped from the page cache with `posix_fadvise`"
}

/// A figure of this process in KiB, such as `VmHWM` or `RssAnon`.
pub fn memory_kib(name: &str) -> u64 {
    kib_in(&fs::read_to_string("/proc/self/status").unwrap_or_default(), name).unwrap_or(0)
}

fn kib_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Files that this process has open.
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_the_numbers_of_a_disk_begin_with_one() {
        let stat = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n";
        assert_eq!((number_of(stat, 3), number_of(stat, 16)), (Some(3), Some(16)));
        assert_eq!(number_of("1 2 3", 16), None);
    }

    #[test]
    fn blocks_of_zeroes_are_not_used() {
        let mut piece = vec![0; 10_000];
        assert_eq!(used_bytes(&piece), 0);
        piece[4_096] = 1;
        assert_eq!(used_bytes(&piece), 4_096);
        piece[9_999] = 1;
        assert_eq!(used_bytes(&piece), 4_096 + 10_000 - 8_192);
    }

    #[test]
    fn memory_is_found_by_its_whole_name() {
        let status = "VmHWMx:\t 1 kB\nVmHWM:\t  3456 kB\nRssAnon:\t 12 kB\n";
        assert_eq!(kib_in(status, "VmHWM"), Some(3456));
        assert_eq!(kib_in(status, "RssAnon"), Some(12));
        assert_eq!(kib_in(status, "RssFile"), None);
    }
}
