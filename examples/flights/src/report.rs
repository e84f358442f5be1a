//! The right panel as tables: flights by day, airline and origin, for any tool that reads SQL.

use diptych::Recorded;
use diptych_sqlite::{Projection, Result, Transaction};

use crate::{events::Happening, ids::FlightId};

/// The projection `flights`: one row for each day, airline and origin. The day is the day in the
/// timetable, so all events of a flight update the same row.
#[derive(Clone, Copy, Debug)]
pub struct FlightsByDay;

impl FlightsByDay {
    /// Name of the projection in the app.
    pub const NAME: &'static str = "flights";
}

const CREATE: &str = "
    CREATE TABLE flights_by_day (
        day TEXT NOT NULL,
        airline TEXT NOT NULL,
        origin TEXT NOT NULL,
        scheduled INTEGER NOT NULL DEFAULT 0,
        departed INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        landed INTEGER NOT NULL DEFAULT 0,
        diverted INTEGER NOT NULL DEFAULT 0,
        departure_delay_minutes INTEGER NOT NULL DEFAULT 0, -- of all that departed
        arrivals_timed INTEGER NOT NULL DEFAULT 0, -- landed, and it is known how late
        arrival_delay_minutes INTEGER NOT NULL DEFAULT 0, -- of those
        PRIMARY KEY (day, airline, origin)
    ) WITHOUT ROWID;";

const SCHEDULED: &str = "
    INSERT INTO flights_by_day (day, airline, origin, scheduled) VALUES (?1, ?2, ?3, 1)
    ON CONFLICT DO UPDATE SET scheduled = scheduled + 1";
const DEPARTED: &str = "
    UPDATE flights_by_day
    SET departed = departed + 1, departure_delay_minutes = departure_delay_minutes + ?4
    WHERE day = ?1 AND airline = ?2 AND origin = ?3";
const CANCELLED: &str = "
    UPDATE flights_by_day SET cancelled = cancelled + 1
    WHERE day = ?1 AND airline = ?2 AND origin = ?3";
const LANDED: &str = "
    UPDATE flights_by_day
    SET landed = landed + 1, arrivals_timed = arrivals_timed + (?4 IS NOT NULL),
        arrival_delay_minutes = arrival_delay_minutes + ifnull(?4, 0)
    WHERE day = ?1 AND airline = ?2 AND origin = ?3";
const DIVERTED: &str = "
    UPDATE flights_by_day SET diverted = diverted + 1
    WHERE day = ?1 AND airline = ?2 AND origin = ?3";

impl Projection for FlightsByDay {
    type Event = Happening;

    fn name(&self) -> &str {
        FlightsByDay::NAME
    }

    fn create(&self, tx: &Transaction<'_>) -> Result {
        tx.execute_batch(CREATE)?;
        Ok(())
    }

    /// Only a scheduled flight inserts a row, because scheduling precedes all other events of a
    /// flight.
    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Happening>) -> Result {
        match &event.event {
            Happening::Scheduled(of) => count(tx, SCHEDULED, of.flight),
            Happening::Departed(of) => {
                count_minutes(tx, DEPARTED, of.flight, Some(of.delay_minutes))
            }
            Happening::Cancelled(of) => count(tx, CANCELLED, of.flight),
            Happening::Landed(of) => count_minutes(tx, LANDED, of.flight, of.arrival_delay_minutes),
            Happening::Diverted(of) => count(tx, DIVERTED, of.flight),
            _ => Ok(()),
        }
    }
}

fn count(tx: &Transaction<'_>, sql: &str, flight: FlightId) -> Result {
    let day = compact_str::format_compact!("{}", flight.day());
    let (airline, origin) = (flight.airline(), flight.origin());
    tx.prepare_cached(sql)?.execute((day.as_str(), airline.as_str(), origin.as_str()))?;
    Ok(())
}

fn count_minutes(
    tx: &Transaction<'_>,
    sql: &str,
    flight: FlightId,
    minutes: Option<i32>,
) -> Result {
    let day = compact_str::format_compact!("{}", flight.day());
    let (airline, origin) = (flight.airline(), flight.origin());
    let row = (day.as_str(), airline.as_str(), origin.as_str(), minutes);
    tx.prepare_cached(sql)?.execute(row)?;
    Ok(())
}
