//! The figures of January are equal, however the load ran.
//!
//! The files in `golden/` are the expected figures. To change them, delete the files and run the
//! tests, which write them again, then look at the difference.

use std::{fs, path::PathBuf};

use diptych::{App, snapshot::SnapshotOptions};
use diptych_demo::{
    AppOptions, app,
    load::LoadOptions,
    plan::Plan,
    source::Source,
    summary::{Summary, summary},
    views::{Board, Happenings, Names, Planes, Punctuality, Refusals, Routes, WeatherDelay},
};

use super::{first_days, loaded, loaded_with, started};

fn check(name: &str, summary: &Summary) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden");
    let file = folder.join(format!("{name}.json"));
    let now = serde_json::to_string_pretty(summary).unwrap() + "\n";
    match fs::read_to_string(&file) {
        Ok(golden) => assert_eq!(golden, now, "{}", file.display()),
        Err(_) => {
            fs::create_dir_all(folder).unwrap();
            fs::write(&file, now).unwrap();
            panic!("{} was missing and has been written: look at it", file.display());
        }
    }
}

fn refused(summary: &Summary, rule: &str, command: &str) -> u64 {
    let of = summary.refused_by_rule.iter().find(|of| of.rule == rule && of.command == command);
    of.map_or(0, |of| of.count)
}

#[tokio::test(flavor = "multi_thread")]
async fn january_has_known_figures() {
    let plan = Plan::of(&Source::january()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    assert!(loaded(&app, &plan).await.is_whole());
    let summary = summary(&app).await.unwrap();
    let count = |name: &str| {
        let named = |of: &&_| serde_json::to_value(of).unwrap()["type"] == name;
        summary.events.iter().find(named).map_or(0, |of| of.count)
    };
    // Counted by other means in the data file.
    assert_eq!(count("flight-scheduled"), 27_004);
    assert_eq!(count("flight-departed"), 26_475);
    assert_eq!(count("flight-cancelled"), 521);
    assert_eq!(count("flight-landed"), 26_390);
    assert_eq!(count("flight-diverted"), 85);
    assert_eq!(count("airline-named"), 16);
    assert_eq!(count("airport-named"), 1_458);
    assert_eq!(count("plane-registered"), 3_322);
    assert_eq!(summary.refused, 16);
    assert_eq!(refused(&summary, "plane-in-the-air", "depart-flight"), 8);
    assert_eq!(refused(&summary, "not-departed", "land-flight"), 8);
    assert_eq!(summary.accepted + summary.refused, plan.commands() as u64);
    check("january", &summary);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_commands_in_flight_does_not_change_the_result() {
    let plan = first_days();
    for in_flight in [1, 7, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let app = started(folder.path()).await;
        // With few commands in flight each waits for a sync, so these loads are short.
        let part = match in_flight {
            1 | 7 => plan.clone().until(super::at("2012-12-31T12:00:00Z")),
            _ => plan.clone(),
        };
        let options = LoadOptions { in_flight, ..LoadOptions::default() };
        assert!(loaded_with(&app, &part, options).await.is_whole());
        let summary = summary(&app).await.unwrap();
        check(if in_flight == 10_000 { "first_days" } else { "first_hours" }, &summary);
        app.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_rebuilds_do_not_change_the_views() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = Some(SnapshotOptions { every_events: Some(1_000), keep: 2 });
    let start =
        || async { app(folder.path(), AppOptions { snapshots }).unwrap().start().await.unwrap() };
    let app = start().await;
    loaded(&app, &first_days()).await;
    check("first_days", &summary(&app).await.unwrap());
    app.stop().await.unwrap();

    let app = start().await;
    // No event was folded again, because the snapshots from the stop contain all.
    assert!(app.views().iter().all(|view| view.events == 0), "{:?}", app.views());
    check("first_days", &summary(&app).await.unwrap());
    rebuild(&app).await;
    check("first_days", &summary(&app).await.unwrap());
    app.stop().await.unwrap();
}

async fn rebuild(app: &App) {
    app.view::<Board>().unwrap().rebuild().await.unwrap();
    app.view::<Happenings>().unwrap().rebuild().await.unwrap();
    app.view::<Names>().unwrap().rebuild().await.unwrap();
    app.view::<Planes>().unwrap().rebuild().await.unwrap();
    app.view::<Punctuality>().unwrap().rebuild().await.unwrap();
    app.view::<Refusals>().unwrap().rebuild().await.unwrap();
    app.view::<Routes>().unwrap().rebuild().await.unwrap();
    app.view::<WeatherDelay>().unwrap().rebuild().await.unwrap();
}
