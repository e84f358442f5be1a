//! The bytes of segments, of the published head and of the manifest. Pure functions: no files, no
//! clock, no threads.

pub(crate) mod archive;
pub(crate) mod chain;
pub(crate) mod frame;
pub(crate) mod frame_order;
pub(crate) mod head;
pub(crate) mod manifest;
pub(crate) mod recovery;
pub(crate) mod segment;
