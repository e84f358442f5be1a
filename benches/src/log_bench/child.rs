//! Starts child processes of this program, reads the figures that they print, and kills them. The
//! module `tasks` is the code that runs in a child.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use diptych_benches::{
    engines::Kind,
    workload::{ACCOUNTS, Numbers},
};

/// The first argument of a child process.
const CHILD: &str = "--as-child";

/// Whether these are the arguments of a child process.
pub(crate) fn is_one(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|first| first == CHILD)
}

/// A task for a child process. The child gets it as arguments.
pub(crate) struct Task<'a> {
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
    pub(crate) folder: &'a Path,
    /// The number of events or of the round, depending on the task.
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

    /// Runs the child until it exits, and returns the figures that it printed, by name.
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

/// Appends to a log in a child process, and kills the child while it appends.
pub(crate) fn append_and_kill(kind: Kind, folder: &Path, round: u64) {
    let (accounts, turn) = (ACCOUNTS, Duration::ZERO);
    let task = Task { what: "append", kind, folder, number: round, accounts, turn };
    let mut child = task.spawn();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // Without the random part, all kills could come at the same phase of the log's periodic work.
    thread::sleep(Duration::from_millis(100 + Numbers::new(round).draw() % 100));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_line_of_name_and_value() {
        let lines = "rate=12.5\nnoise\npeak=3\n";
        let figures: Vec<_> = lines.lines().filter_map(figure_in).collect();
        assert_eq!((figure(&figures, "rate"), figure(&figures, "peak")), (12.5, 3.0));
        assert!(figure(&figures, "other").is_nan());
    }
}
