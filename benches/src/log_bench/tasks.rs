//! The code of the tasks that run in child processes.

use std::{
    io::{Write, stdout},
    path::Path,
    time::Duration,
};

use diptych_benches::{
    device::memory_kib,
    engines::{COMMIT, Engine, Kind, batches, kind},
    workload::{ACCOUNTS, Numbers},
};

use crate::{cold, growth, reads};

/// Events in one append, for loads whose speed is not measured.
const LARGE_COMMIT: u64 = 10_000;

/// Carries out the task that the arguments name.
pub(crate) fn run(arguments: &[String]) {
    let [_, what, name, folder, number, accounts, seconds] = arguments else {
        panic!("the arguments of a child are what, which, where and three numbers");
    };
    let (kind, folder) = (kind(name).unwrap(), folder.as_ref());
    let (number, accounts) = (number.parse().unwrap(), accounts.parse().unwrap());
    let turn = Duration::from_secs_f64(seconds.parse().unwrap());
    match what.as_str() {
        "append" => append(kind, folder, number),
        "load" => load(kind, folder, number, accounts, COMMIT),
        "load-large" => load(kind, folder, number, accounts, LARGE_COMMIT),
        "replay" => reads::replay_in_child(kind, folder, number),
        "read-cold" => cold::read_in_child(kind, folder, number, accounts, turn),
        _ => growth::look(folder, accounts, turn),
    }
}

fn append(kind: Kind, folder: &Path, round: u64) {
    let engine = (kind.open)(folder);
    let mut numbers = Numbers::of_caller(round, 7);
    println!("ready");
    stdout().flush().unwrap();
    loop {
        engine.append_batches(&batches(&mut numbers, COMMIT, ACCOUNTS, COMMIT));
    }
}

/// Fills a log with one batch in memory at a time, and prints the rate and the peak of memory.
fn load(kind: Kind, folder: &Path, events: u64, accounts: u64, commit: u64) {
    let before = memory_kib("VmHWM");
    let engine: Box<dyn Engine> = (kind.open)(folder);
    let mut numbers = Numbers::new(events);
    let mut taken = Duration::ZERO;
    for _ in 0..events / commit {
        taken += engine.append_batches(&batches(&mut numbers, commit, accounts, commit));
    }
    let peak = memory_kib("VmHWM");
    engine.settle();
    engine.close();
    println!("rate={}", events as f64 / taken.as_secs_f64());
    println!("before={before}\npeak={peak}");
}
