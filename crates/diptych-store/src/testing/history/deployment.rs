//! Rounds of clients and kills over a store, and the inspection of its log at the end.

use std::{
    collections::BTreeSet,
    env, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    answer::{Answer, CommitRecord},
    check::{Survival, check},
    client::{Client, ClientOptions},
    file::History,
    line::{HistoryLine, Opening, Question},
    record::ReadRecord,
    recorder::{Clock, Recorder},
    violation::Violation,
    workload::{Dice, Mix, all_sources, all_tags},
};
use crate::{
    commits::ReadCommits, filter::Filter, memory::Memory, store::Store, testing::TestStore,
};

/// How often the drill looks whether it is time for a kill.
const LOOK: Duration = Duration::from_micros(200);

/// A store with all that runs it, so that it can be killed and started again: a value of this
/// process, a child process, a server, or several of them.
pub trait Deployment {
    /// Starts the store: in round 0 with an empty log, and later with the log of the round before.
    fn start(&mut self, round: u64);

    /// The handle of a client of this process. The client with the highest number inspects the
    /// log.
    fn connect(&mut self, client: u64) -> Store;

    /// Kills the store while clients work. A store that cannot be stopped in the middle of a call
    /// may let the calls end that have begun.
    fn kill(&mut self);

    /// The lines that clients in other processes recorded since the last call.
    fn collect(&mut self) -> Vec<HistoryLine> {
        Vec::new()
    }
}

/// The number of a client that inspects the log.
const INSPECTOR: u64 = u64::MAX;

/// A drill: rounds of concurrent clients over a [`Deployment`]. Each round but the last ends with a
/// kill. Then the log is read whole.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The calls of all clients, and the moments of the kills, follow from the seed. Threads run as
    /// they like, so two runs with one seed differ.
    pub seed: u64,
    /// Number of kills.
    pub kills: u64,
    /// Number of clients of this process.
    pub clients: u64,
    /// Number of calls of each client in a round that is not cut short.
    pub calls: u64,
    /// How often clients make each kind of call.
    pub mix: Mix,
    /// The longest wait for an answer.
    pub patience: Duration,
    /// The clock of the history.
    pub clock: Clock,
}

impl Drill {
    /// A drill of three rounds with four clients.
    pub fn new(seed: u64) -> Drill {
        Drill {
            seed,
            kills: 2,
            clients: 4,
            calls: 120,
            mix: Mix::default(),
            patience: Duration::from_secs(60),
            clock: Clock::counter(),
        }
    }

    /// Runs the drill, and returns its history.
    ///
    /// # Panics
    /// Panics if a client gets no answer in the longest time, or if the log cannot be read at the
    /// end.
    pub fn run(&self, deployment: &mut dyn Deployment) -> History {
        let recorder = Recorder::in_memory(self.clock.clone());
        let mut dice = Dice::new(self.seed);
        let mut history = History::default();
        for round in 0..=self.kills {
            deployment.start(round);
            self.open(deployment, &recorder, round);
            let is_last = round == self.kills;
            let most = self.calls * self.clients;
            let calls = (!is_last).then(|| dice.below(most.max(1)));
            self.round(deployment, &recorder, round, calls);
            history.extend(deployment.collect());
        }
        history.extend(recorder.take());
        let keys = keys_of(&history);
        inspect(&deployment.connect(INSPECTOR), &recorder, &self.options(), self.kills, keys);
        history.extend(recorder.take());
        history
    }

    /// Runs the drill, and checks its history.
    ///
    /// # Panics
    /// Panics with the violations if there are any. The message names the file in which the history
    /// is kept.
    pub fn run_and_check(&self, deployment: &mut dyn Deployment, survival: Survival) -> History {
        let history = self.run(deployment);
        let violations = check(&history, survival);
        if violations.is_empty() {
            return history;
        }
        let name = format!("diptych-history-{}-{}.ndjson", process::id(), self.seed);
        let path = env::temp_dir().join(name);
        let kept = match history.write(&path) {
            Ok(()) => format!("the history is kept in {}", path.display()),
            Err(error) => format!("the history could not be kept in {}: {error}", path.display()),
        };
        let first: Vec<_> = violations.iter().take(20).map(Violation::to_string).collect();
        let (seed, count) = (self.seed, violations.len());
        panic!("seed {seed}: {count} violations; {kept}\n{}", first.join("\n"));
    }

    fn options(&self) -> ClientOptions {
        ClientOptions { mix: self.mix, patience: self.patience, ..ClientOptions::new(self.seed) }
    }

