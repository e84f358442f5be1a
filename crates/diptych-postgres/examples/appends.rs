//! Measures appends to a log in PostgreSQL, and reads of what they wrote:
//!
//! ```sh
//! cargo run --release -p diptych-postgres --example appends -- postgres://ann@localhost/test 64 5
//! ```
//!
//! The arguments are the address, the number of writers, and the seconds of each part. The log gets
//! a name of its own for each run.

// It is a program for a terminal.
#![allow(clippy::print_stdout)]

use std::{
    env,
    error::Error,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_store::{
    Append, AppendCondition, AppendError, Filter, Position, RawEvent, Read, Store, Tag,
};
use pollster::block_on;

type Failure = Box<dyn Error + Send + Sync>;

/// An event of 256 bytes with two tags.
fn event(writer: u64, thing: u64) -> RawEvent {
    let tags = [Tag::new("writer", writer), Tag::new("thing", thing)];
    tags.into_iter().fold(RawEvent::new("measured", vec![b'x'; 256]), RawEvent::tag)
}

/// Runs the work on this many threads until the time is over, and prints how many events it wrote.
fn measure(
    name: &str,
    writers: u64,
    time: Duration,
    work: impl Fn(u64, u64) -> Result<u64, AppendError> + Sync,
) -> Result<(), Failure> {
    let (written, start) = (AtomicU64::new(0), Instant::now());
    let calls = AtomicU64::new(0);
    thread::scope(|scope| {
        let (work, written, calls) = (&work, &written, &calls);
        let write = move |writer| -> Result<(), AppendError> {
            for turn in 0.. {
                if start.elapsed() >= time {
                    break;
                }
                written.fetch_add(work(writer, turn)?, Ordering::Relaxed);
                calls.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let threads: Vec<_> =
            (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        for thread in threads {
            thread.join().map_err(|_| "a writer panicked")??;
        }
        Ok::<(), Failure>(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let (written, calls) = (written.into_inner() as f64, calls.into_inner() as f64);
    println!("{name}: {:.0} events/s, {:.0} calls/s", written / seconds, calls / seconds);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().ok_or("give the address of a database")?;
    let writers: u64 = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    let mut options = PostgresOptions::default();
    options.log = Some(format!("measured-{:x}", fastrand::u64(..)));
    let store = Store::new(block_on(PostgresStore::open(&address, options.clone()))?);
    let commit = |append: Append| -> Result<(), AppendError> {
        block_on(async {
            store.append(append).await?.synced().await?;
            Ok(())
        })
    };
    for count in [1, 8, writers] {
        measure(&format!("{count} writers, one event a commit"), count, time, |writer, turn| {
            commit(Append::event(event(writer, turn))).map(|()| 1)
        })?;
    }
    measure(
        &format!("{writers} writers, each on its own boundary"),
        writers,
        time,
        |writer, _| {
            let own = Filter::tag(Tag::new("writer", writer));
            let after = block_on(store.last(&own, Position::MAX)).ok().flatten();
            let after = after.unwrap_or_default();
            let condition = AppendCondition { fail_if: own, after };
            commit(Append::event(event(writer, 0)).condition(condition)).map(|()| 1)
        },
    )?;
    for size in [64, 1_000] {
        measure(&format!("1 writer, {size} events a commit"), 1, time, |writer, turn| {
            commit(Append::events((0..size).map(|_| event(writer, turn)))).map(|()| size)
        })?;
    }
    // No other part has so high a number.
    let thing = |number: u64| u64::MAX - number;
    for number in 0..2_000 {
        commit(Append::event(event(writers, thing(number % 20))))?;
    }
    measure_reads(&store, thing)?;
    let second = Store::new(block_on(PostgresStore::open(&address, options))?);
    measure_delays(&store, &second)
}

fn measure_reads(store: &Store, thing: impl Fn(u64) -> u64) -> Result<(), Failure> {
    let (start, mut read, mut events) = (Instant::now(), Read::all(), 0_u64);
    let head = block_on(store.fresh_head())?;
    while read.after < head {
        let batch = block_on(store.read(&Filter::everything(), read.clone()))?;
        events += batch.len() as u64;
        read.after = batch.upto();
    }
    println!("reading all: {:.0} events/s", events as f64 / start.elapsed().as_secs_f64());
    let mut times: Vec<Duration> = Vec::new();
    for number in 0..200 {
        let filter = Filter::tag(Tag::new("thing", thing(number % 20)));
        let began = Instant::now();
        let batch = block_on(store.read(&filter, Read::all()))?;
        times.push(began.elapsed());
        assert_eq!(batch.len(), 100, "one thing has 100 events");
    }
    print_median("reading the 100 events of one tag", times);
    Ok(())
}

/// The time from an append to its event in a store that another process could have.
fn measure_delays(store: &Store, second: &Store) -> Result<(), Failure> {
    let mut times: Vec<Duration> = Vec::new();
    for number in 0..100 {
        thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        let accepted = block_on(store.append(Append::event(event(0, number))))?;
        block_on(second.head().upto(accepted.last))?;
        times.push(began.elapsed());
    }
    print_median("an append until another process sees it", times);
    Ok(())
}

fn print_median(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("{name}: {middle:?} at the median");
}
