//! Loads that continue after an interruption.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use diptych::Position;
use diptych_demo::{
    load::{LoadOptions, LoadReport, Pace, Progress, is_loaded, load},
    plan::Plan,
    source::Source,
    summary::summary,
};
use tokio::sync::watch;

use super::{at, first_days, loaded, started};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_load_continues_where_it_was() {
    let plan = first_days();
    let whole = {
        let folder = tempfile::tempdir().unwrap();
        let app = started(folder.path()).await;
        loaded(&app, &plan).await;
        summary(&app).await.unwrap()
    };

    let folder = tempfile::tempdir().unwrap();
    let mut before = 0;
    let mut stops = 0;
    loop {
        let app = started(folder.path()).await;
        let (progress, _) = watch::channel(Progress::default());
        // Each round comes further.
        let (mut looks, most) = (0, 60 * (stops + 1));
        let stop = std::future::poll_fn(|_| {
            looks += 1;
            if looks > most { Poll::Ready(()) } else { Poll::Pending }
        });
        let loaded = load(&app, &plan, LoadOptions::default(), &progress, stop).await.unwrap();
        assert_eq!(loaded.found, before);
        // The log also has the note at the start of the load.
        assert_eq!(loaded.settled as u64 + 1, app.head().get());
        let told = *progress.borrow();
        assert_eq!((told.settled, told.total), (loaded.settled, loaded.total));
        before = loaded.settled;
        if loaded.is_whole() {
            assert_eq!(summary(&app).await.unwrap(), whole);
            break;
        }
        stops += 1;
        // Dropped without an orderly stop, as when the process ends.
        drop(app);
    }
    assert!(stops > 2, "{stops}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_load_continues_where_the_log_ends() {
    let plan = first_days();
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    let (progress, mut told) = watch::channel(Progress::default());
    let loading = load(&app, &plan, LoadOptions::default(), &progress, std::future::pending());
    let some = told.wait_for(|progress| progress.settled > 1_000);
    tokio::select! {
        loaded = loading => panic!("{loaded:?}"),
        some = some => drop(some.unwrap()),
    }
    app.stop().await.unwrap();

    let app = started(folder.path()).await;
    let there = app.head().get() as usize - 1;
    assert!(there > 1_000 && there < plan.commands(), "{there}");
    let LoadReport { found, settled, total } = loaded(&app, &plan).await;
    assert_eq!((found, settled, total), (there, plan.commands(), plan.commands()));
    assert_eq!(summary(&app).await.unwrap().refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_file_is_not_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    let source = small();
    let plan = Plan::of(&source).unwrap();
    assert!(!is_loaded(&app, plan.source()).await.unwrap());
    // A part of the file does not count as the file.
    loaded(&app, &plan.clone().until(at("2013-01-01T12:00:00Z"))).await;
    assert!(!is_loaded(&app, plan.source()).await.unwrap());
    loaded(&app, &plan).await;
    assert!(is_loaded(&app, &source.digest()).await.unwrap());
    let head = app.head();
    let again = loaded(&app, &plan).await;
    assert_eq!((again.found, app.head()), (plan.commands(), head));

    // A file with more flights loads only the rest.
    let more = Plan::of(&Source::january()).unwrap().until(at("2013-01-02T00:00:00Z"));
    let LoadReport { found, settled, total } = loaded(&app, &more).await;
    assert!(found >= plan.commands() && settled == total, "{found} of {total}");
    // Two files were opened, and one was loaded as a whole.
    assert_eq!(app.head().get() as usize, total + 3);
}

/// The first flights of January as a separate file.
fn small() -> Source {
    let text = "\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,\
flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,1,533,529,4,850,830,20,UA,1714,N24211,LGA,IAH,227,1416,5,29,2013-01-01T10:00:00Z
";
    Source::of("small.csv", text.as_bytes().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_keeps_the_requested_speed() {
    let folder = tempfile::tempdir().unwrap();
    let app = started(folder.path()).await;
    let plan = Plan::of(&small()).unwrap();
    let first = plan.first_departure().unwrap();
    let ahead = plan.clone().until(first).commands();
    let (progress, mut told) = watch::channel(Progress::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    // At this speed, 16 minutes take a quarter of a second and 211 minutes in the air 3.5 seconds.
    let options = LoadOptions { pace: Pace::Times(3_600.0), ..LoadOptions::default() };
    let began = Instant::now();
    let stop = async {
        told.wait_for(|progress| progress.settled > ahead + 1).await.map(drop).unwrap();
        over.store(true, Ordering::Relaxed);
    };
    let loaded = load(&app, &plan, options, &progress, stop).await.unwrap();
    assert!(is_over.load(Ordering::Relaxed));
    // Both flights departed, 16 minutes apart, and none has landed, because that takes hours.
    assert!(began.elapsed() > Duration::from_millis(250), "{:?}", began.elapsed());
    assert!(!loaded.is_whole());
    assert!(app.head() > Position::new(ahead as u64 + 1));
}
