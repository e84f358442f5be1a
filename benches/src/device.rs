//! Figures from the operating system: disk flushes, file sizes, the page cache, and the memory and
//! open files of this process.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise, major, minor};

/// Linux reports times of processes to programs in this unit, on every usual machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// Counts the flush requests of the disk below a folder.
pub struct Flushes {
    stat: PathBuf,
}

fn stat_of(folder: &Path) -> Option<PathBuf> {
    let device = fs::metadata(folder).ok()?.dev();
    Some(format!("/sys/dev/block/{}:{}/stat", major(device), minor(device)).into())
}

/// Bytes that the system has read from the disk below a folder since it started; 0 if unknown.
pub fn read_bytes(folder: &Path) -> u64 {
    let stat = stat_of(folder).and_then(|stat| fs::read_to_string(stat).ok());
    stat.and_then(|stat| number_of(&stat, 3)).unwrap_or(0) * 512
}

impl Flushes {
    /// `None` if the system does not count the flushes of this disk.
    pub fn of(folder: &Path) -> Option<Flushes> {
        let flushes = Flushes { stat: stat_of(folder)? };
        let before = flushes.count()?;
        // File systems in memory and some disks count no flushes, so one sync has to raise the
        // count.
        let probe = folder.join("flush-probe");
        let file = File::create(&probe).ok()?;
        file.set_len(1).and_then(|()| file.sync_all()).ok()?;
        fs::remove_file(probe).ok()?;
        (flushes.count()? > before).then_some(flushes)
    }

    /// Flush requests that the disk has completed since the system started.
    pub fn count(&self) -> Option<u64> {
        number_of(&fs::read_to_string(&self.stat).ok()?, 16)
    }
}

/// One field of a disk's statistics; the first is field 1. Field 3 counts the sectors that were
/// read, field 16 the flush requests that were completed.
fn number_of(stat: &str, place: usize) -> Option<u64> {
    stat.split_whitespace().nth(place - 1)?.parse().ok()
}

/// Bytes of all files in a folder.
pub struct Sizes {
    /// Bytes in blocks of 4 KiB that are not all zeroes.
    pub used: u64,
    /// Bytes that the file system has allocated.
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

/// All files in a folder and in its subfolders.
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

/// Drops the files of a folder from the page cache, and returns a note that says how. No process
/// may have these files open.
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

/// A memory figure of this process in KiB, such as `VmHWM` or `RssAnon`; 0 if unknown.
pub fn memory_kib(name: &str) -> u64 {
    memory_kib_of(std::process::id(), name)
}

/// A memory figure of a process in KiB; 0 if unknown.
pub fn memory_kib_of(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    kib_in(&status.unwrap_or_default(), name).unwrap_or(0)
}

/// The seconds that a process has used processors; 0 if unknown.
pub fn processor_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may contain spaces. Field 3 follows it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |place: usize| number_of(fields, place - 2).unwrap_or(0);
    (ticks(14) + ticks(15)) as f64 / TICKS_PER_SECOND
}

fn kib_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The number of files that this process has open.
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_statistics_count_fields_from_one() {
        let stat = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n";
        assert_eq!((number_of(stat, 3), number_of(stat, 16)), (Some(3), Some(16)));
        assert_eq!(number_of("1 2 3", 16), None);
    }

    #[test]
    fn blocks_of_zeroes_do_not_count_as_used() {
        let mut piece = vec![0; 10_000];
        assert_eq!(used_bytes(&piece), 0);
        piece[4_096] = 1;
        assert_eq!(used_bytes(&piece), 4_096);
        piece[9_999] = 1;
        assert_eq!(used_bytes(&piece), 4_096 + 10_000 - 8_192);
    }

    #[test]
    fn a_memory_figure_is_found_by_its_whole_name() {
        let status = "VmHWMx:\t 1 kB\nVmHWM:\t  3456 kB\nRssAnon:\t 12 kB\n";
        assert_eq!(kib_in(status, "VmHWM"), Some(3456));
        assert_eq!(kib_in(status, "RssAnon"), Some(12));
        assert_eq!(kib_in(status, "RssFile"), None);
    }
}
