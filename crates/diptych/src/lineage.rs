//! Checks that data kept outside the log belongs to the history that the log has now.
//!
//! A restored older copy of a log keeps its id and epoch, and can grow past the positions that
//! snapshots, checkpoints and tokens name. So each of them also carries the checksum of the event
//! at its position. This module compares it with the log before the snapshot, checkpoint or token
//! is used.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diptych_store::{
    EventChecksum, Head, HistoryPoint, InvalidRequest, LogIdentity, Position, ReadError, Store,
};

use crate::{
    follow,
    query::QueryError,
    token::{Session, TokenError},
};

/// Number of checksums kept in memory: enough for the events just written and seen.
const RECENT: usize = 256;

/// The history of the log that an app works on.
pub(crate) struct Lineage {
    store: Store,
    log: LogIdentity,
    head: Head,
    /// Recently used checksums, each in the slot of its position modulo the size.
    recent: Box<[Recent]>,
}

/// A position and its checksum, read without a lock. If two writes race, a reader may see one field
/// of each. The two fields then yield a position that was not asked for, and the lookup misses.
#[derive(Default)]
struct Recent {
    checksum: AtomicU64,
    /// The position, with the bits of the checksum over it.
    mixed: AtomicU64,
}

impl Lineage {
    pub(crate) fn new(store: Store) -> Lineage {
        let recent = (0..RECENT).map(|_| Recent::default()).collect();
        Lineage { log: store.identity(), head: store.head(), store, recent }
    }

    pub(crate) fn log(&self) -> LogIdentity {
        self.log
    }

    pub(crate) fn head(&self) -> Position {
        self.head.position()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Caches the checksum of an event whose position is final.
    pub(crate) fn note(&self, position: Position, checksum: EventChecksum) {
        if let Some(recent) = self.recent(position) {
            recent.checksum.store(checksum.to_u64(), Ordering::Relaxed);
            recent.mixed.store(checksum.to_u64() ^ position.get(), Ordering::Relaxed);
        }
    }

    fn known(&self, position: Position) -> Option<EventChecksum> {
        if position == Position::START {
            return Some(EventChecksum::START);
        }
        let recent = self.recent(position)?;
        let checksum = recent.checksum.load(Ordering::Relaxed);
        let found = recent.mixed.load(Ordering::Relaxed) ^ checksum;
        (found == position.get()).then(|| EventChecksum::from_u64(checksum))
    }

    fn recent(&self, position: Position) -> Option<&Recent> {
        self.recent.get(position.get() as usize % RECENT)
    }

    /// The checksum of the event at this position, or `None` above the head.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub(crate) async fn checksum(
        &self,
        position: Position,
    ) -> Result<Option<EventChecksum>, ReadError> {
        if let Some(known) = self.known(position) {
            return Ok(Some(known));
        }
        let checksum = self.store.checksum(position).await?;
        if let Some(checksum) = checksum {
            self.note(position, checksum);
        }
        Ok(checksum)
    }

    /// This position of the log, with the checksum there.
    ///
    /// # Errors
    /// [`InvalidRequest::AboveHead`] if the log has no such position yet, or another [`ReadError`]
    /// from the store.
    pub(crate) async fn point(&self, position: Position) -> Result<HistoryPoint, ReadError> {
        match self.checksum(position).await? {
            Some(checksum) => Ok(HistoryPoint { log: self.log, position, checksum }),
            None => Err(InvalidRequest::AboveHead { position, head: self.head() }.into()),
        }
    }

    /// Checks that a position of `log` can belong to this log, as far as this is known without a
    /// read.
    fn check(&self, log: LogIdentity, position: Position) -> Result<(), TokenError> {
        TokenError::check(log, position, self.log, self.head())
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lineage").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The tokens that a caller passes with a command or a query. They are compared with the log before
/// the caller gets an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// The first error that was found without a read.
    failed: Option<TokenError>,
    /// Claims that need a read of the log.
    open: Vec<Claim>,
}

#[derive(Clone, Debug)]
enum Claim {
    Point(HistoryPoint),
    /// A session of another app.
    Session(Session),
}

/// Why the tokens of a caller could not be matched with this history.
#[derive(Clone, Debug)]
pub(crate) enum ClaimError {
    Token(TokenError),
    Read(ReadError),
}

impl Claims {
    /// The position to wait for, if the log can have it.
    pub(crate) fn point(&mut self, lineage: &Lineage, point: HistoryPoint) -> Position {
        let HistoryPoint { log, position, checksum } = point;
        let checked = lineage.check(log, position).map(|()| lineage.known(position));
        match checked {
            Ok(Some(known)) if known == checksum => return position,
            Ok(Some(_)) => self.fail(TokenError::HistoryGone { position }),
            Ok(None) => {
                self.open.push(Claim::Point(point));
                return position;
            }
            Err(error) => self.fail(error),
        }
        Position::START
    }

    /// This position of a session, if the log can have it.
    pub(crate) fn session(
        &mut self,
        lineage: &Arc<Lineage>,
        session: &Session,
        position: Position,
    ) -> Position {
        if let Err(error) = lineage.check(session.log(), position) {
            self.fail(error);
            return Position::START;
        }
        // A session of this app saw only its own log, which has not changed since.
        if !session.is_of(lineage) {
            self.open.push(Claim::Session(session.clone()));
        }
        position
    }

    pub(crate) fn fail(&mut self, error: TokenError) {
        self.failed = self.failed.or(Some(error));
    }

    /// The first error that is known so far.
    pub(crate) fn failed(&self) -> Option<TokenError> {
        self.failed
    }

    /// Whether every claim was verified without a read.
    pub(crate) fn are_settled(&self) -> bool {
        self.failed.is_none() && self.open.is_empty()
    }

    /// Compares the open claims with the log.
    pub(crate) async fn settle(self, lineage: &Lineage) -> Result<(), ClaimError> {
        if let Some(error) = self.failed {
            return Err(ClaimError::Token(error));
        }
        for claim in self.open {
            let HistoryPoint { log, position, checksum } = match claim {
                Claim::Point(point) => point,
                Claim::Session(session) => session.point().await?,
            };
            lineage.check(log, position)?;
            if lineage.checksum(position).await? != Some(checksum) {
                return Err(TokenError::HistoryGone { position }.into());
            }
        }
        Ok(())
    }
}

/// Compares the tokens of a caller with the log, for no longer than `within`.
pub(crate) async fn settled(
    claims: Claims,
    lineage: Arc<Lineage>,
    within: Duration,
) -> Result<(), QueryError> {
    match follow::within(within, claims.settle(&lineage)).await {
        Some(settled) => Ok(settled?),
        None => Err(QueryError::Unavailable {
            reason: format!("the event that a token names did not come within {within:?}"),
        }),
    }
}

impl From<TokenError> for ClaimError {
    fn from(error: TokenError) -> ClaimError {
        ClaimError::Token(error)
    }
}

impl From<ReadError> for ClaimError {
    fn from(error: ReadError) -> ClaimError {
        ClaimError::Read(error)
    }
}
