//! Subscriptions: repeated bounded reads up to the published head, both for catching up and for
//! live events. The caller's batch is the only buffer. So a slow reader costs no memory, and delays
//! neither writers nor other readers.
//!
//! A store over the network sends live events by itself, within bounds of its own. A subscription
//! that has caught up takes them, and reads again once they end.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use crate::{
    batch::{Batch, Read},
    error::{InvalidRequest, ReadError, SubscribeError, Unavailable},
    filter::Filter,
    head::Head,
    identity::LogIdentity,
    live::LiveEvents,
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
    /// The live events that the store sends, with the history that they are of.
    pushed: Option<(LogIdentity, Box<dyn LiveEvents>)>,
    /// A batch that the store sent was too large for the reader. It is read up to here instead.
    read_upto: Position,
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
        let (pushed, read_upto) = (None, Position::START);
        Subscription { store, filter, options, after, live: false, pushed, read_upto }
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
                // Another handle may have written up to there.
                let fresh = self.store.known_head().await;
                let position = fresh.map_err(|cause| self.failed(cause))?;
                if self.after <= position {
                    continue;
                }
                if self.store.is_replica() {
                    let copied = head.after(self.after.before()).await;
                    let (after, ended) = (self.after, copied.err());
                    match ended {
                        Some(cause) => return Err(SubscribeError::Ended { after, cause }),
                        None => continue,
                    }
                }
                let wrong = InvalidRequest::AboveHead { position: self.after, head: position };
                return Err(self.failed(wrong.into()));
            }
            let behind = position.get() - self.after.get();
            if self.live && behind > self.options.behind_events {
                (self.live, self.pushed) = (false, None);
                return Ok(Delivery::FellBehind { by: behind });
            }
            if self.after < self.read_upto {
                return self.batch(self.read_upto).await.map(Delivery::Batch);
            }
            if self.pushed.is_some() {
                match self.pushed_batch(&head).await? {
                    Some(batch) => return Ok(Delivery::Batch(batch)),
                    None => continue,
                }
            }
            if behind > 0 {
                return self.batch(Position::MAX).await.map(Delivery::Batch);
            }
            if !self.live {
                self.live = true;
                return Ok(Delivery::CaughtUp { upto: self.after });
            }
            let history = self.store.identity();
            self.pushed = self.store.live(&self.filter, self.after).map(|live| (history, live));
            if self.pushed.is_none()
                && let Err(cause) = head.after(self.after).await
            {
                return Err(SubscribeError::Ended { after: self.after, cause });
            }
        }
    }

    /// Waits for a batch that the store sends. Without one, the subscription looks again for what
    /// to do.
    async fn pushed_batch(&mut self, head: &Head) -> Result<Option<Batch>, SubscribeError> {
        let Some((history, live)) = &mut self.pushed else { return Ok(None) };
        // No position is above this one, so the wait ends with the head.
        let mut end = head.after(Position::MAX);
        let next = poll_fn(|context| {
            if let Poll::Ready(batch) = live.poll_next(context) {
                return Poll::Ready(Ok(batch));
            }
            let end = Pin::new(&mut end).poll(context);
            end.map(|end: Result<_, Unavailable>| end.map(|_| None))
        });
        let next = next.await;
        self.store
            .check_history()
            .map_err(|cause| SubscribeError::Read { after: self.after, cause: cause.into() })?;
        let next = next.map_err(|cause| SubscribeError::Ended { after: self.after, cause })?;
        // A store that changed its history has sent events of the former one.
        let is_of_history = *history == self.store.identity();
        let Some(batch) = next.filter(|_| is_of_history) else {
            self.pushed = None;
            return Ok(None);
        };
        if batch.upto() <= self.after {
            return Ok(None);
        }
        if batch.len() > self.options.batch_events.max(1) {
            self.read_upto = batch.upto();
            return Ok(None);
        }
        self.after = batch.upto();
        Ok(Some(batch))
    }

    async fn batch(&mut self, upto: Position) -> Result<Batch, SubscribeError> {
        let read = Read::after(self.after).upto(upto).limit(self.options.batch_events.max(1));
        let batch = self.store.read(&self.filter, read).await;
        let batch = batch.map_err(|cause| self.failed(cause))?;
        self.after = batch.upto();
        Ok(batch)
    }

    fn failed(&self, cause: ReadError) -> SubscribeError {
        SubscribeError::Read { after: self.after, cause }
    }
}
