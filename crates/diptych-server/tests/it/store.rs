//! A store whose calls wait, fail or panic while a test wants it.

use std::sync::Arc;

use diptych::{Memory, Store, store::LogIdentity};
use diptych_store::{
    Unavailable,
    testing::{Call, WrappedStore},
};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Appends and look-ups wait.
    Held,
    /// Reads that end before the head wait: those of the past.
    PastHeld,
    /// Nothing is taken.
    Full,
    /// The call panics.
    Broken,
}

#[derive(Clone)]
pub(crate) struct MoodyStore {
    store: Store,
    identity: LogIdentity,
    mood: Arc<watch::Sender<Mood>>,
    waiting: Arc<watch::Sender<usize>>,
}

impl MoodyStore {
    pub(crate) fn new() -> MoodyStore {
        let store = Store::new(Memory::new());
        let identity = store.identity();
        MoodyStore { store, identity, mood: Arc::default(), waiting: Arc::default() }
    }

    /// An empty log with the identity of this one, as after a replacement by an older copy.
    pub(crate) fn older_copy(&self) -> MoodyStore {
        MoodyStore { identity: self.identity, ..MoodyStore::new() }
    }

    /// The store for an app.
    pub(crate) fn store(&self) -> WrappedStore {
        let (store, identity) = (self.clone(), self.identity);
        WrappedStore::over(self.store.clone()).identity(move || identity).before(move |call| {
            let store = store.clone();
            let is_held = match call {
                Call::Append(_) | Call::Last(..) => Some(Mood::Held),
                Call::Read(_, read) if read.upto < store.store.head().position() => {
                    Some(Mood::PastHeld)
                }
                _ => None,
            };
            async move {
                match is_held {
                    Some(Mood::Held) => store.pass().await?,
                    Some(held) => store.wait_while(held).await,
                    None => {}
                }
                Ok(())
            }
        })
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Waits until this many calls are held up.
    pub(crate) async fn held(&self, calls: usize) {
        let mut waiting = self.waiting.subscribe();
        let held = waiting.wait_for(|waiting| *waiting >= calls);
        tokio::time::timeout(crate::client::LONG, held).await.unwrap().unwrap();
    }

    /// Waits until no call is held up.
    pub(crate) async fn free(&self) {
        let mut waiting = self.waiting.subscribe();
        let free = waiting.wait_for(|waiting| *waiting == 0);
        tokio::time::timeout(crate::client::LONG, free).await.unwrap().unwrap();
    }

    async fn pass(&self) -> Result<(), Unavailable> {
        self.wait_while(Mood::Held).await;
        match *self.mood.borrow() {
            Mood::Full => {
                Err(Unavailable::Backend(Arc::new(std::io::Error::other("the disk is full"))))
            }
            Mood::Broken => panic!("the store is broken"),
            Mood::Well | Mood::Held | Mood::PastHeld => Ok(()),
        }
    }

    async fn wait_while(&self, held: Mood) {
        if *self.mood.borrow() == held {
            self.waiting.send_modify(|waiting| *waiting += 1);
            let _waiting = WaitingCall(&self.waiting);
            self.mood.subscribe().wait_for(|mood| *mood != held).await.unwrap();
        }
    }
}

/// A call that waits, until it is dropped.
struct WaitingCall<'a>(&'a watch::Sender<usize>);

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}
