use std::{env, error::Error, time::Duration};

use diptych::{
    App, Command, DecisionContext, Event, Filter, Fold, LogOptions, Query, Recorded, Tag,
    log::{Access, ScrubSchedule},
};
use diptych_server::{Caller, Denial, Metrics, Operation, Server, ServerLimits, Visit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// A parcel arrived.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event("parcel-arrived")]
struct Arrived {
    #[tag]
    parcel: String,
}

#[derive(Clone, Default)]
struct Depot(u64);

impl Fold for Depot {
    type Event = Arrived;

    fn apply(&mut self, _: &Recorded<Arrived>) {
        self.0 += 1;
    }
}

#[derive(Debug, thiserror::Error, Serialize, JsonSchema)]
#[error("the parcel is there")]
struct IsThere {}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bring {
    parcel: String,
}

impl Command for Bring {
    type State = Depot;
    type Event = Arrived;
    type Rejection = IsThere;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("parcel", &self.parcel))
    }

    fn decide(&self, depot: &Depot, _: &DecisionContext) -> Result<Vec<Arrived>, IsThere> {
        match depot.0 {
            0 => Ok(vec![Arrived { parcel: self.parcel.clone() }]),
            _ => Err(IsThere {}),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct HowMany {}

impl Query for HowMany {
    type View = Depot;
    type Answer = u64;

    fn answer(&self, depot: &Depot) -> u64 {
        depot.0
    }
}

/// The proxy in front has checked who the user is, and sets this header on each request. It removes
/// the header if a client sends it.
async fn admit(visit: Visit) -> Result<Caller, Denial> {
    let user = visit.headers.get("x-user").and_then(|user| user.to_str().ok());
    let Some(user) = user else { return Err(Denial::unknown("log in first", "Bearer")) };
    match visit.operation {
        // The status, the metrics, and questions about the past.
        Operation::Status | Operation::Past(_) if user != "operator" => {
            Err(Denial::forbidden("this is for operators"))
        }
        _ => Ok(Caller::named(user)),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // warnings of the log, and views that stop
    let metrics = Metrics::install()?; // before the app is started

    let scrub = ScrubSchedule { every: Duration::from_secs(24 * 3_600), bytes_per_second: 8 << 20 };
    let options = LogOptions {
        access: Access::Append, // never start on a backup by mistake
        scrub: Some(scrub),     // read every byte once a day, and compare the checksums
        ..LogOptions::default()
    };
    let folder = env::var("DATA").map_err(|_| "set DATA to the folder of the log")?;
    let app = App::open_with(folder, options)?
        .strict() // do not start if the log has events that this program does not know
        .view::<Depot>()
        .require_views() // do not start with a view that stands still
        .start()
        .await?;

    let mut limits = ServerLimits::default();
    limits.body_bytes = 64 << 10;
    // The proxy is the only peer, so a peer may use everything.
    limits.peer_requests = limits.requests;
    limits.peer_streams = limits.streams;
    limits.peer_connections = limits.connections;

    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("the depot is at http://{}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let until_stopped = async move {
        terminate.recv().await;
    };
    Server::new(app.clone())
        .title("Depot", env!("CARGO_PKG_VERSION"))
        .command::<Bring>("bring-parcel")
        .live_query::<HowMany>("how-many")
        .host("depot.example.org")
        .admit(admit)
        .limits(limits)
        .metrics(metrics)
        .serve(listener, until_stopped)
        .await?;
    Ok(app.stop().await?)
}
