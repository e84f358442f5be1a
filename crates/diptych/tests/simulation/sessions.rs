//! A randomised check of session guarantees. Three replicas of one view follow one store, and are
//! paused and resumed at random. Users read and write at any replica. Each write of a key raises
//! its version by one. An answer is too old if its version is lower than one that the user knows.
//!
//! `DIPTYCH_SEED=7` repeats one run, and `DIPTYCH_READS=10000000` makes it longer. The seed does
//! not determine the scheduling of the threads.

use std::{
    array, env,
    future::Future,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
    thread,
};

use diptych::{
    App, Command, DecisionContext, Event, ExecuteError, Filter, Fold, Memory, Position, Query,
    Recorded, Session, Store, Tag, follow::FollowerControl, store::Read,
};
use diptych_log::disk::simulated::Random;
use parking_lot::Mutex;
use pollster::block_on;
use serde::{Deserialize, Serialize};

const READS: u64 = 100_000;
const KEYS: usize = 5;
const USERS: usize = 3;

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("raised")]
struct Raised {
    #[tag]
    key: usize,
    version: u64,
}

#[derive(Clone, Debug, Default)]
struct Versions([u64; KEYS]);

impl Fold for Versions {
    type Event = Raised;

    fn apply(&mut self, raised: &Recorded<Raised>) {
        self.0[raised.key] = raised.version;
    }
}

struct VersionOf(usize);

impl Query for VersionOf {
    type View = Versions;
    type Answer = u64;

    fn answer(&self, versions: &Versions) -> u64 {
        versions.0[self.0]
    }
}

/// Raises the version of a key. A careful command is rejected if the version is odd.
struct Raise {
    key: usize,
    is_careful: bool,
}

#[derive(Default)]
struct Version(u64);

impl Fold for Version {
    type Event = Raised;

    fn apply(&mut self, raised: &Recorded<Raised>) {
        self.0 = raised.version;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it is at {0} already")]
struct IsOdd(u64);

impl Command for Raise {
    type State = Version;
    type Event = Raised;
    type Rejection = IsOdd;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("key", self.key))
    }

    fn decide(&self, version: &Version, _: &DecisionContext) -> Result<Vec<Raised>, IsOdd> {
        if self.is_careful && version.0 % 2 == 1 {
            return Err(IsOdd(version.0));
        }
        Ok(vec![Raised { key: self.key, version: version.0 + 1 }])
    }
}

/// Whether queries request a freshness guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Options {
    On,
    Off,
}

/// The state that all threads share.
struct World {
    apps: [App; 3],
    views: [FollowerControl; 3],
    options: Options,
    /// The highest version of each key that was acknowledged to any user.
    acknowledged: [AtomicU64; KEYS],
    anomalies: AtomicU64,
    waits: AtomicU64,
    /// The key, position and version of each answer.
    answers: Mutex<Vec<(usize, Position, u64)>>,
}

/// A user with a session, and the versions that the session must know.
struct User {
    session: Session,
    written: [u64; KEYS],
    seen: [u64; KEYS],
}

impl User {
    fn knows(&self, key: usize) -> u64 {
        self.written[key].max(self.seen[key])
    }
}

struct Thread<'w> {
    world: &'w World,
    random: Random,
    users: [User; USERS],
    answers: Vec<(usize, Position, u64)>,
}

impl World {
    fn new(options: Options) -> World {
        let store = Store::new(Memory::new());
        let start = || App::over_store(store.clone()).view::<Versions>().start();
        let apps = [(); 3].map(|()| block_on(start()).unwrap());
        let views = apps.each_ref().map(|app| app.view::<Versions>().unwrap());
        let acknowledged = array::from_fn(|_| AtomicU64::new(0));
        let (anomalies, waits) = (AtomicU64::new(0), AtomicU64::new(0));
        let answers = Mutex::default();
        World { apps, views, options, acknowledged, anomalies, waits, answers }
    }

    fn user(&self) -> User {
        User { session: self.apps[0].session(), written: [0; KEYS], seen: [0; KEYS] }
    }

    fn thread(&self, seed: u64, reads: u64) {
        let users = array::from_fn(|_| self.user());
        let mut thread = Thread { world: self, random: Random::new(seed), users, answers: vec![] };
        while (thread.answers.len() as u64) < reads {
            thread.act();
        }
        self.answers.lock().extend(thread.answers);
    }

    /// Waits for an answer. Resumes the view meanwhile, because it may be paused.
    fn answer<T>(&self, at: usize, asked: impl Future<Output = T>) -> T {
        let mut asked = pin!(asked);
        let mut has_waited = false;
        loop {
            match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => return answer,
                Poll::Pending if has_waited => thread::yield_now(),
                Poll::Pending => drop(self.waits.fetch_add(1, Ordering::Relaxed)),
            }
            has_waited = true;
            let _ = block_on(self.views[at].resume()).unwrap();
        }
    }
}

