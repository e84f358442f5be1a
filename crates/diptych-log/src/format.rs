//! The bytes of segments and of the published head. Pure functions: no files, no clock, no threads.

pub(crate) mod chain;
pub(crate) mod frame;
pub(crate) mod frame_order;
pub(crate) mod recovery;
pub(crate) mod segment;
