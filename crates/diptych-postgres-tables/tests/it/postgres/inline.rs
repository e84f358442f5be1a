//! Projections whose rows are written in the transaction of each append.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Event, Recorded, Store, Tag,
    store::{AcceptedCommit, Append, AppendError, Digest, Key, Refusal, SyncedCommit},
};
use diptych_postgres::{OpenError, PostgresDatabase, PostgresOptions, PostgresStore, StoreBuilder};
use diptych_postgres_tables::{InlineProjection, Projection, Transaction};
use diptych_postgres_testing::{PostgresServer, new_name, runtime, shared};
use pollster::block_on;

use super::{
    follow::follow,
    shop::{Note, Place, Totals, Trade, returned, sold},
};

/// A wait that is longer than any that a test needs.
const LONG: Duration = Duration::from_secs(60);

/// The money of each shop. The database refuses to let it fall below nothing.
struct Till {
    version: u32,
}

impl Projection for Till {
    type Event = Trade;

    fn name(&self) -> &str {
        "till"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn create(&self) -> Vec<String> {
        let table = "create table till (shop text primary key, trades bigint not null,
            cents bigint not null check (cents >= 0))";
        let line = "create table till_line (shop text not null, cents bigint not null)";
        vec![table.to_owned(), line.to_owned()]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        let (shop, cents) = match &event.event {
            Trade::Sold { shop, cents, .. } => (shop, *cents),
            Trade::Returned { shop, cents } => (shop, -*cents),
        };
        tx.insert("till_line", &["shop", "cents"], &[shop, &cents])?;
        tx.execute("insert into till values ($1, 0, 0) on conflict do nothing", &[shop])?;
        tx.execute(
            "update till set trades = trades + 1, cents = cents + $2 where shop = $1",
            &[shop, &cents],
        )?;
        Ok(())
    }
}

/// A log and a schema of their own.
struct Scene {
    address: String,
    log: String,
    place: Place,
}

impl Scene {
    fn new(server: &PostgresServer) -> Scene {
        let (log, schema) = (new_name(), new_name());
        let place = Place::named(server, "postgres", &schema);
        Scene { address: server.address("postgres", &log), log, place }
    }

    fn name(&self) -> String {
        format!("{}.till", self.place.schema)
    }

    fn builder(&self, version: u32) -> StoreBuilder {
        let till = InlineProjection::new(Till { version }).schema(&self.place.schema);
        StoreBuilder::new(&self.address, PostgresOptions::default()).inline(till)
    }

    /// A handle of its own, as a process has it.
    fn open(&self, version: u32) -> Store {
        Store::new(block_on(self.builder(version).open()).unwrap())
    }

    fn open_plain(&self) -> Store {
        let opened = PostgresStore::open(&self.address, PostgresOptions::default());
        Store::new(block_on(opened).unwrap())
    }

    /// The rows are a fold of the whole log.
    fn assert_in_step(&self, server: &PostgresServer, store: &Store) {
        let head = block_on(store.fresh_head()).unwrap();
        let at = self.assert_is_fold(server, store);
        assert_eq!(at, head.get(), "the rows have not reached the head");
    }

    /// The rows are a fold of the log up to their checkpoint, which is returned.
    fn assert_is_fold(&self, server: &PostgresServer, store: &Store) -> u64 {
        let [at, shops, lines] = self.place.ask(
            server,
            [
                "select position from diptych_checkpoint where name = 'till'",
                "select shop, trades, cents from till",
                "select count(*), coalesce(sum(cents), 0)::bigint from till_line",
            ],
        );
        let at = at[0].get::<_, Option<i64>>(0).unwrap_or(0).cast_unsigned();
        let expected = Totals::of(store, at.into()).shops;
        let found = shops.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        assert_eq!(expected, found, "up to {at}");
        let sums = expected.values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        assert_eq!((lines[0].get(0), lines[0].get(1)), sums);
        at
    }
}

fn raw(trade: &Trade) -> Append {
    Append::event(trade.encode().unwrap())
}

fn append(store: &Store, trade: &Trade) -> Result<SyncedCommit, AppendError> {
    send(store, raw(trade))
}

