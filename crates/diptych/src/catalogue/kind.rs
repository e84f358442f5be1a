//! The kinds of entries.

use std::fmt;

/// The kinds of entries. Each has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// A command.
    Command,
    /// A query.
    Query,
    /// An event.
    Event,
    /// A view.
    View,
    /// A projection.
    Projection,
    /// A process.
    Process,
    /// A gateway.
    Gateway,
    /// A feed.
    Feed,
    /// An intake.
    Intake,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EntryKind::Command => "command",
            EntryKind::Query => "query",
            EntryKind::Event => "event",
            EntryKind::View => "view",
            EntryKind::Projection => "projection",
            EntryKind::Process => "process",
            EntryKind::Gateway => "gateway",
            EntryKind::Feed => "feed",
            EntryKind::Intake => "intake",
        })
    }
}
