//! Measures how fast flights are loaded, with more and more of the right panel in use.
//! `cargo run --release -p diptych-demo --example flights_figures [FILE.csv.gz]`
#![allow(clippy::print_stdout)] // The program prints its results.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use diptych::App;
use diptych_demo::{
    AppOptions, app,
    ids::Airport,
    load::{LoadOptions, LoadReport, Progress, load},
    plan::Plan,
    report::FlightsByDay,
    source::Source,
    summary::summary,
    views,
    views::DepartureBoard,
};
use diptych_sqlite::Sqlite;
use tokio::sync::watch;

type AnyError = Box<dyn std::error::Error>;

/// The longest wait for the right panel to catch up.
const SOON: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let source = match arguments.next() {
        Some(path) => Source::file(path)?,
        None => Source::january(),
    };
    let only = arguments.next();
    let is_asked = |what: &str| only.as_ref().is_none_or(|only| only == what);
    let began = Instant::now();
    let plan = Plan::of(&source)?;
    let read = began.elapsed().as_secs_f64();
    println!("{}: {} commands, read in {read:.2} s", source.name(), plan.commands());

    if is_asked("bare") {
        let folder = tempfile::tempdir()?;
        let app = App::open(folder.path().join("log"))?.start().await?;
        sent("no views", &app, &plan).await?;
        app.stop().await?;
    }
    if is_asked("views") {
        let folder = tempfile::tempdir()?;
        let app = views(App::open(folder.path().join("log"))?).start().await?;
        sent("all views", &app, &plan).await?;
        app.stop().await?;
    }
    if is_asked("report") {
        let folder = tempfile::tempdir()?;
        let report = Sqlite::at(folder.path().join("reports.db")).projection(FlightsByDay);
        let builder = views(App::open(folder.path().join("log"))?);
        let app = builder.projection(report).start().await?;
        sent("all views and the report", &app, &plan).await?;
        app.stop().await?;
    }
    if is_asked("whole") {
        let folder = tempfile::tempdir()?;
        whole(folder.path(), &plan).await?;
    }
    Ok(())
}

/// Loads as the demo does, then starts again on the same folder.
async fn whole(folder: &Path, plan: &Plan) -> Result<(), AnyError> {
    let started = app(folder, AppOptions::default())?.start().await?;
    sent("all views, the report, and snapshots", &started, plan).await?;
    asked(&started, plan).await?;
    let began = Instant::now();
    let summary = summary(&started).await?;
    println!("  summed up in {:.2} s", began.elapsed().as_secs_f64());
    for view in started.views() {
        let name = view.name.rsplit("::").next().unwrap_or_default();
        let memory = view.memory.unwrap_or_default();
        let megabytes = memory.bytes() as f64 / 1e6;
        let digest: String =
            summary.digests.get(name).map_or("", String::as_str).chars().take(16).collect();
        println!("  {name:<13} {megabytes:>7.1} MB in {} copies, {digest}", memory.copies);
    }
    let began = Instant::now();
    started.stop().await?;
    println!("  stopped in {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let again = app(folder, AppOptions::default())?.start().await?;
    let (progress, _) = watch::channel(Progress::default());
    let loaded = load(&again, plan, LoadOptions::default(), &progress, std::future::pending());
    let found = loaded.await?.found;
    println!("  started again in {:.2} s, {found} found", began.elapsed().as_secs_f64());
    again.stop().await?;
    Ok(())
}

/// Loads, and waits for views and report to catch up.
async fn sent(what: &str, app: &App, plan: &Plan) -> Result<LoadReport, AnyError> {
    let (progress, _) = watch::channel(Progress::default());
    let (began, worked) = (Instant::now(), processor_seconds());
    let stop = std::future::pending();
    let loaded = load(app, plan, LoadOptions::default(), &progress, stop).await?;
    let durable = began.elapsed().as_secs_f64();
    while app.views().iter().any(|view| view.position < app.head()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let shown = began.elapsed().as_secs_f64();
    if let Ok(report) = app.projection(FlightsByDay::NAME) {
        report.caught_up(SOON).await?;
    }
    let reported = began.elapsed().as_secs_f64();
    let rate = loaded.settled as f64 / durable;
    println!(
        "{what}: {durable:.2} s, {rate:.0} commands/s; in the views after {shown:.2} s, in the \
         report after {reported:.2} s"
    );
    let cache = app.stats().cache;
    println!(
        "  cache of decisions: {} hits, {} misses, {} evictions",
        cache.hits, cache.misses, cache.evictions
    );
    if let Some(seconds) = processor_seconds().zip(worked).map(|(now, before)| now - before) {
        let micros = seconds * 1e6 / loaded.settled as f64;
        println!("  {seconds:.1} s of processors, {micros:.1} us a command");
    }
    Ok(loaded)
}

/// Processor time of all threads so far, if the system reports it. On a shared machine this figure
/// is steadier than elapsed time.
fn processor_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in parentheses and may contain spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Queries a board of the present and one of the past.
async fn asked(app: &App, plan: &Plan) -> Result<(), AnyError> {
    let airport: Airport = "EWR".parse()?;
    let at = plan.first_departure();
    let began = Instant::now();
    const TIMES: u32 = 1_000;
    for _ in 0..TIMES {
        app.query(DepartureBoard { airport, at }).await?;
    }
    let now = began.elapsed() / TIMES;
    let Some(at) = at else { return Ok(()) };
    let began = Instant::now();
    let board = app.query(DepartureBoard { airport, at: Some(at) }).occurred_before(at).await?;
    let past = began.elapsed();
    let (rows, events) = (board.rows.len(), board.cost.events);
    println!("  a board in {now:?}; of the past in {past:?}, {rows} rows of {events} events");
    Ok(())
}
