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

/// Sessions that are kept. If there are more, the session that was opened longest ago is forgotten.
/// The outcomes of its calls then stay unknown.
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
#[derive(Default)]
pub(crate) struct SessionCalls {
    pub(crate) outcomes: BTreeMap<u64, CallOutcome>,
    /// The client has the outcomes of all calls up to this number.
    settled: u64,
    /// Whether a stream has served the session before.
    is_known: bool,
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
    session: Arc<Session>,
    stream: u64,
}

impl Sessions {
    /// Opens the session for a stream. An older stream of the session ends first.
    pub(crate) async fn open(&self, id: Uuid) -> OpenSession {
        let session = self.by_id.lock().get_or_insert(id, || Arc::new(Session::new())).clone();
        let stream = session.streams.fetch_add(1, Ordering::SeqCst) + 1;
        session.superseded.notify_waiters();
        let mut calls = session.calls.clone().lock_owned().await;
        let is_resumed = std::mem::replace(&mut calls.is_known, true);
        OpenSession { calls, is_resumed, session, stream }
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

impl SessionCalls {
    /// Forgets the outcomes that the client has.
    pub(crate) fn settle(&mut self, upto: u64) {
        if upto > self.settled {
            self.settled = upto;
            self.outcomes = self.outcomes.split_off(&(upto + 1));
        }
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
