//! The catalogue of both panels, their routes over HTTP, and the page. Each command and each query
//! takes one line.

use diptych::{
    App, Timestamp,
    catalogue::{Catalogue, WithSchemas},
    poster::Poster,
};
use diptych_server::{Caller, CommandRoute, Denial, QueryRoute, Server, Visit};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    commands::{
        CancelFlight, DepartFlight, DivertFlight, FlightCommand, LandFlight, NoteRefusal,
        ScheduleFlight,
    },
    events::{
        AirlineNamed, AirportNamed, CommandRefused, FlightCancelled, FlightDeparted,
        FlightDiverted, FlightLanded, FlightScheduled, PlaneRegistered, SourceLoaded, SourceOpened,
        WeatherObserved,
    },
    ids::Day,
    views::{
        AllNames, Board, DelayByHour, DelayByWeather, DepartureBoard, FlightCard, FlightDays,
        Happenings, Names, PlaneDay, Planes, Punctuality, PunctualityByAirline, RecentHappenings,
        Refusals, RefusalsByRule, RouteRanking, Routes, VISITOR, WeatherDelay,
    },
};

/// The commands, queries, events and views of the demo, by their names.
pub fn catalogue() -> Catalogue<WithSchemas> {
    Catalogue::with_schemas()
        .command::<ScheduleFlight>("schedule-flight")
        .command::<DepartFlight>("depart-flight")
        .command::<CancelFlight>("cancel-flight")
        .command::<LandFlight>("land-flight")
        .command::<DivertFlight>("divert-flight")
        .live_query::<DepartureBoard>("departure-board")
        .live_query::<FlightCard>("flight-card")
        .live_query::<PunctualityByAirline>("punctuality")
        .live_query::<RouteRanking>("routes")
        .live_query::<PlaneDay>("plane-day")
        .live_query::<DelayByHour>("delay-by-hour")
        .live_query::<DelayByWeather>("delay-by-weather")
        .live_query::<RefusalsByRule>("refusals")
        .live_query::<RecentHappenings>("happenings")
        .live_query::<AllNames>("names")
        .event::<FlightScheduled>()
        .event::<FlightDeparted>()
        .event::<FlightCancelled>()
        .event::<FlightLanded>()
        .event::<FlightDiverted>()
        .event::<CommandRefused>()
        .event::<WeatherObserved>()
        .event::<AirlineNamed>()
        .event::<AirportNamed>()
        .event::<PlaneRegistered>()
        .event::<SourceOpened>()
        .event::<SourceLoaded>()
        .view::<Board>()
        .view::<Punctuality>()
        .view::<Routes>()
        .view::<Planes>()
        .view::<WeatherDelay>()
        .view::<Refusals>()
        .view::<Happenings>()
        .view::<Names>()
}

/// Builds a server with all commands and queries of the catalogue, and with the page.
///
/// If a rule refuses a command, the client gets the reason, and an event records the refusal.
///
/// Commands from clients have the actor [`VISITOR`], so that they do not move the demo's clock.
pub fn server(app: App) -> Server {
    let clock = app.clone();
    with_page(Server::new(app))
        .command(recorded::<ScheduleFlight>("schedule-flight"))
        .command(recorded::<DepartFlight>("depart-flight"))
        .command(recorded::<CancelFlight>("cancel-flight"))
        .command(recorded::<LandFlight>("land-flight"))
        .command(recorded::<DivertFlight>("divert-flight"))
        .admit(move |visit| admit(clock.clone(), visit))
}

/// Builds a server with all queries of the catalogue and with the page, for a poster of the demo.
/// Its commands go to the [owner](Server::owner) that the program names.
pub fn poster(poster: Poster) -> Server {
    with_page(Server::poster(poster))
}

fn with_page(server: Server) -> Server {
    let server = server
        .title("Flights of New York, 2013", env!("CARGO_PKG_VERSION"))
        .query(QueryRoute::<FlightCard>::new("flight-card").explained());
    PAGE.iter()
        .fold(server, |server, (path, content_type, bytes)| server.file(path, content_type, bytes))
}

/// The route of a command whose rejections are recorded.
fn recorded<C>(name: &str) -> CommandRoute<C>
where
    C: FlightCommand + Clone + DeserializeOwned + Serialize + JsonSchema,
{
    CommandRoute::new(name).record_rejections(NoteRefusal::of)
}

