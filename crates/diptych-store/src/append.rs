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

/// One commit: events that are written together or not at all, and what must hold for it.
///
/// Checked in this order: tracking, key, conditions. With no events and no tracking nothing is
/// written: the checks are made and answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Append {
    /// What to write, in order.
    pub events: Vec<RawEvent>,
    /// Refuse if any of these is violated: something that matters to the decision was appended
    /// since it was made. Several, because a decision may rest on several things, each known up
    /// to another position; it conflicts with what it has not seen of each, and with no more.
    pub conditions: Vec<AppendCondition>,
    /// Refuse if this key was committed before.
    pub key: Option<Key>,
    /// Refuse unless this is further along the source than what was taken in so far.
    pub tracking: Option<Tracking>,
    /// When the events are recorded, for a store that was told to take time from its caller
    /// (a replica of a journal); other stores refuse it. It never decreases along the log.
    pub recorded_at: Option<Timestamp>,
}

impl Append {
    /// These events.
    pub fn events(events: impl IntoIterator<Item = RawEvent>) -> Append {
        Append { events: events.into_iter().collect(), ..Append::default() }
    }

    /// This event.
    pub fn event(event: RawEvent) -> Append {
        Append { events: vec![event], ..Append::default() }
    }

    /// The same on this condition too.
    #[must_use]
    pub fn condition(mut self, condition: AppendCondition) -> Append {
        self.conditions.push(condition);
        self
    }

    /// The same under this key.
    #[must_use]
    pub fn key(mut self, key: Key) -> Append {
        self.key = Some(key);
        self
    }

    /// The same with this tracking.
    #[must_use]
    pub fn tracking(mut self, tracking: Tracking) -> Append {
        self.tracking = Some(tracking);
        self
    }

    /// Whether the request is within a store's limits, apart from what only encoding tells.
    ///
    /// # Errors
    /// [`InvalidRequest`] with what is wrong.
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
        // Together, because together they are looked up.
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

    /// Whether no condition is after a position above this head; for authors of stores.
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

/// "Refuse if anything matching this filter is after this position."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendCondition {
    /// What must not be there.
    pub fail_if: Filter,
    /// The position up to which the decision knew the log.
    pub after: Position,
}

/// An idempotency key: remembered with the commit for ever, in a space of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: CompactString,
    /// What its caller asked for, so that the key used again for something else is noticed.
    pub digest: Digest,
}

impl Key {
    /// The key `name` for the request with this digest.
    pub fn new(name: impl AsRef<str>, digest: Digest) -> Key {
        Key { name: CompactString::new(name), digest }
    }
}

/// 16 bytes that stand for a request: alike for the same, different for others.
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

/// How far another log was taken in, stored with the commit that takes it in: exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// The name under which this log knows the other.
    pub source: CompactString,
    /// Which log and history that is, for a source that has an identity.
    pub origin: Option<LogIdentity>,
    /// Taken in up to here, in the source's own positions.
    pub position: Position,
}

impl Tracking {
    /// Taken in up to `position` of a source without an identity.
    pub fn new(source: impl AsRef<str>, position: impl Into<Position>) -> Tracking {
        Tracking { source: CompactString::new(source), origin: None, position: position.into() }
    }

    /// The same of a source with this identity.
    #[must_use]
    pub fn origin(mut self, origin: LogIdentity) -> Tracking {
        self.origin = Some(origin);
        self
    }
}

impl Tracking {
    /// Whether a commit with this tracking may follow one that stored `stored` when the head was
    /// `at`; for authors of stores.
    ///
    /// # Errors
    /// The [`Refusal`], if not.
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

/// What a key look-up finds: the commit made under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedCommit {
    /// Its first event.
    pub first: Position,
    /// Its last event.
    pub last: Position,
    /// What its caller asked for.
    pub digest: Digest,
}

impl KeyedCommit {
    /// How a store refuses this key, which this commit has; for authors of stores.
    pub fn refuse(&self, key: &Key) -> Refusal {
        let KeyedCommit { first, last, digest } = *self;
        if digest == key.digest {
            Refusal::KeyTaken { first, last }
        } else {
            Refusal::KeyReused { first, last }
        }
    }
}

/// A commit that has its positions. It is durable when [`synced`](Accepted::synced) says so.
///
/// For a commit without events `last` is the position that its checks considered the log up to,
/// and `first` the one after it.
#[derive(Debug)]
#[must_use = "an accepted commit is not durable yet: wait for `synced`"]
pub struct Accepted {
    /// The first event's position.
    pub first: Position,
    /// The last event's position.
    pub last: Position,
    /// When its events are recorded, as reads say it later. For a commit that records nothing,
    /// when the last one before it was; [`Timestamp::NEVER`] if there is none.
    pub recorded_at: Timestamp,
    /// Says when it is durable.
    pub sync: Synced,
}

impl Accepted {
    /// Waits until the commit is durable by the store's stated policy.
    ///
    /// # Errors
    /// [`SyncError`] if the store failed or was closed before: the outcome is unknown.
    pub async fn synced(self) -> Result<Committed, SyncError> {
        let Accepted { first, last, sync, .. } = self;
        sync.wait().await?;
        Ok(Committed { first, last })
    }
}

/// A durable commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The first event's position.
    pub first: Position,
    /// The last event's position.
    pub last: Position,
}

/// Says when a commit is durable. Cloneable: several may wait for the same commit.
#[derive(Clone, Debug)]
pub struct Synced {
    commit: CommitNumber,
    head: Head,
}

impl Synced {
    /// For authors of stores: durable when `head` has published this commit.
    pub fn new(commit: CommitNumber, head: Head) -> Synced {
        Synced { commit, head }
    }

    /// Whether the commit is durable already. It asks without waiting, at the cost of reading
    /// one number.
    pub fn is_done(&self) -> bool {
        self.head.is_published(self.commit)
    }

    /// Waits until the commit is durable by the store's stated policy.
    ///
    /// # Errors
    /// [`SyncError`] if the store failed or was closed before: the outcome is unknown.
    pub fn wait(self) -> impl Future<Output = Result<(), SyncError>> + Send + Unpin {
        self.head.synced(self.commit)
    }
}
