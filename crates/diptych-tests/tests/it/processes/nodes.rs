//! Two programs run one process over a server. One of them is killed again and again, and the
//! server sometimes. Nothing happens twice.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use diptych::{
    App, Store,
    process::{GatewayOptions, ProcessState},
};
use diptych_log::{Log, LogOptions};
use diptych_remote::{RemoteOptions, RemoteStore};

use super::{
    child::{Program, free_address, ready},
    fuse::Fuse,
    kills::{answer_calls, check, seeds},
    provider::{Keys, Provider},
    shop::{Note, POISON, Place, answer_letters, ended, idle, live, policy, quick, shop, until},
};

/// Exit code of a node whose process stopped.
const STOPPED: i32 = 3;
/// The server is killed at each kill whose number this divides.
const SERVER_EVERY: u64 = 4;

/// A call that the other node began has this time. A call on a busy machine takes much less.
fn patient() -> GatewayOptions {
    let mut options = policy();
    options.longest_call = Duration::from_secs(1);
    options.unknown_after = Duration::from_secs(3);
    options
}

async fn connect(address: &str) -> Store {
    let address = format!("diptych://{address}");
    Store::new(RemoteStore::connect(&address, RemoteOptions::default()).await.unwrap())
}

/// The work of a node: it runs the process, and answers letters.
pub(crate) async fn node(folder: &Path, address: &str) {
    let provider = Provider::new(folder.join("effects"), Keys::Ignored, Fuse::none());
    let app = shop(connect(address).await, provider, patient(), quick());
    let app = app.start().await.unwrap();
    ready();
    let control = app.process("till").unwrap();
    loop {
        if let ProcessState::Stopped { .. } = control.status().state {
            std::process::exit(STOPPED);
        }
        // A server that was just killed cannot be asked.
        if control.letters().await.is_ok() {
            answer_letters(&control, &Fuse::none()).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Places one order after another, and counts them.
async fn clients(address: String, placed: Arc<AtomicU64>, orders: u64) {
    let app = App::over_store(connect(&address).await).start().await.unwrap();
    for order in 0..orders {
        // The server may be killed meanwhile, and a second placing does nothing.
        while app.execute(Place { order }).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let note = || Note { order, text: POISON.to_owned() };
        while order % 5 == 4 && app.execute(note()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        placed.store(order + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_over_a_server_do_everything_once_though_one_is_killed_again_and_again() {
    let kills = seeds().div_ceil(4);
    let orders = kills * 25;
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let mut server = Some(Program::server(folder.path(), address));
    let mut steady = Program::node(folder.path(), address).expect("the node starts");
    let placed = Arc::new(AtomicU64::new(0));
    let client = tokio::spawn(clients(address.to_string(), placed.clone(), orders));
    for kill in 1..=kills {
        let other = Program::node(folder.path(), address);
        // Each life of the node sees some orders.
        while placed.load(Ordering::SeqCst) < kill * 25 {
            thread::sleep(Duration::from_millis(2));
        }
        if kill % SERVER_EVERY == 0 {
            drop(server.take());
            server = Some(Program::server(folder.path(), address));
        }
        drop(other);
        let exit = steady.exit();
        assert_eq!(exit, None, "a node that nothing kills goes on (3: its process stopped)");
    }
    client.await.unwrap();
    let store = connect(&address.to_string()).await;
    let provider = Provider::new(folder.path().join("effects"), Keys::Ignored, Fuse::none());
    // This program is a third node.
    let app = shop(store.clone(), provider.clone(), patient(), quick()).start().await.unwrap();
    live(&app, &store, 0..orders, &Fuse::none()).await;
    assert_eq!(steady.exit(), None);
    drop((steady, server.take()));
    drop(app);

    // Without the server the log is an ordinary folder.
    let log = Log::open(folder.path().join("log"), LogOptions::default()).unwrap();
    let store = Store::new(log.clone());
    let app = shop(store.clone(), provider.clone(), policy(), quick()).start().await.unwrap();
    live(&app, &store, 0..orders, &Fuse::none()).await;
    idle(&app).await;
    let waiting = app.process("till").unwrap().waiting_calls().await.unwrap();
    answer_calls(&app, &provider, &waiting).await;
    until("all orders have ended", || async { ended(&store).await.len() as u64 == orders }).await;
    idle(&app).await;
    check(&store, &provider, orders, "two nodes").await;
    app.stop().await.unwrap();
    log.close().unwrap();
}
