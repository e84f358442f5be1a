//! The notes of rejected commands.

use std::{
    any::type_name,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use diptych::{App, Command, CommandError, ExecuteError, command::ExecuteOptions};
use serde::Serialize;
use serde_json::Value;

use super::{CommandAnswer, CommandOptions, RunCommand};
use crate::{
    door::{
        code::Code,
        notes::{NoteBudget, SpentBudget},
        problem::Problem,
    },
    panels::entries::other_type,
};

/// Executes commands and records their rejections.
pub(super) fn recording<C, N>(note: fn(&C, &C::Rejection) -> N) -> RunCommand
where
    C: Command<Rejection: Serialize> + Clone + Serialize,
    N: Command + Serialize,
{
    Box::new(move |command, app, options, notes| {
        let Some(command) = command.downcast::<C>() else {
            return Box::pin(async { Err(other_type::<C>()) });
        };
        Box::pin(async move { execute_noted(command, app, options, &notes, note).await })
    })
}

/// Executes a command, and records its rejection.
pub(crate) async fn execute_noted<C, N>(
    command: C,
    app: App,
    options: CommandOptions,
    notes: &NoteBudget,
    note: impl FnOnce(&C, &C::Rejection) -> N,
) -> Result<CommandAnswer, Problem>
where
    C: Command<Rejection: Serialize> + Clone + Serialize,
    N: Command + Serialize,
{
    let (copy, of_note) = (command.clone(), options.of_note(&command));
    let result = options.apply(app.execute(command)).await;
    let noted = match &result {
        Err(ExecuteError::Rejected(rejection)) => {
            Some(of_note.record(&app, notes, &copy, rejection, note).await)
        }
        _ => None,
    };
    match (result, noted) {
        (Ok(receipt), _) => Ok(options.answer(receipt).await),
        (Err(error), Some(noted)) => Err(noted.add_to(error.into())),
        (Err(error), None) => Err(options.problem(error.into())),
    }
}

impl CommandOptions {
    /// The options of a note about this command. They have the command's key; the note's own key
    /// is derived from it.
    fn of_note(&self, command: &impl Command) -> CommandOptions {
        let ExecuteOptions { key, actor, extra, occurred_at, correlation, causation, .. } =
            self.execute.clone();
        // The note itself has no instant, but the rejected command may have one.
        let occurred_at = occurred_at.or_else(|| command.occurred_at());
        let none = ExecuteOptions::default();
        let execute =
            ExecuteOptions { key, actor, extra, occurred_at, correlation, causation, ..none };
        CommandOptions { caller: self.caller.clone(), execute, after: None }
    }

    /// Records that this command was rejected. A repeat whose note exists writes nothing, so it
    /// needs no share of the budget.
    async fn record<C, N>(
        self,
        app: &App,
        notes: &NoteBudget,
        command: &C,
        rejection: &C::Rejection,
        note: impl FnOnce(&C, &C::Rejection) -> N,
    ) -> NoteOutcome
    where
        C: Command<Rejection: Serialize> + Serialize,
        N: Command + Serialize,
    {
        if let Some(key) = &self.execute.key {
            match app.note_under(key, command, rejection).await {
                Ok(Some(_)) => return NoteOutcome::Durable,
                // A rejection without a key is refused below.
                Ok(None) | Err(CommandError::Invalid(_)) => {}
                Err(error) => return NoteOutcome::Unknown { kind: Problem::from(error).word() },
            }
        }
        let note = catch_unwind(AssertUnwindSafe(|| {
            let note = note(command, rejection);
            let bytes = self.note_bytes(&note);
            (note, bytes)
        }));
        let Ok((note, bytes)) = note else {
            tracing::error!(command = type_name::<C>(), "the note of a rejection panicked");
            return NoteOutcome::Absent { kind: "mistake" };
        };
        let caller = self.caller.actor.as_deref().unwrap_or_default();
        let share = match notes.take(caller, bytes, Instant::now()) {
            Ok(share) => share,
            Err(SpentBudget { limit, is_first }) => {
                if is_first {
                    tracing::warn!(caller, limit, "rejections are not recorded: the limit is met");
                }
                return NoteOutcome::Absent { kind: Code::Busy.word() };
            }
        };
        let execute = app.execute(note);
        let ExecuteOptions { key, .. } = &self.execute;
        let execute = match key {
            Some(key) => execute.note_of(key, command, rejection),
            None => execute,
        };
        let own = ExecuteOptions { key: None, ..self.execute.clone() };
        match execute.options(&own).await {
            Ok(receipt) => {
                if receipt.is_empty() {
                    notes.give_back(&share);
                }
                NoteOutcome::Durable
            }
            Err(error) => {
                let command = type_name::<C>();
                tracing::error!(command, %error, "a rejection could not be recorded");
                let is_unknown =
                    matches!(error, ExecuteError::Failed(CommandError::OutcomeUnknown(_)));
                let kind = Problem::of_command(error, |_| Value::Null).word();
                match is_unknown {
                    true => NoteOutcome::Unknown { kind },
                    false => {
                        notes.give_back(&share);
                        NoteOutcome::Absent { kind }
                    }
                }
            }
        }
    }

    /// The bytes of a note and its metadata, as far as they are known before its events are;
    /// `None` if the note cannot be JSON.
    fn note_bytes(&self, note: &impl Serialize) -> Option<usize> {
        let note = serde_json::to_vec(note).ok()?.len();
        let actor = self.caller.actor.as_ref().map_or(0, String::len);
        let claims = self.caller.claims.iter().map(|(name, value)| name.len() + value.len());
        Some(note + actor + claims.sum::<usize>())
    }
}

/// Whether a rejection was recorded.
enum NoteOutcome {
    Durable,
    Absent {
        /// The kind of the problem that stopped the note.
        kind: &'static str,
    },
    /// The note was accepted, but is not known to be durable.
    Unknown {
        kind: &'static str,
    },
}

impl NoteOutcome {
    /// Adds the outcome to the problem with the rejection.
    fn add_to(self, problem: Problem) -> Problem {
        let (noted, kind) = match self {
            NoteOutcome::Durable => return problem.and("noted", true),
            NoteOutcome::Absent { kind } => (Value::Bool(false), kind),
            NoteOutcome::Unknown { kind } => (Value::Null, kind),
        };
        problem.and("noted", noted).and("note_problem", format!("urn:diptych:{kind}"))
    }
}
