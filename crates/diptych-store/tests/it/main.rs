//! The memory store keeps every promise of the contract, and the suite that says so is proven.

mod docs;
mod memory;
mod wrong;
