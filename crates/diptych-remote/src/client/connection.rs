//! The connection in use, and another one in its place after an answer that raises doubt.
//!
//! Both ends of HTTP/2 keep a table of the headers that they have sent. A byte that was changed on
//! its way can stay in such a table. Every later call is then wrong, and the server answers each of
//! them with an error. Only a new connection has new tables. An error that is not of the log is
//! therefore final once a new connection gives it, too.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// The shortest time between two replacements. A server that refuses a call, whatever connection it
/// comes over, does not get a connection for each.
const REPLACEMENTS: Duration = Duration::from_secs(5);

/// The connections to one server, of which one is in use.
pub(crate) struct Connections {
    endpoint: Endpoint,
    current: Mutex<Current>,
}

struct Current {
    channel: Channel,
    id: ConnectionId,
    /// When it took the place of a doubted one.
    replaced: Option<Instant>,
}

/// Tells a connection from those that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(u64);

impl Connections {
    /// The first call connects. Must be called on the runtime of the connections.
    pub(crate) fn new(endpoint: Endpoint) -> Connections {
        let channel = endpoint.connect_lazy();
        let current = Current { channel, id: ConnectionId(0), replaced: None };
        Connections { endpoint, current: Mutex::new(current) }
    }

    /// The connection for the next call.
    pub(crate) fn current(&self) -> (Channel, ConnectionId) {
        let current = self.current.lock();
        (current.channel.clone(), current.id)
    }

    /// Takes another connection for the next calls, after an answer that raises doubt. Streams of
    /// the doubted one go on. Returns whether there is another one, so that a further try can have
    /// another answer. Must be called on the runtime of the connections.
    pub(crate) fn doubt(&self, id: ConnectionId) -> bool {
        let mut current = self.current.lock();
        if current.id != id {
            return true;
        }
        if current.replaced.is_some_and(|at| at.elapsed() < REPLACEMENTS) {
            return false;
        }
        let channel = self.endpoint.connect_lazy();
        let replaced = Some(Instant::now());
        *current = Current { channel, id: ConnectionId(id.0 + 1), replaced };
        true
    }
}

/// Whether the connection itself can be the cause of this answer, which has no error of the log.
pub(crate) fn raises_doubt(status: &Status) -> bool {
    // A lost connection is made again by itself, and a server that stops or has no room says so.
    // The last two are of a message that is too large, and of a clock.
    !matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::OutOfRange | Code::DeadlineExceeded
    )
}
