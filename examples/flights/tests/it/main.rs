//! The demo domain as its users see it: real rows become real commands on a real log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod answers;
mod faulty_files;
mod interruption;
mod january;
mod report;
mod scopes;
mod season;

use std::path::Path;

use diptych::{App, Timestamp};
use diptych_demo::{
    AppOptions, app,
    load::{LoadOptions, LoadReport, Progress, load},
    plan::Plan,
    source::Source,
};
use tokio::sync::watch;

/// The first days of January, which contain every kind of event.
fn first_days() -> Plan {
    Plan::of(&Source::january()).unwrap().until(at("2013-01-04T00:00:00Z"))
}

fn at(instant: &str) -> Timestamp {
    instant.parse().unwrap()
}

/// Starts the app over this folder, without snapshots.
async fn started(folder: &Path) -> App {
    app(folder, AppOptions { snapshots: None }).unwrap().start().await.unwrap()
}

/// Loads a whole plan.
async fn loaded(app: &App, plan: &Plan) -> LoadReport {
    loaded_with(app, plan, LoadOptions::default()).await
}

async fn loaded_with(app: &App, plan: &Plan, options: LoadOptions) -> LoadReport {
    let (progress, _) = watch::channel(Progress::default());
    load(app, plan, options, &progress, std::future::pending()).await.unwrap()
}
