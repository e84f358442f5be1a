//! What the programs of this folder share: their options, the events that they write, the
//! engines and the contenders that take turns, and the table of what they did.

pub mod device;
pub mod engines;
pub mod latency;
pub mod options;
pub mod quiet;
pub mod raw;
pub mod table;
pub mod workload;