impl Thread<'_> {
    fn below(&mut self, number: usize) -> usize {
        self.random.below(number as u64) as usize
    }

    fn act(&mut self) {
        let (at, user, key) = (self.below(3), self.below(USERS), self.below(KEYS));
        match self.below(100) {
            0..70 => self.read(at, user, key),
            70..85 => self.write(at, user, key),
            85..92 => drop(block_on(self.world.views[at].pause()).unwrap()),
            92..97 => drop(block_on(self.world.views[at].step())),
            97..99 => drop(block_on(self.world.views[at].resume()).unwrap()),
            // A session ends. The next session starts empty, or from a token of the old one.
            _ if self.below(2) == 0 => self.users[user] = self.world.user(),
            _ => {
                let token = block_on(self.users[user].session.token()).unwrap();
                let token = token.to_string().parse().unwrap();
                let resumed = block_on(self.world.apps[at].resume_session(&token));
                self.users[user].session = resumed.unwrap();
            }
        }
    }

    fn write(&mut self, at: usize, user: usize, key: usize) {
        let is_careful = self.below(2) == 0;
        let user = &mut self.users[user];
        let raise = self.world.apps[at].execute(Raise { key, is_careful }).session(&user.session);
        match block_on(raise.into_future()) {
            Ok(receipt) => {
                // The test reads the written version from the log.
                let read = Read::after(receipt.first().before()).limit(1);
                let everything = Filter::everything();
                let read = self.world.apps[at].store().read(&everything, read);
                let batch = block_on(read).unwrap();
                let raised = batch.iter().next().unwrap();
                let raised: Raised = serde_json::from_slice(raised.payload()).unwrap();
                user.written[key] = user.written[key].max(raised.version);
                self.world.acknowledged[key].fetch_max(raised.version, Ordering::SeqCst);
            }
            Err(ExecuteError::Rejected(IsOdd(version))) => {
                user.seen[key] = user.seen[key].max(version);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&mut self, at: usize, user: usize, key: usize) {
        let kind = self.below(6);
        let other = self.below(USERS);
        let acknowledged = self.world.acknowledged[key].load(Ordering::SeqCst);
        let [asker, other] = [&self.users[user], &self.users[other]];
        let ask = self.world.apps[at].query(VersionOf(key));
        let (ask, wanted) = match (self.world.options, kind) {
            (Options::On, 0) => (ask.own_writes(&asker.session), asker.written[key]),
            (Options::On, 1) => (ask.monotonic(&asker.session), asker.seen[key]),
            (Options::On, 2) => {
                (ask.token(&block_on(other.session.token()).unwrap()), other.knows(key))
            }
            (Options::On, 3) => (ask.strong(), acknowledged),
            (Options::On, _) => (ask.session(&asker.session), asker.knows(key)),
            (Options::Off, _) => (ask, asker.knows(key)),
        };
        let answer = self.world.answer(at, ask.into_future()).unwrap();
        if answer.value < wanted {
            self.world.anomalies.fetch_add(1, Ordering::Relaxed);
        }
        // Only these queries count as seen by the user.
        if kind == 1 || kind > 3 || self.world.options == Options::Off {
            let seen = &mut self.users[user].seen[key];
            *seen = answer.value.max(*seen);
        }
        self.answers.push((key, answer.position, answer.value));
    }
}

/// Runs the check. Returns the number of anomalies and the number of waits.
fn run(options: Options) -> (u64, u64) {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("DIPTYCH_SEED").unwrap_or_else(rand_seed);
    let reads = number("DIPTYCH_READS").unwrap_or(READS);
    println!("options {options:?}: DIPTYCH_SEED={seed}");
    let world = World::new(options);
    thread::scope(|scope| {
        let world = &world;
        for thread in 0..2 {
            scope.spawn(move || world.thread(seed.wrapping_add(thread), reads / 2));
        }
    });
    check_answers(&world);
    (world.anomalies.into_inner(), world.waits.into_inner())
}

fn rand_seed() -> u64 {
    diptych::Uuid::new_v4().as_u64_pair().0 >> 1
}

/// Checks that each answer equals a fold of the log up to its position.
fn check_answers(world: &World) {
    let mut raised: [Vec<u64>; KEYS] = Default::default();
    let (mut after, head) = (Position::START, world.apps[0].head());
    while after < head {
        let everything = Filter::everything();
        let batch = block_on(world.apps[0].store().read(&everything, Read::after(after))).unwrap();
        for event in batch.iter() {
            let Raised { key, .. } = serde_json::from_slice(event.payload()).unwrap();
            raised[key].push(event.position().get());
        }
        after = batch.upto();
    }
    for (key, position, version) in world.answers.lock().iter() {
        let expected = raised[*key].partition_point(|at| *at <= position.get());
        assert_eq!(*version, expected as u64, "key {key} at {position}");
    }
}

#[test]
fn with_guarantees_no_session_sees_less_than_it_knows() {
    let (anomalies, waits) = run(Options::On);
    println!("{waits} waits");
    assert_eq!(anomalies, 0);
    assert!(waits > 100, "{waits} waits: the views are never behind");
}

/// Shows that the check can find anomalies.
#[test]
fn without_guarantees_the_check_finds_anomalies() {
    let (anomalies, _) = run(Options::Off);
    println!("{anomalies} anomalies");
    assert!(anomalies > 100, "{anomalies}");
}