/// Admits every request, unless its `Diptych-Occurred-At` is far from the flights.
async fn admit(app: App, visit: Visit) -> Result<Caller, Denial> {
    if let Some(said) = visit.headers.get(OCCURRED_AT) {
        // The command itself reports text that is not an instant.
        let said = said.to_str().ok().and_then(|text| text.parse::<Timestamp>().ok());
        if let Some(at) = said {
            check_instant(&app, at).await?;
        }
    }
    Ok(Caller::named(VISITOR))
}

const OCCURRED_AT: &str = "diptych-occurred-at";

async fn check_instant(app: &App, at: Timestamp) -> Result<(), Denial> {
    // If the view cannot answer, the instant cannot be compared with the flights, so it is
    // accepted.
    let Ok(known) = app.query(FlightDays {}).await else { return Ok(()) };
    let Some((first, last)) = known.value else { return Ok(()) };
    let (first, last) = (first.plus(-AROUND_DAYS), last.plus(AROUND_DAYS));
    if (first..=last).contains(&Day::of(at)) {
        return Ok(());
    }
    Err(Denial::forbidden(format!(
        "Diptych-Occurred-At is {at}, far from these flights: give an instant from {first} to \
         {last}, or leave the header out: each command has its own time"
    )))
}

/// The largest distance of a request's `Diptych-Occurred-At` from the loaded flights, in days.
const AROUND_DAYS: i32 = 8;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! page {
    ($($path:literal $file:literal $content_type:ident)*) => {
        /// Path, content type and bytes of each file of the page.
        const PAGE: &[(&str, &str, &[u8])] = &[$(
            ($path, $content_type, include_bytes!(concat!("../page/", $file))),
        )*];
    };
}

page! {
    "/" "index.html" HTML
    "/address.js" "address.js" SCRIPT
    "/api.js" "api.js" SCRIPT
    "/board.js" "board.js" SCRIPT
    "/card.js" "card.js" SCRIPT
    "/chart.js" "chart.js" SCRIPT
    "/clock.js" "clock.js" SCRIPT
    "/diptych.js" "diptych.js" SCRIPT
    "/dom.js" "dom.js" SCRIPT
    "/favicon.svg" "favicon.svg" SVG
    "/feed.js" "feed.js" SCRIPT
    "/fields.js" "fields.js" SCRIPT
    "/form.js" "form.js" SCRIPT
    "/hours.js" "hours.js" SCRIPT
    "/main.js" "main.js" SCRIPT
    "/opening.js" "opening.js" SCRIPT
    "/outcome.js" "outcome.js" SCRIPT
    "/page.css" "page.css" CSS
    "/past.js" "past.js" SCRIPT
    "/pictures.js" "pictures.js" SCRIPT
    "/plane.js" "plane.js" SCRIPT
    "/punctuality.js" "punctuality.js" SCRIPT
    "/refusals.js" "refusals.js" SCRIPT
    "/routes.js" "routes.js" SCRIPT
    "/status.js" "status.js" SCRIPT
    "/suggest.js" "suggest.js" SCRIPT
    "/tabs.js" "tabs.js" SCRIPT
    "/theme.js" "theme.js" SCRIPT
    "/time.js" "time.js" SCRIPT
    "/trip.js" "trip.js" SCRIPT
    "/views.js" "views.js" SCRIPT
    "/weather.js" "weather.js" SCRIPT
    "/words.js" "words.js" SCRIPT
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    /// Only a visitor of the page would notice a module that is not served.
    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let files: BTreeSet<_> = fs::read_dir(folder).unwrap().map(name).collect();
        let served = PAGE.iter().map(|(path, ..)| match *path {
            "/" => "index.html".to_owned(),
            path => path.trim_start_matches('/').to_owned(),
        });
        assert_eq!(served.collect::<BTreeSet<_>>(), files);
    }

    /// A module that only another module names is fetched a round trip later.
    #[test]
    fn the_page_names_all_its_modules_so_that_they_are_fetched_at_once() {
        let html = include_str!("../page/index.html");
        for (path, _, _) in PAGE.iter().filter(|(_, kind, _)| *kind == SCRIPT) {
            let file = path.trim_start_matches('/');
            let named = [
                format!("<link rel=\"modulepreload\" href=\"{file}\">"),
                format!("src=\"{file}\"></script>"),
            ];
            assert!(named.iter().any(|named| html.contains(named)), "{file}");
        }
    }
}
