//! The flow that an event belongs to, as a tree.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use diptych_store::{Position, ReadError, Timestamp};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::json::{number, numbers, optional};

/// The flow to trace: that of the event at a position, or that of an id. The id is that of an
/// event, or a correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceTarget {
    /// The flow of the event at this position.
    Position(Position),
    /// The flow of the event with this id, or the flow with this correlation.
    Id(Uuid),
}

/// A text names no flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither the position of an event nor a UUID")]
pub struct UnknownTarget(String);

impl FromStr for TraceTarget {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<TraceTarget, UnknownTarget> {
        let position = text.parse().map(|number| TraceTarget::Position(Position::new(number)));
        let id = || Uuid::parse_str(text).map(TraceTarget::Id);
        position.or_else(|_| id()).map_err(|_| UnknownTarget(text.to_owned()))
    }
}

impl From<Position> for TraceTarget {
    fn from(position: Position) -> TraceTarget {
        TraceTarget::Position(position)
    }
}

impl From<Uuid> for TraceTarget {
    fn from(id: Uuid) -> TraceTarget {
        TraceTarget::Id(id)
    }
}

/// The bounds of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceOptions {
    /// Maximum number of steps in the tree. A flow can be as large as the log.
    pub steps: usize,
    /// Whether the log is also read for events that name a cause by themselves: those of commands
    /// that a program sent with [`caused_by`](crate::Execute::caused_by). The log has no index of
    /// causes.
    pub whole_log: bool,
    /// Maximum number of events that are read for an id without an index, or for
    /// [`whole_log`](TraceOptions::whole_log).
    pub searched_events: u64,
}

impl Default for TraceOptions {
    fn default() -> TraceOptions {
        TraceOptions { steps: 1_000, whole_log: false, searched_events: 1_000_000 }
    }
}

/// Why there is no trace.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The log has no event at this position.
    #[error("there is no event at position {position}: the log ends at {head}")]
    NoSuchPosition {
        /// The position.
        position: Position,
        /// The end of the log.
        head: Position,
    },
    /// No event has this id or this correlation.
    #[error(
        "no event has the id or the correlation {id}, from position {from} to the end of the log; \
         check the id, or search more events"
    )]
    NoSuchId {
        /// The id.
        id: Uuid,
        /// The first position that was searched.
        from: Position,
    },
    /// The log cannot be read.
    #[error("the flow cannot be read: {0}")]
    Read(#[from] ReadError),
}

/// A flow: the steps of a tree, each after its cause. [`Display`](fmt::Display) draws the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trace {
    /// The correlation of the flow.
    pub correlation: Uuid,
    /// The steps in the order of the tree. The cause of a step is the last one before it whose
    /// depth is smaller by one.
    pub steps: Vec<TraceStep>,
    /// Remarks for people, such as that the tree was cut.
    pub remarks: Vec<String>,
}

/// A step of a flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceStep {
    /// The number of steps that led to it.
    pub depth: u32,
    /// The step.
    #[serde(flatten)]
    pub kind: StepKind,
}

/// A step of a flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepKind {
    /// An event of the application.
    Event {
        /// Its position.
        #[serde(serialize_with = "number")]
        position: Position,
        /// Its id.
        id: Uuid,
        /// The name of its type.
        #[serde(rename = "type")]
        event_type: String,
        /// Its tags.
        tags: Vec<String>,
        /// When the log recorded it.
        at: Timestamp,
        /// The actor that its command named.
        actor: Option<String>,
    },
    /// A process reacted.
    Reaction {
        /// The process.
        process: String,
        /// The tag of the instance.
        instance: String,
        /// The position of the reaction.
        #[serde(serialize_with = "number")]
        position: Position,
        /// When the log recorded it.
        at: Timestamp,
    },
    /// The reaction sends a command.
    Command {
        /// Its name in the catalogue.
        command: String,
        /// The command.
        body: Value,
        /// The outcome.
        outcome: CommandOutcome,
    },
    /// The reaction calls a gateway.
    Call {
        /// The name of the gateway.
        gateway: String,
        /// The call.
        body: Value,
        /// The key of the call, as the system outside knows it.
        key: String,
        /// The positions at which the call was begun. A gateway that is declared idempotent notes
        /// none.
        #[serde(serialize_with = "numbers")]
        began_at: Vec<Position>,
        /// The outcome.
        outcome: CallOutcome,
    },
    /// The reaction sets a timer.
    Timer {
        /// The name of the timer.
        timer: String,
        /// The instant from which it fires.
        due: Timestamp,
        /// The outcome.
        outcome: TimerOutcome,
    },
    /// The reaction cancels a timer.
    TimerCancelled {
        /// The name of the timer.
        timer: String,
    },
    /// The reaction holds a call until the timer before it fires. The call itself follows then.
    CallHeld {
        /// The name of the timer.
        timer: String,
        /// The name of the gateway.
        gateway: String,
    },
    /// The reaction ends the instance.
    End,
    /// The instance could not take the event, and was parked.
    Parked {
        /// The process.
        process: String,
        /// The tag of the instance.
        instance: String,
        /// The position that names the letter.
        #[serde(serialize_with = "number")]
        position: Position,
        /// The reason.
        reason: String,
        /// The position of the answer.
        #[serde(serialize_with = "optional")]
        answered_at: Option<Position>,
        /// The answer: `retry`, `skip` or `replace`.
        answer: Option<&'static str>,
        /// The operator who answered, with the reason.
        by: Option<OperatorNote>,
    },
    /// The instance stands before an earlier event, and takes this one later.
    Behind {
        /// The process.
        process: String,
        /// The tag of the instance.
        instance: String,
        /// The position that names the letter.
        #[serde(serialize_with = "number")]
        letter: Position,
    },
}

