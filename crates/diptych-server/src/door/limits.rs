//! The limits of a server.

use std::time::Duration;

/// The limits of a server. A client that exceeds a limit gets a problem that names the limit, or
/// its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Maximum bytes of the body of a request.
    pub body_bytes: usize,
    /// Requests answered at one time. Further requests get 503 `busy`.
    pub requests: usize,
    /// Live streams open at one time. Further requests for streams get 503 `busy`.
    pub streams: usize,
    /// Connections open at one time. Further connections wait until another one closes.
    pub connections: usize,
    /// Time for the head of a request to arrive, and time that a connection may be idle.
    pub head_time: Duration,
    /// Time for the body of a request to arrive.
    pub body_time: Duration,
    /// Bytes of an unread body that the server reads and discards after its answer. The client can
    /// then finish sending and read the answer. If more bytes are left, the connection is closed.
    pub discarded_bytes: usize,
    /// Maximum time without progress in sending an answer, because the client reads nothing. After
    /// that its connection is closed.
    pub write_time: Duration,
    /// Time to answer a request that has arrived.
    pub answer_time: Duration,
    /// Maximum time that a query waits for its view, also if the request asks for more.
    pub wait_time: Duration,
    /// Maximum number of events in an explanation.
    pub explained_events: usize,
    /// Minimum time between two answers of a live stream. Answers in between are left out, but
    /// never the latest one.
    pub live_interval: Duration,
    /// Time for connections and commands to end when the server stops.
    pub stop_time: Duration,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            body_bytes: 1 << 20,
            requests: 512,
            streams: 256,
            connections: 1_024,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_secs(15),
            discarded_bytes: 16 << 20,
            write_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(30),
            wait_time: Duration::from_secs(20),
            explained_events: 1_000,
            live_interval: Duration::from_millis(100),
            stop_time: Duration::from_secs(10),
        }
    }
}
