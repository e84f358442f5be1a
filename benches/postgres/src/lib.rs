//! Code of the other benches that this program takes, too.

#[path = "../../src/latency.rs"]
pub mod latency;
#[path = "../../src/options.rs"]
pub mod options;
#[path = "../../src/program.rs"]
pub mod program;
#[path = "../../src/table.rs"]
pub mod table;