/// The person who answered, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OperatorNote {
    /// The operator.
    pub who: String,
    /// The reason of the answer.
    pub why: String,
}

/// The outcome of a command in a flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CommandOutcome {
    /// It was not carried out yet.
    Waiting,
    /// It wrote these events.
    Committed {
        /// The position of the first.
        #[serde(serialize_with = "number")]
        first: Position,
        /// The position of the last.
        #[serde(serialize_with = "number")]
        last: Position,
    },
    /// The rule had nothing to do.
    NothingToDo {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number")]
        position: Position,
    },
    /// The rule rejected it.
    Rejected {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number")]
        position: Position,
        /// The reason.
        text: String,
        /// The reason as JSON.
        json: Value,
    },
}

/// The outcome of a call in a flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// It has no outcome yet.
    Waiting,
    /// It waits for an operator: it may have been sent, or each try failed.
    Unknown {
        /// The position of the event that lists it.
        #[serde(serialize_with = "number")]
        listed_at: Position,
        /// The reason.
        reason: String,
    },
    /// An operator let it leave again.
    SendingAgain {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number")]
        position: Position,
        /// The operator.
        by: Option<OperatorNote>,
    },
    /// It has this answer.
    Answered {
        /// The position of the answer.
        #[serde(serialize_with = "number")]
        position: Position,
        /// The answer.
        answer: Value,
        /// The operator, if it was one who answered.
        by: Option<OperatorNote>,
    },
    /// The system outside, or an operator, refused it.
    Refused {
        /// The position of the refusal.
        #[serde(serialize_with = "number")]
        position: Position,
        /// The reason.
        text: String,
        /// The reason as JSON.
        json: Value,
        /// The operator, if it was one who refused.
        by: Option<OperatorNote>,
    },
    /// The gateway sends no call for so old an event.
    Withheld {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number")]
        position: Position,
    },
}

/// The outcome of a timer in a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TimerOutcome {
    /// It has not fired.
    Pending,
    /// It fired.
    Fired {
        /// The position of the event that tells so.
        #[serde(serialize_with = "number")]
        position: Position,
        /// When it fired. That is after the due time if no program ran then.
        at: Timestamp,
    },
    /// A later reaction set it again or cancelled it.
    Replaced {
        /// The position of that reaction.
        #[serde(serialize_with = "number")]
        position: Position,
    },
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "flow {}", self.correlation)?;
        for (step, branch) in self.steps.iter().zip(branches(&self.steps)) {
            let mut line = String::new();
            write!(line, "{}", step.kind)?;
            writeln!(f, "{branch}{}", printable(&line))?;
        }
        for remark in &self.remarks {
            writeln!(f, "{}", printable(remark))?;
        }
        Ok(())
    }
}

/// The lines of the tree before each step.
fn branches(steps: &[TraceStep]) -> Vec<String> {
    // Whether a later step has the same cause, for each depth.
    let mut more: Vec<bool> = Vec::new();
    let mut branches = Vec::with_capacity(steps.len());
    for step in steps.iter().rev() {
        let depth = usize::try_from(step.depth).unwrap_or(usize::MAX);
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
            StepKind::Event { position, event_type, tags, at, actor, .. } => {
                write!(f, "{position}  {event_type}")?;
                for tag in tags {
                    write!(f, " {tag}")?;
                }
                write!(f, "  {at}")?;
                actor.as_ref().map_or(Ok(()), |actor| write!(f, " by {actor}"))
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

impl fmt::Display for TimerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimerOutcome::Pending => write!(f, "pending"),
            TimerOutcome::Fired { position, at } => write!(f, "fired at {position}, {at}"),
            TimerOutcome::Replaced { position } => write!(f, "replaced at {position}"),
        }
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
    use super::*;

    #[test]
    fn a_target_is_a_position_or_an_id() {
        let position = TraceTarget::Position(Position::new(12));
        assert_eq!("12".parse(), Ok(position));
        let id = Uuid::from_u128(7);
        assert_eq!(id.to_string().parse(), Ok(TraceTarget::Id(id)));
        let error = "order:7".parse::<TraceTarget>().unwrap_err();
        assert!(error.to_string().contains("neither the position"), "{error}");
    }

    #[test]
    fn a_tree_has_its_branches_and_no_control_characters() {
        let step = |depth, timer: &str| TraceStep {
            depth,
            kind: StepKind::TimerCancelled { timer: timer.to_owned() },
        };
        let steps =
            vec![step(0, "a"), step(1, "b"), step(2, "c"), step(1, "d\u{1b}[2J\n"), step(2, "e")];
        let remarks = vec!["a remark".to_owned()];
        let trace = Trace { correlation: Uuid::nil(), steps, remarks };
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
