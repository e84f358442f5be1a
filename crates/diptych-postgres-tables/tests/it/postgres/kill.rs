//! A process that projects is killed at any moment. At any point, rows equal a fold of the log up
//! to the checkpoint.
//!
//! The child is this test binary again, told by its environment where the server is.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use diptych::{App, projection::Target};
use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_postgres_tables::Postgres;
use diptych_postgres_testing::{new_name, shared};
use pollster::block_on;

use super::{
    follow::follow,
    shop::{Place, Sales, happen},
};

const ADDRESS: &str = "DIPTYCH_TABLES_ADDRESS";
const SCHEMA: &str = "DIPTYCH_TABLES_SCHEMA";
const SEED: &str = "DIPTYCH_TABLES_SEED";
const KILLS: u64 = 12;
/// A child that is not killed ends by itself after this time.
const LIFE: Duration = Duration::from_secs(60);
const BEGUN: &str = "the child has begun";

fn open(address: &str) -> App {
    let store = block_on(PostgresStore::open(address, PostgresOptions::default())).unwrap();
    block_on(App::over(store).start()).unwrap()
}

#[test]
fn rows_are_a_fold_up_to_the_checkpoint_after_any_kill() {
    let Some(server) = shared() else { return };
    let (place, address) = (Place::new(server), server.address("postgres", &new_name()));
    let seed = 0xD1;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut positions = Vec::new();
    for round in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "postgres::kill::child", "--nocapture"]).env(ADDRESS, &address);
        child.env(SCHEMA, &place.schema).env(SEED, (seed + round).to_string());
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It tells each batch, and is killed some time after one of them.
        let batches = random.usize(1..20);
        lines
            .by_ref()
            .map(Result::unwrap)
            .filter(|line| line.contains(BEGUN))
            .nth(batches)
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let app = open(&address);
        positions.push(place.assert_in_step(server, app.store()).get());
        block_on(app.stop()).unwrap();
    }
    let app = open(&address);
    follow(app.store(), &mut place.sales(), 100).unwrap();
    assert_eq!(place.assert_in_step(server, app.store()), app.store().head().position());
    println!("{KILLS} kills, at {positions:?}");
    positions.dedup();
    assert!(positions.len() as u64 > KILLS / 3, "the children hardly got to project");
}

/// The work of a child. As a test without a parent it does nothing.
#[test]
fn child() {
    let Ok(address) = env::var(ADDRESS) else { return };
    let mut random = fastrand::Rng::with_seed(env::var(SEED).unwrap().parse().unwrap());
    let app = open(&address);
    let place = Postgres::at(&address).schema(env::var(SCHEMA).unwrap());
    let mut sales = place.projection(Sales);
    sales.checkpoint().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < LIFE {
        let events = random.usize(1..50);
        happen(&app, &mut random, events);
        println!("{BEGUN}");
        follow(app.store(), &mut sales, random.usize(1..60)).unwrap();
        if random.u32(..20) == 0 {
            sales.reset().unwrap();
        }
    }
}
