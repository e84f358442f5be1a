//! Seeded runs of two apps on one simulated log. Many commands are in flight at once. The run polls
//! and drops them, syncs the log, fails the disk and crashes in random order. After each step, a
//! model that does not use the crate compares the answers with the log.
//!
//! The seed determines the run. `DIPTYCH_INTERLEAVINGS=100000` executes more runs. `DIPTYCH_SEED=7`
//! executes one run and prints its trace.

use std::{
    collections::HashMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use diptych::{
    App, Command, CommandError, EventStore, ExecuteError, Filter, Log, LogOptions, Receipt,
    command::Lane,
};
use diptych_log::{
    Background,
    disk::simulated::{Fault, Operation, Random, SimulatedDisk},
};
use diptych_store::{Append, Position, Read};
use parking_lot::Mutex;
use serde::Serialize;

use crate::support::{
    bank::{self, Deposited},
    call_hooks::yielding,
    manual_sync::{HeldFuture, raw},
    model::{Wish, World, account, course, student},
    school::{self, Course},
};

const RUNS: u64 = 500;

type Trace = Arc<Mutex<Vec<String>>>;

#[test]
fn every_answer_is_right_in_every_interleaving() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let only = number("DIPTYCH_SEED");
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..number("DIPTYCH_INTERLEAVINGS").unwrap_or(RUNS),
    };
    let mut answers = HashMap::new();
    for seed in seeds {
        let trace = Trace::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, trace.clone(), &mut answers)));
        if outcome.is_err() || only.is_some() {
            println!("seed {seed}:\n  {}", trace.lock().join("\n  "));
        }
        assert!(
            outcome.is_ok(),
            "seed {seed} fails; again: DIPTYCH_SEED={seed} cargo test -p diptych --all-features \
             --test simulation interleave -- --nocapture"
        );
    }
    println!("{answers:?}");
    if only.is_none() {
        for kind in ["commit", "empty", "rejected", "unknown", "unavailable"] {
            let seen = answers.get(kind).copied().unwrap_or(0);
            assert!(seen > 100, "only {seen} answers of kind {kind}");
        }
    }
}

fn run(seed: u64, trace: Trace, answers: &mut HashMap<&'static str, u64>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::unconstrained(async {
        let mut run = Run::new(seed, trace);
        for _ in 0..60 + run.random.below(240) {
            run.step().await;
        }
        run.settle().await;
        for (kind, times) in run.answers.drain() {
            *answers.entry(kind).or_default() += times;
        }
    }));
}

struct Run {
    random: Random,
    trace: Trace,
    disk: SimulatedDisk,
    life: Option<Life>,
    /// The command that wrote each published event, and the world after each event. The first world
    /// is the one before any event.
    writers: Vec<String>,
    worlds: Vec<World>,
    /// The command behind each name.
    wishes: HashMap<String, Wish>,
    keys: Vec<String>,
    answers: HashMap<&'static str, u64>,
}

/// The state between one opening of the log and its end.
struct Life {
    log: Log,
    apps: [App; 2],
    lanes: [Lane; 2],
    /// Whether an answer can be older than the poll that returns it.
    yields: bool,
    flights: Vec<Flight>,
    /// The number of disk failures before this opening.
    failures: usize,
    /// The answers in each lane.
    in_lanes: [Vec<InLane>; 2],
}

struct Flight {
    name: String,
    keyed: bool,
    /// The head of the log at its start.
    began: usize,
    /// The lane and the order within it.
    lane: Option<(usize, u64)>,
    future: HeldFuture<Answer>,
}

struct InLane {
    order: u64,
    name: String,
    began: usize,
    head: usize,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    Done { first: usize, last: usize },
    Rejected(String),
    Unknown,
    Unavailable,
    Wrong(String),
}

impl Answer {
    fn of<R: std::error::Error>(answer: Result<Receipt, ExecuteError<R>>) -> Answer {
        let index = |position: Position| position.get() as usize;
        match answer {
            Ok(receipt) => {
                Answer::Done { first: index(receipt.first()), last: index(receipt.last()) }
            }
            Err(ExecuteError::Rejected(reason)) => Answer::Rejected(reason.to_string()),
            Err(ExecuteError::Failed(CommandError::OutcomeUnknown(_))) => Answer::Unknown,
            Err(ExecuteError::Failed(CommandError::Unavailable(_))) => Answer::Unavailable,
            Err(other) => Answer::Wrong(other.to_string()),
        }
    }
}

impl Run {
    fn new(seed: u64, trace: Trace) -> Run {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new(random.number());
        let mut run = Run {
            random,
            trace,
            disk,
            life: None,
            writers: Vec::new(),
            worlds: vec![World::default()],
            wishes: HashMap::new(),
            keys: Vec::new(),
            answers: HashMap::new(),
        };
        run.open();
        run
    }

