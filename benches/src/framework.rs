//! Measures the cost of one command without any disk: one thread, a store in memory.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    bank::{Bank, Command},
    cqrs_es::{JsonStore, PrintingStore, SilentStore},
    diptych::InMemory,
    log::ByHand,
    options::Options,
    table::{Contender, Table},
};

const SILENT: &str = "cqrs-es, as its MemStore, without its prints";
const PRINTING: &str = "cqrs-es, MemStore, prints to /dev/null";
const JSON: &str = "cqrs-es, its persistence, JSON text in memory";
const BY_HAND: &str = "diptych-store's Memory, JSON, by hand";

const DIPTYCH: &str = "diptych, Memory, JSON";

const NOTES: &[&str] = &[
    "cqrs-es' MemStore does not serialise: it keeps the events as values, and copies them",
    "it prints two lines for each command: measured as it is, and as a store without them",
    "cqrs-es' persistence is what it has over databases: here over texts in a map",
];

/// Accounts in one store. They are so few that memory stays small even if commands are fast.
const FRESH_ACCOUNTS: usize = 20_000;
const LONG_ACCOUNTS: usize = 100;
/// Events that an account has before the clock starts.
const BEFORE: u64 = 100;
/// Events that the measured commands then add to it.
const ADDED: u64 = 100;

pub(crate) fn tables(options: &Options) -> Vec<Table> {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (runtime, turn) = (&runtime, options.turn());
    let fresh = vec![
        Contender::new(SILENT, |_| no_history::<SilentStore>(runtime, turn)),
        Contender::new(PRINTING, |_| no_history::<PrintingStore>(runtime, turn)),
        Contender::new(JSON, |_| no_history::<JsonStore>(runtime, turn)),
        Contender::new(BY_HAND, |_| no_history::<ByHand>(runtime, turn)),
        Contender::new(DIPTYCH, |_| no_history::<InMemory>(runtime, turn)),
    ];
    let long = vec![
        Contender::new(SILENT, |_| long_history::<SilentStore>(runtime, turn)),
        Contender::new(PRINTING, |_| long_history::<PrintingStore>(runtime, turn)),
        Contender::new(JSON, |_| long_history::<JsonStore>(runtime, turn)),
        Contender::new(BY_HAND, |_| long_history::<ByHand>(runtime, turn)),
        Contender::new(DIPTYCH, |_| long_history::<InMemory>(runtime, turn)),
    ];
    let titles = ["framework: no history", "framework: history of 100 to 200 events"];
    let [first, second] = titles.map(|title| Table {
        title,
        unit: "commands/s",
        baseline: SILENT,
        one_caller: true,
        notes: NOTES,
        rows: Vec::new(),
    });
    vec![first.measure(options, fresh), second.measure(options, long)]
}

/// Each command opens a new account.
fn no_history<B: Bank>(runtime: &Runtime, turn: Duration) -> f64 {
    let (mut done, mut taken) = (0, Duration::ZERO);
    while taken < turn || done == 0 {
        let accounts: Vec<String> = names(FRESH_ACCOUNTS);
        let bank = B::fresh();
        taken += runtime.block_on(async {
            let start = Instant::now();
            for account in &accounts {
                let holder = "Ann Example".to_owned();
                bank.execute(account, Command::Open { account: account.clone(), holder }).await;
            }
            start.elapsed()
        });
        done += accounts.len();
        black_box(bank);
    }
    done as f64 / taken.as_secs_f64()
}

/// Adds 100 events to accounts that have 100 already. The clock runs only while it adds.
fn long_history<B: Bank>(runtime: &Runtime, turn: Duration) -> f64 {
    let (mut done, mut taken) = (0, Duration::ZERO);
    while taken < turn || done == 0 {
        let bank = B::fresh();
        for account in names(LONG_ACCOUNTS) {
            taken += runtime.block_on(async {
                let holder = "Ann Example".to_owned();
                let open = Command::Open { account: account.clone(), holder };
                bank.execute(&account, open).await;
                deposits(&bank, &account, BEFORE - 1).await;
                let start = Instant::now();
                deposits(&bank, &account, ADDED).await;
                start.elapsed()
            });
            done += ADDED;
            if taken >= turn {
                break;
            }
        }
        black_box(bank);
    }
    done as f64 / taken.as_secs_f64()
}

async fn deposits<B: Bank>(bank: &B, account: &str, count: u64) {
    for amount in 0..count {
        let deposit = Command::Deposit { account: account.to_owned(), amount };
        bank.execute(account, deposit).await;
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("account-{number}")).collect()
}
