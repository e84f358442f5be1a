use diptych::{
    Metadata, Timestamp,
    testing::{Given, check_determinism, given, nothing_given},
};

use super::*;
use crate::events::{
    AirlineNamed, CommandRefused, FlightCancelled, FlightDeparted, FlightDiverted, FlightEvent,
    FlightLanded, FlightScheduled, PlaneEvent, SourceOpened,
};

const MORNING: &str = "UA1-EWR-2013-01-01";
const NOON: &str = "UA2-EWR-2013-01-01";
const PLANE: &str = "N14228";

fn instant(text: &str) -> Timestamp {
    format!("2013-01-01T{text}:00Z").parse().unwrap()
}

fn schedule(flight: &str) -> ScheduleFlight {
    ScheduleFlight {
        flight: flight.parse().unwrap(),
        departs_at: instant("10:00"),
        destination: "IAH".parse().unwrap(),
        plane: Some(PLANE.parse().unwrap()),
        distance_miles: Some(1400),
    }
}

fn depart(flight: &str, plane: Option<&str>) -> DepartFlight {
    let plane = plane.map(|plane| plane.parse().unwrap());
    DepartFlight { flight: flight.parse().unwrap(), plane, at: instant("10:07") }
}

fn cancel(flight: &str) -> CancelFlight {
    CancelFlight { flight: flight.parse().unwrap(), at: instant("10:00") }
}

fn land(flight: &str) -> LandFlight {
    let (flight, at) = (flight.parse().unwrap(), instant("13:37"));
    LandFlight { flight, at, arrival_delay_minutes: Some(-3) }
}

fn divert(flight: &str) -> DivertFlight {
    DivertFlight { flight: flight.parse().unwrap(), at: instant("14:07") }
}

fn scheduled(flight: &str) -> FlightScheduled {
    let ScheduleFlight { flight, departs_at, destination, plane, distance_miles } =
        schedule(flight);
    let board = flight.board();
    FlightScheduled { flight, board, departs_at, destination, plane, distance_miles }
}

fn departed(flight: &str, plane: Option<&str>) -> FlightDeparted {
    let DepartFlight { flight, plane, .. } = depart(flight, plane);
    let destination = "IAH".parse().unwrap();
    FlightDeparted { flight, board: flight.board(), plane, destination, delay_minutes: 7 }
}

/// A flight in the air since 10:07.
fn in_the_air(flight: &str, plane: Option<&str>) -> Given {
    let occurred_at = Some(instant("10:07"));
    let at = Metadata { occurred_at, ..Metadata::default() };
    given([scheduled(flight)]).with_metadata(at).and([departed(flight, plane)])
}

#[test]
fn a_flight_is_scheduled_once() {
    let once = nothing_given().when(schedule(MORNING)).then([scheduled(MORNING)]);
    let flight = MORNING.parse().unwrap();
    once.when(schedule(MORNING)).then_rejected(Refusal::ScheduledOnce { flight });
}

fn opened(first: &str, last: &str) -> SourceOpened {
    let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
    SourceOpened { source: "flights".to_owned(), first, last }
}

/// Regression test: a flight of the year 9000 was accepted. It became the newest flight, so the
/// boards of all visitors showed its empty day for good.
#[test]
fn a_flight_is_scheduled_within_the_season() {
    let on = |day: &str| {
        let departs_at = format!("{day}T10:00:00Z").parse().unwrap();
        let flight = format!("UA1-EWR-{day}").parse().unwrap();
        ScheduleFlight { flight, departs_at, ..schedule(MORNING) }
    };
    let january = || given([opened("2013-01-01", "2013-01-31")]);
    let (first, last) = ("2013-01-01".parse().unwrap(), "2013-02-07".parse().unwrap());
    for day in ["9000-01-01", "2026-11-26", "2013-02-08", "2012-12-31", "0001-01-01"] {
        let out = on(day);
        let refusal = Refusal::OutOfSeason { flight: out.flight, first, last };
        assert!(refusal.to_string().contains("choose a day"), "{refusal}");
        january().when(out).then_rejected(refusal);
    }
    january().when(schedule(MORNING)).then([scheduled(MORNING)]);
    // A second file extends the season.
    let more = || january().and([opened("2013-06-01", "2013-12-31")]);
    let (first, last) = ("2013-01-01".parse().unwrap(), "2014-01-07".parse().unwrap());
    let out = on("2014-01-08");
    let refusal = Refusal::OutOfSeason { flight: out.flight, first, last };
    more().when(out).then_rejected(refusal);
    assert_eq!(Season::default().beyond("9000-01-01".parse().unwrap()), None);
}

#[test]
fn a_flight_enters_the_timetable_a_day_before_its_departure_by_default() {
    let said = schedule(MORNING).occurred_at();
    assert_eq!(said, Some("2012-12-31T10:00:00Z".parse().unwrap()));
}

#[test]
fn only_a_scheduled_flight_departs_or_is_cancelled() {
    let flight = MORNING.parse().unwrap();
    let refused = |status| Refusal::NotScheduled { flight, status };
    nothing_given().when(depart(MORNING, None)).then_rejected(refused(None));
    nothing_given().when(cancel(MORNING)).then_rejected(refused(None));
    let (board, destination) = (flight.board(), "IAH".parse().unwrap());
    let cancelled = FlightCancelled { flight, board, destination };
    let cancelled = given([scheduled(MORNING)]).when(cancel(MORNING)).then([cancelled]);
    cancelled.when(depart(MORNING, None)).then_rejected(refused(Some(Status::Cancelled)));
    let air = || in_the_air(MORNING, None);
    air().when(cancel(MORNING)).then_rejected(refused(Some(Status::Departed)));
}

