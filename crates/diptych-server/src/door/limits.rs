//! The limits of a server.

use std::time::Duration;

/// Maximum number of events of one page of a feed.
pub(crate) const MOST_EVENTS: usize = 10_000;

/// The limits of a server. A client that exceeds a limit gets a problem that names the limit, or
/// its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Maximum bytes of the body of a request.
    pub body_bytes: usize,
    /// Requests answered at one time. Further requests get 503 `busy`. A command counts until its
    /// end, also if its client went away or got `outcome-unknown` before.
    pub requests: usize,
    /// Live streams open at one time. Further requests for streams get 503 `busy`.
    pub streams: usize,
    /// Time after which a live stream ends. Browsers then open it again, and the hook is asked
    /// again.
    pub stream_time: Duration,
    /// Queries that one live stream may watch.
    pub stream_queries: usize,
    /// Connections open at one time. For a further one, the oldest connection without a request of
    /// the peer with the most connections is closed. If there is none, the new one waits.
    pub connections: usize,
    /// Requests of one peer answered at one time. Further requests get 503 `busy`. A peer is an
    /// address, or a network of 64 bits with IPv6. If a proxy is in front of the server, it is the
    /// only peer: set this limit, `peer_streams` and `peer_connections` to those of all peers.
    pub peer_requests: usize,
    /// Live streams of one peer open at one time. Further requests for streams get 503 `busy`.
    pub peer_streams: usize,
    /// Connections of one peer open at one time. If it opens one more, its oldest connection
    /// without a request is closed; if there is none, the new one is.
    pub peer_connections: usize,
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
    /// Events of the log that one question about the past, or one explanation, may read. A question
    /// that needs more gets 400 `too-many-events`. How many such questions run at one time, and how
    /// many wait, are options of the app (`past_folds`, `past_waiting`); further ones get 503
    /// `busy`.
    pub past_reads: u64,
    /// Bytes of answers about the past that are kept. An equal question about an equal part of the
    /// log is answered from them.
    pub past_answer_bytes: usize,
    /// Time that a client may keep an answer about a part of the log that can no longer change,
    /// without asking again. Another release of the program may answer otherwise, and clients that
    /// keep an answer do not see that before. With a hook ([`admit`](crate::Server::admit)) clients
    /// ask each time.
    pub past_answer_age: Duration,
    /// Maximum number of events in an explanation.
    pub explained_events: usize,
    /// Rejections of one caller that are recorded within a minute
    /// ([`record_rejections`](crate::CommandRoute::record_rejections)). A caller is the actor that
    /// the hook names; callers without a name are one. Further rejections are answered without a
    /// note, with `noted: false`, because each note takes space in the log for ever.
    pub noted_rejections: usize,
    /// Rejections of all callers that are recorded within a minute.
    pub all_noted_rejections: usize,
    /// Bytes of the rejections of all callers that are recorded within a day. The day begins with
    /// its first note. Further rejections are answered without a note, as above.
    ///
    /// A note costs the length of its command as JSON, of the actor and of the claims, and 1,024
    /// bytes for its key, tags, checksums and index. A note that cannot be JSON costs `body_bytes`
    /// instead. If the events of a note contain more than its command, they take more space than
    /// the note costs. A repeat under one idempotency key costs nothing.
    ///
    /// So the notes of a day take at most this space in the log. 24 hours that are part of two days
    /// can have twice as much. The server counts in memory: a start begins a new day. One caller
    /// can use the whole budget.
    pub noted_bytes: usize,
    /// Minimum time between two answers of a live stream. Answers in between are left out, but
    /// never the latest one.
    pub live_interval: Duration,
    /// Bytes of appends to a log that its store has not accepted, over all clients. Above it, no
    /// stream of appends reads a further message, so each stream can hold one message beside.
    pub append_bytes: usize,
    /// Time for connections and commands to end when the server stops.
    pub stop_time: Duration,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            body_bytes: 1 << 20,
            requests: 512,
            streams: 256,
            stream_time: Duration::from_secs(3_600),
            stream_queries: 32,
            connections: 1_024,
            peer_requests: 384,
            peer_streams: 192,
            peer_connections: 768,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_secs(15),
            discarded_bytes: 16 << 20,
            write_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(30),
            wait_time: Duration::from_secs(20),
            past_reads: 10_000_000,
            past_answer_bytes: 16 << 20,
            past_answer_age: Duration::from_secs(3_600),
            explained_events: 1_000,
            noted_rejections: 120,
            all_noted_rejections: 1_200,
            noted_bytes: 64 << 20,
            live_interval: Duration::from_millis(100),
            append_bytes: 256 << 20,
            stop_time: Duration::from_secs(10),
        }
    }
}

#[cfg(feature = "log")]
impl ServerLimits {
    /// The limits of a [`LogServer`](crate::LogServer), if it is not told others. Each store of
    /// another process has two streams, and many of them can be on one machine.
    pub fn of_log() -> ServerLimits {
        ServerLimits {
            requests: 4_096,
            peer_requests: 3_072,
            streams: 16_384,
            peer_streams: 12_288,
            connections: 8_192,
            peer_connections: 6_144,
            ..ServerLimits::default()
        }
    }
}
