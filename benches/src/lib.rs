//! Code that the programs in this folder share: their options, the events that they write, the
//! engines, and the tables of contenders that take turns.

pub mod appends;
pub mod device;
pub mod durable;
pub mod engines;
pub mod latency;
pub mod options;
pub mod program;
pub mod quiet;
pub mod raw;
pub mod table;
pub mod workload;
