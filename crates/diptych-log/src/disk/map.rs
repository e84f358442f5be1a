//! The one module with `unsafe`: mapping files into memory, and asking for it ahead of time.
//!
//! Why it is sound. A mapping is undefined behaviour if bytes behind a Rust reference change, so
//! no reference to a whole mapping of a growing file is ever made: [`Map::share`] makes slices of
//! only those bytes that its caller promises were written and are never changed again. The log is
//! append-only, positions below the published head never change, what recovery cuts off was never
//! shared, and what it writes again, it writes as it was. Another process cannot write: the folder
//! is locked. Someone who edits or cuts the files of an open log by hand breaks this, as with every
//! program that maps files.

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

/// Bytes that come from memory together.
const LINE: usize = 64;

/// Says that these bytes, as far as they are there, are wanted soon: memory is not waited for then.
#[inline]
pub(crate) fn prefetch(bytes: &[u8], start: usize, length: usize) {
    let end = start.saturating_add(length).min(bytes.len());
    #[cfg(target_arch = "x86_64")]
    for byte in bytes.get(start..end).unwrap_or(&[]).iter().step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it is a hint that changes nothing a program can see, and it cannot fault,
        // whatever the address; this one is inside of `bytes`. Every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) }
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