    fn note(&self, what: impl Into<String>) {
        self.trace.lock().push(what.into());
    }

    fn open(&mut self) {
        let failures = self.disk.failures().len();
        let queue_bytes = if self.random.chance(20) { 1 << 10 } else { 8 << 20 };
        let options = LogOptions {
            background: Background::Inline,
            disk: Arc::new(self.disk.clone()),
            queue_bytes,
            ..LogOptions::default()
        };
        let log = Log::open("/data/log", options).unwrap();
        // If each call yields first, more steps of others can happen in between.
        let yields = self.random.chance(50);
        let apps = [(); 2].map(|()| {
            let cache = *self.random.pick(&[0, 3_000, 1 << 20, 1 << 20]).unwrap();
            let builder = match yields {
                true => App::over(yielding(log.clone())),
                false => App::over(log.clone()),
            };
            // Each call of the store may yield once.
            pollster::block_on(builder.cache_bytes(cache).start()).unwrap()
        });
        let lanes = apps.each_ref().map(App::lane);
        self.note(format!("open at {}", EventStore::head(&log).position()));
        let in_lanes = [Vec::new(), Vec::new()];
        let flights = Vec::new();
        self.life = Some(Life { log, apps, lanes, yields, flights, failures, in_lanes });
        self.compare_from(0);
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().unwrap()
    }

    fn failed(&self) -> bool {
        let before = self.life.as_ref().map_or(0, |life| life.failures);
        self.disk.failures().len() > before
    }

    /// Reads the newly published events. Checks that earlier published events are unchanged.
    fn compare_from(&mut self, from: usize) {
        let log = self.life().log.clone();
        let head = EventStore::head(&log).position().get() as usize;
        assert!(head >= self.writers.len(), "published events are missing");
        let mut at = from;
        while at < head {
            let read = Read::after(Position::new(at as u64));
            let batch = log.blocking().read(&Filter::everything(), read).unwrap();
            for event in batch.iter() {
                let writer = event.metadata().actor.unwrap().to_string();
                if let Some(before) = self.writers.get(at) {
                    assert_eq!(*before, writer, "another event at {}", at + 1);
                } else {
                    let mut world = self.worlds[at].clone();
                    world.apply(&event);
                    self.writers.push(writer);
                    self.worlds.push(world);
                }
                at += 1;
            }
        }
        self.judge_commits(from);
    }

