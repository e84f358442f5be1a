//! Errors of the database, and how the store continues after each.

use std::{sync::Arc, time::Duration};

use diptych_store::{Corruption, InvalidRequest, Position, ReadError, Unavailable};
use tokio::time::sleep;
use tokio_postgres::error::{DbError, SqlState};

/// The error for a pooler in transaction mode.
pub(crate) const POOLED: &str = "a pooler gives each transaction another connection of the server \
    (pgbouncer: pool_mode = transaction or statement), and a session needs one for itself: connect \
    to the server itself, or to a pool with pool_mode = session";

/// The code of the refusal of a log that moved to another place.
const MOVED: &str = "DP005";

/// Why a call of the database has no answer that can be used.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection was lost, or the server is away: the call is made again.
    Connection(Unavailable),
    /// The server refused the statement. Nothing of it was done.
    Statement(Box<DbError>),
    /// A pooler keeps no session, so statements may be executed on any connection.
    Pooler,
    /// The answer.
    Answer(ReadError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Fault {
        match error.as_db_error() {
            Some(refused) if !is_passing(refused.code()) => {
                Fault::Statement(Box::new(refused.clone()))
            }
            _ => Fault::Connection(Unavailable::Backend(Arc::new(error))),
        }
    }
}

impl From<Unavailable> for Fault {
    fn from(why: Unavailable) -> Fault {
        Fault::Answer(why.into())
    }
}

impl From<InvalidRequest> for Fault {
    fn from(invalid: InvalidRequest) -> Fault {
        Fault::Answer(invalid.into())
    }
}

impl From<Corruption> for Fault {
    fn from(corruption: Corruption) -> Fault {
        Fault::Answer(corruption.into())
    }
}

impl Fault {
    /// Whether the log moved to another place. It never takes a commit here again.
    pub(crate) fn is_of_moved_log(&self) -> bool {
        matches!(self, Fault::Statement(refused) if refused.code().code() == MOVED)
    }

    /// Whether another session held a lock for longer than the statement may wait.
    pub(crate) fn is_of_held_lock(&self) -> bool {
        let Fault::Connection(Unavailable::Backend(cause)) = self else { return false };
        let error = cause.downcast_ref::<tokio_postgres::Error>();
        error.and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    pub(crate) fn into_read_error(self) -> ReadError {
        match self {
            Fault::Connection(why) => why.into(),
            Fault::Statement(refused) => described(&refused).into(),
            Fault::Pooler => server(POOLED).into(),
            Fault::Answer(error) => error,
        }
    }

    /// The answer to an append of which nothing was done.
    pub(crate) fn into_unavailable(self) -> Unavailable {
        match self {
            Fault::Connection(why) | Fault::Answer(ReadError::Unavailable(why)) => why,
            Fault::Statement(refused) => described(&refused),
            Fault::Pooler => server(POOLED),
            Fault::Answer(error) => server(error.to_string()),
        }
    }
}

/// Whether the server is expected to work again by itself, or another one takes over.
fn is_passing(code: &SqlState) -> bool {
    let passing = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        // A pooler gave the transaction to a connection of others. A new one is looked at again.
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
        SqlState::from_code("DP002"),
        // The server ends a session that waits for a lock too long; a batch is repeated then.
        SqlState::LOCK_NOT_AVAILABLE,
    ];
    code.code().starts_with("08") || passing.contains(code)
}

/// The error of a server in its own words, with the next step.
pub(crate) fn described(refused: &DbError) -> Unavailable {
    let advice = match refused.code() {
        code if *code == SqlState::DISK_FULL => Some("free space on the disk of the server"),
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            Some("give the role the rights on the schema diptych")
        }
        code if *code == SqlState::QUERY_CANCELED => Some("look for locks and load on the server"),
        _ => refused.hint(),
    };
    let (message, code) = (refused.message(), refused.code().code());
    server(match advice {
        Some(advice) => format!("{message} ({code}); {advice}"),
        None => format!("{message} ({code})"),
    })
}

pub(crate) fn server(what: impl Into<Arc<str>>) -> Unavailable {
    Unavailable::Server { what: what.into() }
}

/// The error for a server that gave no answer in this time.
pub(crate) fn no_answer(after: Duration) -> Unavailable {
    let what = format!("no answer within {} ms", after.as_millis());
    Unavailable::Backend(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(what)))
}

/// The error of a replica that lacks positions that were seen before.
pub(crate) fn behind(place: &str, head: Position, seen: Position) -> Unavailable {
    let what = format!(
        "the replica {place} is at position {head}, and {seen} was seen: it is behind, or a \
         standby without acknowledged commits took over"
    );
    Unavailable::Backend(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(what)))
}

/// The shortest and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Pauses that grow, with jitter, so that a server that comes back is not overrun.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

impl Pauses {
    pub(crate) fn new() -> Pauses {
        Pauses { next: PAUSES.0 }
    }

    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    pub(crate) async fn wait(&mut self) {
        sleep(self.next.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.next = (self.next * 2).min(PAUSES.1);
    }
}