#[test]
fn only_a_departed_flight_lands_or_is_diverted() {
    let flight = MORNING.parse().unwrap();
    let refused = |status| Refusal::NotDeparted { flight, status };
    let waiting = || given([scheduled(MORNING)]);
    waiting().when(land(MORNING)).then_rejected(refused(Some(Status::Scheduled)));
    waiting().when(divert(MORNING)).then_rejected(refused(Some(Status::Scheduled)));
    let landed = FlightLanded {
        flight,
        board: flight.board(),
        plane: Some(PLANE.parse().unwrap()),
        destination: "IAH".parse().unwrap(),
        air_minutes: 210,
        arrival_delay_minutes: Some(-3),
    };
    let landed = in_the_air(MORNING, Some(PLANE)).when(land(MORNING)).then([landed]);
    landed.when(divert(MORNING)).then_rejected(refused(Some(Status::Landed)));
}

#[test]
fn a_plane_in_the_air_cannot_depart() {
    let plane = PLANE.parse().unwrap();
    let refused = Refusal::PlaneInTheAir { plane, flight: MORNING.parse().unwrap() };
    let both = || in_the_air(MORNING, Some(PLANE)).and([scheduled(NOON)]);
    both().when(depart(NOON, Some(PLANE))).then_rejected(refused);
    // Another plane can depart, and so can a flight without a tail number.
    both().when(depart(NOON, Some("N1"))).then([departed(NOON, Some("N1"))]);
    both().when(depart(NOON, None)).then([departed(NOON, None)]);
    // After it has landed at any airport, it can depart again.
    let (flight, destination) = (MORNING.parse().unwrap(), "IAH".parse().unwrap());
    let board = crate::ids::FlightId::board(&flight);
    let diverted = FlightDiverted { flight, board, plane: Some(plane), destination };
    let down = both().when(divert(MORNING)).then([diverted]);
    down.when(depart(NOON, Some(PLANE))).then([departed(NOON, Some(PLANE))]);
}

#[test]
fn an_instant_far_from_the_day_of_its_flight_is_invalid() {
    let late =
        ScheduleFlight { departs_at: "2013-01-03T00:00:00Z".parse().unwrap(), ..schedule(MORNING) };
    nothing_given().when(late).then_invalid("departs_at");
    let late = DepartFlight { at: Timestamp::from_micros(i64::MAX), ..depart(MORNING, None) };
    nothing_given().when(late).then_invalid("at");
    let late = LandFlight { arrival_delay_minutes: Some(i32::MIN), ..land(MORNING) };
    nothing_given().when(late).then_invalid("arrival_delay_minutes");
}

#[test]
fn a_refusal_on_record_is_an_event() {
    let flight: crate::ids::FlightId = MORNING.parse().unwrap();
    let refused = CommandRefused {
        flight,
        board: flight.board(),
        command: "land-flight".into(),
        rule: "not-departed".into(),
        reason: "UA1-EWR-2013-01-01 cannot land or be diverted: there is no such flight".into(),
    };
    // Refusals on record do not stop each other.
    let on_record = nothing_given().when(OnRecord(land(MORNING))).with_unseen_events();
    on_record.then([refused.clone().into()]);
    nothing_given().when(OnRecord(schedule(MORNING))).then([scheduled(MORNING).into()]);
    // Both commands record equal events.
    let refusal = Refusal::NotDeparted { flight, status: None };
    nothing_given().when(NoteRefusal::of(&land(MORNING), &refusal)).then([refused]);
}

#[test]
fn a_refusal_in_json_has_the_name_of_its_rule() {
    let (flight, plane): (crate::ids::FlightId, _) =
        (MORNING.parse().unwrap(), PLANE.parse().unwrap());
    for refusal in [
        Refusal::ScheduledOnce { flight },
        Refusal::NotScheduled { flight, status: None },
        Refusal::NotDeparted { flight, status: Some(Status::Landed) },
        Refusal::PlaneInTheAir { plane, flight },
        Refusal::OutOfSeason { flight, first: flight.day(), last: flight.day() },
    ] {
        let json = serde_json::to_value(&refusal).unwrap();
        assert_eq!(json["rule"], refusal.rule());
        assert_eq!(json["flight"], MORNING);
    }
}

#[test]
fn a_known_name_commits_nothing() {
    let named = |name: &str| AirlineNamed { airline: "UA".parse().unwrap(), name: name.to_owned() };
    let hostile = "<script>alert('1')</script>";
    let told = nothing_given().when(NameAirline(named(hostile))).then([named(hostile)]);
    told.when(NameAirline(named(hostile))).then_nothing();
    given([named("United")]).when(NameAirline(named(hostile))).then([named(hostile)]);
}

#[test]
fn the_same_events_give_the_same_states() {
    check_determinism::<Flight>([
        FlightEvent::from(scheduled(MORNING)),
        departed(MORNING, Some(PLANE)).into(),
    ]);
    check_determinism::<AirborneFlight>([PlaneEvent::from(departed(MORNING, Some(PLANE)))]);
    check_determinism::<Season>([opened("2013-01-01", "2013-01-31")]);
}

#[test]
fn an_invalid_command_in_json_names_its_fault() {
    let json = r#"{"flight": "UA1-EWR-2013-01-01", "plane": null, "at": "2013-01-01T10:07:00Z"}"#;
    assert_eq!(serde_json::from_str::<DepartFlight>(json).unwrap(), depart(MORNING, None));
    for (from, to, said) in [
        ("UA1-EWR", "<script>", "is not a flight"),
        ("null", "\"N1 OR 1=1\"", "is not a plane's tail number"),
        ("T10:07:00Z", "", "is not an instant with a zone"),
        ("\"plane\"", "\"crew\"", "unknown field `crew`"),
    ] {
        let error = serde_json::from_str::<DepartFlight>(&json.replace(from, to)).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