    /// Checks that each commit is one whole command, decided on all earlier events, and is unique.
    fn judge_commits(&self, from: usize) {
        let mut at = from;
        while at < self.writers.len() {
            let name = &self.writers[at];
            let Some(wish) = self.wishes.get(name) else {
                assert!(name.starts_with("other"), "{name} was never sent");
                at += 1;
                continue;
            };
            let events = self.worlds[at].judge(wish);
            let events = events.unwrap_or_else(|no| panic!("{name} at {}: {wish:?}: {no}", at + 1));
            assert!(events > 0, "{name} at {}: {wish:?} should write nothing", at + 1);
            let times = self.writers.iter().filter(|writer| *writer == name).count();
            assert_eq!(times, events, "{name}, {wish:?}, at {}: not once and whole", at + 1);
            let whole = self.writers[at..].iter().take(events).all(|writer| writer == name);
            assert!(whole, "{name} is not contiguous");
            at += events;
        }
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..=39 => self.start(),
            40..=71 => self.poll_one(),
            72..=81 => self.flush(),
            82..=84 => self.give_up(),
            85..=88 => self.write(),
            89..=92 => tokio::time::advance(Duration::from_millis(50)).await,
            93..=94 => self.poll_all(),
            95..=96 => {
                let after = self.random.below(12);
                self.note(format!("a sync is to fail after {after} operations"));
                self.disk.fail_after(after, Fault::Io(Operation::Sync));
            }
            97 => self.end(),
            _ if self.failed() => self.end(),
            _ => self.flush(),
        }
    }

    fn start(&mut self) {
        if self.life().flights.len() > 30 {
            return self.poll_all();
        }
        let keyed = self.random.chance(30);
        let again = keyed && self.random.chance(60) && !self.keys.is_empty();
        let name = match again {
            true => self.random.pick(&self.keys).unwrap().clone(),
            false => format!("{}-{}", if keyed { "key" } else { "once" }, self.wishes.len()),
        };
        if !again {
            let wish = wish(&mut self.random);
            self.wishes.insert(name.clone(), wish);
            self.keys.extend(keyed.then(|| name.clone()));
        }
        let wish = self.wishes[&name].clone();
        let which = self.random.index(2);
        let in_lane = self.random.chance(30);
        let submits = self.random.chance(30);
        let life = self.life.as_mut().unwrap();
        let lane = in_lane.then(|| &life.lanes[which]);
        let how = How { app: &life.apps[which], lane, name: &name, keyed, submits };
        let future = start(&how, &wish);
        let order = self.wishes.len() as u64 * 1_000 + self.trace.lock().len() as u64;
        let began = EventStore::head(&life.log).position().get() as usize;
        let lane = in_lane.then_some((which, order));
        life.flights.push(Flight { name: name.clone(), keyed, began, lane, future });
        let index = life.flights.len() - 1;
        self.note(format!("app {which}, lane {lane:?}: {name} {wish:?} after {began}"));
        self.poll(index);
    }

    fn poll_one(&mut self) {
        let flights = self.life().flights.len();
        if flights > 0 {
            let index = self.random.index(flights);
            self.poll(index);
        }
    }

    fn poll_all(&mut self) {
        let mut index = 0;
        while index < self.life().flights.len() {
            if !self.poll(index) {
                index += 1;
            }
        }
    }

    /// Polls a command. Returns whether it is done.
    fn poll(&mut self, index: usize) -> bool {
        let Poll::Ready(answer) = self.life().flights[index].future.poll() else { return false };
        let flight = self.life().flights.remove(index);
        let from = self.writers.len();
        self.note(format!("{}: {answer:?}", flight.name));
        self.compare_from(from);
        self.check(&flight, &answer);
        let head = self.writers.len();
        if let Some((lane, order)) = flight.lane {
            let Flight { name, began, .. } = flight;
            self.life().in_lanes[lane].push(InLane { order, name, began, head, answer });
        }
        true
    }

    fn check(&mut self, flight: &Flight, answer: &Answer) {
        let (name, head) = (&flight.name, self.writers.len());
        let wish = &self.wishes[name];
        let looked = if self.life.as_ref().unwrap().yields { flight.began } else { head };
        let committed = self.writers[..looked].contains(name);
        let at_some_time = |outcome: Result<usize, String>| {
            (flight.began..=head).any(|at| self.worlds[at].judge(wish) == outcome)
        };
        let kind = match answer {
            Answer::Done { first, last } if first <= last => {
                let written = &self.writers[first - 1..*last];
                assert!(written.iter().all(|writer| writer == name), "{name} wrote {written:?}");
                "commit"
            }
            Answer::Done { last, .. } => {
                assert!(*last <= head, "{name} rests on {last}, which is not published");
                assert!(!committed || !flight.keyed, "{name} was committed under its key");
                assert!(at_some_time(Ok(0)), "{name}: {wish:?} was never without effect");
                "empty"
            }
            Answer::Rejected(reason) => {
                assert!(!committed || !flight.keyed, "{name} was committed under its key");
                assert!(at_some_time(Err(reason.clone())), "{name}: {wish:?} never {reason}");
                "rejected"
            }
            Answer::Unknown => "unknown",
            Answer::Unavailable => "unavailable",
            Answer::Wrong(what) => panic!("{name}: {wish:?}: {what}"),
        };
        if matches!(answer, Answer::Unknown | Answer::Unavailable) {
            assert!(self.failed(), "{name}: {kind} without a disk failure");
        }
        *self.answers.entry(kind).or_default() += 1;
    }

    fn flush(&mut self) {
        let flushed = self.life().log.blocking().flush();
        self.note(format!("flush: {}", flushed.is_ok()));
        assert!(flushed.is_ok() || self.failed(), "{flushed:?}");
        let from = self.writers.len();
        self.compare_from(from);
    }

    fn give_up(&mut self) {
        let flights = self.life().flights.len();
        if flights > 0 {
            let index = self.random.index(flights);
            let flight = self.life().flights.remove(index);
            self.note(format!("{} is dropped", flight.name));
        }
    }

    /// Another writer appends to the log without a condition.
    fn write(&mut self) {
        let (number, amount) = (self.random.below(3), self.random.below(9));
        let course = Course { course: course(number) };
        let tag = format!("course:{}", course.course);
        let mut event = match self.random.below(3) {
            0 => {
                let event = Deposited { account: account(number), amount };
                raw("money-deposited", &event, &[&format!("account:{}", event.account)])
            }
            1 => raw("course-visited", &course, &[&tag]),
            _ => raw("course-ended", &course, &[&tag]),
        };
        event.metadata.actor = Some("other".into());
        let written = self.life().log.blocking().append(Append::event(event.clone()));
        self.note(format!("other writes {}: {}", event.event_type, written.is_ok()));
        assert!(written.is_ok() || self.failed(), "{written:?}");
    }

    /// Ends this life with a power loss, a process kill or a plain drop. Opens the log again.
    fn end(&mut self) {
        self.check_lanes();
        self.disk.disarm();
        let life = self.life.take().unwrap();
        let seed = self.random.number();
        match self.random.below(3) {
            0 => self.disk = self.disk.power_loss(seed),
            1 => self.disk = self.disk.process_kill(),
            _ => {}
        }
        self.note("the end of a life");
        drop(life);
        self.open();
    }

    /// Checks that each command in a lane rests on all earlier commands of the lane.
    fn check_lanes(&mut self) {
        for mut lane in std::mem::take(&mut self.life().in_lanes) {
            lane.sort_by_key(|answered| answered.order);
            let mut before = Vec::new();
            let mut floor = 0;
            for InLane { name, began, head, answer, .. } in lane {
                match answer {
                    // A receipt of a keyed command can belong to an earlier command.
                    Answer::Done { first, last } if first <= last && !name.starts_with("key") => {
                        assert!(first > floor, "{name} is at {first}, its lane at {floor}");
                        floor = last;
                        before.push(name);
                    }
                    Answer::Rejected(reason) => {
                        // The decision may or may not know the events of other writers in between.
                        let between = self.writers.get(began..floor).unwrap_or(&[]);
                        if between.iter().any(|writer| !before.contains(writer)) {
                            continue;
                        }
                        let (wish, no) = (&self.wishes[&name], Err(reason));
                        let mut worlds = self.worlds[began.max(floor)..=head.max(floor)].iter();
                        assert!(worlds.any(|world| world.judge(wish) == no), "{name}: {no:?}");
                    }
                    _ => {}
                }
            }
        }
    }

    /// Ends the disk failures and checks that each command gets an answer.
    async fn settle(&mut self) {
        self.disk.disarm();
        if self.failed() {
            self.end();
        }
        self.note("settle");
        for _ in 0..100 {
            self.poll_all();
            if self.life().flights.is_empty() {
                break;
            }
            self.flush();
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        let left = self.life().flights.iter().map(|flight| flight.name.clone());
        assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "no answer");
        self.flush();
        self.end();
    }
}

