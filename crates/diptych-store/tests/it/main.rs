//! The memory store keeps every promise of the contract.

mod memory;
