//! The memory store passes the conformance suite, and wrong stores prove the suite.

// The lints hold outside of tests; all of this is tests, also where no `#[test]` stands above.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod docs;
mod histories;
mod memory;
mod pushed;
mod wrong;
