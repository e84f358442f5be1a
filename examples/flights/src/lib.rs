//! The demo domain: real flights of 2013 from the three airports of New York. It is also a
//! permanent test of Diptych's API.
//!
//! ```text
//!  data/ ─▶ source ─▶ plan ─▶ load ─▶ commands ─▶ │ events │ ─▶ views ─▶ answers
//!                                                 │        │ ─▶ report (SQLite)
//!                                      left panel │ hinge  │ right panel
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`ids`] | names of flights, airports, airlines and planes |
//! | [`commands`] | the left panel: the commands and their rules |
//! | [`events`] | the hinge: the events |
//! | [`views`](mod@views) | the right panel: one file for each view, with its queries |
//! | [`report`] | the right panel as tables in SQLite |
//! | [`source`], [`plan`], [`load`](mod@load) | files of flights, in order as commands, sent |
//! | [`summary`](mod@summary) | the results of a load, as figures that can be compared |
//! | [`site`] | both panels over HTTP, and the page |

pub mod commands;
pub mod events;
pub mod ids;
pub mod load;
pub mod plan;
mod planned;
pub mod report;
pub mod site;
pub mod source;
pub mod summary;
mod time;
pub mod views;

use std::path::Path;

use diptych::{App, AppBuilder, OpenError, snapshot::SnapshotOptions};
use diptych_sqlite::Sqlite;

use crate::{
    report::FlightsByDay,
    views::{Board, Happenings, Names, Planes, Punctuality, Refusals, Routes, WeatherDelay},
};

/// Options of [`app`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppOptions {
    /// When to save views outside the log, so that a start need not fold the whole log again.
    /// `None` saves none.
    pub snapshots: Option<SnapshotOptions>,
}

impl Default for AppOptions {
    fn default() -> AppOptions {
        // Folding this many events again takes a second or two, and the views of a year are large.
        AppOptions { snapshots: Some(SnapshotOptions { every_events: Some(500_000), keep: 2 }) }
    }
}

/// Builds the app over the log in this folder, with all views and the report.
///
/// The folder `log` holds the log, and the file `reports.db` holds the report.
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

/// Adds the [catalogue](site::catalogue): all views, and the commands and queries by name.
pub fn views(builder: AppBuilder) -> AppBuilder {
    builder.catalogue(site::catalogue())
}

/// Saves snapshots of all views.
pub fn view_snapshots(builder: AppBuilder, snapshots: SnapshotOptions) -> AppBuilder {
    builder
        .snapshots::<Board>(snapshots)
        .snapshots::<Punctuality>(snapshots)
        .snapshots::<Routes>(snapshots)
        .snapshots::<Planes>(snapshots)
        .snapshots::<WeatherDelay>(snapshots)
        .snapshots::<Refusals>(snapshots)
        .snapshots::<Happenings>(snapshots)
        .snapshots::<Names>(snapshots)
}
