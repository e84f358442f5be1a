//! Counts the memory of each thread, so that an input that needs much of it is noticed.

// An allocator cannot be written without it. This one only counts, and passes calls on.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use diptych_fuzz::driver::Watch;

thread_local! {
    /// Bytes in use, and the most since the input began. A thread can free what another one
    /// allocated, so the numbers can become negative.
    static BYTES: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends can still free memory.
    let _ = BYTES.try_with(|of_thread| {
        let (in_use, peak) = of_thread.get();
        let in_use = in_use.wrapping_add(bytes);
        of_thread.set((in_use, peak.max(in_use)));
    });
}

// SAFETY: each call goes to the allocator of the system, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size().cast_signed().wrapping_neg());
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size.cast_signed().wrapping_sub(layout.size().cast_signed()));
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// The memory of the thread that runs the target.
pub(crate) struct ThisThread;

impl Watch for ThisThread {
    fn begin(&mut self) {
        BYTES.with(|of_thread| of_thread.set((0, 0)));
    }

    fn peak_bytes(&self) -> usize {
        usize::try_from(BYTES.with(Cell::get).1).unwrap_or(0)
    }
}
