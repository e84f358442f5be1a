//! Commands about what came of others, and of files.

use std::convert::Infallible;

use compact_str::CompactString;
use diptych::{Command, Folds, Invalid, Timestamp};
use serde::Serialize;

use super::{FlightCommand, Refusal};
use crate::{
    events::{CommandRefused, Happening, SourceLoaded, SourceOpened},
    ids::FlightId,
};

/// A command of which a refusal goes on record, too: as a fact, in place of what was refused.
///
/// So whatever comes of it is one commit under its key, and a load that was interrupted and goes on
/// leaves the same log as one that was not. A plain command that is refused leaves nothing.
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

    fn decide(&self, state: <C::State as Folds>::Ref<'_>) -> Result<Vec<Happening>, Infallible> {
        Ok(match self.0.decide(state) {
            Ok(events) => events.into_iter().map(Into::into).collect(),
            Err(refusal) => vec![NoteRefusal::of(&self.0, &refusal).fact().into()],
        })
    }
}

/// Puts on record that a command was refused: for whoever was told so already.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteRefusal {
    /// The flight that the command was about.
    pub flight: FlightId,
    /// The command, such as `depart-flight`.
    pub command: CompactString,
    /// The rule, such as `plane-in-the-air`.
    pub rule: CompactString,
    /// Why, for people.
    pub reason: String,
}

impl NoteRefusal {
    /// That this was the answer to this command.
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

    fn decide(&self, (): ()) -> Result<Vec<CommandRefused>, Infallible> {
        Ok(vec![self.fact()])
    }
}

/// Puts on record which days a file is about, before anything of it is taken in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteOpened(pub SourceOpened);

impl Command for NoteOpened {
    type State = ();
    type Event = SourceOpened;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): ()) -> Result<Vec<SourceOpened>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}

/// Puts on record that a whole file was taken in, so that it need not be looked through again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteLoaded(pub SourceLoaded);

impl Command for NoteLoaded {
    type State = ();
    type Event = SourceLoaded;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): ()) -> Result<Vec<SourceLoaded>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}
