use diptych::{
    Filter, Fold, Metadata, Query, Timestamp,
    testing::{Given, check_determinism, nothing_given},
};

use super::*;
use crate::{
    events::{
        AirlineNamed, FlightCancelled, FlightDeparted, FlightLanded, FlightScheduled, Happening,
        Weather, WeatherObserved,
    },
    ids::{Airport, FlightId, Plane},
};

fn at(instant: &str) -> Metadata {
    let occurred_at: Timestamp = format!("2013-01-01T{instant}:00Z").parse().unwrap();
    Metadata { occurred_at: Some(occurred_at), ..Metadata::default() }
}

fn flight(number: u16) -> FlightId {
    format!("UA{number}-EWR-2013-01-01").parse().unwrap()
}

fn destination() -> Airport {
    "IAH".parse().unwrap()
}

fn plane() -> Option<Plane> {
    Some("N14228".parse().unwrap())
}

fn scheduled(number: u16) -> Happening {
    let (flight, board) = (flight(number), flight(number).board());
    let departs_at = "2013-01-01T10:00:00Z".parse().unwrap();
    let (destination, plane) = (destination(), plane());
    let distance_miles = Some(1400);
    FlightScheduled { flight, board, departs_at, destination, plane, distance_miles }.into()
}

fn departed(number: u16, delay_minutes: i32) -> Happening {
    let (flight, board) = (flight(number), flight(number).board());
    let (plane, destination) = (plane(), destination());
    FlightDeparted { flight, board, plane, destination, delay_minutes }.into()
}

fn landed(number: u16, arrival_delay_minutes: Option<i32>) -> Happening {
    let (flight, board) = (flight(number), flight(number).board());
    let (plane, destination) = (plane(), destination());
    let air_minutes = 200;
    FlightLanded { flight, board, plane, destination, air_minutes, arrival_delay_minutes }.into()
}

fn cancelled(number: u16) -> Happening {
    let (flight, board) = (flight(number), flight(number).board());
    FlightCancelled { flight, board, destination: destination() }.into()
}

fn observed(wind_mph: f64) -> Happening {
    let weather = Weather { wind_mph: Some(wind_mph), ..Weather::default() };
    WeatherObserved { airport: "EWR".parse().unwrap(), weather }.into()
}

/// No events yet. Events that are added are recorded years after the flights, as in the demo.
fn loaded_later() -> Given {
    nothing_given().at("2026-01-01T00:00:00Z".parse().unwrap())
}

/// Events in this order, each with its time.
fn happened<const N: usize>(events: [(&str, Happening); N]) -> Given {
    events.into_iter().fold(loaded_later(), |given, (instant, event)| {
        given.with_metadata(at(instant)).and([event])
    })
}

fn view<V: Fold>(given: Given) -> V {
    given.state(Filter::everything())
}

#[test]
fn the_same_events_give_the_same_views() {
    let named = AirlineNamed { airline: "UA".parse().unwrap(), name: "United".to_owned() };
    let events = || {
        let mut events = vec![observed(3.0), named.clone().into(), scheduled(1), scheduled(2)];
        events.extend([departed(1, 5), cancelled(2), observed(30.0), landed(1, Some(20))]);
        events
    };
    check_determinism::<Board>(events());
    check_determinism::<Happenings>(events());
    check_determinism::<Names>(events());
    check_determinism::<Planes>(events());
    check_determinism::<Punctuality>(events());
    check_determinism::<Refusals>(events());
    check_determinism::<Routes>(events());
    check_determinism::<WeatherDelay>(events());
}

#[test]
fn weather_and_departures_are_joined_in_either_order() {
    let orders = [
        happened([("10:00", observed(7.0)), ("10:05", departed(1, 5)), ("10:15", departed(2, 15))]),
        happened([("10:05", departed(1, 5)), ("10:00", observed(7.0)), ("10:15", departed(2, 15))]),
        // A later correction.
        happened([
            ("10:00", observed(30.0)),
            ("10:05", departed(1, 5)),
            ("10:15", departed(2, 15)),
            ("10:00", observed(7.0)),
        ]),
    ];
    for order in orders {
        let delays: WeatherDelay = view(order);
        let wind = DelayByWeather {}.answer(&delays).wind;
        assert_eq!((wind[1].departed, wind[1].mean_delay_minutes), (2, Some(10.0)));
        assert_eq!(wind.iter().map(|of| of.departed).sum::<u64>(), 2);
        let (airport, day) = ("EWR".parse().unwrap(), flight(1).day());
        let hour = DelayByHour { airport, day }.answer(&delays).hours.remove(10);
        assert_eq!((hour.departed, hour.weather.wind_mph), (2, Some(7.0)));
    }
}

