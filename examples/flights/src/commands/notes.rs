//! Commands that record the outcome of other commands, and the progress of loading files.

use std::convert::Infallible;

use compact_str::CompactString;
use diptych::{Command, DecisionContext, Invalid, Timestamp, command::Folds};
use serde::Serialize;

use super::{FlightCommand, Refusal};
use crate::{
    events::{CommandRefused, Happening, SourceLoaded, SourceOpened},
    ids::FlightId,
};

/// A command whose refusal is recorded as an event, in place of its own events.
///
/// So every outcome is one commit under the command's key. If a load is interrupted and run again,
/// it leaves the same log as a load without an interruption. A plain command that is refused
/// commits nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnRecord<C>(pub C);

impl<C: FlightCommand> Command for OnRecord<C> {
    type State = C::State;
    type Event = Happening;
    type Rejection = Infallible;

    fn boundary(&self) -> <C::State as Folds>::Boundary {
        self.0.boundary()
    }

    fn validate(&self) -> Result<(), Invalid> {
        self.0.validate()
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        self.0.occurred_at()
    }

    fn decide(
        &self,
        state: <C::State as Folds>::Ref<'_>,
        context: &DecisionContext,
    ) -> Result<Vec<Happening>, Infallible> {
        Ok(match self.0.decide(state, context) {
            Ok(events) => events.into_iter().map(Into::into).collect(),
            Err(refusal) => vec![NoteRefusal::of(&self.0, &refusal).fact().into()],
        })
    }
}

/// Records that a command was refused. The client already got the refusal as its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteRefusal {
    /// The flight of the command.
    pub flight: FlightId,
    /// Name of the command, such as `depart-flight`.
    pub command: CompactString,
    /// Name of the rule, such as `plane-in-the-air`.
    pub rule: CompactString,
    /// The reason, for people.
    pub reason: String,
}

impl NoteRefusal {
    /// Builds the record of a refusal from the command and its answer.
    pub fn of<C: FlightCommand>(command: &C, refusal: &Refusal) -> NoteRefusal {
        NoteRefusal {
            flight: command.flight(),
            command: CompactString::const_new(C::NAME),
            rule: CompactString::const_new(refusal.rule()),
            reason: refusal.to_string(),
        }
    }

    fn fact(&self) -> CommandRefused {
        let NoteRefusal { flight, command, rule, reason } = self.clone();
        CommandRefused { flight, board: flight.board(), command, rule, reason }
    }
}

impl Command for NoteRefusal {
    type State = ();
    type Event = CommandRefused;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<CommandRefused>, Infallible> {
        Ok(vec![self.fact()])
    }
}

/// Records the days that a file covers, before any command of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteOpened(pub SourceOpened);

impl Command for NoteOpened {
    type State = ();
    type Event = SourceOpened;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<SourceOpened>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}

/// Records that a whole file was loaded, so that a later load need not look up each command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteLoaded(pub SourceLoaded);

impl Command for NoteLoaded {
    type State = ();
    type Event = SourceLoaded;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<SourceLoaded>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}
