//! Work that follows the commits: index files, segment filters, clustering.

pub(crate) mod cluster;
pub(crate) mod indexer;
