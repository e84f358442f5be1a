//! The left panel: the commands, and the rules that decide about them.
//!
//! A flight is scheduled once, on a day that the files cover. Only a scheduled flight can depart or
//! be cancelled, and only a departed flight can land or be diverted. These are rules about one
//! flight. A plane in the air cannot depart: this is a rule about one plane across all its flights.
//! So the boundary of a departure has two tags, the flight and the plane.

mod facts;
mod flights;
mod notes;
mod refusal;
mod state;
#[cfg(test)]
mod tests;

use diptych::Command;

pub use facts::{NameAirline, NameAirport, ObserveWeather, RegisterPlane};
pub(crate) use flights::ABOUT_ITS_DAY;
pub use flights::{CancelFlight, DepartFlight, DivertFlight, LandFlight, ScheduleFlight};
pub use notes::{NoteLoaded, NoteOpened, NoteRefusal, OnRecord};
pub use refusal::Refusal;
pub use state::{AirborneFlight, Flight, LatestFact, Season, Status};

use crate::{events::Happening, ids::FlightId};

/// A command about one flight, which a rule may refuse.
pub trait FlightCommand: Command<Event: Into<Happening>, Rejection = Refusal> {
    /// The public name of the command.
    const NAME: &'static str;

    /// The flight of the command.
    fn flight(&self) -> FlightId;
}
