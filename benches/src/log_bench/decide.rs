//! Measures decisions over a large log. Each reads one account, and appends to it on the condition
//! that the account has no new event. The program `commands` also measures them with cached states.

use diptych_benches::{
    engines::{ABOUT, COMMIT, KINDS, TEPHRA, load},
    options::Options,
    table::{Contender, Table},
    workload::{ACCOUNTS, Entry, callers},
};

const CALLERS: u64 = 8;

pub(crate) fn table(options: &Options) -> Table {
    let folder = options.folder();
    let chosen = KINDS.into_iter().filter(|kind| kind.name.contains(&options.name));
    let engines: Vec<_> = chosen
        .map(|kind| {
            let engine = (kind.open)(&folder.path().join(kind.name));
            load(&*engine, 1, options.events, ACCOUNTS, COMMIT);
            engine.settle();
            (kind.name, engine)
        })
        .collect();
    let mut contenders = Vec::new();
    for (name, engine) in &engines {
        contenders.push(Contender::new(name, move |round| {
            callers(CALLERS, round, options.turn(), |numbers| {
                engine.decide(&Entry::random(numbers))
            })
        }));
    }
    let title = "decide: 8 threads read an account and append on condition";
    let table = Table::new(title.into(), "decisions/s, each synced", TEPHRA)
        .notes(ABOUT)
        .measure(options, contenders);
    engines.into_iter().for_each(|(_, engine)| engine.close());
    table
}
