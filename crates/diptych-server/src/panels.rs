//! The commands and queries of the app behind the door.

pub(crate) mod handlers;
pub(crate) mod site;
