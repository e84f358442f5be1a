//! The order of the commands of one client, over any number of connections.
//!
//! A client numbers its commands from 1 on. Each is decided after the command with the number
//! before, and once. The numbers live in memory; the log has them too, because a command is
//! committed under a key with its number. So they are learned again after a restart.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use compact_str::CompactString;
use diptych_store::Key;
use lru::LruCache;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{OnceCell, watch};

use super::Invalid;
use crate::{digest::request_digest, event::RESERVED, wait};

/// Clients whose numbers are kept in memory. Those of others are learned from the log again.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Maximum length of a client's name in bytes.
const CLIENT_BYTES: usize = 128;

/// The place of a command among the commands of one client: see
/// [`Execute::ordinal`](crate::Execute::ordinal).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordinal {
    client: CompactString,
    number: u64,
    settled: u64,
}

impl Ordinal {
    /// Maximum number of commands of one client without an outcome.
    pub const WINDOW: u64 = 64;
    /// Time for which a command waits for the commands before it.
    pub const WAIT: Duration = Duration::from_secs(10);

    /// The command with this number. The first command of a client has the number 1. The name of
    /// the client has to be unique for ever, such as a random id of its session.
    pub fn new(client: impl AsRef<str>, number: u64) -> Ordinal {
        Ordinal { client: CompactString::new(client), number, settled: 0 }
    }

    /// The client has the outcomes of all its commands up to this number, also of those that were
    /// rejected. A client that tells it lets the app find its place after a restart.
    #[must_use]
    pub fn settled(mut self, number: u64) -> Ordinal {
        self.settled = number;
        self
    }

    /// The number of the command.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the command is more than [`WINDOW`](Ordinal::WINDOW) commands after those that the
    /// client has the outcomes of.
    pub fn is_too_far_ahead(&self) -> bool {
        self.number.saturating_sub(self.settled) > Ordinal::WINDOW
    }

    /// Checks the name of the client and the number.
    ///
    /// # Errors
    /// The name is empty or too long, or the number is 0 or [too far
    /// ahead](Ordinal::is_too_far_ahead). A command with such an ordinal fails with the same error.
    pub fn check(&self) -> Result<(), Invalid> {
        let Ordinal { client, number, settled } = self;
        let wrong = |problem: String| Err(Invalid::new("ordinal", problem));
        if client.is_empty() || client.len() > CLIENT_BYTES {
            return wrong(format!("the name of the client has 1 to {CLIENT_BYTES} bytes"));
        }
        if *number == 0 {
            return wrong("the first command of a client has the number 1".to_owned());
        }
        if self.is_too_far_ahead() {
            return wrong(format!(
                "command {number} is more than {} commands after {settled}, up to which the client \
                 has outcomes: wait for outcomes, and tell them",
                Ordinal::WINDOW
            ));
        }
        Ok(())
    }

    /// The command was decided before, and wrote nothing.
    pub(super) fn passed(&self) -> OrdinalError {
        OrdinalError::Passed { number: self.number }
    }

    /// The key of the command. No caller can choose such a key in another way.
    pub(super) fn key<C: Serialize>(&self, command: &C) -> Result<Key, Invalid> {
        self.check()?;
        match request_digest(command) {
            Ok(digest) => Ok(Key::new(key_name(&self.client, self.number), digest)),
            Err(error) => {
                let problem = format!("the command cannot be compared: {error}");
                Err(Invalid::new("ordinal", problem))
            }
        }
    }
}

fn key_name(client: &str, number: u64) -> String {
    format!("{RESERVED}ordinal:{number}:{client}")
}

/// A command is out of its client's order. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrdinalError {
    /// A command before it did not come in time.
    #[error(
        "command {number} of the client waited {} s for its command {missing}: send that one, then \
         send this one again", Ordinal::WAIT.as_secs()
    )]
    Missing {
        /// The number of the command.
        number: u64,
        /// The number of the command that has to come first.
        missing: u64,
    },
    /// The command was decided before, and wrote nothing that could be told again: it was rejected,
    /// or had nothing to do. A later command may have been decided since.
    #[error(
        "command {number} of the client was decided before, and wrote nothing: its outcome is not \
         kept; ask a query for the state, and send a new command with a new number if it is needed"
    )]
    Passed {
        /// The number of the command.
        number: u64,
    },
}

