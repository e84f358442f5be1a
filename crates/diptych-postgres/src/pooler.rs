//! Poolers. A session has settings, prepared statements and notifications, so it needs a connection
//! of the server for itself. A pooler in transaction mode gives each transaction another one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::failure::{Fault, server};

/// The question for the process of the server that works for a connection.
pub(crate) const BACKEND: &str = "select pg_catalog.pg_backend_pid()";

/// Processes of the server that work for the connections of a store.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    alive: Mutex<Vec<Weak<i32>>>,
}

impl Backends {
    /// Adds the process of a new connection. Returns whether another one has it, too.
    pub(crate) fn add(&self, new: &Arc<i32>) -> bool {
        let mut alive = self.alive.lock();
        alive.retain(|known| known.strong_count() > 0);
        let is_known = alive.iter().filter_map(Weak::upgrade).any(|known| known == *new);
        alive.push(Arc::downgrade(new));
        is_known
    }
}

/// How often two connections are compared. In a busy pool each can get the same process by chance.
const ROUNDS: usize = 3;

/// Refuses a pooler that gives two connections one process, or one connection several. It changes
/// nothing on the server, so a connection of a pool that is refused is as before for others.
pub(crate) async fn refuse_pooler(first: &Client, second: &Client) -> Result<(), Fault> {
    let (one, other) = (backend(first).await?, backend(second).await?);
    let mut is_kept = one != other;
    for _ in 0..ROUNDS {
        // A pool that takes its connections in turns gives a client another one in a row.
        for (client, known) in [(first, one), (first, one), (second, other), (second, other)] {
            is_kept = is_kept && backend(client).await? == known;
        }
    }
    match is_kept {
        true => Ok(()),
        false => Err(Fault::Pooler),
    }
}

async fn backend(client: &Client) -> Result<i32, Fault> {
    let told = client.simple_query(BACKEND).await?;
    process_of(&told).ok_or_else(|| server("the server does not tell its process").into())
}

/// The process in the answer to [`BACKEND`], which may be the last of several statements.
pub(crate) fn process_of(told: &[SimpleQueryMessage]) -> Option<i32> {
    told.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_a_connection_that_is_open_is_known() {
        let backends = Backends::default();
        let (one, other) = (Arc::new(1), Arc::new(2));
        assert!(!backends.add(&one));
        assert!(!backends.add(&other));
        assert!(backends.add(&Arc::new(1)));
        drop(one);
        assert!(!backends.add(&Arc::new(1)));
    }
}
