//! Comparing the tokens of a caller with the log, before the caller gets an answer.

use std::{sync::Arc, time::Duration};

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
    #[error("the event that a token names did not come within {within:?}")]
    Late { within: Duration },
}

impl Claims {
    /// Adds the point of a token. Returns the position to wait for, or the start if the log cannot
    /// have it.
    pub(crate) fn point(&mut self, lineage: &Lineage, point: HistoryPoint) -> Position {
        let HistoryPoint { log, position, checksum } = point;
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
        if let Err(error) = check(lineage, session.log(), position) {
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

    /// The first error.
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
            check(lineage, log, position)?;
            if lineage.checksum(position).await? != Some(checksum) {
                return Err(TokenError::HistoryGone { position }.into());
            }
        }
        Ok(())
    }
}

/// Compares the tokens of a caller with the log, for at most `within`.
pub(crate) async fn settled(
    claims: Claims,
    lineage: Arc<Lineage>,
    within: Duration,
) -> Result<(), ClaimError> {
    match wait::within(within, claims.settle(&lineage)).await {
        Some(settled) => settled,
        None => Err(ClaimError::Late { within }),
    }
}

/// Checks that a position of `log` can belong to this log, as far as this is known without a read.
fn check(lineage: &Lineage, log: LogIdentity, position: Position) -> Result<(), TokenError> {
    TokenError::check(log, position, lineage.log(), lineage.head())
}
