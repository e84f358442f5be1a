//! Tools for tests of a domain.
//!
//! [`given()`] tests one command, without a store, a runtime or a wait. [`SchemaLock`] fails when
//! the shape of a stored event changes by accident. [`check_determinism`] fails when a fold does
//! not reach the same state every time. [`check_digest`](Given::check_digest) fails when a fold
//! reaches another state than the one in its older snapshots.

// These tools are for tests, and a test fails by a panic.
#![allow(clippy::panic)]

mod clock;
mod determinism;
mod folding;
mod given;
mod lock;

pub use clock::{Clock, ControlledClock, Ids};
pub use determinism::check_determinism;
pub use folding::Folding;
pub use given::{Given, When, given, nothing_given};
pub use lock::{SchemaLock, SchemaReport};
use similar::TextDiff;

/// A readable difference of two texts.
pub(crate) fn difference(expected: &str, actual: &str) -> String {
    let difference = TextDiff::from_lines(expected, actual);
    let mut text = String::new();
    for change in difference.iter_all_changes() {
        text.push_str(&format!("{} {change}", change.tag()));
    }
    text
}

/// A unified difference of two named texts, with a few lines of context.
fn unified_difference(old: (&str, &str), new: (&str, &str)) -> String {
    let ((old_name, old), (new_name, new)) = (old, new);
    TextDiff::from_lines(old, new).unified_diff().header(old_name, new_name).to_string()
}
