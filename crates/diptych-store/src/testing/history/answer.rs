//! The answers of a store as plain values.

use serde::{Deserialize, Serialize};

use super::record::{EventRecord, KeyRecord, TrackingRecord};
use crate::{
    append::{Key, Tracking},
    batch::EventRef,
    checksum::EventChecksum,
    commits::CommitRef,
    error::Refusal,
};

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The client has a handle.
    Connected {
        /// Id of the log.
        log: String,
        /// Epoch of the log.
        epoch: u64,
        /// The head of the handle.
        head: u64,
        /// Whether the log can have other writers than this handle and its clones.
        other_writers: bool,
    },
    /// The commit is synced.
    Committed(Receipt),
    /// The store does not know whether the commit is durable.
    Unknown {
        /// The receipt, if the commit was accepted.
        accepted: Option<Receipt>,
        /// The error.
        error: String,
    },
    /// The commit was refused.
    Refused(RefusalRecord),
    /// The events of a read, or of a subscription.
    Events {
        /// The events, in the order of the answer.
        events: Vec<Sighting>,
        /// The position up to which the log was considered.
        upto: u64,
    },
    /// The subscription has caught up with the head.
    CaughtUp {
        /// The head.
        upto: u64,
    },
    /// The subscription is behind, or was made.
    Noted,
    /// Nothing happened while the client waited.
    Nothing,
    /// Whole commits.
    Commits {
        /// The commits.
        commits: Vec<CommitRecord>,
        /// The position up to which the log was considered.
        upto: u64,
    },
    /// A head, or the place of an event, if there is one.
    Position(Option<u64>),
    /// A number of events.
    Count(u64),
    /// The commit under a key, if there is one.
    Keyed(Option<KeyedRecord>),
    /// The stored position of a source, if there is one.
    Tracked(Option<u64>),
    /// The store does not serve requests, and wrote nothing.
    Unavailable {
        /// The error.
        error: String,
    },
    /// The call failed although the request is valid.
    Failed {
        /// The error.
        error: String,
    },
}

/// The positions of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Position of the first event.
    pub first: u64,
    /// Position of the last event.
    pub last: u64,
    /// The recorded time, in microseconds.
    pub recorded_at: i64,
    /// Reading of the clock when the commit was accepted.
    pub accepted: u64,
}

/// The reason of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalRecord {
    /// See [`Refusal::Conflict`].
    Conflict {
        /// The position of the event.
        at: u64,
        /// The position of the condition.
        after: u64,
    },
    /// See [`Refusal::KeyTaken`].
    KeyTaken {
        /// The first event of the commit with the key.
        first: u64,
        /// The last event of the commit with the key.
        last: u64,
    },
    /// See [`Refusal::KeyReused`].
    KeyReused {
        /// The first event of the commit with the key.
        first: u64,
        /// The last event of the commit with the key.
        last: u64,
    },
    /// See [`Refusal::AlreadyTracked`].
    AlreadyTracked {
        /// The stored position of the source.
        tracked: u64,
        /// The head when it was stored.
        at: u64,
    },
    /// Another refusal, which no append of a history deserves.
    Other(String),
}

/// An event as a reader saw it: its position, and the checksum of all its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting(pub u64, pub u64);

/// The commit under a key, as a look-up answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedRecord {
    /// Position of the first event.
    pub first: u64,
    /// Position of the last event.
    pub last: u64,
    /// The digest of the request.
    pub digest: String,
}

/// A commit as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Position of the first event.
    pub first: u64,
    /// Position of the last event.
    pub last: u64,
    /// The recorded time, in microseconds.
    pub recorded_at: i64,
    /// The key.
    pub key: Option<KeyRecord>,
    /// The tracking.
    pub tracking: Option<TrackingRecord>,
    /// The events.
    pub events: Vec<EventRecord>,
    /// The checksum of each event.
    pub checksums: Vec<u64>,
}

impl Sighting {
    /// The event of a batch.
    pub fn of(event: &EventRef<'_>) -> Sighting {
        Sighting(event.position().get(), EventChecksum::of(event).to_u64())
    }
}

impl CommitRecord {
    /// The commit of a batch.
    pub fn of(commit: &CommitRef<'_>) -> CommitRecord {
        let key =
            |key: &Key| KeyRecord { name: key.name.to_string(), digest: key.digest.to_string() };
        let tracking = |stored: &Tracking| TrackingRecord {
            source: stored.source.to_string(),
            position: stored.position.get(),
        };
        CommitRecord {
            first: commit.first().get(),
            last: commit.last().get(),
            recorded_at: commit.recorded_at().as_micros(),
            key: commit.key().map(key),
            tracking: commit.tracking().map(tracking),
            events: commit.events().map(|event| EventRecord::of(&event)).collect(),
            checksums: commit.events().map(|event| EventChecksum::of(&event).to_u64()).collect(),
        }
    }
}

impl RefusalRecord {
    /// The refusal of a store.
    pub fn of(refusal: &Refusal) -> RefusalRecord {
        match *refusal {
            Refusal::Conflict { at, after } => {
                RefusalRecord::Conflict { at: at.get(), after: after.get() }
            }
            Refusal::KeyTaken { first, last } => {
                RefusalRecord::KeyTaken { first: first.get(), last: last.get() }
            }
            Refusal::KeyReused { first, last } => {
                RefusalRecord::KeyReused { first: first.get(), last: last.get() }
            }
            Refusal::AlreadyTracked { tracked, at, .. } => {
                RefusalRecord::AlreadyTracked { tracked: tracked.get(), at: at.get() }
            }
            Refusal::OriginChanged { .. } | Refusal::Rows { .. } => {
                RefusalRecord::Other(refusal.to_string())
            }
        }
    }
}
