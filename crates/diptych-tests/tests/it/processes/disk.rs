//! A disk fills up, or fails a sync, while a process runs. The process waits or stops with words,
//! and after that nothing is lost and nothing happens twice.

use std::{sync::Arc, time::Duration};

use diptych::{
    App, EventStore, Store,
    process::ProcessState,
    store::{Append, RawEvent},
};
use diptych_log::{
    Log, LogOptions,
    disk::simulated::{Fault, Operation, SimulatedDisk},
};

use super::{
    fuse::Fuse,
    kills::{answer_calls, check},
    provider::{Keys, Provider},
    shop::{Note, POISON, Place, ended, idle, live, policy, quick, shop, until},
};

const ORDERS: u64 = 40;

fn log(disk: &SimulatedDisk) -> Log {
    let disk = Arc::new(disk.clone());
    // Small files, so that a full disk is found at their ends, too.
    Log::open("/log", LogOptions { disk, segment_bytes: 16 << 10, ..LogOptions::default() })
        .unwrap()
}

async fn start(log: &Log, provider: &Provider) -> App {
    let store = Store::new(log.clone());
    shop(store, provider.clone(), policy(), quick()).start().await.unwrap()
}

/// Places orders until one is refused. Returns how many were placed.
async fn place(app: &App, from: u64) -> u64 {
    for order in from..ORDERS {
        if app.execute(Place { order }).await.is_err() {
            return order;
        }
        let note = Note { order, text: POISON.to_owned() };
        if order % 5 == 4 && app.execute(note).await.is_err() {
            return order;
        }
    }
    ORDERS
}

/// Lets everything end, and checks that it happened once.
async fn finish(app: &App, log: &Log, provider: &Provider, of: &str) {
    let store = Store::new(log.clone());
    live(app, &store, 0..ORDERS, &Fuse::none()).await;
    let waiting = app.process("till").unwrap().waiting_calls().await.unwrap();
    answer_calls(app, provider, &waiting).await;
    until("all orders have ended", || async { ended(&store).await.len() as u64 == ORDERS }).await;
    idle(app).await;
    check(&store, provider, ORDERS, of).await;
}

#[tokio::test]
async fn a_process_waits_with_words_while_the_disk_is_full_and_goes_on_when_there_is_space() {
    for seed in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::new(folder.path().join("effects"), Keys::Ignored, Fuse::none());
        let disk = SimulatedDisk::new(seed);
        let log = log(&disk);
        let app = start(&log, &provider).await;
        disk.fail_after(seed * 12, Fault::DiskStaysFull);
        let filled = async {
            // Clients fill what is left in the files.
            while log.append(Append::event(RawEvent::new("filled", vec![7; 3_000]))).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (placed, ()) = tokio::join!(place(&app, 0), filled);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let status = app.process("till").unwrap().status();
        match &status.state {
            ProcessState::Stopped { .. } => panic!("seed {seed}: {status:?}"),
            ProcessState::Stalled { reason } => {
                assert!(reason.contains("no space"), "seed {seed}: {reason}");
            }
            // It had nothing to write when the space was gone.
            _ => {}
        }
        disk.disarm();
        until("the log takes commits", || async {
            log.append(Append::event(RawEvent::new("filled", ""))).await.is_ok()
        })
        .await;
        assert!(placed <= ORDERS);
        finish(&app, &log, &provider, &format!("seed {seed}")).await;
        app.stop().await.unwrap();
        log.close().unwrap();
    }
}

#[tokio::test]
async fn a_process_stops_with_words_after_a_failed_sync_and_the_next_start_does_nothing_twice() {
    for seed in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::new(folder.path().join("effects"), Keys::Ignored, Fuse::none());
        let disk = SimulatedDisk::new(seed);
        let first = log(&disk);
        let app = start(&first, &provider).await;
        disk.fail_after(seed * 9, Fault::Io(Operation::Sync));
        let placed = place(&app, 0).await;
        if placed < ORDERS {
            until("it stopped", || async {
                let status = app.process("till").unwrap().status();
                match status.state {
                    ProcessState::Stopped { reason } => {
                        assert!(reason.contains("open it again"), "{reason}");
                        true
                    }
                    _ => false,
                }
            })
            .await;
        }
        drop(app);
        drop(first);
        disk.disarm();
        // Bytes that were never durable are gone, as after a loss of power.
        let disk = disk.power_loss(seed);
        let log = log(&disk);
        let app = start(&log, &provider).await;
        finish(&app, &log, &provider, &format!("seed {seed}")).await;
        app.stop().await.unwrap();
        log.close().unwrap();
    }
}
