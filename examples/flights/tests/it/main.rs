//! The flights from outside: real rows, through real commands, into a real log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod answers;
mod damaged;
mod january;
mod report;
mod resumed;
mod scopes;
mod season;

use std::path::Path;

use diptych::{App, Timestamp};
use example_flights::{
    AppOptions, app,
    load::{LoadOptions, Loaded, Progress, load},
    plan::Plan,
    source::Source,
};
use tokio::sync::watch;

/// The first days of January: enough of everything.
fn first_days() -> Plan {
    Source::january().plan().unwrap().until(at("2013-01-04T00:00:00Z"))
}

fn at(instant: &str) -> Timestamp {
    instant.parse().unwrap()
}

/// The app over this folder, without snapshots.
async fn started(folder: &Path) -> App {
    app(folder, AppOptions { snapshots: None }).unwrap().start().await.unwrap()
}

/// Loads all of a plan.
async fn loaded(app: &App, plan: &Plan) -> Loaded {
    loaded_with(app, plan, LoadOptions::default()).await
}

async fn loaded_with(app: &App, plan: &Plan, options: LoadOptions) -> Loaded {
    let (progress, _) = watch::channel(Progress::default());
    load(app, plan, options, &progress, std::future::pending()).await.unwrap()
}
