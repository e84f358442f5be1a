//! The server of a Diptych log, and its clients.

use std::{
    net::SocketAddr,
    path::Path,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use diptych::Uuid;
use diptych_benches::{
    engines::diptych::{account, event},
    workload::{Entry, PAYLOAD_BYTES},
};
use diptych_log::{Log, LogOptions};
use diptych_remote::{
    AppendAnswer, RemoteOptions, RemoteStore,
    wire::{
        self,
        messages::{
            SubscribeRequest, log_client::LogClient, subscribe_reply::Delivery as DeliveryMessage,
        },
    },
};
use diptych_server::LogServer;
use diptych_store::{
    Append, AppendCondition, AppendError, Delivery, EventStore, Filter, Position, Read, Store,
    SubscribeOptions,
};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};

use crate::{
    RUNTIME,
    connection::{Client, Observer},
};

/// How much of a subscription may be on its way, as for a [`RemoteStore`].
const WINDOW_BYTES: u32 = 16 << 20;

pub(crate) fn serve(folder: &Path, address: SocketAddr) {
    let log = Log::open(folder, LogOptions::default()).unwrap();
    RUNTIME.block_on(async move {
        let listener = TcpListener::bind(address).await.unwrap();
        LogServer::new(Store::new(log)).serve(listener, std::future::pending()).await.unwrap();
    });
}

pub(crate) fn store(address: SocketAddr, append_answer: AppendAnswer) -> RemoteStore {
    let mut options = RemoteOptions::default();
    options.append_answer = append_answer;
    let address = format!("diptych://{address}");
    RUNTIME.block_on(RemoteStore::connect(&address, options)).unwrap()
}

#[derive(Clone)]
pub(crate) struct Remote {
    store: RemoteStore,
    /// Subscribes by a call of the protocol. `None` for a subscription of the store.
    calls: Option<LogClient<Channel>>,
}

impl Remote {
    pub(crate) fn connect(address: SocketAddr, subscribes_by_call: bool) -> Remote {
        let _inside = RUNTIME.enter();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let endpoint = endpoint
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let calls = subscribes_by_call.then(|| LogClient::new(endpoint.connect_lazy()));
        Remote { store: store(address, AppendAnswer::Synced), calls }
    }
}

fn next_id() -> Uuid {
    static LAST: AtomicU64 = AtomicU64::new(0);
    Uuid::from_u64_pair(u64::from(std::process::id()), LAST.fetch_add(1, Ordering::Relaxed) + 1)
}

fn filter(of: Option<u64>) -> Filter {
    of.map_or_else(Filter::everything, account)
}

impl Client for Remote {
    type Events = Append;

    fn prepared(entries: &[Entry]) -> Append {
        // Events with ids can be found after a restart of the server, so a client that waits for
        // the sync needs no earlier reply.
        let events = entries.iter().map(|entry| event(entry).id(next_id()));
        Append::events(events)
    }

    async fn append(&self, events: Append) {
        self.store.append(events).await.unwrap().synced().await.unwrap();
    }

    async fn read(&self, account: Option<u64>) -> (u64, u64) {
        let (filter, head) = (filter(account), self.store.head().position());
        let (mut events, mut bytes, mut read) = (0, 0, Read::all());
        loop {
            let batch = self.store.read(&filter, read).await.unwrap();
            events += batch.len();
            bytes += batch.iter().map(|event| event.payload().len()).sum::<usize>();
            if batch.upto() >= head {
                assert_eq!(bytes, events * PAYLOAD_BYTES);
                return (events as u64, batch.upto().get());
            }
            read = Read::after(batch.upto());
        }
    }

    async fn last(&self, account: u64) -> u64 {
        let last = self.store.last(&filter(Some(account)), Position::MAX).await.unwrap();
        last.map_or(0, Position::get)
    }

    async fn append_if(&self, entry: Entry, after: u64) -> bool {
        let unchanged = AppendCondition { fail_if: account(entry.account), after: after.into() };
        let append = Self::prepared(slice::from_ref(&entry)).condition(unchanged);
        match self.store.append(append).await {
            Ok(accepted) => accepted.synced().await.is_ok(),
            Err(AppendError::Refused(_)) => false,
            Err(error) => panic!("Diptych: {error}"),
        }
    }

    async fn listen(self, account: Option<u64>, mut seen: Observer) {
        let filter = filter(account);
        let Some(mut calls) = self.calls else {
            let (store, options) = (Store::new(self.store), SubscribeOptions::default());
            let mut subscription = store.subscribe(filter, Position::START, options);
            while let Ok(delivery) = subscription.next().await {
                if let Delivery::Batch(batch) = delivery {
                    batch.iter().for_each(|event| seen(Entry::amount_in(event.payload())));
                }
            }
            return;
        };
        let filter = Some(wire::message_of_filter(&filter));
        let request = SubscribeRequest { filter, ..SubscribeRequest::default() };
        let mut deliveries = calls.subscribe(request).await.unwrap().into_inner();
        while let Ok(Some(reply)) = deliveries.message().await {
            if let Some(DeliveryMessage::Batch(batch)) = reply.delivery {
                let batch = wire::batch_of(batch).unwrap();
                batch.iter().for_each(|event| seen(Entry::amount_in(event.payload())));
            }
        }
    }
}