/// The clients of an app that number their commands.
pub(crate) struct Ordinals {
    clients: Mutex<LruCache<CompactString, Arc<OnceCell<ClientOrder>>>>,
}

impl Default for Ordinals {
    fn default() -> Ordinals {
        Ordinals { clients: Mutex::new(LruCache::new(CLIENTS)) }
    }
}

/// The order of one client's commands.
struct ClientOrder(watch::Sender<NextNumber>);

#[derive(Clone, Copy)]
struct NextNumber {
    /// The lowest number that is not decided.
    next: u64,
    /// Whether the command with this number is being decided.
    is_busy: bool,
}

/// The right of a command to be decided now. Dropping it gives the right back, and the same command
/// can take it again.
pub(crate) struct OrdinalTurn {
    client: Arc<OnceCell<ClientOrder>>,
    number: u64,
    is_decided: bool,
}

/// Whether a command may be decided.
pub(crate) enum OrdinalPlace {
    Turn(OrdinalTurn),
    /// It was decided before.
    Past,
}

impl Ordinals {
    /// Waits until the commands before this one are decided. `is_committed` says whether the log
    /// has a commit under a key.
    pub(super) async fn enter<E, F, Fut>(
        &self,
        ordinal: &Ordinal,
        is_committed: F,
    ) -> Result<OrdinalPlace, E>
    where
        E: From<OrdinalError>,
        F: Fn(String) -> Fut,
        Fut: Future<Output = Result<bool, E>>,
    {
        let Ordinal { client: name, number, settled } = ordinal;
        let client = self.clients.lock().get_or_insert(name.clone(), Arc::default).clone();
        let order = client.get_or_try_init(|| learn(ordinal, is_committed)).await?;
        let mut places = order.0.subscribe();
        let turn = async {
            loop {
                let mut is_mine = false;
                order.0.send_if_modified(|place| {
                    let told = settled.saturating_add(1);
                    let is_told = !place.is_busy && place.next < told;
                    if is_told {
                        place.next = told;
                    }
                    is_mine = !place.is_busy && place.next == *number;
                    place.is_busy |= is_mine;
                    is_told
                });
                if is_mine {
                    break true;
                }
                if places.borrow_and_update().next > *number {
                    break false;
                }
                // The sender is in the client's order, so the channel stays open.
                let _ = places.changed().await;
            }
        };
        match wait::within(Ordinal::WAIT, turn).await {
            Some(true) => {
                let (number, is_decided) = (*number, false);
                Ok(OrdinalPlace::Turn(OrdinalTurn { client: client.clone(), number, is_decided }))
            }
            Some(false) => Ok(OrdinalPlace::Past),
            None => {
                let missing = order.0.borrow().next;
                Err(OrdinalError::Missing { number: *number, missing }.into())
            }
        }
    }
}

/// Learns from the log which commands of the client were decided. They were decided in order, so
/// all before the last committed one were.
async fn learn<E, F, Fut>(ordinal: &Ordinal, is_committed: F) -> Result<ClientOrder, E>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<bool, E>>,
{
    let mut next = ordinal.settled.saturating_add(1);
    for number in (next..next.saturating_add(Ordinal::WINDOW)).rev() {
        if is_committed(key_name(&ordinal.client, number)).await? {
            next = number.saturating_add(1);
            break;
        }
    }
    Ok(ClientOrder(watch::Sender::new(NextNumber { next, is_busy: false })))
}

impl OrdinalTurn {
    /// The command is decided: the next one may follow.
    pub(super) fn decided(mut self) {
        self.is_decided = true;
    }
}

impl Drop for OrdinalTurn {
    fn drop(&mut self) {
        if let Some(order) = self.client.get() {
            order.0.send_modify(|place| {
                place.is_busy = false;
                if self.is_decided {
                    place.next = place.next.max(self.number.saturating_add(1));
                }
            });
        }
    }
}
