//! The memory store passes the conformance suite, and wrong stores prove the suite.

mod docs;
mod histories;
mod memory;
mod wrong;
