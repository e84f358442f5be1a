use std::{fmt, future::Future};

use compact_str::CompactString;

use crate::{
    error::{InvalidRequest, Refusal, SyncError},
    event::RawEvent,
    filter::Filter,
    head::{CommitNumber, Head},
    identity::LogIdentity,
    limits::Limits,
    position::Position,
    time::Timestamp,
};

/// One commit: events that are written together or not at all, and the checks that it must pass.
///
/// The store checks tracking first, then the key, then the conditions. A request without events and
/// without tracking only makes the checks: it writes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Append {
    /// The events to write, in this order.
    pub events: Vec<RawEvent>,
    /// The commit is refused if one of these is violated: then the log has a relevant event that
    /// the decision did not know. A decision can depend on several states, each read up to a
    /// different position, so there may be several conditions.
    pub conditions: Vec<AppendCondition>,
    /// The commit is refused if this key was committed before.
    pub key: Option<Key>,
    /// The commit is refused unless this position is above the last stored position of the source.
    pub tracking: Option<Tracking>,
    /// The `recorded_at` of the events, for a store with [`TimeSource::Caller`], such as a replica
    /// that applies a journal. Other stores refuse it.
    ///
    /// [`TimeSource::Caller`]: crate::TimeSource::Caller
    pub recorded_at: Option<Timestamp>,
}

impl Append {
    /// A commit of these events.
    pub fn events(events: impl IntoIterator<Item = RawEvent>) -> Append {
        Append { events: events.into_iter().collect(), ..Append::default() }
    }

    /// A commit of this event.
    pub fn event(event: RawEvent) -> Append {
        Append { events: vec![event], ..Append::default() }
    }

    /// Adds a condition.
    #[must_use]
    pub fn condition(mut self, condition: AppendCondition) -> Append {
        self.conditions.push(condition);
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn key(mut self, key: Key) -> Append {
        self.key = Some(key);
        self
    }

    /// Sets the tracking.
    #[must_use]
    pub fn tracking(mut self, tracking: Tracking) -> Append {
        self.tracking = Some(tracking);
        self
    }

    /// Checks the request against a store's limits. Sizes that are known only after encoding are
    /// not checked here.
    ///
    /// # Errors
    /// [`InvalidRequest`] names the problem.
    pub fn check(&self, limits: &Limits) -> Result<(), InvalidRequest> {
        let (events, allowed) = (self.events.len(), limits.commit_events);
        if events > allowed {
            return Err(InvalidRequest::too_many(
                "events in a commit",
                events,
                allowed,
                "commit_events",
            ));
        }
        let (conditions, allowed) = (self.conditions.len(), limits.commit_conditions);
        if conditions > allowed {
            let what = "conditions of a commit";
            return Err(InvalidRequest::too_many(what, conditions, allowed, "commit_conditions"));
        }
        // The limits apply to the sum of all filters, because one commit looks all of them up.
        Filter::check_all(self.conditions.iter().map(|condition| &condition.fail_if), limits)?;
        if let Some(key) = &self.key {
            if self.events.is_empty() {
                return Err(InvalidRequest::KeyWithoutEvents);
            }
            check_name("key", &key.name, limits.key_bytes, "key_bytes")?;
        }
        if let Some(tracking) = &self.tracking {
            check_name("tracking source", &tracking.source, limits.source_bytes, "source_bytes")?;
        }
        Ok(())
    }

    /// Checks that no condition names a position above this head. For authors of stores.
    ///
    /// # Errors
    /// [`InvalidRequest::AboveHead`] with the highest such position.
    pub fn check_positions(&self, head: Position) -> Result<(), InvalidRequest> {
        match self.conditions.iter().map(|condition| condition.after).max() {
            Some(position) if position > head => Err(InvalidRequest::AboveHead { position, head }),
            _ => Ok(()),
        }
    }
}

fn check_name(
    what: &'static str,
    name: &str,
    allowed: usize,
    limit: &'static str,
) -> Result<(), InvalidRequest> {
    if name.is_empty() {
        return Err(InvalidRequest::NoName { what });
    }
    if name.len() > allowed {
        return Err(InvalidRequest::too_large(what, name.len(), allowed, limit));
    }
    Ok(())
}

/// Refuses a commit if the log has a matching event after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendCondition {
    /// The events that must not exist after the position.
    pub fail_if: Filter,
    /// The position up to which the decision knew the log.
    pub after: Position,
}

/// An idempotency key. The store keeps it with its commit for ever. Keys share no names with types,
/// tags or sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The text of the key.
    pub name: CompactString,
    /// Digest of the caller's request. A different digest under a used key is an error.
    pub digest: Digest,
}

impl Key {
    /// The key `name` for the request with this digest.
    pub fn new(name: impl AsRef<str>, digest: Digest) -> Key {
        Key { name: CompactString::new(name), digest }
    }
}