fn send(store: &Store, append: Append) -> Result<SyncedCommit, AppendError> {
    block_on(async { Ok(store.append(append).await?.synced().await?) })
}

fn refused_rows(error: &AppendError) -> (&str, &str) {
    match error {
        AppendError::Refused(Refusal::Rows { projection, reason }) => (projection, reason),
        other => panic!("no rows were refused: {other}"),
    }
}

#[test]
fn a_reader_sees_the_rows_as_soon_as_a_command_has_its_answer() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let app = block_on(App::over_store(scene.open(1)).start()).unwrap();
    thread::scope(|scope| {
        for shop in 0..4 {
            let (app, scene) = (&app, &scene);
            scope.spawn(move || {
                let runtime = runtime();
                let client = runtime.block_on(server.client("postgres"));
                let sql = format!(
                    "select cents from \"{}\".till where shop = 'shop-{shop}'",
                    scene.place.schema
                );
                for turn in 1..=10 {
                    block_on(async { app.execute(Note(vec![sold(shop, 1, 10)])).await }).unwrap();
                    let row = runtime.block_on(client.query_one(&sql, &[])).unwrap();
                    assert_eq!(row.get::<_, i64>(0), 10 * turn);
                }
            });
        }
    });
    scene.assert_in_step(server, app.store());
}

/// The commits of these trades that a store decides by one call: while another one waits for a
/// lock, all of them come.
fn in_one_batch(
    server: &PostgresServer,
    scene: &Scene,
    store: &Store,
    trades: &[Trade],
) -> Vec<Result<AcceptedCommit, AppendError>> {
    type Appending<'a> = Pin<Box<dyn Future<Output = Result<AcceptedCommit, AppendError>> + 'a>>;
    let runtime = runtime();
    let client = runtime.block_on(server.client("postgres"));
    // The server shows one state of its connections to a whole transaction.
    let other = runtime.block_on(server.client("postgres"));
    let log = &scene.log;
    let lock = format!("begin; select from diptych.log where name = '{log}' for update");
    runtime.block_on(client.batch_execute(&lock)).unwrap();
    let first = sold(0, 1, 1);
    let all = std::iter::once(&first).chain(trades);
    let mut all: Vec<Appending<'_>> =
        all.map(|trade| -> Appending<'_> { Box::pin(store.append(raw(trade))) }).collect();
    let poll = |appending: &mut Appending<'_>| {
        let mut context = Context::from_waker(Waker::noop());
        assert!(appending.as_mut().poll(&mut context).is_pending());
    };
    poll(&mut all[0]);
    let waits = "select count(*) from pg_stat_activity
        where wait_event_type = 'Lock' and query like '%diptych.log%'";
    let count = || {
        let row = runtime.block_on(other.query_one(waits, &[])).unwrap();
        row.get::<_, i64>(0)
    };
    let began = Instant::now();
    while count() == 0 {
        assert!(began.elapsed() < LONG, "the first commit does not come to the lock");
        thread::yield_now();
    }
    all[1..].iter_mut().for_each(poll);
    runtime.block_on(client.batch_execute("commit")).unwrap();
    let mut answers: Vec<_> = all.into_iter().map(block_on).collect();
    assert!(answers.remove(0).is_ok());
    let batch = "select cardinality(w.verdicts) / 4 from diptych.writer w
        join diptych.log l on l.id = w.log where l.name = $1 order by w.used_at desc limit 1";
    let row = runtime.block_on(client.query_one(batch, &[log])).unwrap();
    assert_eq!(row.get::<_, i32>(0) as usize, trades.len(), "it was no batch");
    answers
}

