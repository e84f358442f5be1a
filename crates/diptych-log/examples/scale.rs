//! Measures a log with many events, tags and segments on this machine:
//! `cargo run --release -p diptych-log --example scale -- --dir DIR`.
//!
//! The workload: commits of 1,000 events, each commit with a key. An event has a payload of 256
//! bytes and the tag `customer:` (1 of as many as a tenth of the events). Every tenth event also
//! has the tag `region:north`. Segments have 3 MiB, so 100 million events, which are the default,
//! make about 10,000 segments and need about 40 GB of disk.
//!
//! One process fills the log. A second process opens it and asks it, so that its memory is not the
//! memory of writing. Options: `--dir DIR`, `--events N`, `--segment-kib N`, and `--phase both`,
//! `fill` or `ask`. A log that `fill` leaves behind can be asked again.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    fmt::Display,
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use diptych_log::{Log, LogOptions};
use diptych_store::{
    Append, AppendCondition, Digest, EventStore, Filter, Key, Position, RawEvent, Read, Tag,
};

const PER_COMMIT: u64 = 1_000;
const LOOK_UPS: usize = 1_000;

struct Options {
    dir: PathBuf,
    events: u64,
    segment_kib: u64,
    phase: String,
}

impl Options {
    fn from_arguments() -> Options {
        let mut options = Options {
            dir: std::env::temp_dir().join("diptych-scale"),
            events: 100_000_000,
            segment_kib: 3 * 1024,
            phase: "both".to_owned(),
        };
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if name == "--dir" => options.dir = value.into(),
                [name, value] if name == "--events" => options.events = value.parse().unwrap(),
                [name, value] if name == "--segment-kib" => {
                    options.segment_kib = value.parse().unwrap();
                }
                [name, value] if name == "--phase" => options.phase.clone_from(value),
                _ => panic!("options are --dir DIR, --events N, --segment-kib N, --phase PHASE"),
            }
        }
        options
    }

    fn log(&self) -> Log {
        let segment_bytes = self.segment_kib * 1024;
        Log::open(&self.dir, LogOptions { segment_bytes, ..LogOptions::default() }).unwrap()
    }

    fn customers(&self) -> u64 {
        (self.events / 10).max(1)
    }
}

fn main() {
    let options = Options::from_arguments();
    match options.phase.as_str() {
        "fill" => fill(&options),
        "ask" => ask(&options),
        _ => {
            fill(&options);
            let program = std::env::current_exe().unwrap();
            let mut again = Command::new(program);
            again.arg("--dir").arg(&options.dir).args(["--phase", "ask"]);
            again.args(["--events", &options.events.to_string()]);
            again.args(["--segment-kib", &options.segment_kib.to_string()]);
            assert!(again.status().unwrap().success());
        }
    }
}

/// Spreads numbers evenly; the same ones in every run.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 27)
}

fn event(options: &Options, number: u64) -> RawEvent {
    let customer = mixed(number) % options.customers();
    let event = RawEvent::new("moved", vec![number as u8; 256]).tag(Tag::new("customer", customer));
    match number.is_multiple_of(10) {
        true => event.tag(Tag::new("region", "north")),
        false => event,
    }
}

fn key(number: u64) -> Key {
    Key::new(format!("request {number}"), Digest([7; 16]))
}

fn commit(options: &Options, number: u64) -> Append {
    let first = number * PER_COMMIT;
    Append::events((first..first + PER_COMMIT).map(|number| event(options, number)))
        .key(key(number))
}

fn fill(options: &Options) {
    let log = options.log();
    let commits = options.events / PER_COMMIT;
    let begun = log.head().position().get() / PER_COMMIT;
    let mut tenth = Instant::now();
    for number in begun..commits {
        log.blocking().commit(commit(options, number)).unwrap();
        if (number + 1) % (commits / 10).max(1) == 0 {
            let rate = (commits / 10 * PER_COMMIT) as f64 / tenth.elapsed().as_secs_f64();
            let there = (number + 1) * PER_COMMIT;
            row(&format!("append, {there} there"), format_args!("{rate:.0} events/s"));
            tenth = Instant::now();
        }
    }
    memory("filling");
    timed("complete segments clustered and indexed", || log.blocking().cluster().unwrap());
    timed("close", || log.close().unwrap());
}