/// Digest of a request: 16 bytes, equal for equal requests and different for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The first half of the BLAKE3 hash of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut digest = Digest::default();
        blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut digest.0);
        digest
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The position up to which another log was imported. It is stored in the commit that imports the
/// events, so that each event is imported exactly once.
///
/// The origin names the log and its epoch, and not the event at the position. Suppose an older copy
/// of that log is put back and grows past the position. Its new events at or below the position are
/// then never imported, and no call fails. To notice this, compare the
/// [checksum](crate::Store::checksum) of the event at the position before each import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// The name of the other log in this one.
    pub source: CompactString,
    /// Identity of the other log, if it has one.
    pub origin: Option<LogIdentity>,
    /// The last imported position of the source.
    pub position: Position,
}

impl Tracking {
    /// Import up to `position` of a source without an identity.
    pub fn new(source: impl AsRef<str>, position: impl Into<Position>) -> Tracking {
        Tracking { source: CompactString::new(source), origin: None, position: position.into() }
    }

    /// Sets the identity of the source.
    #[must_use]
    pub fn origin(mut self, origin: LogIdentity) -> Tracking {
        self.origin = Some(origin);
        self
    }
}

impl Tracking {
    /// Checks that a commit with this tracking may follow `stored`, which was stored when the head
    /// was `at`. For authors of stores.
    ///
    /// # Errors
    /// The [`Refusal`] of the commit.
    pub fn check_against(&self, stored: &Tracking, at: Position) -> Result<(), Refusal> {
        let source_name = self.source.to_string();
        let tracked = stored.position;
        if self.origin != stored.origin {
            let (stored, given) = (stored.origin, self.origin);
            return Err(Refusal::OriginChanged { source_name, stored, given, tracked, at });
        }
        if self.position <= tracked {
            return Err(Refusal::AlreadyTracked { source_name, tracked, at });
        }
        Ok(())
    }
}

/// The commit that was made under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedCommit {
    /// Position of its first event.
    pub first: Position,
    /// Position of its last event.
    pub last: Position,
    /// Digest of its request.
    pub digest: Digest,
}

impl KeyedCommit {
    /// The refusal of a later commit under the key of this one. For authors of stores.
    pub fn refuse(&self, key: &Key) -> Refusal {
        let KeyedCommit { first, last, digest } = *self;
        if digest == key.digest {
            Refusal::KeyTaken { first, last }
        } else {
            Refusal::KeyReused { first, last }
        }
    }
}

/// A commit that has its positions. It is durable once [`synced`](AcceptedCommit::synced) returns.
///
/// For a commit without events `last` is the head that its checks considered, and `first` is the
/// position after it.
#[derive(Debug)]
#[must_use = "an accepted commit is not durable yet: wait for `synced`"]
pub struct AcceptedCommit {
    /// Position of the first event.
    pub first: Position,
    /// Position of the last event.
    pub last: Position,
    /// The `recorded_at` that later reads return for its events. If the commit records neither
    /// events nor tracking, this is the time of the commit before it, or [`Timestamp::NEVER`] if
    /// there is none.
    pub recorded_at: Timestamp,
    /// Waits until the commit is durable.
    pub sync: CommitSync,
}

impl AcceptedCommit {
    /// Waits until the commit is durable by the store's stated policy.
    ///
    /// # Errors
    /// [`SyncError`] if the store failed or was closed before the sync: the commit may or may not
    /// survive.
    pub async fn synced(self) -> Result<SyncedCommit, SyncError> {
        let AcceptedCommit { first, last, sync, .. } = self;
        sync.wait().await?;
        Ok(SyncedCommit { first, last })
    }
}

/// A commit that is durable by the store's stated policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncedCommit {
    /// Position of the first event.
    pub first: Position,
    /// Position of the last event.
    pub last: Position,
}

/// Waits until a commit is durable. Clones wait for the same commit.
#[derive(Clone, Debug)]
pub struct CommitSync {
    commit: CommitNumber,
    head: Head,
}

impl CommitSync {
    /// The sync of a commit that is durable once `head` has published it. For authors of stores.
    pub fn new(commit: CommitNumber, head: Head) -> CommitSync {
        CommitSync { commit, head }
    }

    /// Whether the commit is durable already. It does not wait, and costs one atomic load.
    pub fn is_done(&self) -> bool {
        self.head.is_published(self.commit)
    }

    /// Waits until the commit is durable by the store's stated policy.
    ///
    /// # Errors
    /// [`SyncError`] if the store failed or was closed before the sync: the commit may or may not
    /// survive. Also while the store has no space for the commit: then it keeps the commit, and a
    /// clone of this can wait again.
    pub fn wait(self) -> impl Future<Output = Result<(), SyncError>> + Send + Unpin {
        self.head.synced(self.commit)
    }
}
