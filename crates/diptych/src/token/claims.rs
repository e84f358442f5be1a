//! Comparing the tokens of a caller with the log, before the caller gets an answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diptych_store::{HistoryPoint, LogIdentity, Position, ReadError};

use super::{Session, TokenError};
use crate::{lineage::Lineage, wait};

/// The tokens that a caller passes with a command or a query.
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
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not answer in time.
    #[error("the store did not answer within {within:?}: ask again, or allow more time")]
    Late { within: Duration },
    /// The log is read from a replica, which did not reach a position in time.
    #[error("the replica is at position {have}, and did not reach {need} within {within:?}")]
    Behind { need: Position, have: Position, within: Duration },
}

impl Claims {
    /// Adds the point of a token. Returns the position to wait for, or the start if the log cannot
    /// have it.
    pub(crate) fn point(&mut self, lineage: &Lineage, point: HistoryPoint) -> Position {
        let HistoryPoint { log, position, checksum } = point;
        if lineage.may_reach(position) {
            self.open.push(Claim::Point(point));
            return position;
        }
        let checked = check(lineage, log, position).map(|()| lineage.known(position));
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

    /// Adds a session. Returns this position of the session, or the start if the log cannot have
    /// it.
    pub(crate) fn session(
        &mut self,
        lineage: &Arc<Lineage>,
        session: &Session,
        position: Position,
    ) -> Position {
        let may_reach = lineage.may_reach(position);
        if !may_reach && let Err(error) = check(lineage, session.log(), position) {
            self.fail(error);
            return Position::START;
        }
        // A session of this app saw only its own log, which has not changed since.
        if may_reach || !session.is_of(lineage) {
            self.open.push(Claim::Session(session.clone()));
        }
        position
    }

    pub(crate) fn fail(&mut self, error: TokenError) {
        self.failed = self.failed.or(Some(error));
    }

    /// The first error.
    pub(crate) fn failed(&self) -> Option<TokenError> {
        self.failed
    }

    /// Whether every claim was verified without a read.
    pub(crate) fn are_settled(&self) -> bool {
        self.failed.is_none() && self.open.is_empty()
    }

    /// Compares the open claims with the log, however long that takes.
    pub(crate) async fn settle(self, lineage: &Lineage) -> Result<(), ClaimError> {
        self.settle_noting(lineage, &AtomicU64::new(0)).await
    }

    /// Compares the open claims with the log. `awaited` is the position that a replica of the log
    /// has to reach first.
    async fn settle_noting(self, lineage: &Lineage, awaited: &AtomicU64) -> Result<(), ClaimError> {
        if let Some(error) = self.failed {
            return Err(ClaimError::Token(error));
        }
        for claim in self.open {
            let HistoryPoint { log, position, checksum } = match claim {
                Claim::Point(point) => point,
                Claim::Session(session) => session.point().await?,
            };
            if lineage.may_reach(position) {
                lineage.store().known_head().await?;
            }
            if lineage.may_reach(position) && lineage.store().is_replica() {
                check(lineage, log, Position::START)?;
                awaited.store(position.get(), Ordering::Relaxed);
                let copied = lineage.store().head().upto(position).await;
                copied.map_err(ReadError::from)?;
                awaited.store(0, Ordering::Relaxed);
            }
            check(lineage, log, position)?;
            if lineage.checksum(position).await? != Some(checksum) {
                return Err(TokenError::HistoryGone { position }.into());
            }
        }
        Ok(())
    }
}

/// The longest wait for a replica to reach the event of a session that is resumed.
const REPLICA_PATIENCE: Duration = Duration::from_secs(5);

/// Compares the tokens of a session that is resumed with the log.
pub(crate) async fn resumed(claims: Claims, lineage: &Arc<Lineage>) -> Result<(), ClaimError> {
    match lineage.store().is_replica() {
        true => settled(claims, lineage.clone(), REPLICA_PATIENCE).await,
        false => claims.settle(lineage).await,
    }
}

/// Compares the tokens of a caller with the log, for at most `within`.
pub(crate) async fn settled(
    claims: Claims,
    lineage: Arc<Lineage>,
    within: Duration,
) -> Result<(), ClaimError> {
    let awaited = AtomicU64::new(0);
    if let Some(settled) = wait::within(within, claims.settle_noting(&lineage, &awaited)).await {
        return settled;
    }
    Err(match awaited.load(Ordering::Relaxed) {
        0 => ClaimError::Late { within },
        need => ClaimError::Behind { need: Position::new(need), have: lineage.head(), within },
    })
}

/// Checks that a position of `log` can belong to this log, as far as this is known without a read.
fn check(lineage: &Lineage, log: LogIdentity, position: Position) -> Result<(), TokenError> {
    TokenError::check(log, position, lineage.log(), lineage.head())
}
