//! Measures the bytes on the disk for an event, and the memory while a log is loaded.

use diptych_benches::{
    device::Sizes,
    engines::{KINDS, Kind, TEPHRA},
    options::Options,
    table::{Contender, Table},
    workload::{ACCOUNTS, Entry, Numbers, PAYLOAD_BYTES},
};

use crate::child::{Task, figure};

const CONTENT: &str = "payload, type and tags alone";

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    // Sizes do not vary between rounds.
    let once = options.once();
    let content = content(options.events);
    let mut contenders =
        vec![Contender::several(CONTENT, move |_| vec![content, content, f64::NAN])];
    contenders.extend(KINDS.into_iter().map(|kind: Kind| {
        Contender::several(kind.name, move |_| {
            let folder = options.folder();
            let log = folder.path().join("log");
            let (number, turn) = (options.events, options.turn());
            let task = Task { what: "load", kind, folder: &log, number, accounts: ACCOUNTS, turn };
            let loaded = task.figures();
            let Sizes { used, allocated } = Sizes::of(&log);
            let each = |bytes| bytes as f64 / options.events as f64;
            vec![each(used), each(allocated), figure(&loaded, "peak") / 1024.0]
        })
    }));
    let tables = vec![
        Table::new("size: used on disk, closed".into(), "bytes for an event", TEPHRA)
            .notes(&["used: blocks of 4 KiB of the log's files that are not all zeroes"]),
        Table::new("size: allocated on disk, closed".into(), "bytes for an event", TEPHRA),
        Table::new("size: peak memory of a load".into(), "MiB", TEPHRA)
            .notes(&["VmHWM of a process that loads --events, 1,000 in an append"]),
    ];
    Table::measure_all(tables, &once, contenders)
}

fn content(events: u64) -> f64 {
    let mut numbers = Numbers::new(events);
    let bytes = (0..events).map(|_| {
        let Entry { event_type, account, tenant, .. } = Entry::random(&mut numbers);
        let tags = format!("account:{account}tenant:{tenant}");
        PAYLOAD_BYTES + event_type.len() + tags.len()
    });
    bytes.sum::<usize>() as f64 / events as f64
}
