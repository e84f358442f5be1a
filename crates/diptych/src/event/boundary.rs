//! Filters that cannot match the events that they ask for.

use diptych_store::Position;

/// A boundary of a command, or the scope of a query, that cannot match the events that it seems to
/// ask for. This is a mistake of the program. Without the error, a rule would silently be off, or
/// an answer silently wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundaryError {
    /// A tag key that no event of the fold declares.
    #[error(
        "the filter asks for the tag key {key:?}, which no event in question of {events} \
         declares (known: {known:?}): correct it, or mark the field as a tag"
    )]
    UnknownTagKey {
        /// The key.
        key: String,
        /// The Rust type of the fold's events.
        events: &'static str,
        /// The keys that they declare.
        known: Vec<&'static str>,
    },
    /// An event type that the fold does not have.
    #[error(
        "the filter asks for the event type {event_type:?}, which {events} does not have \
         (known: {known:?})"
    )]
    UnknownType {
        /// The name of the event type.
        event_type: String,
        /// The Rust type of the fold's events.
        events: &'static str,
        /// The types that they have.
        known: Vec<&'static str>,
    },
    /// A revision was expected of a boundary that is not one stream.
    #[error(
        "a revision belongs to one tag, and the boundary is not one tag: expect a position \
         with `unchanged_since` instead"
    )]
    NotOneStream,
    /// A position was expected of a boundary that no event can match: that of a command without
    /// state, or a filter that matches nothing.
    #[error(
        "nothing can change since position {since}: the command depends on no events, because it \
         has no state or its boundary matches nothing; give it a state whose boundary has the \
         events in question, or send it without `unchanged_since`"
    )]
    NoBoundary {
        /// The position that was expected.
        since: Position,
    },
    /// `conflicts_with` of a command without a state for these conflicts.
    #[error(
        "`conflicts_with` asks for {conflicts}, and no state of the command has such events: give \
         it one that does"
    )]
    NoState {
        /// The filter of the conflicts.
        conflicts: String,
    },
    /// A tag longer than any that an event can carry.
    #[error(
        "the filter has a tag of {bytes} bytes, and an event can carry at most {limit}: check \
         lengths before (a command, in `validate`)"
    )]
    TagTooLong {
        /// The length of the tag.
        bytes: usize,
        /// The longest tag that an event can carry.
        limit: usize,
    },
}
