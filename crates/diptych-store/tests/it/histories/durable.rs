//! A store in memory that can be killed and started again, with mistakes on request.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use diptych_store::{
    Append, CommitRef, EventStore, LogIdentity, Memory, ReadCommits, Store, TimeSource, Timestamp,
    Unavailable,
    testing::{Call, WrappedStore, history::Deployment},
};

/// Changes the commits while the log is copied for the next round.
pub(crate) type Damage = fn(&mut Vec<Append>);

/// A deployment of a memory store. A kill lets no call begin, and a start copies the log.
pub(crate) struct Durable {
    store: Store,
    identity: LogIdentity,
    killed: Arc<AtomicBool>,
    damage: Damage,
    changes_epoch: bool,
    wrap: Box<dyn Fn(Store, u64) -> Store>,
}

impl Durable {
    pub(crate) fn new() -> Durable {
        let identity = LogIdentity::random();
        let killed = Arc::<AtomicBool>::default();
        Durable {
            store: serve(memory(), identity, killed.clone()),
            identity,
            killed,
            damage: |_| {},
            changes_epoch: false,
            wrap: Box::new(|store, _| store),
        }
    }

    /// Clients get this store around the right one.
    pub(crate) fn wrapped(mut self, wrap: impl Fn(Store, u64) -> Store + 'static) -> Durable {
        self.wrap = Box::new(wrap);
        self
    }

    /// Each start copies the log with this mistake.
    pub(crate) fn damaged(mut self, damage: Damage) -> Durable {
        self.damage = damage;
        self
    }

    /// Each start begins an epoch.
    pub(crate) fn with_new_epochs(mut self) -> Durable {
        self.changes_epoch = true;
        self
    }
}

impl Deployment for Durable {
    fn start(&mut self, round: u64) {
        if round == 0 {
            return;
        }
        self.killed.store(false, Ordering::SeqCst);
        let mut commits = pollster::block_on(copy(&self.store));
        (self.damage)(&mut commits);
        let memory = memory();
        for append in commits {
            let accepted = pollster::block_on(EventStore::append(&memory, append)).unwrap();
            pollster::block_on(accepted.synced()).unwrap();
        }
        if self.changes_epoch {
            self.identity.epoch = self.identity.epoch.next();
        }
        self.killed = Arc::default();
        self.store = serve(memory, self.identity, self.killed.clone());
    }

    fn connect(&mut self, client: u64) -> Store {
        (self.wrap)(self.store.clone(), client)
    }

    fn kill(&mut self) {
        self.killed.store(true, Ordering::SeqCst);
    }
}

fn memory() -> Memory {
    Memory::new().time(TimeSource::Caller)
}

fn serve(memory: Memory, identity: LogIdentity, killed: Arc<AtomicBool>) -> Store {
    let store = WrappedStore::new(memory).identity(move || identity).before(move |call| {
        if let Call::Append(append) = call {
            append.recorded_at = Some(Timestamp::now());
        }
        let is_killed = killed.load(Ordering::SeqCst);
        async move { if is_killed { Err(Unavailable::Closed.into()) } else { Ok(()) } }
    });
    Store::new(store)
}

async fn copy(store: &Store) -> Vec<Append> {
    let (mut commits, mut after) = (Vec::new(), 0.into());
    loop {
        let batch = store.commits(ReadCommits::after(after)).await.unwrap();
        commits.extend(batch.iter().map(|commit| append_of(&commit)));
        if batch.upto() == after || batch.upto() >= store.head().position() {
            return commits;
        }
        after = batch.upto();
    }
}

fn append_of(commit: &CommitRef<'_>) -> Append {
    Append {
        events: commit.events().map(|event| event.to_raw()).collect(),
        conditions: Vec::new(),
        key: commit.key().cloned(),
        tracking: commit.tracking().cloned(),
        recorded_at: Some(commit.recorded_at()),
    }
}
