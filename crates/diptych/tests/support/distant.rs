//! A store that a test makes unreachable, or replaces by a restored backup.
#![allow(dead_code)]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use diptych::{
    Memory, Store,
    store::{LogIdentity, Unavailable},
};
use diptych_store::{HistoryChanged, testing::WrappedStore};
use parking_lot::Mutex;

/// A store behind a connection. It can be unreachable, and another history can replace its own.
pub(crate) struct DistantStore {
    pub(crate) store: Store,
    pub(crate) identity: Arc<Mutex<LogIdentity>>,
    pub(crate) is_out: Arc<AtomicBool>,
}

impl DistantStore {
    pub(crate) fn new() -> DistantStore {
        let store = Store::new(Memory::new());
        let identity = Arc::new(Mutex::new(store.identity()));
        DistantStore { store, identity, is_out: Arc::default() }
    }

    pub(crate) fn connect(&self) -> WrappedStore {
        let (identity, is_out) = (self.identity.clone(), self.is_out.clone());
        WrappedStore::over(self.store.clone()).identity(move || *identity.lock()).before(
            move |_| {
                let is_out = is_out.load(Ordering::SeqCst);
                async move {
                    match is_out {
                        true => {
                            Err(Unavailable::Backend(Arc::new(io::Error::other("no route"))).into())
                        }
                        false => Ok(()),
                    }
                }
            },
        )
    }

    /// A backup replaces the log.
    pub(crate) fn restore(&self) -> HistoryChanged {
        restore(&self.identity)
    }
}

pub(crate) fn restore(identity: &Mutex<LogIdentity>) -> HistoryChanged {
    let mut identity = identity.lock();
    let was = *identity;
    identity.epoch = was.epoch.next();
    HistoryChanged { was, is: *identity }
}
