//! Notes of targets about what happened, by which the run without coverage knows an input that did
//! something new.

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash, Hasher},
};

thread_local! {
    static NOTES: RefCell<DefaultHasher> = RefCell::default();
}

/// Notes that this happened. Digits do not count.
pub(crate) fn note(what: &str) {
    NOTES.with_borrow_mut(|notes| {
        let letters = what.bytes().filter(|byte| !byte.is_ascii_digit());
        letters.take(200).for_each(|byte| byte.hash(notes));
        0xFF_u8.hash(notes);
    });
}

/// A number for the notes since the last call.
pub(crate) fn take() -> u64 {
    NOTES.take().finish()
}