fn wish(random: &mut Random) -> Wish {
    let (number, who) = (random.below(3), random.below(3));
    match random.below(20) {
        0 => Wish::Open(number),
        1..=3 => Wish::Deposit(number, random.below(6)),
        4..=6 => Wish::Withdraw(number, 1 + random.below(6)),
        7..=9 => Wish::Offer(number, 1 + random.below(3)),
        10 => Wish::End(number),
        11 => Wish::Visit(number),
        12..=14 => Wish::Join(number, who),
        15 => Wish::JoinBoth([number, (number + 1) % 3], who),
        16 | 17 => Wish::Leave(number, who),
        18 => Wish::Compare(number, who),
        _ => Wish::CompareBack(number, who),
    }
}

/// The options with which a command is sent.
struct How<'a> {
    app: &'a App,
    lane: Option<&'a Lane>,
    name: &'a str,
    keyed: bool,
    submits: bool,
}

fn start(how: &How<'_>, wish: &Wish) -> HeldFuture<Answer> {
    match *wish {
        Wish::Open(number) => how.start(bank::open(&account(number))),
        Wish::Deposit(number, amount) => how.start(bank::deposit(&account(number), amount)),
        Wish::Withdraw(number, amount) => how.start(bank::withdraw(&account(number), amount)),
        Wish::Offer(number, capacity) => how.start(school::offer(&course(number), capacity)),
        Wish::End(number) => how.start(school::end(&course(number))),
        Wish::Visit(number) => how.start(school::visit(&course(number))),
        Wish::Join(number, who) => how.start(school::join(&course(number), &student(who))),
        Wish::JoinBoth(numbers, who) => {
            let [first, second] = numbers.map(course);
            how.start(school::join_both([&first, &second], &student(who)))
        }
        Wish::Leave(number, who) => how.start(school::leave(&course(number), &student(who))),
        Wish::Compare(number, who) => how.start(school::compare(&course(number), &student(who))),
        Wish::CompareBack(number, who) => {
            how.start(school::compare_back(&course(number), &student(who)))
        }
    }
}

impl How<'_> {
    fn start<C: Command + Serialize>(&self, command: C) -> HeldFuture<Answer> {
        let execute = match self.lane {
            Some(lane) => lane.execute(command),
            None => self.app.execute(command),
        };
        let mut execute = execute.actor(self.name);
        if self.keyed {
            execute = execute.key(self.name);
        }
        match self.submits {
            true => HeldFuture::new(async move { Answer::of(execute.submit().await.await) }),
            false => HeldFuture::new(async move { Answer::of(execute.await) }),
        }
    }
}
