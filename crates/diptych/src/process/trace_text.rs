//! A flow as text.

use std::fmt;

use super::{
    joined::{JoinedStep, JoinedTrace, TracedService},
    trace::{
        CallOutcome, CommandOutcome, OperatorAnswer, OperatorNote, PublishedNote, StepKind,
        TimerOutcome, Trace,
    },
};
use crate::collaboration::FeedOrigin;

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "flow {}", self.correlation)?;
        let depths: Vec<_> = self.steps.iter().map(|step| step.depth).collect();
        for (step, branch) in self.steps.iter().zip(branches(&depths)) {
            writeln!(f, "{branch}{}", printable(&step.kind.to_string()))?;
        }
        for remark in &self.remarks {
            writeln!(f, "{}", printable(remark))?;
        }
        Ok(())
    }
}

impl fmt::Display for JoinedTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "flow {}", self.correlation)?;
        let depths: Vec<_> = self.steps.iter().map(|step| step.depth).collect();
        for (JoinedStep { service, kind, .. }, branch) in self.steps.iter().zip(branches(&depths)) {
            writeln!(f, "{branch}{}", printable(&format!("{service}: {kind}")))?;
        }
        for TracedService { name, steps, away, .. } in &self.services {
            match away {
                Some(reason) => {
                    writeln!(f, "{}", printable(&format!("{name} could not be asked: {reason}")))?;
                }
                None if *steps == 0 => {
                    writeln!(f, "{}", printable(&format!("{name} has no part of the flow")))?;
                }
                None => {}
            }
        }
        for remark in &self.remarks {
            writeln!(f, "{}", printable(remark))?;
        }
        Ok(())
    }
}

/// The lines of the tree before each step.
fn branches(depths: &[u32]) -> Vec<String> {
    // Whether a later step has the same cause, for each depth.
    let mut more: Vec<bool> = Vec::new();
    let mut branches = Vec::with_capacity(depths.len());
    for depth in depths.iter().rev() {
        let depth = usize::try_from(*depth).unwrap_or(usize::MAX);
        more.resize(depth.saturating_add(1), false);
        let mut branch = String::new();
        for (level, has_more) in more.iter().enumerate().skip(1) {
            branch.push_str(match (level == depth, has_more) {
                (true, true) => "├─ ",
                (true, false) => "└─ ",
                (false, true) => "│  ",
                (false, false) => "   ",
            });
        }
        if let Some(last) = more.last_mut() {
            *last = true;
        }
        branches.push(branch);
    }
    branches.reverse();
    branches
}

/// The text on one line, without characters that move the cursor of a terminal.
fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepKind::Event {
                position, event_type, tags, at, actor, origin, published, ..
            } => {
                write!(f, "{position}  {event_type}")?;
                for tag in tags {
                    write!(f, " {tag}")?;
                }
                write!(f, "  {at}")?;
                actor.as_ref().map_or(Ok(()), |actor| write!(f, " by {actor}"))?;
                origin.as_ref().map_or(Ok(()), |origin| write!(f, ", {origin}"))?;
                for PublishedNote { feed, event_type, .. } in published {
                    write!(f, ", published to feed {feed} as {event_type}")?;
                }
                Ok(())
            }
            StepKind::Reaction { process, instance, position, .. } => {
                write!(f, "{position}  {process} of {instance} reacts")
            }
            StepKind::Command { command, outcome, .. } => write!(f, "sends {command}: {outcome}"),
            StepKind::Call { gateway, began_at, outcome, .. } => {
                write!(f, "calls {gateway}")?;
                for at in began_at {
                    write!(f, ", begun at {at}")?;
                }
                match (outcome, began_at.is_empty()) {
                    (CallOutcome::Waiting, false) => {
                        write!(f, ": no answer yet, it may have been sent")
                    }
                    _ => write!(f, ": {outcome}"),
                }
            }
            StepKind::Timer { timer, due, outcome } => {
                write!(f, "sets the timer {timer}, due {due}: {outcome}")
            }
            StepKind::TimerCancelled { timer } => write!(f, "cancels the timer {timer}"),
            StepKind::CallHeld { timer, gateway } => {
                write!(f, "holds a call of {gateway} until the timer {timer} fires")
            }
            StepKind::End => write!(f, "ends"),
            StepKind::Parked { process, instance, position, reason, answered_at, answer, by } => {
                write!(f, "{position}  {process} of {instance} is parked: {reason}")?;
                match (answered_at, answer) {
                    (Some(at), Some(answer)) => {
                        write!(f, " (answered at {at}: {answer}")?;
                        note(f, by)?;
                        write!(f, ")")
                    }
                    _ => write!(f, " (it waits for an answer)"),
                }
            }
            StepKind::ForeignParked { .. } => foreign_parked(f, self),
            StepKind::Cut { feeds, via } => write!(
                f,
                "cut after {feeds} feeds: the flow goes on, and looks like a loop of {}",
                via.join(" and ")
            ),
            StepKind::Behind { process, instance, letter } => write!(
                f,
                "{process} of {instance} does not take it yet: the instance is parked, see \
                 position {letter}"
            ),
        }
    }
}

