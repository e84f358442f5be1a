//! For operators: health, readiness, status and metrics.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diptych::{App, EventStore, Log, LogOptions, Memory, process::ProcessStart};
use diptych_log::disk::simulated::{Fault, SimulatedDisk};
use diptych_server::{Metrics, MetricsError};
use diptych_store::{Append, RawEvent};
use serde_json::json;

use crate::{
    client::LONG,
    domain::Plan,
    processes::Billing,
    served::{TheatreServer, with_views},
};

#[tokio::test]
async fn health_and_readiness_are_answered() {
    let served = TheatreServer::new().await;
    assert_eq!(served.get("/health").await.ok(), json!({ "status": "up" }));
    assert_eq!(served.get("/ready").await.ok(), json!({ "status": "ready" }));
}

/// It accepts no command until it is started again. There is no view that says so.
#[tokio::test]
async fn a_server_whose_log_ended_is_not_ready() {
    let disk = Arc::new(SimulatedDisk::new(1));
    let log = Log::open("/log", LogOptions { disk, ..LogOptions::default() }).unwrap();
    let app = App::over(log.clone()).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server).await;
    served.get("/ready").await.ok();
    log.close().unwrap();
    let problem = served.get("/ready").await.problem(503, "not-ready");
    assert!(problem["detail"].as_str().unwrap().contains("the log has ended"), "{problem}");
    served.get("/health").await.ok();
}

/// Queries are answered meanwhile, and commands are refused with advice until there is space.
#[tokio::test]
async fn a_server_on_a_full_disk_says_so_and_goes_on_when_there_is_space() {
    let simulated = SimulatedDisk::new(1);
    let disk = Arc::new(simulated.clone());
    let log = Log::open("/log", LogOptions { disk, ..LogOptions::default() }).unwrap();
    let app = App::over(log.clone()).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server).await;
    assert!(served.get("/status").await.ok()["log"]["takes_no_commits"].is_null());
    simulated.fail_after(0, Fault::DiskStaysFull);
    while log.append(Append::event(RawEvent::new("filled", vec![7; 9_000]))).await.is_ok() {
        let _ = log.blocking().flush();
    }
    assert_eq!(served.get("/ready").await.ok(), json!({ "status": "ready", "commits": "paused" }));
    let status = served.get("/status").await.ok();
    let why = status["log"]["takes_no_commits"].as_str().unwrap();
    assert!(why.contains("no space") && why.contains("free space"), "{why}");
    simulated.disarm();
    let last = log.append(Append::event(RawEvent::new("filled", ""))).await.unwrap();
    last.synced().await.unwrap();
    assert_eq!(served.get("/ready").await.ok(), json!({ "status": "ready" }));
    assert!(served.get("/status").await.ok()["log"]["takes_no_commits"].is_null());
}

#[tokio::test]
async fn the_status_shows_log_commands_and_views() {
    let served = TheatreServer::new().await;
    served.app.view::<Plan>().unwrap().pause().await.unwrap();
    served.take("a1", "ada").await;
    let status = served.get("/status").await.ok();
    let log = served.app.identity();
    assert_eq!(status["title"], "Theatre");
    assert_eq!(status["log"]["id"], log.id.to_string());
    assert_eq!((&status["log"]["head"], &status["commands"]["accepted"]), (&1.into(), &1.into()));
    let views = status["views"].as_array().unwrap();
    let plan = views.iter().find(|view| view["name"] == "Plan").unwrap();
    assert_eq!((&plan["state"], &plan["lag_positions"]), (&"paused".into(), &1.into()), "{plan}");
    assert!(plan["type"].as_str().unwrap().ends_with("domain::Plan"));
    for number in ["position", "lag_seconds", "events", "copies", "bytes"] {
        assert!(plan[number].is_number(), "{number}");
    }
    assert!(status["uptime_seconds"].as_f64().unwrap() >= 0.0);
}

/// A process has one recorder, so this is its only test.
#[tokio::test]
async fn metrics_have_the_format_of_prometheus() {
    let without = TheatreServer::new().await;
    without.get("/metrics").await.problem(404, "unknown");
    let metrics = Metrics::install().unwrap();
    assert!(matches!(Metrics::install(), Err(MetricsError::Installed(_))));
    // The app lacks the gateway of the process, so the instance is parked.
    let app = with_views(App::over(Memory::new())).process::<Billing>(ProcessStart::Beginning);
    let app = app.start().await.unwrap();
    let served = TheatreServer::of(app, |server| server.metrics(metrics.clone())).await;
    served.take("a1", "ada").await;
    let parked = "diptych_process_parked{process=\"billing\"} 1";
    let start = Instant::now();
    while !served.get("/metrics").await.text().contains(parked) {
        assert!(start.elapsed() < LONG, "the parked instance is not counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    served.get("/queries/how-many").await.ok();
    served.get("/queries/nobody-registered-this").await.problem(404, "unknown");
    let response = served.get("/metrics").await;
    assert!(response.need("content-type").starts_with("text/plain"));
    let text = response.text();
    for line in [
        "diptych_http_requests_total{path=\"command\",status=\"200\"} 1",
        "diptych_http_requests_total{path=\"query\",status=\"200\"} 1",
        "diptych_http_requests_total{path=\"query\",status=\"404\"} 1",
        "diptych_http_seconds_bucket{path=\"query\",le=\"+Inf\"} 2",
        "diptych_stopped{kind=\"process\",name=\"billing\"} 0",
        "diptych_process_calls_unknown{process=\"billing\"} 0",
        "diptych_process_timers{process=\"billing\"} 0",
        "diptych_process_timer_late_seconds{process=\"billing\"} 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    assert!(!text.contains("nobody-registered-this"), "names are the clients' to choose");
    assert!(text.contains("diptych_commands_total"), "{text}");
}
