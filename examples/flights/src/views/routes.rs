//! Routes: traffic and delays between two airports.

use std::{cmp::Reverse, collections::BTreeMap};

use diptych::{Fold, Query, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LATE_MINUTES, Minutes, map_bytes};
use crate::{events::Happening, ids::Airport};

/// Figures of each route, and names of the airports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    routes: BTreeMap<Route, RouteFigures>,
    names: BTreeMap<Airport, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Route {
    origin: Airport,
    destination: Airport,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct RouteFigures {
    departed: u64,
    landed: u64,
    late: u64,
    arrivals: Minutes,
}

impl Fold for Routes {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        match &event.event {
            Happening::Airport(named) => {
                self.names.insert(named.airport, named.name.clone());
            }
            Happening::Departed(departed) => {
                self.route(departed.flight.origin(), departed.destination).departed += 1;
            }
            Happening::Landed(landed) => {
                let route = self.route(landed.flight.origin(), landed.destination);
                route.landed += 1;
                if let Some(delay) = landed.arrival_delay_minutes {
                    route.arrivals.add(delay);
                    route.late += u64::from(delay >= LATE_MINUTES);
                }
            }
            _ => {}
        }
    }

    fn heap_bytes(&self) -> Option<usize> {
        let names: usize = self.names.values().map(String::capacity).sum();
        let routes = map_bytes::<Route, RouteFigures>(self.routes.len());
        Some(names + routes + map_bytes::<Airport, String>(self.names.len()))
    }
}

impl Routes {
    fn route(&mut self, origin: Airport, destination: Airport) -> &mut RouteFigures {
        self.routes.entry(Route { origin, destination }).or_default()
    }
}

/// The first routes in an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRanking {
    /// The order.
    pub order: RouteOrder,
    /// Number of routes; 15 if absent.
    pub top: Option<u32>,
    /// Only routes from this airport.
    pub origin: Option<Airport>,
}

/// Orders of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteOrder {
    /// Most departures first.
    Busiest,
    /// Latest arrivals first. Routes with few landings are left out.
    Latest,
}

/// The first routes in the requested order.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RouteRankingAnswer {
    /// The routes.
    pub routes: Vec<RankedRoute>,
}

/// A route and its figures.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RankedRoute {
    /// Airport of the departure.
    pub origin: Airport,
    /// Destination.
    pub destination: Airport,
    /// Name of the destination, if known.
    pub destination_name: Option<String>,
    /// Number of departures.
    pub departed: u64,
    /// Number of landings.
    pub landed: u64,
    /// Number of landings at least 15 minutes late.
    pub late: u64,
    /// Mean delay of the landings whose delay is known.
    pub mean_arrival_delay_minutes: Option<f64>,
}

impl RouteRanking {
    const TOP: u32 = 15;
    /// With fewer landings, a single bad day would decide the rank of a route.
    const LANDINGS: u64 = 20;
}

impl Query for RouteRanking {
    type View = Routes;
    type Answer = RouteRankingAnswer;

    fn answer(&self, view: &Routes) -> RouteRankingAnswer {
        let asked = |route: &Route| self.origin.is_none_or(|origin| origin == route.origin);
        let mut ranked: Vec<_> = view.routes.iter().filter(|(route, _)| asked(route)).collect();
        match self.order {
            RouteOrder::Busiest => {
                ranked.sort_by_key(|(route, of)| (Reverse(of.departed), **route));
            }
            RouteOrder::Latest => {
                ranked.retain(|(_, of)| of.landed >= RouteRanking::LANDINGS);
                ranked.sort_by_key(|(route, of)| (Reverse(of.arrivals.mean_tenths()), **route));
            }
        }
        let top = self.top.unwrap_or(RouteRanking::TOP) as usize;
        let routes = ranked.into_iter().take(top).map(|(route, of)| RankedRoute {
            origin: route.origin,
            destination: route.destination,
            destination_name: view.names.get(&route.destination).cloned(),
            departed: of.departed,
            landed: of.landed,
            late: of.late,
            mean_arrival_delay_minutes: of.arrivals.mean(),
        });
        RouteRankingAnswer { routes: routes.collect() }
    }
}
