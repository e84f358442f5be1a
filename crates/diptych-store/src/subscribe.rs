//! Subscriptions: repeated bounded reads up to the published head, one way for catching up and
//! for staying live. Nothing is buffered but the batch in the caller's hands, so a slow reader
//! slows nobody down and costs no memory.

use crate::{
    batch::{Batch, Read},
    error::{InvalidRequest, ReadError, SubscribeError},
    filter::Filter,
    position::Position,
    store::Store,
};

/// How a subscription reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// At most this many events in one batch.
    pub batch_events: usize,
    /// Once live, more than this many positions behind the head is said as
    /// [`Delivery::FellBehind`].
    pub behind_events: u64,
}

impl Default for SubscribeOptions {
    fn default() -> SubscribeOptions {
        SubscribeOptions { batch_events: 4_096, behind_events: 65_536 }
    }
}

/// What a subscription says next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// The next events. The batch may be empty: then nothing matched up to its `upto`.
    Batch(Batch),
    /// Everything up to here was delivered; what follows is live. Said again after falling
    /// behind.
    CaughtUp {
        /// The head at that moment.
        upto: Position,
    },
    /// It was live, and is now this many positions behind: the reader is too slow.
    FellBehind {
        /// Positions between what was delivered and the head.
        by: u64,
    },
}

/// Matching events in order, those that are there and those that come; see [`Store::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    store: Store,
    filter: Filter,
    options: SubscribeOptions,
    after: Position,
    live: bool,
}

/// Here and not beside the rest of the handle, because a subscription stands on the handle.
impl Store {
    /// Everything matching after `after`: the events that are there, then those that come.
    pub fn subscribe(
        &self,
        filter: Filter,
        after: Position,
        options: SubscribeOptions,
    ) -> Subscription {
        Subscription::new(self.clone(), filter, after, options)
    }
}

impl Subscription {
    fn new(
        store: Store,
        filter: Filter,
        after: Position,
        options: SubscribeOptions,
    ) -> Subscription {
        Subscription { store, filter, options, after, live: false }
    }

    /// Everything up to here was delivered: where another subscription would go on.
    pub fn upto(&self) -> Position {
        self.after
    }

    /// The next delivery. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`SubscribeError`] once nothing more can come; it says where to go on.
    pub async fn next(&mut self) -> Result<Delivery, SubscribeError> {
        let head = self.store.head();
        loop {
            let position = head.position();
            if self.after > position {
                let wrong = InvalidRequest::AboveHead { position: self.after, head: position };
                return Err(self.failed(wrong.into()));
            }
            let behind = position.get() - self.after.get();
            if self.live && behind > self.options.behind_events {
                self.live = false;
                return Ok(Delivery::FellBehind { by: behind });
            }
            if behind > 0 {
                return self.batch().await.map(Delivery::Batch);
            }
            if !self.live {
                self.live = true;
                return Ok(Delivery::CaughtUp { upto: self.after });
            }
            if let Err(cause) = head.after(self.after).await {
                return Err(SubscribeError::Ended { after: self.after, cause });
            }
        }
    }

    async fn batch(&mut self) -> Result<Batch, SubscribeError> {
        let read = Read::after(self.after).limit(self.options.batch_events.max(1));
        let batch = self.store.read(&self.filter, read).await;
        let batch = batch.map_err(|cause| self.failed(cause))?;
        self.after = batch.upto();
        Ok(batch)
    }

    fn failed(&self, cause: ReadError) -> SubscribeError {
        SubscribeError::Read { after: self.after, cause }
    }
}
