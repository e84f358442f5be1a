//! The panels from outside, as a program uses them.

// The lints hold outside of tests; all of this is tests, also where no `#[test]` stands above.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[cfg(feature = "derive")]
mod derive;
