//! Both panels over HTTP, and the page: one line for each command and query.

use diptych::{App, Timestamp};
use diptych_server::{Caller, CommandRoute, Denial, Server, Visit};
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
        AllNames, DelayByHour, DelayByWeather, DepartureBoard, FlightCard, FlightDays, PlaneDay,
        PunctualityByAirline, RecentHappenings, RefusalsByRule, RouteRanking, VISITOR,
    },
};

/// What the app can be asked over HTTP, and the page that asks it; to be served.
///
/// What a rule refuses is told to whoever asked, and goes on record.
///
/// Commands have the actor [`VISITOR`], so that the time of the demo stays that of its files.
pub fn server(app: App) -> Server {
    let clock = app.clone();
    let server = Server::new(app)
        .title("Flights of New York, 2013", env!("CARGO_PKG_VERSION"))
        .command(recorded::<ScheduleFlight>("schedule-flight"))
        .command(recorded::<DepartFlight>("depart-flight"))
        .command(recorded::<CancelFlight>("cancel-flight"))
        .command(recorded::<LandFlight>("land-flight"))
        .command(recorded::<DivertFlight>("divert-flight"))
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
        .admit(move |visit| admit(clock.clone(), visit));
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

/// Lets all in who say nothing impossible about when a command was so.
async fn admit(app: App, visit: Visit) -> Result<Caller, Denial> {
    if let Some(said) = visit.headers.get(OCCURRED_AT) {
        // Text that is no instant is told with the command.
        let said = said.to_str().ok().and_then(|text| text.parse::<Timestamp>().ok());
        if let Some(at) = said {
            check_instant(&app, at).await?;
        }
    }
    Ok(Caller::named(VISITOR))
}

const OCCURRED_AT: &str = "diptych-occurred-at";

async fn check_instant(app: &App, at: Timestamp) -> Result<(), Denial> {
    // Without a view of what happened there is nothing to compare with.
    let Ok(known) = app.query(FlightDays {}).await else { return Ok(()) };
    let Some((first, last)) = known.value else { return Ok(()) };
    let (first, last) = (first.plus(-AROUND_DAYS), last.plus(AROUND_DAYS));
    if (first..=last).contains(&Day::of(at)) {
        return Ok(());
    }
    Err(Denial::forbidden(format!(
        "Diptych-Occurred-At is {at}, far from these flights: give an instant from {first} to \
         {last}, or leave the header out, for each command says when it was so"
    )))
}

/// What visitors say was so at most this many days before or after all that is known.
const AROUND_DAYS: i32 = 8;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! page {
    ($($path:literal $file:literal $content_type:ident)*) => {
        /// The page: path, content type and bytes of each of its files.
        const PAGE: &[(&str, &str, &[u8])] = &[$(
            ($path, $content_type, include_bytes!(concat!("../page/", $file))),
        )*];
    };
}

page! {
    "/" "index.html" HTML
    "/api.js" "api.js" SCRIPT
    "/board.js" "board.js" SCRIPT
    "/card.js" "card.js" SCRIPT
    "/chart.js" "chart.js" SCRIPT
    "/diptych.js" "diptych.js" SCRIPT
    "/dom.js" "dom.js" SCRIPT
    "/favicon.svg" "favicon.svg" SVG
    "/form.js" "form.js" SCRIPT
    "/main.js" "main.js" SCRIPT
    "/page.css" "page.css" CSS
    "/pictures.js" "pictures.js" SCRIPT
    "/plane.js" "plane.js" SCRIPT
    "/rest.js" "rest.js" SCRIPT
    "/stream.js" "stream.js" SCRIPT
    "/theme.js" "theme.js" SCRIPT
    "/time.js" "time.js" SCRIPT
    "/words.js" "words.js" SCRIPT
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    /// A module that is not served is missed by whoever opens the page, and by nobody else.
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
}
