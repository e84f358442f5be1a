//! A history as a value, and as a file of one JSON object a line.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufWriter, ErrorKind, Write},
    path::Path,
};

use super::answer::{Answer, CommitRecord};
use super::line::{CallName, Completion, HistoryLine, Opening, Question};

/// The lines of a run, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    lines: Vec<HistoryLine>,
}

/// A call with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// The name.
    pub call: CallName,
    /// Reading of the clock before the call.
    pub invoked: u64,
    /// The arguments.
    pub question: Question,
    /// Reading of the clock after the call, and the result. A call without it was cut off.
    pub completed: Option<(u64, Answer)>,
}

impl History {
    /// Adds lines.
    pub fn extend(&mut self, lines: impl IntoIterator<Item = HistoryLine>) {
        self.lines.extend(lines);
    }

    /// The lines.
    pub fn lines(&self) -> &[HistoryLine] {
        &self.lines
    }

    /// The starts of the store, in the order of the rounds.
    pub fn openings(&self) -> Vec<&Opening> {
        let openings = self.lines.iter().filter_map(|line| match line {
            HistoryLine::Opening(opening) => Some(opening),
            _ => None,
        });
        let mut openings: Vec<_> = openings.collect();
        openings.sort_by_key(|opening| opening.round);
        openings
    }

    /// The times of the kills, by round.
    pub fn kills(&self) -> BTreeMap<u64, u64> {
        let kills = self.lines.iter().filter_map(|line| match line {
            HistoryLine::Kill(kill) => Some((kill.round, kill.time)),
            _ => None,
        });
        kills.collect()
    }

    /// The commits of the log, as they were read at the end.
    pub fn commits(&self) -> Vec<&CommitRecord> {
        let commits = self.lines.iter().filter_map(|line| match line {
            HistoryLine::Commit(commit) => Some(commit),
            _ => None,
        });
        commits.collect()
    }

    /// The calls, in the order of their rounds, clients and numbers.
    pub fn operations(&self) -> Vec<CallRecord> {
        let (mut operations, mut completions) = (BTreeMap::new(), Vec::new());
        for line in &self.lines {
            match line {
                HistoryLine::Invocation(begun) => {
                    let (call, invoked) = (begun.call, begun.time);
                    let question = begun.question.clone();
                    let operation = CallRecord { call, invoked, question, completed: None };
                    operations.insert(call, operation);
                }
                HistoryLine::Completion(ended) => completions.push(ended),
                _ => {}
            }
        }
        for Completion { call, time, answer } in completions {
            if let Some(operation) = operations.get_mut(call) {
                operation.completed = Some((*time, answer.clone()));
            }
        }
        operations.into_values().collect()
    }

    /// Writes the lines to this file.
    ///
    /// # Errors
    /// The error of the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(fs::File::create(path)?);
        for line in &self.lines {
            serde_json::to_writer(&mut file, line)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }

    /// Reads the lines of this file. A last line without its end is left out, because a killed
    /// process did not finish it.
    ///
    /// # Errors
    /// The error of the file, or the number of a line that is not one of a history.
    pub fn read(path: &Path) -> io::Result<History> {
        let text = fs::read_to_string(path)?;
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        let parse = |(at, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| {
                let place = format!("{}, line {}: {error}", path.display(), at + 1);
                io::Error::new(ErrorKind::InvalidData, place)
            })
        };
        let lines = complete.lines().enumerate().map(parse).collect::<io::Result<_>>()?;
        Ok(History { lines })
    }
}
