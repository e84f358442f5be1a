//! Measures reads of accounts of about 100 events, in a log that is on the disk and not in memory.

use std::{
    fs::{File, Metadata},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use diptych_benches::{
    device::{drop_cache, files, read_bytes},
    engines::{DIPTYCH, Kind, READ_KINDS, SQLITE, UMADB},
    options::Options,
    table::{Contender, Table, progress},
    workload::{Numbers, callers},
};
use rustix::fs::{Advice, fadvise};

use crate::child::{Task, figure};

const READERS: u64 = 16;
const EVENTS_OF_ACCOUNT: u64 = 100;
const PAGE: u64 = 4_096;

const RAW: &str = "raw: a random 4 KiB of the files for each event";

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let folder = options.folder();
    let events = options.number("--cold-events");
    let accounts = (events / EVENTS_OF_ACCOUNT).max(1);
    let how = std::cell::Cell::new("");
    let root = folder.path();
    let of = |name: &str| root.join(name.replace(' ', "-"));
    let kinds = READ_KINDS.into_iter().filter(|kind| kind.name != SQLITE);
    let raw = of(DIPTYCH);
    let mut contenders = Vec::new();
    for kind in kinds {
        if !kind.name.contains(&options.name) && kind.name != DIPTYCH {
            continue;
        }
        let (folder, how) = (of(kind.name), &how);
        progress(&format!("cold: loading {}", kind.name));
        let turn = options.turn();
        let path = folder.clone();
        let task = move |what, number| {
            Task { what, kind, folder: &path, number, accounts, turn }.figures()
        };
        task("load-large", events);
        contenders.push(Contender::several(kind.name, move |round| {
            how.set(drop_cache(root));
            let figures = task("read-cold", round);
            FIGURES.map(|name| figure(&figures, name)).to_vec()
        }));
    }
    contenders.push(Contender::several(RAW, |round| {
        how.set(drop_cache(root));
        let pages = Pages::of(&raw);
        read(options.turn(), root, read_bytes(root), round, |numbers| {
            (0..EVENTS_OF_ACCOUNT).for_each(|_| pages.read_one(numbers));
            EVENTS_OF_ACCOUNT
        })
    }));
    let title = format!("cold: 16 readers, random accounts of a log of {events} events");
    let mut tables = vec![
        Table::new(title.clone(), "events/s", UMADB),
        Table::new(format!("{title}, the first half second"), "events/s", UMADB),
        Table::new(title.clone(), "accounts/s", UMADB),
        Table::new(title.clone(), "KiB from the disk for an event", UMADB),
        Table::new(format!("{title}, opening it before"), "ms, less is better", UMADB),
    ];
    tables = Table::measure_all(tables, options, contenders);
    tables[0].notes = vec![
        how.get(),
        "an account has about 100 events; the log was opened again before each turn",
        "pages that a turn has read, or the system read ahead, stay in memory for its rest",
        "the KiB include the pages that opening read, which were in memory before the turn",
    ]
    .leak();
    tables
}

/// The figures of a turn, in the order of the tables.
const FIGURES: [&str; 5] = ["events", "first", "accounts", "kib", "open"];

/// Measures in a child process. The parent must not map a page of the log, because the system does
/// not drop mapped pages from its cache.
pub(crate) fn read_in_child(kind: Kind, folder: &Path, round: u64, accounts: u64, turn: Duration) {
    let (before, start) = (read_bytes(folder), Instant::now());
    let engine = (kind.open)(folder);
    let opened = start.elapsed().as_secs_f64() * 1e3;
    let mut figures = read(turn, folder, before, round, |numbers| {
        let read = engine.read_account(numbers.draw() % accounts);
        assert!(read > 0, "an account without events: the log is not filled");
        read
    });
    engine.close();
    figures.push(opened);
    for (name, figure) in FIGURES.iter().zip(figures) {
        println!("{name}={figure}");
    }
}

/// Runs readers that read one account after another; `one` reads an account and returns its number
/// of events. Returns the first four of [`FIGURES`].
fn read(
    turn: Duration,
    disk: &Path,
    bytes_before: u64,
    round: u64,
    one: impl Fn(&mut Numbers) -> u64 + Sync,
) -> Vec<f64> {
    const FIRST: Duration = Duration::from_millis(500);
    let (events, reads) = (AtomicU64::new(0), AtomicU64::new(0));
    let (per_second, first) = thread::scope(|scope| {
        let first = scope.spawn(|| {
            thread::sleep(FIRST);
            events.load(Ordering::Relaxed) as f64 / FIRST.as_secs_f64()
        });
        let per_second = callers(READERS, round, turn, |numbers| {
            events.fetch_add(one(numbers), Ordering::Relaxed);
            reads.fetch_add(1, Ordering::Relaxed);
            true
        });
        (per_second, first.join().unwrap())
    });
    let (events, reads) = (events.into_inner() as f64, reads.into_inner() as f64);
    let from_disk = (read_bytes(disk) - bytes_before) as f64 / 1024.0 / events;
    vec![per_second * events / reads, first, per_second, from_disk]
}

/// The pages of a log's large files.
struct Pages {
    files: Vec<(File, u64)>,
}

impl Pages {
    fn of(folder: &Path) -> Pages {
        let open = |path| {
            let file = File::open(path).unwrap();
            // The reads are of single random pages, as for an index, so the system must not read
            // ahead.
            fadvise(&file, 0, None, Advice::Random).unwrap();
            let pages = file.metadata().as_ref().map_or(0, Metadata::len) / PAGE;
            (pages > 256).then_some((file, pages))
        };
        let files: Vec<_> = files(folder).into_iter().filter_map(open).collect();
        assert!(!files.is_empty(), "the log is too small to read it at random");
        Pages { files }
    }

    fn read_one(&self, numbers: &mut Numbers) {
        let (file, pages) = &self.files[numbers.draw() as usize % self.files.len()];
        let mut page = [0; PAGE as usize];
        file.read_exact_at(&mut page, numbers.draw() % pages * PAGE).unwrap();
    }
}
