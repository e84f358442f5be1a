//! `diptych demo`: sends real flights as commands into a log, keeps views of them, and serves a
//! page. With an owner it is a poster of such a demo instead (`poster`).
//!
//! The server starts before the load, so that a visitor sees the views fill.

mod poster;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::Instant,
};

use diptych::{App, AppBuilder, StartError, StopError};
use diptych_demo::{
    AppOptions,
    load::{LoadError, LoadOptions, LoadReport, Pace, Progress as Settled, load, open},
    plan::Plan,
    site,
    source::{Source, SourceError},
    summary::{Summary, SummaryError, summary},
};
use diptych_server::{Metrics, ServeError, Server};
use serde::Serialize;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::watch::{self, Receiver},
    task::{JoinError, JoinHandle},
};

use crate::{
    address::LogAddress,
    args::{DemoArgs, LISTEN, Speed},
    exit::{Exit, Failure},
    folder,
    ndjson::write_json,
    progress::Progress,
    remote,
    serve::listen,
    signal::{on_signal, stopped},
    table::{count, counted, counts, facts},
};

/// Tables show all event types and all rules.
const ALL: usize = usize::MAX;

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let began = Instant::now();
    check(args)?;
    let plan = match &args.owner {
        Some(_) => None,
        None => Some(plan(args)?),
    };
    let runtime = Runtime::new()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        match (&args.owner, plan) {
            (None, Some(plan)) => show(args, &plan, began).await,
            (Some(owner), _) => poster::show(args, owner).await,
            (None, None) => Ok(()),
        }
    })
}

/// Finds wrong arguments before any file is read or written.
fn check(args: &DemoArgs) -> Result<(), Failure> {
    let address = args.listen;
    if !args.once && !address.ip().is_loopback() && args.hosts.is_empty() {
        return Err(Failure::input(format!(
            "other machines can reach the page at {address}, and no host is named: name its hosts \
             with --host, or listen at an address of this machine alone, such as --listen {LISTEN}"
        )));
    }
    match &args.address {
        LogAddress::Folder(dir) if args.owner.is_none() && folder::has_log(dir) => {
            let dir = dir.display();
            Err(Failure::input(format!(
                "{dir} is the folder of a log, and not of a demo, which keeps its log in a folder \
                 below: give the demo a folder of its own with --data"
            )))
        }
        _ => Ok(()),
    }
}

/// The app over the folder, with its report, or over the log of a server.
fn build(args: &DemoArgs) -> Result<AppBuilder, Failure> {
    match &args.address {
        LogAddress::Folder(dir) => {
            let wait = args.wait.duration();
            let open = || diptych_demo::app(dir, AppOptions::default());
            Ok(folder::when_free(wait, open)?)
        }
        LogAddress::Remote(address) => {
            let store = remote::connect(address, args.wait)?;
            Ok(diptych_demo::views(App::over_store(store).close_store()))
        }
    }
}

/// The commands to send.
fn plan(args: &DemoArgs) -> Result<Plan, Failure> {
    let source = match &args.flights {
        Some(file) => Source::file(file)?,
        None => Source::january(),
    };
    let plan = Plan::of(&source)?;
    Ok(match args.until {
        Some(instant) => plan.until(instant),
        None => plan,
    })
}

async fn show(args: &DemoArgs, plan: &Plan, began: Instant) -> Result<(), Failure> {
    // Listens first: if the port is taken, the error comes before anything is written.
    let doors = match args.once {
        true => None,
        false => Some((listen(args.listen).await?, Metrics::install()?)),
    };
    let app = build(args)?.start().await?;
    // Recorded before clients can send commands, so that the rules can refuse flights of other
    // days.
    open(&app, plan).await?;
    let stop = on_signal()?;
    let ended = match doors {
        Some((listener, metrics)) => {
            let mut serving = serve(args, &app, listener, metrics, &stop)?;
            tokio::select! {
                shown = load_and_tell(args, plan, began, &app, &stop) => {
                    until_stopped(shown, serving, stop).await
                }
                failure = serving.failed() => Err(failure),
            }
        }
        None => load_and_tell(args, plan, began, &app, &stop).await,
    };
    // Acknowledged events are durable, even if something failed.
    let stopped = app.stop().await;
    ended?;
    Ok(stopped?)
}

/// A running server.
struct Serving {
    address: SocketAddr,
    task: JoinHandle<Result<(), ServeError>>,
    /// Whether the server has stopped, because the program was told to end.
    is_over: bool,
}

fn serve(
    args: &DemoArgs,
    app: &App,
    listener: TcpListener,
    metrics: Metrics,
    stop: &Receiver<bool>,
) -> Result<Serving, Failure> {
    let address = listener.local_addr().unwrap_or(args.listen);
    serve_page(args, site::server(app.clone()).metrics(metrics), listener, address, stop)
}

fn serve_page(
    args: &DemoArgs,
    server: Server,
    listener: TcpListener,
    address: SocketAddr,
    stop: &Receiver<bool>,
) -> Result<Serving, Failure> {
    let server = args.hosts.iter().fold(server, |server, host| server.host(host));
    say(&format!("the page is at http://{address}/"));
    let task = tokio::spawn(server.serve(listener, stopped(stop.clone())));
    Ok(Serving { address, task, is_over: false })
}

impl Serving {
    /// Waits for a failure of the server. It never returns while the server runs, or after an
    /// orderly stop.
    async fn failed(&mut self) -> Failure {
        if !self.is_over {
            let ended = (&mut self.task).await;
            self.is_over = true;
            if let Err(failure) = served(ended) {
                return failure;
            }
        }
        std::future::pending().await
    }
}

