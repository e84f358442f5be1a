//! What is bounded, each by a name.

use std::time::Duration;

/// The limits of a server. Whoever is beyond one is told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Bytes that the body of a request may have.
    pub body_bytes: usize,
    /// Requests that are answered at once; one more is told to come again.
    pub requests: usize,
    /// Live streams that are open at once; one more is told to come again.
    pub streams: usize,
    /// Connections that are open at once; one more waits until another is closed.
    pub connections: usize,
    /// How long the head of a request may take to arrive, and how long a connection may be idle.
    pub head_time: Duration,
    /// How long the body of a request may take to arrive.
    pub body_time: Duration,
    /// Bytes of a body that nobody wants which are thrown away, so that its sender comes to read
    /// the answer. Beyond that the connection is closed.
    pub discarded_bytes: usize,
    /// How long a client may take nothing of an answer that is sent to it. Then its connection is
    /// closed.
    pub write_time: Duration,
    /// How long a request may take to be answered once it is there.
    pub answer_time: Duration,
    /// How long a query may be told to wait for its view.
    pub wait_time: Duration,
    /// Events that an explanation has at most.
    pub explained_events: usize,
    /// The time between two answers of a live stream, at least. Those in between are left out,
    /// never the latest.
    pub live_interval: Duration,
    /// How long connections have to end when the server stops.
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
