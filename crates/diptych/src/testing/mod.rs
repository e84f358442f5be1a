//! Tests of a domain, without a store, a runtime or a wait.
//!
//! [`given()`] tries one command. [`SchemaLock`] notices when the shape of an event that is in logs
//! changes by accident, [`check_determinism`] when a fold does not come to the same state every
//! time, and [`check_digest`](Given::check_digest) when it comes to another one than the
//! snapshots that are kept of it.

// A test that fails panics: that is what all of this is for.
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

/// What differs between two texts with names, and a little of what is around it.
fn unified_difference(old: (&str, &str), new: (&str, &str)) -> String {
    let ((old_name, old), (new_name, new)) = (old, new);
    TextDiff::from_lines(old, new).unified_diff().header(old_name, new_name).to_string()
}