#[test]
fn events_of_a_flight_may_come_in_any_order() {
    let orders = [
        happened([("01:00", scheduled(1)), ("10:05", departed(1, 5)), ("13:25", landed(1, None))]),
        happened([("13:25", landed(1, None)), ("10:05", departed(1, 5)), ("01:00", scheduled(1))]),
    ];
    let [one, other] = orders.map(view::<Board>);
    assert_eq!(one, other);
    let card = FlightCard { flight: flight(1) }.answer(&one).unwrap();
    assert_eq!(card.row.status, crate::commands::Status::Landed);
    // The board shows nothing before the entry in the timetable is known.
    let board: Board = view(happened([("10:05", departed(1, 5))]));
    assert_eq!(FlightCard { flight: flight(1) }.answer(&board), None);
}

/// Regression test: an event without an instant, or of the year 9000, moved the demo's clock, and
/// all visitors saw an empty board. Logs that contain such events must recover too.
#[test]
fn only_past_events_from_files_move_the_clock() {
    let far = || Metadata {
        occurred_at: Some("9000-01-01T10:00:00Z".parse().unwrap()),
        ..Metadata::default()
    };
    let visitor = || Metadata { actor: Some(VISITOR.into()), ..at("23:00") };
    let files = || happened([("01:00", scheduled(1)), ("10:05", departed(1, 5))]);
    let orders: [&dyn Fn() -> Given; 4] = [
        &|| files().with_metadata(far()).and([scheduled(2)]),
        // Without an instant, an event occurs when it is recorded.
        &|| files().with_metadata(Metadata::default()).and([scheduled(2)]),
        &|| files().with_metadata(visitor()).and([scheduled(2)]),
        &|| {
            let far_first = loaded_later().with_metadata(far()).and([scheduled(2)]);
            let then = far_first.with_metadata(at("01:00")).and([scheduled(1)]);
            then.with_metadata(at("10:05")).and([departed(1, 5)])
        },
    ];
    let now = at("10:05").occurred_at;
    for order in orders {
        let board: Board = view(order());
        let shown = DepartureBoard { airport: "EWR".parse().unwrap(), at: None }.answer(&board);
        assert_eq!((shown.at, shown.rows.len()), (now, 2));
        let happenings: Happenings = view(order());
        let answer = RecentHappenings {}.answer(&happenings);
        assert_eq!((answer.first, answer.last), (at("01:00").occurred_at, now));
        assert_eq!(answer.accepted, 3);
    }
}

/// In UTC, an evening in New York belongs to the next day.
#[test]
fn a_planes_day_is_the_local_day_of_its_flights() {
    let metadata = Metadata {
        occurred_at: Some("2013-01-02T02:30:00Z".parse().unwrap()),
        ..Metadata::default()
    };
    let planes: Planes = view(loaded_later().with_metadata(metadata).and([departed(1, 5)]));
    let legs = |day: &str| {
        PlaneDay { plane: plane().unwrap(), day: day.parse().unwrap() }.answer(&planes).legs.len()
    };
    assert_eq!((legs("2013-01-01"), legs("2013-01-02")), (1, 0));
}

#[test]
fn a_recent_happening_has_the_position_of_its_event() {
    let events = happened([("01:00", scheduled(1)), ("10:05", departed(1, 104))]);
    let happenings: Happenings = view(events);
    let recent = RecentHappenings {}.answer(&happenings).recent;
    let positions: Vec<_> = recent.iter().map(|item| item.position).collect();
    assert_eq!(positions, [2, 1]);
    assert_eq!(recent[0].text, "left for IAH, 1 h 44 min late");
}

#[test]
fn arrivals_count_in_bars_and_means_are_rounded_to_tenths() {
    let delays = [-16, -15, 0, 1, 14, 15, 30, 60, 120];
    let events = delays.map(|delay| ("13:25", landed(1, Some(delay))));
    let punctuality: Punctuality = view(happened(events).and([scheduled(1), landed(1, None)]));
    let of = PunctualityByAirline {}.answer(&punctuality).airlines.remove(0);
    assert_eq!(of.arrivals_by_delay, [1, 2, 2, 1, 1, 1, 1]);
    assert_eq!((of.landed, of.on_time), (10, 5));
    // 209 minutes over nine flights.
    assert_eq!(of.mean_arrival_delay_minutes, Some(23.2));
    let mut early = Minutes::default();
    [-1, -1, -2].into_iter().for_each(|minutes| early.add(minutes));
    assert_eq!(early.mean(), Some(-1.3));
    assert_eq!(Minutes::default().mean(), None);
}
