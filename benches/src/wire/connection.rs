//! A connection to a served log, as an engine of the other programs.

use std::{
    future::{Future, ready},
    slice,
    time::{Duration, Instant},
};

use diptych_benches::{
    engines::{Engine, Pending, Subscriber},
    latency::Latencies,
    workload::Entry,
};
use futures_util::{StreamExt, stream};

use crate::RUNTIME;

/// Gets the amount of each event that a subscriber receives.
pub(crate) type Observer = Box<dyn FnMut(u64) + Send>;

/// A client of one server, with one connection.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// The events of one commit in the client's form.
    type Events: Send;

    fn prepared(entries: &[Entry]) -> Self::Events;

    fn append(&self, events: Self::Events) -> impl Future<Output = ()> + Send;

    /// Reads everything or an account. Returns the number of events and the position up to which
    /// the log was read.
    fn read(&self, account: Option<u64>) -> impl Future<Output = (u64, u64)> + Send;

    /// The position of the account's last event; 0 if it has none.
    fn last(&self, account: u64) -> impl Future<Output = u64> + Send;

    /// Appends on the condition that the entry's account has no event after this position. Returns
    /// false if the log refuses that.
    fn append_if(&self, entry: Entry, after: u64) -> impl Future<Output = bool> + Send;

    /// Subscribes to an account, or to everything, from the begin of the log.
    fn listen(self, account: Option<u64>, seen: Observer) -> impl Future<Output = ()> + Send;
}

/// A connection of any kind.
pub(crate) trait Connection: Engine {
    /// Follows an account, or everything, until the future is dropped.
    fn listen(&self, account: Option<u64>, seen: Observer) -> Pending<'static>;

    /// Appends each event as a commit of its own, with `in_flight` appends in flight.
    fn flow(&self, entries: &[Entry], in_flight: usize, latencies: &mut Latencies) -> Duration;
}

pub(crate) struct Wire<C>(pub(crate) C);

impl<C: Client> Connection for Wire<C> {
    fn listen(&self, account: Option<u64>, seen: Observer) -> Pending<'static> {
        Box::pin(self.0.clone().listen(account, seen))
    }

    fn flow(&self, entries: &[Entry], in_flight: usize, latencies: &mut Latencies) -> Duration {
        let events: Vec<_> = entries.iter().map(slice::from_ref).map(C::prepared).collect();
        let start = Instant::now();
        let appends = events.into_iter().map(|events| async {
            let start = Instant::now();
            self.0.append(events).await;
            start.elapsed()
        });
        let appends = stream::iter(appends).buffer_unordered(in_flight);
        RUNTIME.block_on(appends.for_each(|took| {
            latencies.add(took);
            ready(())
        }));
        start.elapsed()
    }
}

impl<C: Client> Engine for Wire<C> {
    fn append(&self, entry: &Entry) {
        RUNTIME.block_on(self.0.append(C::prepared(slice::from_ref(entry))));
    }

    fn append_async(&self, entry: Entry) -> Pending<'_> {
        Box::pin(self.0.append(C::prepared(&[entry])))
    }

    fn append_batches(&self, batches: &[Vec<Entry>]) -> Duration {
        let batches: Vec<_> = batches.iter().map(|batch| C::prepared(batch)).collect();
        let start = Instant::now();
        for batch in batches {
            RUNTIME.block_on(self.0.append(batch));
        }
        start.elapsed()
    }

    fn pipelined(&self, entries: &[Entry], in_flight: usize) -> Duration {
        self.flow(entries, in_flight, &mut Latencies::default())
    }

    fn read_account(&self, account: u64) -> u64 {
        RUNTIME.block_on(self.0.read(Some(account))).0
    }

    fn replay(&self) -> u64 {
        RUNTIME.block_on(self.0.read(None)).0
    }

    fn decide(&self, entry: &Entry) -> bool {
        RUNTIME.block_on(async {
            let (events, after) = self.0.read(Some(entry.account)).await;
            assert!(events > 0, "an account without events: the log is not filled");
            self.0.append_if(*entry, after).await
        })
    }

    fn subscribe(&self) -> Option<Subscriber> {
        None
    }

    fn close(self: Box<Self>) {}
}
