//! The demo domain: real flights of 2013 from the three airports of New York, and the standing test
//! of Diptych's API.
//!
//! ```text
//!  data/ ─▶ source ─▶ plan ─▶ load ─▶ commands ─▶ │ events │ ─▶ views ─▶ answers
//!                                                 │        │ ─▶ report (SQLite)
//!                                      left panel │ hinge  │ right panel
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | [`ids`] | what flights, airports, airlines and planes are called |
//! | [`commands`] | the left panel: what can be asked for, and the rules |
//! | [`events`] | the hinge: what happened |
//! | [`views`](mod@views) | the right panel: what is shown, a file for each view with its queries |
//! | [`report`] | the right panel as tables in SQLite |
//! | [`source`], [`plan`], [`load`](mod@load) | files of flights, as commands in order, sent |
//! | [`summary`](mod@summary) | what came of it, in figures that can be compared |
//! | [`site`] | both panels over HTTP, and the page |

pub mod commands;
pub mod events;
pub mod ids;
pub mod load;
pub mod plan;
pub mod report;
pub mod site;
pub mod source;
pub mod summary;
mod time;
pub mod views;

use std::path::Path;

use diptych::{App, AppBuilder, OpenError, ViewSnapshots};
use diptych_sqlite::Sqlite;

use crate::{
    events::{SourceLoaded, SourceOpened},
    report::FlightsByDay,
    views::{Board, Happenings, Names, Planes, Punctuality, Refusals, Routes, WeatherDelay},
};

/// How the app is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppOptions {
    /// When views are kept outside the log, so that they need not be folded from its start when the
    /// app is started again; never, if nothing is said.
    pub snapshots: Option<ViewSnapshots>,
}

impl Default for AppOptions {
    fn default() -> AppOptions {
        // The views of a year are large: so many events are folded anew in a second or two.
        AppOptions { snapshots: Some(ViewSnapshots { every_events: 500_000, keep: 2 }) }
    }
}

/// The app over the log in this folder, with all views and the report; to be started.
///
/// The log is in `log`, the report in `reports.db`.
///
/// # Errors
/// [`OpenError`] if the log cannot be opened.
pub fn app(folder: impl AsRef<Path>, options: AppOptions) -> Result<AppBuilder, OpenError> {
    let folder = folder.as_ref();
    let mut builder = views(App::open(folder.join("log"))?);
    if let Some(snapshots) = options.snapshots {
        builder = view_snapshots(builder, snapshots);
    }
    Ok(builder.projection(Sqlite::at(folder.join("reports.db")).projection(FlightsByDay)))
}

/// With all views, and the loader's notes, which no view shows.
pub fn views(builder: AppBuilder) -> AppBuilder {
    builder
        .events::<SourceLoaded>()
        .events::<SourceOpened>()
        .view::<Board>()
        .view::<Punctuality>()
        .view::<Routes>()
        .view::<Planes>()
        .view::<WeatherDelay>()
        .view::<Refusals>()
        .view::<Happenings>()
        .view::<Names>()
}

/// With all views kept outside the log, too.
pub fn view_snapshots(builder: AppBuilder, snapshots: ViewSnapshots) -> AppBuilder {
    builder
        .view_snapshots::<Board>(snapshots)
        .view_snapshots::<Punctuality>(snapshots)
        .view_snapshots::<Routes>(snapshots)
        .view_snapshots::<Planes>(snapshots)
        .view_snapshots::<WeatherDelay>(snapshots)
        .view_snapshots::<Refusals>(snapshots)
        .view_snapshots::<Happenings>(snapshots)
        .view_snapshots::<Names>(snapshots)
}