fn ask(options: &Options) {
    let log = timed("open after a clean close", || options.log());
    memory("opening");
    let head = log.head().position();
    let customer = |number: u64| Filter::tag(Tag::new("customer", number % options.customers()));
    let north = Filter::tag(Tag::new("region", "north"));
    let read = |filter: &Filter| log.blocking().read(filter, Read::all()).unwrap().len();

    timed("first look-up of a customer", || read(&customer(mixed(1))));
    memory("the first look-up");
    each("events of a customer", |number| {
        read(&customer(mixed(number)));
    });
    each("last event of a customer", |number| {
        let last = log.blocking().last(&customer(mixed(number)), head).unwrap();
        assert!(last.is_none_or(|last| last <= head));
    });
    each("customer that is not there", |number| {
        let absent = Filter::tag(Tag::new("customer", options.events + number));
        assert_eq!(log.blocking().last(&absent, head).unwrap(), None);
    });
    each("key that is not there", |number| {
        let absent = format!("absent {number}");
        assert_eq!(log.blocking().keyed(&absent).unwrap(), None);
    });
    each("key that is there", |number| {
        let there = key(mixed(number) % (options.events / PER_COMMIT));
        assert!(log.blocking().keyed(&there.name).unwrap().is_some());
    });
    each("append with a condition that holds", |number| {
        let fail_if = customer(mixed(number));
        let after = log.blocking().last(&fail_if, head).unwrap().unwrap_or_default();
        let condition = AppendCondition { fail_if, after };
        let accepted = log.blocking().append(Append::default().condition(condition)).unwrap();
        assert_eq!(accepted.last, head);
    });
    each("append with a condition since the start that fails", |number| {
        let after = Position::START;
        let condition = AppendCondition { fail_if: north.clone(), after };
        let append = Append::event(event(options, number)).condition(condition);
        log.blocking().append(append).unwrap_err();
    });
    timed("last event of a tenth of all", || log.blocking().last(&north, head).unwrap().unwrap());
    timed("first 1,000 events of a tenth of all", || {
        log.blocking().read(&north, Read::all().limit(1_000)).unwrap().len()
    });
    let tag = Tag::new("region", "north");
    let count = timed("count of a tenth of all", || log.blocking().count(&tag, head).unwrap());
    assert_eq!(count, options.events.div_ceil(10), "the log has another number of events");
    appends(options, &log);
    let stats = timed("stats", || log.blocking().stats().unwrap());
    row("events", stats.head.get());
    row("segments", stats.segments);
    row("bytes of segments", stats.segment_bytes);
    row("bytes of index files", stats.index_bytes);
    row("bytes on disk", stats.allocated_bytes);
    row("maps", format_args!("{} of {}", stats.maps, stats.maps_limit));
    row("open files", stats.open_files);
    memory("all questions");
    timed("close", || log.close().unwrap());
}

/// Appends single events, each after the sync of the one before, for three seconds.
fn appends(options: &Options, log: &Log) {
    let (mut count, start) = (0_u64, Instant::now());
    while start.elapsed() < Duration::from_secs(3) {
        log.blocking().commit(Append::event(event(options, 10 * count + 1))).unwrap();
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    row("append, 1 writer, 1 event each", format_args!("{rate:.0}/s"));
}

fn row(name: &str, value: impl Display) {
    println!("{name:<58} {value:>20}");
}

fn timed<T>(name: &str, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let answer = act();
    row(name, format_args!("{:.3?}", start.elapsed()));
    answer
}

fn each(name: &str, mut act: impl FnMut(u64)) {
    let mut times: Vec<_> = (0..LOOK_UPS as u64)
        .map(|number| {
            let start = Instant::now();
            act(number);
            start.elapsed()
        })
        .collect();
    times.sort();
    let (half, most) = (times[LOOK_UPS / 2], times[LOOK_UPS * 99 / 100]);
    row(&format!("{name}, p50 / p99"), format_args!("{half:.1?} / {most:.1?}"));
}

/// Prints the memory, maps and descriptors of the process, as Linux reports them. On other systems
/// the values are empty.
fn memory(after: &str) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_start_matches(':').trim().to_owned()).unwrap_or_default()
    };
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default().lines().count();
    let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let anonymous = of("RssAnon");
    row(
        &format!("memory after {after}: own / peak with files"),
        format_args!("{anonymous} / {}", of("VmHWM")),
    );
    row("  maps / descriptors of the process", format_args!("{maps} / {files}"));
}