    /// Records the identity and the fresh head of the store that was started.
    fn open(&self, deployment: &mut dyn Deployment, recorder: &Recorder, round: u64) {
        let store = deployment.connect(INSPECTOR);
        let head = pollster::block_on(store.fresh_head()).expect("a started store answers");
        let identity = store.identity();
        recorder.opening(Opening {
            round,
            time: 0,
            log: identity.id.to_string(),
            epoch: identity.epoch.to_u64(),
            head: head.get(),
        });
    }

    /// Runs the clients, and kills the store after this number of their calls.
    fn round(
        &self,
        deployment: &mut dyn Deployment,
        recorder: &Recorder,
        round: u64,
        kill_after: Option<u64>,
    ) {
        let begun = recorder.completions();
        let options = ClientOptions { killed: Arc::new(AtomicBool::new(false)), ..self.options() };
        let stores: Vec<_> = (0..self.clients).map(|client| deployment.connect(client)).collect();
        thread::scope(|scope| {
            let start = |(number, store)| {
                let options = &options;
                scope.spawn(move || {
                    let name = (round, number);
                    Client::new(store, recorder, name, options).run(self.calls);
                })
            };
            let threads: Vec<_> = (0..).zip(stores).map(start).collect();
            let Some(kill_after) = kill_after else { return };
            while recorder.completions() - begun < kill_after
                && !threads.iter().all(|thread| thread.is_finished())
            {
                thread::sleep(LOOK);
            }
            recorder.kill(round);
            deployment.kill();
            options.killed.store(true, Ordering::Relaxed);
        });
    }
}

/// The keys of all appends.
fn keys_of(history: &History) -> BTreeSet<String> {
    let keys = history.lines().iter().filter_map(|line| match line {
        HistoryLine::Invocation(begun) => match &begun.question {
            Question::Append(append) => append.key.as_ref().map(|key| key.name.clone()),
            _ => None,
        },
        _ => None,
    });
    keys.collect()
}

/// Reads the whole log in several ways. The reads are calls of a client like others. The commits
/// are the content of the log that all calls are compared with.
fn inspect(
    store: &Store,
    recorder: &Recorder,
    options: &ClientOptions,
    round: u64,
    keys: BTreeSet<String>,
) {
    let mut client = Client::new(store.clone(), recorder, (round, INSPECTOR), options);
    client.ask(Question::FreshHead);
    client.ask(Question::Head);
    let head = store.head().position().get();
    read_everything(&mut client, head);
    for tag in all_tags() {
        client.ask(Question::Count { tag, upto: u64::MAX });
    }
    for source in all_sources() {
        client.ask(Question::Tracked { source });
    }
    for key in keys {
        client.ask(Question::Keyed { key });
    }
    let mut after = 0;
    loop {
        let read = ReadCommits::after(after.into());
        let batch = pollster::block_on(store.commits(read)).expect("the log can be read");
        for commit in batch.iter() {
            recorder.push(HistoryLine::Commit(CommitRecord::of(&commit)));
        }
        let upto = batch.upto().get();
        if upto >= head || upto <= after {
            return;
        }
        after = upto;
    }
}

fn read_everything(client: &mut Client, head: u64) {
    let mut after = 0;
    while after < head {
        let everything = Filter::everything();
        let read =
            ReadRecord { filter: everything, after, upto: head, backwards: false, limit: 1_000 };
        match client.ask(Question::Read(read)) {
            Some(Answer::Events { upto, .. }) if upto > after => after = upto,
            // The checker names what is wrong with such an answer.
            _ => return,
        }
    }
}

/// The store of a conformance suite. It is killed by its [end](TestStore::end), and started by its
/// [reopening](TestStore::reopen). Without an end, clients stop between two calls. Before the first
/// kill, clients with odd numbers get [second](TestStore::second) handles.
impl Deployment for TestStore {
    fn start(&mut self, round: u64) {
        if round > 0 {
            // The handle is dropped before the store is opened again.
            self.store = Store::new(Memory::new());
            self.hooks.second = None;
            let reopen = self.hooks.reopen.as_mut();
            self.store = (reopen.expect("the store can be reopened"))();
        }
    }

    fn connect(&mut self, client: u64) -> Store {
        match &mut self.hooks.second {
            Some(second) if client % 2 == 1 && client != INSPECTOR => second(),
            _ => self.store.clone(),
        }
    }

    fn kill(&mut self) {
        if let Some(end) = self.hooks.end.take() {
            end();
        }
    }
}
