//! A tag that a stored event lacks.

use std::fmt;

use diptych_store::{Filter, Position};

/// A stored event lacks a tag that it would get if it were written today.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingTag {
    /// The name that its type has today.
    pub event_type: &'static str,
    /// The name of its type as it is stored.
    pub stored_type: String,
    /// The schema version as it is stored.
    pub stored_version: u32,
    /// The key of the tag that it lacks.
    pub key: String,
    /// The position of the event.
    pub position: Position,
}

impl MissingTag {
    /// Whether both are about the same tag key of the same event type.
    pub(super) fn is_like(&self, other: &MissingTag) -> bool {
        self.event_type == other.event_type && self.key == other.key
    }

    /// Whether a boundary with this filter should see the event and does not.
    pub(crate) fn concerns(&self, boundary: &Filter) -> bool {
        boundary.items().iter().any(|item| {
            let types = &item.types;
            let asks = types.is_empty() || types.iter().any(|name| name == self.event_type);
            asks && item.tags.iter().any(|tag| tag.key() == self.key)
        })
    }
}

impl fmt::Display for MissingTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingTag { event_type, stored_type, stored_version, key, position } = self;
        write!(
            f,
            "the event at position {position}, {stored_type} version {stored_version}, does not \
             carry the tag {key} that {event_type} has today, so a rule over that tag does not see \
             it: give older events the tag with `App::retag`, in a program that starts with \
             `retagging`, or keep such rules on the tags that older events carry; if no rule needs \
             the older events, say so with `accept_untagged({event_type:?}, {key:?})`"
        )
    }
}
