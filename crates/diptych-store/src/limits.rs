/// Limits of a store. A store checks all of them before it writes.
///
/// Sizes are in bytes of the encoded form. The limits of a store can be smaller than the defaults:
/// see [`EventStore::limits`](crate::EventStore::limits).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// One encoded event, payload included.
    pub event_bytes: usize,
    /// The name of an event type.
    pub type_bytes: usize,
    /// One tag, with key, colon and value.
    pub tag_bytes: usize,
    /// Tags of one event, repeated ones included.
    pub tags_per_event: usize,
    /// Actor and extra metadata of one event, together.
    pub metadata_bytes: usize,
    /// Events in one commit.
    pub commit_events: usize,
    /// Encoded events of one commit, together.
    pub commit_bytes: usize,
    /// Conditions of one commit.
    pub commit_conditions: usize,
    /// An idempotency key.
    pub key_bytes: usize,
    /// The name of a tracking source.
    pub source_bytes: usize,
    /// Different tracking sources in one log.
    pub tracking_sources: usize,
    /// Items of one filter, or of all filters in the conditions of one commit.
    pub filter_items: usize,
    /// Types and tags in all items of one filter, or of all filters in the conditions of one
    /// commit.
    pub filter_terms: usize,
    /// Events in one batch of a read.
    pub batch_events: usize,
    /// Encoded events of one batch, together. A larger event is read alone.
    pub batch_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            event_bytes: 4 << 20,
            type_bytes: 255,
            tag_bytes: 512,
            tags_per_event: 64,
            metadata_bytes: 16 << 10,
            commit_events: 65_536,
            commit_bytes: 16 << 20,
            commit_conditions: 64,
            key_bytes: 512,
            source_bytes: 255,
            tracking_sources: 1_024,
            filter_items: 256,
            filter_terms: 4_096,
            batch_events: 16_384,
            batch_bytes: 8 << 20,
        }
    }
}
