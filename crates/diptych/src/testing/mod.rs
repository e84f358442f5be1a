//! Tools for tests of a domain.
//!
//! [`given()`] tests one command, and [`given_process`] one instance of a process, without a store,
//! a runtime or a wait. [`StubGateway`] stands in for a system outside. [`SchemaLock`] fails when
//! the shape of a stored event changes by accident. [`check_determinism`] fails when a fold does
//! not reach the same state every time. [`check_digest`](Given::check_digest) fails when a fold
//! reaches another state than the one in its older snapshots.

// These tools are for tests, and a test fails by a panic.
#![allow(clippy::panic)]

mod clock;
mod determinism;
mod folding;
mod given;
mod lock;
mod process;
mod stub_gateway;

pub use clock::{Clock, ControlledClock, Ids};
pub use determinism::check_determinism;
pub use folding::Folding;
pub use given::{Given, When, given, nothing_given};
pub use lock::{SchemaLock, SchemaReport};
pub use process::{GivenProcess, given_process};
use similar::TextDiff;
pub use stub_gateway::StubGateway;

/// Number of equal lines that are shown around a difference. It is enough for the names of the
/// types and fields around a changed value.
const CONTEXT_LINES: usize = 6;

/// A readable difference of two texts, `- expected` and `+ actual`. Long runs of equal lines are
/// left out, and long runs of other lines are cut off.
pub(crate) fn difference(expected: &str, actual: &str) -> String {
    let difference = TextDiff::from_lines(expected, actual);
    let lines = expected.lines().count();
    let mut shown_upto = 0;
    let mut text = String::new();
    for group in difference.grouped_ops(CONTEXT_LINES) {
        let range = |ends: fn(std::ops::Range<usize>) -> usize| {
            group.iter().map(move |op| ends(op.old_range()))
        };
        let begin = range(|lines| lines.start).min().unwrap_or(shown_upto);
        left_out(begin.saturating_sub(shown_upto), &mut text);
        shown_upto = range(|lines| lines.end).max().unwrap_or(shown_upto);
        for op in &group {
            let changes: Vec<_> = difference.iter_changes(op).collect();
            for run in changes.chunk_by(|one, other| one.tag() == other.tag()) {
                for change in run.iter().take(SHOWN_LINES) {
                    let line = change.value().trim_end_matches('\n');
                    text.push_str(&format!("{} {line}\n", change.tag()));
                }
                let (tag, more) =
                    (run.first().map(|of| of.tag()), run.len().saturating_sub(SHOWN_LINES));
                if let (Some(tag), 1..) = (tag, more) {
                    text.push_str(&format!("{tag} ... and {more} more lines\n"));
                }
            }
        }
    }
    left_out(lines.saturating_sub(shown_upto), &mut text);
    text
}

fn left_out(lines: usize, text: &mut String) {
    match lines {
        0 => {}
        1 => text.push_str("  ... 1 equal line ...\n"),
        more => text.push_str(&format!("  ... {more} equal lines ...\n")),
    }
}

/// A long text is cut off after this number of lines.
const SHOWN_LINES: usize = 40;

/// The beginning of a text.
pub(crate) fn beginning(text: &str) -> String {
    let lines = text.lines().count();
    if lines <= SHOWN_LINES {
        return text.to_owned();
    }
    let shown: Vec<_> = text.lines().take(SHOWN_LINES).collect();
    format!("{}\n... and {} more lines", shown.join("\n"), lines - SHOWN_LINES)
}

/// A unified difference of two named texts, with a few lines of context.
fn unified_difference(old: (&str, &str), new: (&str, &str)) -> String {
    let ((old_name, old), (new_name, new)) = (old, new);
    TextDiff::from_lines(old, new).unified_diff().header(old_name, new_name).to_string()
}