fn served(ended: Result<Result<(), ServeError>, JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(served) => Ok(served?),
        Err(error) => Err(Failure::new(Exit::Failed, format!("the server failed: {error}"))),
    }
}

/// Serves until the program is told to end, or until the server fails.
async fn until_stopped(
    shown: Result<(), Failure>,
    serving: Serving,
    stop: Receiver<bool>,
) -> Result<(), Failure> {
    shown?;
    if io::stderr().is_terminal() && !*stop.borrow() {
        say(&format!("\nlook at it at http://{}/ (Ctrl-C ends it)", serving.address));
    }
    match serving.is_over {
        true => Ok(()),
        false => served(serving.task.await),
    }
}

async fn load_and_tell(
    args: &DemoArgs,
    plan: &Plan,
    began: Instant,
    app: &App,
    stop: &Receiver<bool>,
) -> Result<(), Failure> {
    let pace = match args.speed {
        Speed::Max => Pace::Max,
        Speed::Times(times) => Pace::Times(times),
    };
    let options = LoadOptions { pace, ..LoadOptions::default() };
    let (progress, settled) = watch::channel(Settled::default());
    let bar = tokio::spawn(show_progress(settled, plan.commands() as u64));
    let loading = Instant::now();
    let loaded = load(app, plan, options, &progress, stopped(stop.clone())).await;
    drop(progress);
    // The bar is gone before anything else is printed.
    let _ = bar.await;
    let loaded = loaded?;
    let outcome = Outcome {
        summary: summary(app).await?,
        commands: loaded.total,
        settled: loaded.settled,
        found: loaded.found,
        load_seconds: loading.elapsed().as_secs_f64(),
        seconds: began.elapsed().as_secs_f64(),
        commands_per_second: per_second(&loaded, loading),
        peak_memory_bytes: peak_memory_bytes(),
    };
    let mut out = io::stdout().lock();
    match args.json {
        true => Ok(write_json(&outcome, &mut out)?),
        false => outcome.print(&mut out).map_err(Failure::from),
    }
}

async fn show_progress(mut settled: Receiver<Settled>, total: u64) {
    let bar = Progress::of_commands(total);
    while settled.changed().await.is_ok() {
        let Settled { settled, instant, .. } = *settled.borrow_and_update();
        let day = instant.map(|instant| instant.to_string()).unwrap_or_default();
        bar.commands(settled as u64, day.get(..10).unwrap_or_default());
    }
}

fn per_second(loaded: &LoadReport, began: Instant) -> f64 {
    (loaded.settled - loaded.found) as f64 / began.elapsed().as_secs_f64()
}

/// The results of a run, as the JSON output has them.
#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    summary: Summary,
    /// Number of commands in the files.
    commands: usize,
    /// Number of durable commands; fewer than `commands` if the load was stopped.
    settled: usize,
    /// Number of commands that an earlier run made durable. They were not sent again.
    found: usize,
    load_seconds: f64,
    /// Seconds since the start of the program.
    seconds: f64,
    commands_per_second: f64,
    peak_memory_bytes: Option<u64>,
}

impl Outcome {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Outcome { summary, found, settled, commands, load_seconds, .. } = self;
        let sent = settled - found;
        let mut rows = vec![(
            "commands",
            format!(
                "{} sent in {load_seconds:.1} s ({}/s, each durable), {} there before",
                count(sent as u64),
                count(self.commands_per_second as u64),
                count(*found as u64),
            ),
        )];
        if settled < commands {
            let left = counted((commands - settled) as u64, "command");
            rows.push(("not sent", format!("{left}: run the command again to continue")));
        }
        let accepted = count(summary.accepted);
        rows.push(("events", format!("{accepted} of commands, {} of refusals", summary.refused)));
        if let Some(bytes) = self.peak_memory_bytes {
            rows.push(("memory", format!("{} at most", indicatif::BinaryBytes(bytes))));
        }
        facts(out, &rows)?;
        writeln!(out)?;
        let of_type = summary.events.iter().map(|of| (word(&of.r#type), of.count));
        counts(out, ("event", "count"), &of_type.collect::<Vec<_>>(), ALL)?;
        writeln!(out)?;
        let of_rule = summary.refused_by_rule.iter();
        let of_rule = of_rule.map(|of| (format!("{}: {}", of.command, of.rule), of.count));
        counts(out, ("refused", "count"), &of_rule.collect::<Vec<_>>(), ALL)
    }
}

/// The name of the type in JSON.
fn word(kind: &impl Serialize) -> String {
    let text = serde_json::to_string(kind).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

/// The largest resident memory of this process so far, if the system reports it.
fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Prints a message to standard error. Standard output has only the results.
fn say(text: &str) {
    // Ignored: there is no other place to report that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Failure {
        Failure::input(error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        Failure::new(Exit::Failed, error.to_string())
    }
}

impl From<StopError> for Failure {
    fn from(error: StopError) -> Failure {
        Failure::new(Exit::Failed, error.to_string())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        if let LoadError::Foreign { .. } = error {
            return Failure::input(error.to_string());
        }
        let more = "acknowledged commands are durable, and the next run continues after them";
        Failure::new(Exit::Failed, error.to_string()).and(more)
    }
}

impl From<SummaryError> for Failure {
    fn from(error: SummaryError) -> Failure {
        Failure::new(Exit::Failed, error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        let exit = match error {
            ServeError::Listener(_) => Exit::Failed,
            _ => Exit::Input,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<diptych_server::MetricsError> for Failure {
    fn from(error: diptych_server::MetricsError) -> Failure {
        Failure::new(Exit::Failed, error.to_string())
    }
}
