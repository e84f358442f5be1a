//! The left panel: what can be asked for, and the rules that decide.
//!
//! A flight is scheduled once, on a day that the files are about. Only a scheduled flight departs
//! or is cancelled, and only a departed one lands or is diverted: rules about one flight. And a
//! plane that is in the air cannot depart: a rule about a plane, whatever flights it is on. So to
//! depart, a flight has a boundary of two tags, its own and its plane's.

mod facts;
mod flights;
mod noted;
mod refusal;
mod state;
#[cfg(test)]
mod tests;

use diptych::Command;

pub use facts::{NameAirline, NameAirport, ObserveWeather, RegisterPlane};
pub(crate) use flights::ABOUT_ITS_DAY;
pub use flights::{CancelFlight, DepartFlight, DivertFlight, LandFlight, ScheduleFlight};
pub use noted::{NoteLoaded, NoteOpened, NoteRefusal, OnRecord};
pub use refusal::Refusal;
pub use state::{Flight, InTheAir, Known, Season, Status};

use crate::{events::Happening, ids::FlightId};

/// A command about one flight, which a rule may refuse.
pub trait FlightCommand: Command<Event: Into<Happening>, Rejection = Refusal> {
    /// As it is called from outside.
    const NAME: &'static str;

    /// The flight that it is about.
    fn flight(&self) -> FlightId;
}
