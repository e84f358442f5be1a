//! The folder of a log: holding it, and the small files beside the segments.

pub(crate) mod derived;
pub(crate) mod hold;
pub(crate) mod mark;
pub(crate) mod unclean;
