//! Tests of a domain, without a store, a runtime or a wait.

// A test that fails panics: that is what all of this is for.
#![allow(clippy::panic)]

mod clock;
mod given;

pub use clock::{Clock, Controlled, Ids};
pub use given::{Given, When, given, nothing_given};
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
