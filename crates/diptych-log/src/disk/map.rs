//! The one module with `unsafe`: it maps files into memory, gives hints about memory and files, and
//! asks a file system for its UUID, for which there is no safe call.
//!
//! Why this is sound. A mapping is undefined behaviour if bytes behind a Rust reference change. So
//! the log never makes a reference to the whole mapping of a growing file. [`Map::share`] makes
//! slices only of bytes of which its caller promises that they were written and never change again.
//! The log is append-only, and positions below the published head never change. Bytes that recovery
//! cuts off were never shared. If recovery writes a byte again, it writes the same value. Other
//! processes do not write, because the folder is locked. If a user edits or cuts the files of an
//! open log by hand, this is no longer sound, as in every program that maps files.

#![allow(unsafe_code)]

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

/// A file mapped for reading.
#[derive(Debug)]
pub(crate) struct Map {
    raw: MmapRaw,
}

impl Map {
    /// Maps the first `bytes` of a file, which may be more than it has now.
    pub(crate) fn new(file: &File, bytes: usize) -> io::Result<Map> {
        let raw = MmapOptions::new().len(bytes).map_raw_read_only(file)?;
        // Without this advice the system reads the surroundings of a missing page, too, which can
        // be megabytes. A read of one event needs nothing from there. Scans request their bytes
        // with `will_need`.
        #[cfg(unix)]
        raw.advise(memmap2::Advice::Random)?;
        Ok(Map { raw })
    }

    pub(crate) fn size(&self) -> usize {
        self.raw.len()
    }

    /// Shares `start..end`. The caller promises that these bytes are inside the file, were
    /// written, and will never be written again.
    pub(crate) fn share(self: &Arc<Map>, start: usize, end: usize) -> Option<Bytes> {
        if start > end || end > self.raw.len() {
            return None;
        }
        Some(Bytes::from_owner(Slice { map: self.clone(), start, length: end - start }))
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Prefetches these bytes, as far as they exist, so that a read soon after does not wait for
/// memory. They go to the second level of the cache, which takes more requests at a time.
#[inline]
pub(crate) fn prefetch(bytes: &[u8], start: usize, length: usize) {
    let end = start.saturating_add(length).min(bytes.len());
    #[cfg(target_arch = "x86_64")]
    for byte in bytes.get(start..end).unwrap_or(&[]).iter().step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: it is a hint that changes nothing a program can see, and it cannot fault,
        // whatever the address; this one is inside of `bytes`. Every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(byte).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, end, LINE);
}

struct Slice {
    map: Arc<Map>,
    start: usize,
    length: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range is inside the mapping (checked in `share`), which lives as long as
        // `self.map`; the bytes are initialised by the kernel and do not change (see above).
        unsafe { std::slice::from_raw_parts(self.map.raw.as_ptr().add(self.start), self.length) }
    }
}

/// Whether the page at this offset of mapped bytes is in memory, so that a read does not wait for
/// the disk. If a system does not report this, every page counts as in memory.
#[cfg(target_os = "linux")]
pub(crate) fn is_resident(bytes: &[u8], at: usize) -> bool {
    let Some((start, _)) = pages(bytes, at, 1) else { return true };
    let mut resident = 0_u8;
    // SAFETY: it writes one byte for the one page that is asked about, and changes nothing else.
    // An address that is not mapped would be an error; this one is inside of `bytes`.
    let told = unsafe { libc::mincore(start as *mut libc::c_void, 1, &raw mut resident) };
    told != 0 || resident & 1 == 1
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_resident(_bytes: &[u8], _at: usize) -> bool {
    true
}

/// Begins to read these mapped bytes, as far as they exist, and does not wait for them. A system
/// that ignores the hint reads the bytes when a thread accesses them.
#[cfg(target_os = "linux")]
pub(crate) fn will_need(bytes: &[u8], start: usize, length: usize) {
    let Some((start, length)) = pages(bytes, start, length) else { return };
    // SAFETY: it is a hint that changes nothing a program can see; the range is inside of `bytes`,
    // but for the rest of its first page.
    unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_WILLNEED) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn will_need(_bytes: &[u8], _start: usize, _length: usize) {}

/// The address and the length of the pages with these bytes; `None` if there are no bytes.
#[cfg(target_os = "linux")]
fn pages(bytes: &[u8], start: usize, length: usize) -> Option<(usize, usize)> {
    static PAGE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    // SAFETY: it reads a constant of the system.
    let page = *PAGE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize);
    let end = start.saturating_add(length).min(bytes.len());
    if start >= end || page == 0 {
        return None;
    }
    let address = bytes.as_ptr().addr();
    let first = (address + start) / page * page;
    Some((first, address + end - first))
}

/// Begins to write back this part of a file.
#[cfg(target_os = "linux")]
pub(super) fn begin_write_back(file: &File, offset: u64, length: usize) {
    use std::os::fd::AsRawFd;
    let (offset, length) = (offset as libc::off64_t, length as libc::off64_t);
    // SAFETY: it takes numbers and no memory; the descriptor is open as long as `file` is borrowed.
    // The result does not matter, because the sync that follows reports failed writes.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn begin_write_back(_file: &File, _offset: u64, _length: usize) {}

/// The UUID of the file system of a file, if the kernel reports it (since Linux 6.9).
#[cfg(target_os = "linux")]
pub(super) fn file_system_uuid(file: &File) -> Option<[u8; 16]> {
    use rustix::ioctl::{Getter, ioctl, opcode};
    #[repr(C)]
    struct Answer {
        length: u8,
        uuid: [u8; 16],
    }
    // FS_IOC_GETFSUUID
    const GET: rustix::ioctl::Opcode = opcode::read::<Answer>(0x15, 0);
    // SAFETY: the kernel writes 17 bytes to an `Answer`; this size is part of the number `GET`.
    // Every value of these bytes is a valid `Answer`.
    let answer = unsafe { ioctl(file, Getter::<GET, Answer>::new()) };
    let Answer { length, uuid } = answer.ok()?;
    // A file system without a UUID reports zeros.
    (usize::from(length) == uuid.len() && uuid != [0; 16]).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_accepted_for_any_range() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let map = Arc::new(Map::new(&File::open(&path).unwrap(), 100_000).unwrap());
        let bytes = map.share(10, 99_990).unwrap();
        for at in [0, 1, 4_086, 50_000, 99_979] {
            will_need(&bytes, at, 30_000);
            prefetch(&bytes, at, 30_000);
            assert_eq!(bytes[at], 7);
            assert!(is_resident(&bytes, at), "the byte was read just before");
        }
        for beyond in [99_980, 1_000_000, usize::MAX] {
            will_need(&bytes, beyond, 30_000);
            prefetch(&bytes, beyond, 30_000);
            assert!(is_resident(&bytes, beyond));
        }
        will_need(&[], 0, 1);
    }
}