#[test]
fn a_commit_whose_rows_are_refused_is_refused_alone_and_its_neighbours_go_on() {
    let Some(server) = PostgresServer::start() else { return };
    let scene = Scene::new(&server);
    let store = scene.open(1);
    append(&store, &sold(7, 1, 50)).unwrap();
    let mut trades: Vec<_> = (0..20).map(|number| sold(number % 3, 1, 10)).collect();
    trades.insert(9, returned(7, 51));
    let answers = in_one_batch(&server, &scene, &store, &trades);
    let mut positions = Vec::new();
    for (number, answer) in answers.into_iter().enumerate() {
        match (number, answer) {
            (9, answer) => {
                let error = answer.unwrap_err();
                let (projection, reason) = refused_rows(&error);
                assert_eq!(projection, scene.name());
                assert!(reason.contains("check constraint"), "{reason}");
            }
            (_, answer) => positions.push(answer.unwrap().last.get()),
        }
    }
    assert_eq!(positions, (3..=22).collect::<Vec<_>>(), "the positions are dense");
    assert_eq!(block_on(store.fresh_head()).unwrap().get(), 22);
    scene.assert_in_step(&server, &store);
    // Refused rows depend on those of the commits before: here the second one has too little.
    let both = [returned(7, 30), returned(7, 30), sold(7, 1, 5), returned(7, 25)];
    let answers = in_one_batch(&server, &scene, &store, &both);
    let accepted: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true, true]);
    scene.assert_in_step(&server, &store);
}

#[test]
fn a_command_whose_rows_are_refused_names_the_projection_and_leaves_its_key_free() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let app = block_on(App::over_store(scene.open(1)).start()).unwrap();
    let buy = |cents| app.execute(Note(vec![sold(1, 1, cents)])).key("one");
    let give_back = || app.execute(Note(vec![returned(1, 10)])).key("two");
    let error = block_on(give_back().into_future()).unwrap_err();
    assert!(error.to_string().contains(&scene.name()), "{error}");
    block_on(buy(10).into_future()).unwrap();
    let first = block_on(give_back().into_future()).unwrap();
    // The same command again is answered from the log, and writes no rows.
    let again = block_on(give_back().into_future()).unwrap();
    assert_eq!(first, again);
    scene.assert_in_step(server, app.store());
    assert_eq!(app.store().head().position().get(), 2);
}

#[test]
fn a_program_that_does_not_write_the_rows_cannot_append() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let plain = scene.open_plain();
    append(&plain, &sold(1, 1, 10)).unwrap();
    let store = scene.open(1);
    let error = append(&plain, &sold(1, 1, 10)).unwrap_err().to_string();
    let expected = format!("the rows of {}@1, and this program writes those of none", scene.name());
    assert!(error.contains(&expected), "{error}");
    // A commit without events has no rows.
    send(&plain, Append::events(Vec::new())).unwrap();
    append(&store, &sold(1, 1, 10)).unwrap();
    scene.assert_in_step(server, &store);
    assert_eq!(block_on(plain.fresh_head()).unwrap().get(), 2);
}

#[test]
fn a_program_with_another_version_cannot_append() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let old = scene.open(1);
    append(&old, &sold(1, 1, 10)).unwrap();
    let new = scene.open(2);
    scene.assert_in_step(server, &new);
    let error = append(&old, &sold(1, 1, 10)).unwrap_err().to_string();
    let name = scene.name();
    let expected = format!("the rows of {name}@2, and this program writes those of {name}@1");
    assert!(error.contains(&expected), "{error}");
    append(&new, &sold(1, 1, 10)).unwrap();
    scene.assert_in_step(server, &new);
    let error = block_on(scene.builder(1).open()).unwrap_err();
    let is_inline = matches!(&error, OpenError::Inline { projection, .. } if *projection == name);
    assert!(is_inline && error.to_string().contains("version 2"), "{error}");
}

#[test]
fn an_ended_projection_is_written_by_no_program_until_one_opens_it_again() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let (store, plain) = (scene.open(1), scene.open_plain());
    append(&store, &sold(1, 1, 10)).unwrap();
    let database = PostgresDatabase::at(&scene.address, PostgresOptions::default()).unwrap();
    let report = block_on(database.check()).unwrap();
    assert_eq!(report.inline, [format!("{}@1", scene.name())]);
    assert!(!block_on(database.end_inline("other")).unwrap());
    assert!(block_on(database.end_inline(&scene.name())).unwrap());
    assert!(block_on(database.check()).unwrap().inline.is_empty());
    for handle in [&plain, &store, &plain] {
        append(handle, &sold(1, 1, 10)).unwrap();
    }
    assert_eq!(scene.assert_is_fold(server, &store), 1);
    let again = scene.open(1);
    scene.assert_in_step(server, &again);
    append(&store, &sold(1, 1, 10)).unwrap();
    scene.assert_in_step(server, &again);
}

