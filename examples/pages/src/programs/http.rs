use std::env;

use diptych::{App, Command, DecisionContext, Event, Filter, Fold, Query, Recorded, Tag};
use diptych_server::{Caller, Denial, Metrics, Operation, Server, Visit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// A parcel arrived.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event("parcel-arrived")]
struct Arrived {
    #[tag]
    parcel: String,
}

/// The number of parcels.
#[derive(Clone, Default)]
struct Depot(u64);

impl Fold for Depot {
    type Event = Arrived;

    fn apply(&mut self, _: &Recorded<Arrived>) {
        self.0 += 1;
    }
}

#[derive(Debug, thiserror::Error, Serialize, JsonSchema)]
#[error("the parcel is here")]
struct IsHere {}

/// Brings a parcel.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Bring {
    parcel: String,
}

impl Command for Bring {
    type State = Depot;
    type Event = Arrived;
    type Rejection = IsHere;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("parcel", &self.parcel))
    }

    fn decide(&self, depot: &Depot, _: &DecisionContext) -> Result<Vec<Arrived>, IsHere> {
        match depot.0 {
            0 => Ok(vec![Arrived { parcel: self.parcel.clone() }]),
            _ => Err(IsHere {}),
        }
    }
}

/// How many parcels have arrived.
#[derive(Deserialize, JsonSchema)]
struct HowMany {}

impl Query for HowMany {
    type View = Depot;
    type Answer = u64;

    fn answer(&self, depot: &Depot) -> u64 {
        depot.0
    }
}

/// Names the caller of each request, or refuses it.
async fn admit(visit: Visit) -> Result<Caller, Denial> {
    let user = visit.headers.get("x-user").and_then(|user| user.to_str().ok());
    match (&visit.operation, user) {
        (Operation::Command(_), None) => Err(Denial::unknown("log in first", "Bearer")),
        (_, Some(user)) => Ok(Caller::named(user)),
        (_, None) => Ok(Caller::anonymous()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let metrics = Metrics::install()?; // before the app is started
    let app = App::open("data")?.view::<Depot>().start().await?;
    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("the depot is at http://{}", listener.local_addr()?);
    let until_ctrl_c = async { drop(tokio::signal::ctrl_c().await) };

    Server::new(app.clone())
        .command::<Bring>("bring-parcel")
        .live_query::<HowMany>("how-many")
        .event::<Arrived>()
        .admit(admit)
        .metrics(metrics)
        .serve(listener, until_ctrl_c)
        .await?;
    Ok(app.stop().await?)
}
