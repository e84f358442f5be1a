//! An open that is stopped, an open after it that is stopped too, and then a loss of power. The
//! second open sees writes of the first one that are not durable.

use std::{sync::Arc, time::Duration};

use diptych_log::{
    Background, Durability, Log, LogOptions, OpenError,
    disk::simulated::{Fault, Operation, SimulatedDisk},
};
use diptych_store::{Append, EventStore, RawEvent};

use crate::seeds::all;

const FOLDER: &str = "/data/log";
const COMMITS: u64 = 3;
/// More operations than an open and a commit have.
const MOST: u64 = 120;

fn open(disk: &SimulatedDisk, durability: Durability) -> Result<Log, OpenError> {
    let disk = Arc::new(disk.clone());
    let background = Background::Inline;
    Log::open(FOLDER, LogOptions { background, disk, durability, ..LogOptions::default() })
}

/// Opens the log and commits, as far as that goes. Returns the commits that were acknowledged.
fn live(disk: &SimulatedDisk, durability: Durability, commits: u64) -> u64 {
    let Ok(log) = open(disk, durability) else { return 0 };
    let append = |number| Append::event(RawEvent::new("counted", vec![number as u8; 60]));
    (0..commits).take_while(|number| log.blocking().commit(append(*number)).is_ok()).count() as u64
}

fn closed(durability: Durability) -> SimulatedDisk {
    let disk = SimulatedDisk::new(0);
    assert_eq!(live(&disk, durability, COMMITS), COMMITS);
    open(&disk, durability).unwrap().close().unwrap();
    disk
}

fn stop_twice(durability: Durability, first: Fault) {
    let closed = closed(durability);
    let mut opened = 0;
    for first_at in 0..MOST {
        let disk = closed.process_kill();
        disk.fail_after(first_at, first);
        let acknowledged = COMMITS + live(&disk, durability, 1);
        let (failures, left) = (disk.failures(), disk);
        for second_at in 0..MOST {
            let disk = left.process_kill();
            disk.fail_after(second_at, Fault::Stop);
            let ended = open(&disk, durability).is_ok();
            let one = (first_at + second_at) % 3;
            for seed in if all() { 0..3 } else { one..one + 1 } {
                let lost = disk.power_loss(seed * 10_007 + first_at * MOST + second_at);
                let when = format!(
                    "{failures:?}, killed, then {:?}, then a loss of power with seed {seed}",
                    disk.failures()
                );
                let log = open(&lost, durability).unwrap_or_else(|error| panic!("{when}: {error}"));
                let head = log.head().position().get();
                let least = if durability == Durability::Synced { acknowledged } else { COMMITS };
                assert!((least..=COMMITS + 1).contains(&head), "{when}: {head} of {acknowledged}");
                opened += 1;
            }
            if ended && disk.failures().is_empty() {
                break;
            }
        }
        if failures.is_empty() {
            break;
        }
    }
    assert!(opened > 300, "{opened} opens");
}

#[test]
fn a_log_opens_after_two_stopped_opens_and_a_loss_of_power() {
    stop_twice(Durability::Synced, Fault::Stop);
}

#[test]
fn a_log_opens_after_a_failed_write_a_stopped_open_and_a_loss_of_power() {
    stop_twice(Durability::Synced, Fault::Io(Operation::Write));
}

#[test]
fn a_log_synced_at_intervals_opens_after_a_full_disk_a_stopped_open_and_a_loss_of_power() {
    stop_twice(Durability::Interval { interval: Duration::from_secs(1) }, Fault::DiskFull);
}
