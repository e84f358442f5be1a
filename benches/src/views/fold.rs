//! Measures how many events per second one core folds into a view.

use std::{fs, hint::black_box, time::Instant};

use diptych::{
    Metadata, Position, Recorded, Timestamp, Uuid, snapshot::SnapshotOptions, testing::Folding,
};

use crate::{
    events::{ABOUT, Balances, Moved, Total, app, log_of, moved},
    options::Options,
    table::{Contender, Table},
};

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let folder = options.folder();
    log_of(folder.path(), options.events);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let decoded = Folding::<Balances>::new(recorded(options.events.min(1_000_000)));
    let replay = |which: Which| {
        let began = Instant::now();
        let app = runtime.block_on(async {
            let app = app(folder.path());
            let app = match which {
                Which::Json => app.view::<Balances>(),
                Which::Unread => app.view::<Total>(),
                Which::Snapshots => {
                    // With the snapshots of the previous round there would be nothing to fold.
                    let _ = fs::remove_dir_all(folder.path().join("snapshots"));
                    let options = SnapshotOptions::default();
                    app.view::<Balances>().snapshots::<Balances>(options)
                }
            };
            app.start().await.unwrap()
        });
        let rate = options.events as f64 / began.elapsed().as_secs_f64();
        runtime.block_on(app.stop()).unwrap();
        rate
    };
    let table = Table {
        title: "fold: events a second into one view, by one thread",
        unit: "events/s",
        baseline: "from the log, JSON",
        one_caller: true,
        notes: &[
            ABOUT,
            "each event is folded twice, into the left copy and into the right",
            "decoded: from memory, without log and decoding; goal 5,000,000",
            "snapshots: one for every 100,000 events, of 80 kB; goal: 0.9",
            "from the log: `start` of an app, with opening it; with JSON the goal is 1,000,000",
        ],
        rows: Vec::new(),
    };
    let contenders = vec![
        Contender::new("decoded", |_| {
            let began = Instant::now();
            black_box(decoded.run());
            decoded.events() as f64 / began.elapsed().as_secs_f64()
        }),
        Contender::new("from the log, payload not read", |_| replay(Which::Unread)),
        Contender::new("from the log, JSON", |_| replay(Which::Json)),
        Contender::new("the same with snapshots", |_| replay(Which::Snapshots))
            .against("from the log, JSON"),
    ];
    vec![table.measure(options, contenders)]
}

#[derive(Clone, Copy)]
enum Which {
    Json,
    Unread,
    Snapshots,
}

fn recorded(events: u64) -> Vec<Recorded<Moved>> {
    let recorded = |number| Recorded {
        position: Position::new(number),
        recorded_at: Timestamp::from_micros(number as i64),
        id: Uuid::from_u128(number.into()),
        metadata: Metadata::default(),
        event: moved(number),
    };
    (1..=events).map(recorded).collect()
}