#[test]
fn a_new_projection_catches_up_and_switches_while_others_append_faster_than_it_writes() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let plain = scene.open_plain();
    let many: Vec<_> = (0..500).map(|number| sold(number % 5, 1, 10)).collect();
    for _ in 0..3 {
        let events = many.iter().map(|trade| trade.encode().unwrap()).collect::<Vec<_>>();
        send(&plain, Append::events(events)).unwrap();
    }
    let (accepted, switched) = (AtomicU64::new(1_500), AtomicBool::new(false));
    let began = Instant::now();
    thread::scope(|scope| {
        for shop in 0..4 {
            let (plain, accepted, switched) = (&plain, &accepted, &switched);
            scope.spawn(move || {
                // Until the projection is there. Then these appends are refused.
                while !switched.load(Ordering::SeqCst) {
                    assert!(began.elapsed() < 5 * LONG, "it never came into step");
                    let trades = [(); 5].map(|()| sold(shop, 1, 10).encode().unwrap());
                    match send(plain, Append::events(trades)) {
                        Ok(_) => accepted.fetch_add(5, Ordering::SeqCst),
                        Err(error) => {
                            assert!(error.to_string().contains("till@1"), "{error}");
                            break;
                        }
                    };
                }
                switched.store(true, Ordering::SeqCst);
            });
        }
        let begun = accepted.load(Ordering::SeqCst);
        while accepted.load(Ordering::SeqCst) < begun + 20 {
            thread::yield_now();
        }
        // Two programs bring it in at once.
        for shop in 4..6 {
            let (scene, accepted, switched) = (&scene, &accepted, &switched);
            scope.spawn(move || {
                let opened = block_on(scene.builder(1).open());
                switched.fetch_or(opened.is_err(), Ordering::SeqCst);
                let store = Store::new(opened.unwrap());
                for _ in 0..25 {
                    append(&store, &sold(shop, 1, 10)).unwrap();
                    accepted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(switched.load(Ordering::SeqCst));
    let head = block_on(plain.fresh_head()).unwrap().get();
    assert_eq!(head, accepted.load(Ordering::SeqCst));
    scene.assert_in_step(server, &plain);
}

#[test]
fn the_rows_of_a_follower_go_on_inline_and_follow_again_later() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let plain = scene.open_plain();
    let mut followed = scene.place.tables().projection(Till { version: 1 });
    for shop in 0..5 {
        append(&plain, &sold(shop, 1, 10)).unwrap();
    }
    follow(&plain, &mut followed, 2).unwrap();
    append(&plain, &sold(1, 1, 10)).unwrap();
    let store = scene.open(1);
    append(&store, &sold(2, 1, 10)).unwrap();
    scene.assert_in_step(server, &store);
    // A follower beside it has nothing to do.
    let plain_head = block_on(plain.fresh_head()).unwrap();
    assert_eq!(plain_head.get(), 7);
    follow(&plain, &mut followed, 2).unwrap();
    scene.assert_in_step(server, &store);
    let database = PostgresDatabase::at(&scene.address, PostgresOptions::default()).unwrap();
    block_on(database.end_inline(&scene.name())).unwrap();
    append(&plain, &sold(3, 1, 10)).unwrap();
    assert_eq!(scene.assert_is_fold(server, &store), 7);
    follow(&plain, &mut followed, 2).unwrap();
    scene.assert_in_step(server, &store);
}

#[test]
fn several_programs_write_the_rows_of_one_log_and_double_none() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let seed = 0xB00;
    println!("seed {seed}");
    let stores = [scene.open(1), scene.open(1), scene.open(1)];
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..12_u64 {
            let (store, refused) = (&stores[writer as usize % 3], &refused);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + writer);
                for _ in 0..10 {
                    let (shop, cents) = (random.u64(..3), random.i64(1..100));
                    let trade = match random.u32(..3) {
                        0 => returned(shop, cents),
                        _ => sold(shop, 1, cents),
                    };
                    if let Err(error) = append(store, &trade) {
                        refused_rows(&error);
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    scene.assert_in_step(server, &stores[0]);
    let head = block_on(stores[0].fresh_head()).unwrap().get();
    let refused = refused.into_inner();
    println!("{head} accepted, {refused} refused");
    assert_eq!(head + refused, 120);
}

#[test]
fn a_server_that_is_killed_keeps_rows_and_events_together() {
    let Some(mut server) = PostgresServer::start() else { return };
    let scene = Scene::new(&server);
    let stores = [scene.open(1), scene.open(1)];
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let accepted: u64 = thread::scope(|scope| {
        let writers: Vec<_> = (0..8_u64)
            .map(|writer| {
                let (store, is_over, answered) =
                    (&stores[writer as usize % 2], &is_over, &answered);
                scope.spawn(move || {
                    let mut accepted = 0;
                    for number in 0.. {
                        if is_over.load(Ordering::SeqCst) {
                            break;
                        }
                        // Some are refused.
                        let trade = match number % 5 {
                            4 => returned(writer + 100, 1),
                            _ => sold(writer, 1, 10),
                        };
                        match append(store, &trade) {
                            Ok(_) => accepted += 1,
                            Err(AppendError::Unavailable(_)) => {}
                            Err(error) => drop(refused_rows(&error)),
                        }
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    accepted
                })
            })
            .collect();
        let wait = || {
            let before = answered.load(Ordering::SeqCst);
            while answered.load(Ordering::SeqCst) < before + 60 {
                thread::yield_now();
            }
        };
        for _ in 0..3 {
            wait();
            server.kill();
            server.restart();
        }
        wait();
        is_over.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(block_on(stores[0].fresh_head()).unwrap().get(), accepted);
    scene.assert_in_step(&server, &stores[0]);
}

/// A projection with a rule that the database checks at the commit.
struct Late;

impl Projection for Late {
    type Event = Trade;

    fn name(&self) -> &str {
        "late"
    }

    fn create(&self) -> Vec<String> {
        let table = "create table late (shop text unique deferrable initially deferred)";
        vec![table.to_owned()]
    }

    fn apply(
        &self,
        _: &mut Transaction<'_>,
        _: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        Ok(())
    }
}

#[test]
fn rows_that_cannot_be_a_fold_at_each_commit_are_not_taken() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let options = PostgresOptions::default;
    let late = InlineProjection::new(Late).schema(&scene.place.schema);
    let error = block_on(StoreBuilder::new(&scene.address, options()).inline(late).open());
    assert!(error.unwrap_err().to_string().contains("DEFERRABLE"));
    // Events that are in the log already, and that the projection refuses.
    let plain = scene.open_plain();
    append(&plain, &returned(1, 10)).unwrap();
    let error = block_on(scene.builder(1).open()).unwrap_err();
    assert!(error.to_string().contains("check constraint"), "{error}");
    // Poisoned keys of a follower.
    scene
        .place
        .execute(server, "insert into diptych_poisoned values ('till', 'shop:1', 1, 1, 'why', 1)");
    let error = block_on(scene.builder(1).open()).unwrap_err();
    assert!(error.to_string().contains("poisoned"), "{error}");
    append(&plain, &sold(1, 1, 10)).unwrap();
}

#[test]
fn two_projections_of_one_name_are_not_taken() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let second = InlineProjection::new(Till { version: 2 }).schema(&scene.place.schema);
    let error = block_on(scene.builder(1).inline(second).open()).unwrap_err();
    assert!(matches!(error, OpenError::Inline { .. }), "{error}");
}

#[test]
fn a_key_that_is_sent_again_writes_its_rows_once() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(server);
    let stores = [scene.open(1), scene.open(1)];
    let keyed = || {
        let event = sold(1, 1, 10).encode().unwrap().tag(Tag::new("k", 1));
        Append::event(event).key(Key { name: "once".into(), digest: Digest::of(b"once") })
    };
    let first = send(&stores[0], keyed()).unwrap();
    for store in &stores {
        let again = send(store, keyed());
        let Err(AppendError::Refused(Refusal::KeyTaken { last, .. })) = again else {
            panic!("{again:?}")
        };
        assert_eq!(last, first.last);
    }
    scene.assert_in_step(server, &stores[0]);
}
