//! Where a folder is: which folder of which file system. A copy of a folder has another place. A
//! folder that was renamed within its file system keeps its place.
//!
//! An operating system can give other numbers to its devices after each start, so these numbers are
//! not part of a place.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    time::{SystemTime, UNIX_EPOCH},
};

#[cfg(target_os = "linux")]
use super::map;

/// The place of a folder, which stays the same when the machine is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderPlace {
    /// The number of the folder in its file system.
    pub inode: u64,
    /// When the folder was created, in nanoseconds since the Unix epoch; 0 if that is not known. A
    /// new folder can get the number of a removed one, but then this time differs.
    pub created: i64,
    /// The file system that has the folder.
    pub file_system: FileSystemId,
}

/// An identity of a file system. It stays the same when the machine is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystemId {
    /// The operating system reports no identity.
    Unknown,
    /// Its UUID.
    Uuid([u8; 16]),
    /// A number that the file system derives from its UUID.
    Number(u64),
}

impl FolderPlace {
    /// Whether both are one place, as far as both are known.
    pub fn is_same(&self, other: &FolderPlace) -> bool {
        let created = self.created == other.created || self.created == 0 || other.created == 0;
        self.inode == other.inode && created && self.file_system.may_be(other.file_system)
    }
}

impl FileSystemId {
    /// Identities of different kinds, such as of an older and a newer kernel, cannot be compared:
    /// they may be the same.
    fn may_be(self, other: FileSystemId) -> bool {
        use FileSystemId::{Number, Uuid};
        match (self, other) {
            (Uuid(one), Uuid(other)) => one == other,
            (Number(one), Number(other)) => one == other,
            _ => true,
        }
    }
}

impl fmt::Display for FolderPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folder {} of ", self.inode)?;
        match self.file_system {
            FileSystemId::Unknown => write!(f, "a file system without a name")?,
            FileSystemId::Uuid(uuid) => write!(f, "file system {}", uuid::Uuid::from_bytes(uuid))?,
            FileSystemId::Number(number) => write!(f, "file system {number:x}")?,
        }
        match self.created {
            0 => Ok(()),
            created => write!(f, " (created at {}.{:09})", created / NANOS, created % NANOS),
        }
    }
}

const NANOS: i64 = 1_000_000_000;

/// The place of an open folder; `None` on file systems that change the numbers of folders by
/// themselves.
pub(super) fn of(folder: &File) -> io::Result<Option<FolderPlace>> {
    let Some(file_system) = file_system(folder)? else { return Ok(None) };
    let metadata = folder.metadata()?;
    let created = metadata.created().ok().map_or(0, since_epoch);
    Ok(Some(FolderPlace { inode: metadata.ino(), created, file_system }))
}

fn since_epoch(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(0)
}

/// The identity of the file system; `None` if the file system changes the numbers of its folders.
#[cfg(target_os = "linux")]
fn file_system(folder: &File) -> io::Result<Option<FileSystemId>> {
    const EXT4: u64 = 0xef53;
    const BTRFS: u64 = 0x9123_683e;
    const ZFS: u64 = 0x2fc1_2fc1;
    const OVERLAY: u64 = 0x794c_7630;
    const FUSE: u64 = 0x6573_5546;
    const PLAN9: u64 = 0x0102_1997;
    let kind = rustix::fs::fstatfs(folder)?.f_type as u64 & u64::from(u32::MAX);
    if [OVERLAY, FUSE, PLAN9].contains(&kind) {
        return Ok(None);
    }
    if let Some(uuid) = map::file_system_uuid(folder) {
        return Ok(Some(FileSystemId::Uuid(uuid)));
    }
    // Other file systems derive this number from the number of the device, which changes.
    let is_stable = [EXT4, BTRFS, ZFS].contains(&kind);
    let number = if is_stable { rustix::fs::fstatvfs(folder)?.f_fsid } else { 0 };
    Ok(Some(if number == 0 { FileSystemId::Unknown } else { FileSystemId::Number(number) }))
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)] // On Linux it can fail.
fn file_system(_folder: &File) -> io::Result<Option<FileSystemId>> {
    Ok(Some(FileSystemId::Unknown))
}

/// A number that changes when the file system of an open folder is mounted again.
pub(super) fn mount(folder: &File) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, StatxFlags, statx};
        // STATX_MNT_ID_UNIQUE, since Linux 6.8: such a number is never used again.
        let unique = StatxFlags::from_bits_retain(0x4000);
        for wanted in [unique, StatxFlags::MNT_ID] {
            let told = statx(folder, c"", AtFlags::EMPTY_PATH, wanted);
            if let Ok(told) = told
                && told.stx_mask & wanted.bits() != 0
            {
                return Ok(told.stx_mnt_id);
            }
        }
    }
    Ok(folder.metadata()?.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(inode: u64, created: i64, file_system: FileSystemId) -> FolderPlace {
        FolderPlace { inode, created, file_system }
    }

    #[test]
    fn places_differ_if_a_part_that_both_know_differs() {
        use FileSystemId::{Number, Unknown, Uuid};
        let here = place(7, 5, Uuid([1; 16]));
        for same in [here, place(7, 0, here.file_system), place(7, 5, Number(3))] {
            assert!(here.is_same(&same) && same.is_same(&here), "{same}");
        }
        assert!(here.is_same(&place(7, 5, Unknown)));
        for other in [
            place(8, 5, here.file_system),
            place(7, 6, here.file_system),
            place(7, 5, Uuid([2; 16])),
        ] {
            assert!(!here.is_same(&other) && !other.is_same(&here), "{other}");
        }
        assert!(!place(7, 5, Number(3)).is_same(&place(7, 5, Number(4))));
    }

    #[test]
    fn a_folder_is_found_in_its_place_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        let of = |path: &std::path::Path| super::of(&File::open(path).unwrap()).unwrap();
        let before = of(&one);
        std::fs::rename(&one, &other).unwrap();
        assert_eq!(of(&other), before);
        std::fs::create_dir(&one).unwrap();
        let copy = of(&one);
        assert!(copy.zip(before).is_none_or(|(copy, before)| !copy.is_same(&before)));
        let mount = mount(&File::open(&one).unwrap()).unwrap();
        assert_eq!(super::mount(&File::open(&other).unwrap()).unwrap(), mount);
    }
}