impl fmt::Display for CommandOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandOutcome::Waiting => write!(f, "not carried out yet"),
            CommandOutcome::Committed { first, last } if first == last => {
                write!(f, "event {first}")
            }
            CommandOutcome::Committed { first, last } => write!(f, "events {first} to {last}"),
            CommandOutcome::NothingToDo { position } => {
                write!(f, "nothing to do, noted at {position}")
            }
            CommandOutcome::Rejected { position, text, .. } => {
                write!(f, "rejected at {position}: {text}")
            }
        }
    }
}

impl fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallOutcome::Waiting => write!(f, "no answer yet"),
            CallOutcome::Unknown { listed_at, reason } => {
                write!(f, "waits for an operator since {listed_at}: {reason}")
            }
            CallOutcome::SendingAgain { position, by } => {
                write!(f, "sent again at {position}")?;
                note(f, by)
            }
            CallOutcome::Answered { position, answer, by } => {
                write!(f, "answered at {position}: {answer}")?;
                note(f, by)
            }
            CallOutcome::Refused { position, text, by, .. } => {
                write!(f, "refused at {position}: {text}")?;
                note(f, by)
            }
            CallOutcome::Withheld { position } => {
                write!(f, "withheld at {position}: it is older than the calls that are sent")
            }
        }
    }
}

impl fmt::Display for OperatorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperatorAnswer::Retry => "retry",
            OperatorAnswer::Skip => "skip",
            OperatorAnswer::Replace => "replace",
        })
    }
}

impl fmt::Display for TimerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimerOutcome::Pending => write!(f, "pending"),
            TimerOutcome::Fired { position, at } => write!(f, "fired at {position}, {at}"),
            TimerOutcome::Replaced { position } => write!(f, "replaced at {position}"),
        }
    }
}

/// A published event that an intake parked.
fn foreign_parked(f: &mut fmt::Formatter<'_>, step: &StepKind) -> fmt::Result {
    let StepKind::ForeignParked { intake, event_type, position, reason, origin, .. } = step else {
        return Ok(());
    };
    write!(f, "{position}  {event_type} is parked by the intake {intake}")?;
    origin.as_ref().map_or(Ok(()), |origin| write!(f, ", {origin}"))?;
    match reason {
        Some(reason) => write!(f, ": {reason}")?,
        None => write!(f, ": it waits behind another one")?,
    }
    match step {
        StepKind::ForeignParked { answered_at: Some(at), answer: Some(answer), by, .. } => {
            write!(f, " (answered at {at}: {answer}")?;
            note(f, by)?;
            write!(f, ")")
        }
        _ => write!(f, " (it has no answer)"),
    }
}

impl fmt::Display for FeedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FeedOrigin { feed, log, position, .. } = self;
        write!(f, "from feed {feed} of log {log} at position {position}")
    }
}

fn note(f: &mut fmt::Formatter<'_>, by: &Option<OperatorNote>) -> fmt::Result {
    match by {
        Some(OperatorNote { who, why }) => write!(f, " by {who}, {why:?}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::process::trace::TraceStep;

    #[test]
    fn a_tree_has_its_branches_and_no_control_characters() {
        let step = |depth, timer: &str| TraceStep {
            depth,
            kind: StepKind::TimerCancelled { timer: timer.to_owned() },
        };
        let steps =
            vec![step(0, "a"), step(1, "b"), step(2, "c"), step(1, "d\u{1b}[2J\n"), step(2, "e")];
        let remarks = vec!["a remark".to_owned()];
        let trace = Trace { correlation: Uuid::nil(), log: Uuid::nil(), steps, remarks };
        let expected = [
            "flow 00000000-0000-0000-0000-000000000000",
            "cancels the timer a",
            "├─ cancels the timer b",
            "│  └─ cancels the timer c",
            "└─ cancels the timer d\\u{1b}[2J\\n",
            "   └─ cancels the timer e",
            "a remark",
        ];
        assert_eq!(trace.to_string().lines().collect::<Vec<_>>(), expected);
    }
}
