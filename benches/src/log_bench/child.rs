//! Processes of this program that are started to be looked at, or to be killed.

use std::{
    io::{BufRead, BufReader, Write, stdout},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use diptych_benches::{
    device::memory_kib,
    engines::{COMMIT, Engine, Kind, batches, kind},
    workload::{ACCOUNTS, Numbers},
};

use crate::{cold, growth, reads};

/// The first argument of such a process.
const CHILD: &str = "--as-child";
/// Events of one append where loading is not what is measured.
const LARGE_COMMIT: u64 = 10_000;

pub(crate) fn is_one(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|first| first == CHILD)
}

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

/// What a child is to do.
pub(crate) struct Task<'a> {
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
    pub(crate) folder: &'a Path,
    /// Of events, or of the round.
    pub(crate) number: u64,
    pub(crate) accounts: u64,
    pub(crate) turn: Duration,
}

impl Task<'_> {
    fn spawn(&self) -> Child {
        let Task { what, kind, folder, number, accounts, turn } = self;
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args([CHILD, what, kind.name]).arg(folder);
        let numbers = [number.to_string(), accounts.to_string(), turn.as_secs_f64().to_string()];
        command.args(numbers).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// The figures that the child printed, by their names.
    pub(crate) fn figures(&self) -> Vec<(String, f64)> {
        let output = self.spawn().wait_with_output().unwrap();
        let Task { what, kind, .. } = self;
        assert!(output.status.success(), "a child process failed: {what} {}", kind.name);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(figure_in).collect()
    }
}

fn figure_in(line: &str) -> Option<(String, f64)> {
    let (name, value) = line.split_once('=')?;
    Some((name.to_owned(), value.parse().ok()?))
}

pub(crate) fn figure(figures: &[(String, f64)], name: &str) -> f64 {
    figures.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, value)| *value)
}

/// Appends to a log in a process of its own, and kills that while it does.
pub(crate) fn append_and_kill(kind: Kind, folder: &Path, round: u64) {
    let (accounts, turn) = (ACCOUNTS, Duration::ZERO);
    let task = Task { what: "append", kind, folder, number: round, accounts, turn };
    let mut child = task.spawn();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // Not always at the same place of whatever the log does at intervals.
    thread::sleep(Duration::from_millis(100 + Numbers::new(round).draw() % 100));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
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

/// Loads with no more in memory than one batch, and prints how fast, and the peak of memory.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lines_with_a_name() {
        let lines = "rate=12.5\nnoise\npeak=3\n";
        let figures: Vec<_> = lines.lines().filter_map(figure_in).collect();
        assert_eq!((figure(&figures, "rate"), figure(&figures, "peak")), (12.5, 3.0));
        assert!(figure(&figures, "other").is_nan());
    }
}
