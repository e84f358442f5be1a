//! A store that is held up, or takes nothing, when a test wants it.

use std::sync::Arc;

use diptych::{EventStore, Filter, Limits, LogIdentity, Memory, Position, Store, Tag};
use diptych_store::{
    AcceptedCommit, Append, AppendError, Batch, Head, KeyedCommit, Read, ReadError, Tracking,
    Unavailable,
};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Appends wait, and reads of what is asked about the past.
    Held,
    /// Reads that end before the head wait: those of the past.
    PastHeld,
    /// Nothing is taken.
    Full,
    /// The call panics.
    Broken,
}

#[derive(Clone)]
pub(crate) struct Moody {
    store: Store,
    identity: LogIdentity,
    mood: Arc<watch::Sender<Mood>>,
    waiting: Arc<watch::Sender<usize>>,
}

impl Moody {
    pub(crate) fn new() -> Moody {
        let store = Store::new(Memory::new());
        let identity = store.identity();
        Moody { store, identity, mood: Arc::default(), waiting: Arc::default() }
    }

    /// An empty log under the identity of this one: as when an older copy of it was put back.
    pub(crate) fn older_copy(&self) -> Moody {
        Moody { identity: self.identity, ..Moody::new() }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Until so many calls are held up.
    pub(crate) async fn held(&self, calls: usize) {
        let mut waiting = self.waiting.subscribe();
        let held = waiting.wait_for(|waiting| *waiting >= calls);
        tokio::time::timeout(crate::client::LONG, held).await.unwrap().unwrap();
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
}

impl Moody {
    async fn wait_while(&self, held: Mood) {
        if *self.mood.borrow() == held {
            self.waiting.send_modify(|waiting| *waiting += 1);
            let _counted = Counted(&self.waiting);
            self.mood.subscribe().wait_for(|mood| *mood != held).await.unwrap();
        }
    }

    /// Until no call is held up.
    pub(crate) async fn free(&self) {
        let mut waiting = self.waiting.subscribe();
        let free = waiting.wait_for(|waiting| *waiting == 0);
        tokio::time::timeout(crate::client::LONG, free).await.unwrap().unwrap();
    }
}

/// One that waits, until it is dropped.
struct Counted<'a>(&'a watch::Sender<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl EventStore for Moody {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn head(&self) -> Head {
        self.store.head()
    }

    async fn append(&self, append: Append) -> Result<AcceptedCommit, AppendError> {
        self.pass().await?;
        self.store.append(append).await
    }

    async fn read(&self, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
        if read.upto < self.head().position() {
            self.wait_while(Mood::PastHeld).await;
        }
        self.store.read(filter, read).await
    }

    async fn last(&self, filter: &Filter, upto: Position) -> Result<Option<Position>, ReadError> {
        self.pass().await?;
        self.store.last(filter, upto).await
    }

    async fn count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        self.store.count(tag, upto).await
    }

    async fn keyed(&self, key: &str) -> Result<Option<KeyedCommit>, ReadError> {
        self.store.keyed(key).await
    }

    async fn tracked(&self, source: &str) -> Result<Option<Tracking>, ReadError> {
        self.store.tracked(source).await
    }

    async fn types(&self) -> Result<Vec<String>, ReadError> {
        self.store.types().await
    }
}
