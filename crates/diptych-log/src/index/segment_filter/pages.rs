//! The pages of a group file, each of which is checked when it is first read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// The pages of a group file.
#[derive(Debug)]
pub(super) struct Pages {
    /// Where the sums begin, and where the first page.
    sums: usize,
    pub(super) from: usize,
    /// A bit for each page that was checked and is whole. Empty if the file has no sums.
    checked: Vec<AtomicU64>,
    pub(super) is_damaged: AtomicBool,
}

impl Pages {
    pub(super) fn new(sums: usize, pages: Option<usize>) -> Pages {
        let checked = (0..pages.unwrap_or(0).div_ceil(64)).map(|_| AtomicU64::new(0));
        Pages {
            sums,
            from: sums + pages.unwrap_or(0) * 4,
            checked: checked.collect(),
            is_damaged: AtomicBool::new(false),
        }
    }

    /// Whether these bytes of the file are in whole pages.
    pub(super) fn are_whole(&self, bytes: &[u8], start: usize, end: usize) -> bool {
        if self.checked.is_empty() || start >= end {
            return true;
        }
        let page_of = |at: usize| at.saturating_sub(self.from) / PAGE;
        let whole = (page_of(start)..=page_of(end - 1)).all(|page| self.is_whole(bytes, page));
        if !whole {
            self.is_damaged.store(true, Ordering::Relaxed);
        }
        whole
    }

    fn is_whole(&self, bytes: &[u8], page: usize) -> bool {
        let Some(checked) = self.checked.get(page / 64) else { return false };
        let bit = 1 << (page % 64);
        if checked.load(Ordering::Relaxed) & bit != 0 {
            return true;
        }
        let start = self.from + page * PAGE;
        let end = bytes.len().min(start + PAGE);
        let found = bytes.get(start..end).map(crc32c::crc32c);
        let sum = bytes.get(self.sums + page * 4..).and_then(<[u8]>::first_chunk);
        let whole = found.is_some() && found == sum.map(|sum| u32::from_le_bytes(*sum));
        if whole {
            checked.fetch_or(bit, Ordering::Relaxed);
        }
        whole
    }
}
