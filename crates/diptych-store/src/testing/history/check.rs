//! The checker: a pure function from a history to the promises that it breaks.

mod book;
mod commits;
mod conditions;
mod keys;
mod openings;
mod readers;
mod reads;
mod sightings;
mod subscriptions;
mod tracking;

use book::Book;

use super::{
    file::History,
    line::CallName,
    log_model::LogModel,
    violation::{Violation, ViolationKind},
};

/// The commits that survive a kill, as the store promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Every acknowledged commit.
    EveryCommit,
    /// A prefix of the commits, whole ones. If acknowledged commits are lost, the log comes back
    /// with another epoch. The fresh head after a start says where the prefix ends.
    Prefix,
}

/// Compares all calls with the log and with each other. The history has to end with the commits of
/// the log, as a [`Drill`](super::Drill) reads them.
pub fn check(history: &History, survival: Survival) -> Vec<Violation> {
    let (operations, commits) = (history.operations(), history.commits());
    let mut report = Report::default();
    let log = match LogModel::new(&commits) {
        Ok(log) => log,
        Err(problem) => {
            report.add(ViolationKind::WrongCommits, None, problem);
            return report.violations;
        }
    };
    let openings = history.openings();
    let found = commits::check(&log, &operations, &openings, survival, &mut report);
    let book = Book::new(log, &operations, found, &openings, survival);
    openings::check(&book, &openings, &history.kills(), &mut report);
    conditions::check(&book, &mut report);
    keys::check(&book, &mut report);
    tracking::check(&book, &mut report);
    readers::check(&book, &mut report);
    report.violations
}

/// The violations that were found.
#[derive(Debug, Default)]
struct Report {
    violations: Vec<Violation>,
}

impl Report {
    fn add(&mut self, kind: ViolationKind, call: Option<CallName>, text: impl Into<String>) {
        self.violations.push(Violation { kind, call, text: text.into() });
    }
}
