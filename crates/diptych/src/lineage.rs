//! Whether what was kept outside the log is of the history that the log has now.
//!
//! An older copy of a log that was put back has the same id and epoch, and grows past the
//! positions that snapshots, checkpoints and tokens name. So each of them also says the checksum
//! of the event at its position, and is compared with the log here before it is used.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diptych_store::{
    EventChecksum, Head, HistoryPoint, Invalid, LogIdentity, Position, ReadError, Store,
};

use crate::{QueryError, Session, TokenError, follow};

/// Checksums that are kept in memory: enough for what was just written and seen.
const RECENT: usize = 256;

/// The history of the log that an app works on.
pub(crate) struct Lineage {
    store: Store,
    log: LogIdentity,
    head: Head,
    /// Checksums that were needed lately, each at its position modulo the size.
    recent: Box<[Recent]>,
}

/// A position and its checksum, without a lock. A reader may see halves of two that are written at
/// once: then the two halves give a position that was not asked for.
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

    /// Notes the checksum of an event that has its place.
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

    /// The checksum of the event at this position; nothing above the head.
    ///
    /// # Errors
    /// [`ReadError`] of the store.
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
    /// [`Invalid::AboveHead`] if there is no such position yet, and what the store says.
    pub(crate) async fn point(&self, position: Position) -> Result<HistoryPoint, ReadError> {
        match self.checksum(position).await? {
            Some(checksum) => Ok(HistoryPoint { log: self.log, position, checksum }),
            None => Err(Invalid::AboveHead { position, head: self.head() }.into()),
        }
    }

    /// Whether a position that a caller carries along is of this log, as far as that is known
    /// without reading.
    fn check(&self, log: LogIdentity, position: Position) -> Result<(), TokenError> {
        TokenError::check(log, position, self.log, self.head())
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lineage").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The tokens and sessions that a caller carries along with a command or a query. They are compared
/// with the log before it is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// The first that makes no sense here.
    failed: Option<TokenError>,
    /// Those that only a read of the log can settle.
    open: Vec<Claim>,
}

#[derive(Clone, Debug)]
enum Claim {
    Point(HistoryPoint),
    /// A session of another app.
    Session(Session),
}

/// Why it is not certain that what a caller carries along is of this history.
#[derive(Clone, Debug)]
pub(crate) enum ClaimError {
    Token(TokenError),
    Read(ReadError),
}

impl Claims {
    /// The position, if it is one that the log has.
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

    /// This position of a session, if it is one that the log has.
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
        // A session of this app saw its own log, which has not changed since.
        if !session.is_of(lineage) {
            self.open.push(Claim::Session(session.clone()));
        }
        position
    }

    pub(crate) fn fail(&mut self, error: TokenError) {
        self.failed = self.failed.or(Some(error));
    }

    /// The first that makes no sense, as far as is known without reading.
    pub(crate) fn failed(&self) -> Option<TokenError> {
        self.failed
    }

    /// Whether there is nothing to read for them.
    pub(crate) fn are_settled(&self) -> bool {
        self.failed.is_none() && self.open.is_empty()
    }

    /// Compares them with the log.
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

/// Compares what a caller carries along with the log, and waits for that no longer than `within`.
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
