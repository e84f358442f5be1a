//! The sessions of clients that append.
//!
//! A session keeps the outcome of each call until the client says that it has it. A client that
//! lost its connection opens its session again and sends the calls without an outcome again. A call
//! with an outcome is answered from here, so each is executed once.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use diptych::store::{CommitSync, Position, Timestamp};
use diptych_remote::wire::messages::{Accepted, Failure};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{Mutex as StreamLock, Notify, OwnedMutexGuard};
use uuid::Uuid;

/// Sessions that are kept. If there are more, the one without a stream that was opened longest ago
/// is forgotten. Outcomes that its client lacks then stay unknown.
const SESSIONS: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// The sessions of a server.
pub(crate) struct Sessions {
    by_id: Mutex<LruCache<Uuid, Arc<Session>>>,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions { by_id: Mutex::new(LruCache::new(SESSIONS)) }
    }
}

/// A session, whatever connection it has.
struct Session {
    /// Held by the stream that serves the session.
    calls: Arc<StreamLock<SessionCalls>>,
    /// Tells the stream that there is a newer one.
    superseded: Notify,
    /// The number of streams that were opened.
    streams: AtomicU64,
}

/// The calls of a session without an outcome that the client is known to have.
pub(crate) struct SessionCalls {
    pub(crate) outcomes: BTreeMap<u64, CallOutcome>,
    /// The client has the outcomes of all calls up to this number.
    settled: u64,
    /// Names this memory of the session. It changes if the memory may lack an outcome.
    entry: Option<Uuid>,
    /// Whether the last stream has awaited all of its calls.
    is_complete: bool,
}

/// The outcome of a call, as far as it is known.
pub(crate) enum CallOutcome {
    /// It has its positions, and is synced once `sync` says so.
    Accepted { first: Position, last: Position, recorded_at: Timestamp, sync: CommitSync },
    /// It failed, or was refused.
    Failed(Failure),
}

/// The session, as long as a stream serves it.
pub(crate) struct OpenSession {
    pub(crate) calls: OwnedMutexGuard<SessionCalls>,
    /// Whether another stream has served the session before.
    pub(crate) is_resumed: bool,
    /// Names the memory of the session.
    pub(crate) entry: Uuid,
    session: Arc<Session>,
    stream: u64,
}

impl Sessions {
    /// Opens the session for a stream. An older stream of the session ends first.
    ///
    /// Returns `None` if there is no place for a further session.
    pub(crate) async fn open(&self, id: Uuid) -> Option<OpenSession> {
        let session = self.session(id)?;
        let stream = session.streams.fetch_add(1, Ordering::SeqCst) + 1;
        session.superseded.notify_waiters();
        let mut calls = session.calls.clone().lock_owned().await;
        // A stream that did not come to its end, as by a panic, may have lost an outcome.
        if !calls.is_complete {
            calls.entry = None;
            calls.outcomes.clear();
        }
        calls.is_complete = false;
        let is_resumed = calls.entry.is_some();
        let entry = *calls.entry.get_or_insert_with(Uuid::new_v4);
        Some(OpenSession { calls, is_resumed, entry, session, stream })
    }

    /// The session with this id, a new one if there is none.
    fn session(&self, id: Uuid) -> Option<Arc<Session>> {
        let mut by_id = self.by_id.lock();
        if let Some(session) = by_id.get(&id) {
            return Some(session.clone());
        }
        if by_id.len() >= SESSIONS.get() {
            let idle = by_id.iter().rev().find(|(_, session)| Arc::strong_count(session) == 1);
            let idle = idle.map(|(id, _)| *id)?;
            by_id.pop(&idle);
        }
        let session = Arc::new(Session::new());
        by_id.put(id, session.clone());
        Some(session)
    }
}

impl Session {
    fn new() -> Session {
        let calls = Arc::new(StreamLock::new(SessionCalls::default()));
        Session { calls, superseded: Notify::new(), streams: AtomicU64::new(0) }
    }
}

impl OpenSession {
    /// Waits until a newer stream of the session is opened.
    pub(crate) fn superseded(&self) -> impl Future<Output = ()> + Send + 'static {
        let (session, stream) = (self.session.clone(), self.stream);
        async move {
            loop {
                let notified = session.superseded.notified();
                if session.streams.load(Ordering::SeqCst) > stream {
                    return;
                }
                notified.await;
            }
        }
    }
}

impl Default for SessionCalls {
    fn default() -> SessionCalls {
        let outcomes = BTreeMap::new();
        SessionCalls { outcomes, settled: 0, entry: None, is_complete: true }
    }
}

impl SessionCalls {
    /// Forgets the outcomes that the client has.
    pub(crate) fn settle(&mut self, upto: u64) {
        if upto > self.settled {
            self.settled = upto;
            self.outcomes = self.outcomes.split_off(&upto.saturating_add(1));
        }
    }

    /// Notes that the stream has awaited all of its calls.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Whether the client has said that it knows the outcome of the call.
    pub(crate) fn is_settled(&self, number: u64) -> bool {
        number <= self.settled
    }
}

impl CallOutcome {
    /// The place of an accepted commit as a message.
    pub(crate) fn accepted(&self) -> Option<Accepted> {
        let CallOutcome::Accepted { first, last, recorded_at, sync } = self else { return None };
        Some(Accepted {
            first: first.get(),
            last: last.get(),
            recorded_at: recorded_at.as_micros(),
            synced: sync.is_done(),
        })
    }
}
