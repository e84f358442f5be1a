//! The parts of this example that the example `fulfilment` has too: the orders, the unreliable
//! payment provider, and the programs that a run starts and kills.

pub mod programs;
pub mod provider;
pub mod source;
