//! Tokens: callers carry them from the left panel to the right, and from one program to another. A
//! token says up to which positions something was written and seen.
//!
//! A token names its log, the history of that log, and the event at its position. So a position is
//! never taken for one of another log, or of an older copy of the log that was put back.

mod claims;
mod receipt;
mod session;
mod text;

use diptych_store::{LogIdentity, Position};

pub(crate) use claims::{ClaimError, Claims, resumed, settled};
pub use receipt::Receipt;
pub use session::{Session, SessionToken};

/// A text is no token that this program can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenSyntaxError {
    /// Longer than any token of that kind.
    #[error(
        "a text of {bytes} bytes is no token of this kind, which has at most {limit}: check what \
         was sent"
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Characters that no token has.
    #[error(
        "the text is no token, it has characters that are not of URL-safe base64: give it as \
         it was received"
    )]
    Characters,
    /// A part is missing, or was changed on the way.
    #[error("the token was cut or changed on the way: give it as it was received")]
    Mangled,
    /// Written by a newer program.
    #[error("the token has version {version}, which this program cannot read: run a newer one")]
    Version {
        /// The version of the token.
        version: u8,
    },
    /// Written by an older program, which did not say which event is at its position.
    #[error(
        "the token has version {version}, of an older program, and does not say which event it \
         is of: drop it, and continue with the next token that you get"
    )]
    Outdated {
        /// The version of the token.
        version: u8,
    },
    /// It is complete and unchanged, but makes no sense.
    #[error("no program of this version writes such a token: ask the program that gave it")]
    Malformed,
    /// It is a token of another kind.
    #[error("this is the token of a {found}: give it where one is asked for")]
    Kind {
        /// The kind of token that it is.
        found: &'static str,
    },
}

/// A token that does not belong to the log of this app, or to its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is of a log that the app does not know.
    #[error(
        "the token is of the log {}, and this is {}: ask the app that gave it",
        .token.id, .log.id
    )]
    OtherLog {
        /// The log of the token.
        token: LogIdentity,
        /// The log of the app.
        log: LogIdentity,
    },
    /// It is of another history of this log: a backup was restored, or commits were lost.
    #[error(
        "the token is of epoch {}, and the log is at {}: a backup was restored, or commits were \
         lost, so the events of the token may be gone; look, and begin a new session",
        .token.epoch, .log.epoch
    )]
    OtherEpoch {
        /// The log of the token.
        token: LogIdentity,
        /// The log of the app.
        log: LogIdentity,
    },
    /// It is of a position that the log has not reached.
    #[error(
        "the token is of position {position}, and the log ends at {head}: look whether it is the \
         right log, and whether commits were lost"
    )]
    AboveHead {
        /// The position of the token.
        position: Position,
        /// The end of the log.
        head: Position,
    },
    /// At its position the log has another event than it had when the token was given out.
    #[error(
        "the token is of an event at position {position} that is not in this log any more: an \
         older copy of the log was put in its place, and the events of the token are gone; look, \
         and begin a new session"
    )]
    HistoryGone {
        /// The position of the token.
        position: Position,
    },
}

impl TokenError {
    /// Checks that a position of the log `token` can belong to the log `log` with this head. It
    /// compares identity and position, and not the event there.
    pub(crate) fn check(
        token: LogIdentity,
        position: Position,
        log: LogIdentity,
        head: Position,
    ) -> Result<(), TokenError> {
        if token.id != log.id {
            return Err(TokenError::OtherLog { token, log });
        }
        if token.epoch != log.epoch {
            return Err(TokenError::OtherEpoch { token, log });
        }
        if position > head {
            return Err(TokenError::AboveHead { position, head });
        }
        Ok(())
    }
}
