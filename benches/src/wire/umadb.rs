//! The server of UmaDB, and its clients, each with its default options.

use std::{net::SocketAddr, path::Path, sync::Arc};

use diptych_benches::{
    engines::umadb::{account, event},
    workload::{Entry, PAYLOAD_BYTES},
};
use tokio::sync::oneshot;
use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbAppendCondition, DcbError, DcbEvent, DcbEventStoreAsync};
use umadb_server::{ServerOptions, StorageOptions, start_server_with_options};

use crate::{
    RUNTIME,
    connection::{Client, Observer},
};

pub(crate) fn serve(folder: &Path, address: SocketAddr) {
    let storage = StorageOptions::default().db_path(folder);
    let listen_addr = address.to_string();
    let options = ServerOptions { listen_addr, tls: None, api_key: None, storage };
    let (_running, stop) = oneshot::channel();
    RUNTIME.block_on(start_server_with_options(options, stop)).unwrap();
}

#[derive(Clone)]
pub(crate) struct UmaDbConnection(Arc<AsyncUmaDbClient>);

impl UmaDbConnection {
    pub(crate) fn connect(address: SocketAddr) -> UmaDbConnection {
        let client = UmaDbClient::new(format!("http://{address}"));
        let mut connected = RUNTIME.block_on(client.connect_async());
        // The client gives up after half a second, and the server may need longer to start.
        for _ in 0..30 {
            if connected.is_ok() {
                break;
            }
            connected = RUNTIME.block_on(client.connect_async());
        }
        UmaDbConnection(Arc::new(connected.unwrap()))
    }
}

impl Client for UmaDbConnection {
    type Events = Vec<DcbEvent>;

    fn prepared(entries: &[Entry]) -> Vec<DcbEvent> {
        entries.iter().map(event).collect()
    }

    async fn append(&self, events: Vec<DcbEvent>) {
        self.0.append(events, None, None).await.unwrap();
    }

    async fn read(&self, of: Option<u64>) -> (u64, u64) {
        let mut answer = self.0.read(of.map(account), None, false, None).await.unwrap();
        let (mut events, mut bytes) = (0, 0);
        loop {
            let batch = answer.next_batch().await.unwrap();
            if batch.is_empty() {
                break;
            }
            events += batch.len();
            bytes += batch.iter().map(|event| event.event.data.len()).sum::<usize>();
        }
        assert_eq!(bytes, events * PAYLOAD_BYTES);
        (events as u64, answer.head().await.unwrap().unwrap_or(0))
    }

    async fn last(&self, of: u64) -> u64 {
        let mut answer = self.0.read(Some(account(of)), None, true, Some(1)).await.unwrap();
        answer.next_batch().await.unwrap().first().map_or(0, |event| event.position)
    }

    async fn append_if(&self, entry: Entry, after: u64) -> bool {
        let unchanged = DcbAppendCondition::new(account(entry.account)).after(Some(after));
        match self.0.append(vec![event(&entry)], Some(unchanged), None).await {
            Ok(_) => true,
            Err(DcbError::IntegrityError(_)) => false,
            Err(error) => panic!("UmaDB: {error}"),
        }
    }

    async fn listen(self, of: Option<u64>, mut seen: Observer) {
        let mut subscription = self.0.subscribe(of.map(account), None).await.unwrap();
        while let Ok(batch) = subscription.next_batch().await {
            if batch.is_empty() {
                return;
            }
            batch.iter().for_each(|event| seen(Entry::amount_in(&event.event.data)));
        }
    }
}
