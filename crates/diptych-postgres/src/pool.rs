//! Connections for reads. A call has one for itself, so that a long read delays no other.

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{failure::Fault, link::Link, session::Session};

/// Connections that wait for work, at most as many as the options allow.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Session>>,
    places: Semaphore,
}

/// A connection for one call. Unless it is given back, it closes, because an answer may be under
/// way on it.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    pub(crate) session: Session,
    pool: &'a Pool,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    pub(crate) fn new(size: usize) -> Pool {
        Pool { idle: Mutex::default(), places: Semaphore::new(size) }
    }

    /// Adds a connection that is there already.
    pub(crate) fn add(&self, session: Session) {
        self.idle.lock().push(session);
    }

    pub(crate) async fn take(&self, link: &Link) -> Result<Lease<'_>, Fault> {
        let place = self.places.acquire().await;
        let place = place.map_err(|_| diptych_store::Unavailable::Closed)?;
        let idle = std::iter::from_fn(|| self.idle.lock().pop()).find(|idle| !idle.is_closed());
        let session = match idle {
            Some(session) => session,
            None => link.connect(None).await?,
        };
        Ok(Lease { session, pool: self, _place: place })
    }
}

impl Lease<'_> {
    pub(crate) fn give_back(self) {
        self.pool.add(self.session);
    }
}
