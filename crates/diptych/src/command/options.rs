//! The options of a command as one value.

use diptych_store::{Position, Timestamp, Tracking};
use serde::Serialize;
use uuid::Uuid;

use super::{Command, Execute, Ordinal};
use crate::token::{Receipt, Session, SessionToken};

/// The options of a command as one value, for a program that reads them from elsewhere, such as the
/// headers of a request: see [`Execute::options`]. Each field is the option of the method with its
/// name.
#[derive(Clone, Debug, Default)]
pub struct ExecuteOptions {
    /// [`Execute::key`].
    pub key: Option<String>,
    /// [`Execute::ordinal`].
    pub ordinal: Option<Ordinal>,
    /// [`Execute::actor`].
    pub actor: Option<String>,
    /// Names and values of [`Execute::extra`].
    pub extra: Vec<(String, String)>,
    /// [`Execute::occurred_at`].
    pub occurred_at: Option<Timestamp>,
    /// [`Execute::correlation`].
    pub correlation: Option<Uuid>,
    /// [`Execute::causation`].
    pub causation: Option<Uuid>,
    /// [`Execute::tracking`].
    pub tracking: Option<Tracking>,
    /// [`Execute::session`].
    pub session: Option<Session>,
    /// [`Execute::token`].
    pub token: Option<SessionToken>,
    /// [`Execute::after`].
    pub after: Option<Receipt>,
    /// [`Execute::unchanged_since`].
    pub unchanged_since: Option<Position>,
    /// [`Execute::expected_revision`], which wins over `unchanged_since`.
    pub expected_revision: Option<u64>,
}

impl<C: Command> Execute<C> {
    /// Sets all of these options that are given.
    pub fn options(self, options: &ExecuteOptions) -> Execute<C>
    where
        C: Serialize,
    {
        let ExecuteOptions {
            key,
            ordinal,
            actor,
            extra,
            occurred_at,
            correlation,
            causation,
            tracking,
            session,
            token,
            after,
            unchanged_since,
            expected_revision,
        } = options;
        let mut execute = self.tracking(tracking.clone());
        if let Some(key) = key {
            execute = execute.key(key);
        }
        if let Some(ordinal) = ordinal {
            execute = execute.ordinal(ordinal.clone());
        }
        if let Some(actor) = actor {
            execute = execute.actor(actor);
        }
        for (name, value) in extra {
            execute = execute.extra(name, value);
        }
        if let Some(instant) = *occurred_at {
            execute = execute.occurred_at(instant);
        }
        if let Some(id) = *correlation {
            execute = execute.correlation(id);
        }
        if let Some(id) = *causation {
            execute = execute.causation(id);
        }
        if let Some(session) = session {
            execute = execute.session(session);
        }
        if let Some(token) = token {
            execute = execute.token(token);
        }
        if let Some(receipt) = after {
            execute = execute.after(receipt);
        }
        if let Some(position) = *unchanged_since {
            execute = execute.unchanged_since(position);
        }
        match *expected_revision {
            Some(revision) => execute.expected_revision(revision),
            None => execute,
        }
    }
}
