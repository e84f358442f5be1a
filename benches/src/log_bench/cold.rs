//! Accounts of about 100 events of a log that is on the disk and not in memory.

use std::{
    fs::{File, Metadata},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use diptych_benches::{
    device::{drop_cache, files},
    engines::{DIPTYCH, Engine, KINDS, SQLITE, UMADB, load},
    options::Options,
    table::{Contender, Table},
    workload::{Numbers, callers},
};

const READERS: u64 = 16;
const EVENTS_OF_ACCOUNT: u64 = 100;
/// Large appends: loading is not what is measured.
const COMMIT: u64 = 10_000;
const PAGE: u64 = 4_096;

const RAW: &str = "raw: a random 4 KiB of the files for each event";

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let folder = options.folder();
    let events = options.number("--cold-events");
    let accounts = (events / EVENTS_OF_ACCOUNT).max(1);
    let how = std::cell::Cell::new("");
    let root = folder.path();
    let of = |name: &str| root.join(name.replace(' ', "-"));
    let kinds = KINDS.into_iter().filter(|kind| kind.name != SQLITE);
    let raw = of(DIPTYCH);
    let mut contenders = Vec::new();
    for kind in kinds {
        if !kind.name.contains(&options.name) && kind.name != DIPTYCH {
            continue;
        }
        let (folder, how) = (of(kind.name), &how);
        let engine = (kind.open)(&folder);
        load(&*engine, 1, events, accounts, COMMIT);
        settle(&*engine);
        engine.close();
        contenders.push(Contender::several(kind.name, move |round| {
            how.set(drop_cache(root));
            let engine = (kind.open)(&folder);
            let figures = read(options, &*engine, round, accounts);
            engine.close();
            figures
        }));
    }
    contenders.push(Contender::several(RAW, |round| {
        how.set(drop_cache(root));
        let events = random_pages(options, &raw, round);
        vec![events, events / EVENTS_OF_ACCOUNT as f64]
    }));
    let title = format!("cold: 16 readers, random accounts of a log of {events} events");
    let tables =
        vec![Table::new(title.clone(), "events/s", UMADB), Table::new(title, "accounts/s", UMADB)];
    let mut tables = Table::measure_all(tables, options, contenders);
    for table in &mut tables {
        table.notes = vec![
            how.get(),
            "an account has about 100 events; the log was opened again before each turn",
            "what a turn has read is in memory for the rest of it",
        ]
        .leak();
    }
    tables
}

/// Waits until a log has arranged what it arranges in the background: see the engine.
fn settle(engine: &dyn Engine) {
    engine.settle();
}

fn read(options: &Options, engine: &dyn Engine, round: u64, accounts: u64) -> Vec<f64> {
    let (events, reads) = (AtomicU64::new(0), AtomicU64::new(0));
    let per_second = callers(READERS, round, options.turn(), |numbers| {
        let read = engine.read_account(numbers.draw() % accounts);
        assert!(read > 0, "an account without events: the log is not filled");
        events.fetch_add(read, Ordering::Relaxed);
        reads.fetch_add(1, Ordering::Relaxed);
        true
    });
    let each = events.into_inner() as f64 / reads.into_inner() as f64;
    vec![per_second * each, per_second]
}

/// How many pages a second are read at random places of the files of a log.
fn random_pages(options: &Options, folder: &Path, round: u64) -> f64 {
    let open = |path| {
        let file = File::open(path).unwrap();
        let pages = file.metadata().as_ref().map_or(0, Metadata::len) / PAGE;
        (pages > 256).then_some((file, pages))
    };
    let files: Vec<_> = files(folder).into_iter().filter_map(open).collect();
    assert!(!files.is_empty(), "the log is too small to read it at random");
    callers(READERS, round, options.turn(), |numbers: &mut Numbers| {
        let (file, pages) = &files[numbers.draw() as usize % files.len()];
        let mut page = [0; PAGE as usize];
        file.read_exact_at(&mut page, numbers.draw() % pages * PAGE).unwrap();
        true
    })
}
