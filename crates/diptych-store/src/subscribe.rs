//! Subscriptions: repeated bounded reads up to the published head, both for catching up and for
//! live events. The caller's batch is the only buffer. So a slow reader costs no memory, and delays
//! neither writers nor other readers.

use crate::{
    batch::{Batch, Read},
    error::{InvalidRequest, ReadError, SubscribeError},
    filter::Filter,
    position::Position,
    store::Store,
};

/// Options of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Maximum number of events in one batch.
    pub batch_events: usize,
    /// A live subscription that is more than this number of positions behind the head reports
    /// [`Delivery::FellBehind`].
    pub behind_events: u64,
}

impl Default for SubscribeOptions {
    fn default() -> SubscribeOptions {
        SubscribeOptions { batch_events: 4_096, behind_events: 65_536 }
    }
}

/// One step of a subscription.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// The next events. If the batch is empty, no event up to its `upto` matched.
    Batch(Batch),
    /// Every matching event was delivered, and the following ones are live. It is reported again
    /// each time that the subscription has fallen behind and caught up.
    CaughtUp {
        /// The position of the head at that time.
        upto: Position,
    },
    /// The subscription was live, and fell behind because the reader is too slow.
    FellBehind {
        /// Number of positions between the last delivered one and the head.
        by: u64,
    },
}

/// Matching events in order, existing and future ones. See [`Store::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    store: Store,
    filter: Filter,
    options: SubscribeOptions,
    after: Position,
    live: bool,
}

/// This method is in this file because subscriptions depend on the handle, and not the other way
/// round.
impl Store {
    /// Subscribes to the matching events after `after`, first the existing and then the future
    /// ones.
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

    /// The position up to which every matching event was delivered. Another subscription can
    /// continue after it.
    pub fn upto(&self) -> Position {
        self.after
    }

    /// Waits for the next delivery. Dropping the future loses no event.
    ///
    /// # Errors
    /// [`SubscribeError`] if the subscription ended. The error has the position to continue after.
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
