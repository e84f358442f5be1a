//! The same commands run with a large cache, a small cache, no cache, and state snapshots across
//! restarts. The outcomes and the logs are equal in every byte.

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use diptych::{
    App, Command, CommandError, DecisionContext, ExecuteError, Filter, Fold, Invalid, Memory,
    Receipt, Recorded, Tag,
    snapshot::{MemorySnapshots, SnapshotOptions},
    store::{FilterItem, Limits, LogIdentity, RawEvent, TimeSource},
    testing::Clock,
};
use diptych_store::Append;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::support::{
    counted_store::{CountedStore, everything},
    declare::events,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    account: u8,
    /// The state that the deciding rule saw.
    seen: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moved {
    from: u8,
    to: u8,
    amount: i64,
    seen: String,
}

events!(Moving {
    Opened(About) = "opened", 1, [account];
    Closed(About) = "closed", 1, [account];
    Moved(Moved) = "moved", 1, [from, to];
    Bomb(About) = "bomb", 1, [account];
});
events!(Noting { Noted(About) = "noted", 1, [account]; });
events!(All {
    Opened(About) = "opened", 1, [account];
    Closed(About) = "closed", 1, [account];
    Moved(Moved) = "moved", 1, [from, to];
    Noted(About) = "noted", 1, [account];
    Audited(About) = "audited", 1, [account];
});

/// Hashes everything that a fold can see into its trace.
fn trace<E: std::fmt::Debug>(trace: &mut u64, event: &Recorded<E>) {
    let mut hasher = DefaultHasher::new();
    (*trace, format!("{event:?}")).hash(&mut hasher);
    *trace = hasher.finish();
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Balance {
    open: bool,
    moves: Vec<i64>,
    trace: u64,
}

impl Fold for Balance {
    type Event = Moving;

    fn apply(&mut self, event: &Recorded<Moving>) {
        trace(&mut self.trace, event);
        match &event.event {
            Moving::Opened(_) => self.open = true,
            Moving::Closed(_) => self.open = false,
            Moving::Moved(moved) => self.moves.push(moved.amount),
            Moving::Bomb(_) => panic!("boom"),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Notes(u64);

impl Fold for Notes {
    type Event = Noting;

    fn apply(&mut self, event: &Recorded<Noting>) {
        trace(&mut self.0, event);
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Total {
    events: u64,
    trace: u64,
}

impl Fold for Total {
    type Event = All;

    fn apply(&mut self, event: &Recorded<All>) {
        self.events += 1;
        trace(&mut self.trace, event);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no: {0}")]
struct No(String);

fn account(account: u8) -> Filter {
    let tag = |key| FilterItem::everything().and_tag(Tag::new(key, account));
    Filter::from(tag("account")).or(tag("from")).or(tag("to"))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Open,
    Close,
    Move,
    Note,
    Audit,
    Free,
    Bomb,
}

/// A command of some kind over accounts. Some amounts select a special outcome.
#[derive(Clone, Copy, Debug)]
struct Send {
    kind: Kind,
    one: u8,
    other: u8,
    amount: i64,
}

impl Send {
    fn about(&self, seen: impl std::fmt::Debug) -> About {
        About { account: self.one, seen: format!("{seen:?}") }
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.amount {
            9 => Err(Invalid::new("amount", format!("{self:?}"))),
            _ => Ok(()),
        }
    }

    /// Turns the answer into a panic, a rejection with the seen state, or no events, by amount.
    fn turn<E>(&self, seen: impl std::fmt::Debug, answer: Vec<E>) -> Result<Vec<E>, No> {
        match self.amount {
            8 => panic!("{seen:?}"),
            7 => Err(No(format!("{seen:?}"))),
            6 => Ok(Vec::new()),
            _ => Ok(answer),
        }
    }
}

macro_rules! command {
    ($name:ident, $state:ty, $event:ty, |$send:ident| $boundary:expr,
        |$this:ident, $seen:ident| $decide:expr, $conflicts:expr) => {
        struct $name(Send);

        impl Command for $name {
            type State = $state;
            type Event = $event;
            type Rejection = No;

            fn boundary(&self) -> <$state as diptych::command::Folds>::Boundary {
                let $send = &self.0;
                $boundary
            }

            fn validate(&self) -> Result<(), Invalid> {
                self.0.validate()
            }

            fn conflicts_with(&self) -> Option<Filter> {
                let conflicts: fn(&Send) -> Option<Filter> = $conflicts;
                conflicts(&self.0)
            }

            fn decide(
                &self,
                $seen: <$state as diptych::command::Folds>::Ref<'_>,
                _: &DecisionContext,
            ) -> Result<Vec<$event>, No> {
                meanwhile();
                let $this = &self.0;
                $decide
            }
        }
    };
}

command!(
    Open,
    Balance,
    Moving,
    |send| account(send.one),
    |this, seen| match seen.open {
        true => Err(No(format!("{seen:?}"))),
        false => this.turn(seen, vec![Moving::Opened(this.about(seen))]),
    },
    |_| None
);
command!(
    Close,
    (Balance,),
    Moving,
    |send| (account(send.one).of_types(&["opened", "closed"]),),
    |this, seen| match seen.0.open {
        false => Err(No(format!("{seen:?}"))),
        true => this.turn(seen, vec![Moving::Closed(this.about(seen))]),
    },
    |_| None
);
command!(
    Move,
    (Balance, Balance),
    Moving,
    |send| (account(send.one), account(send.other)),
    |this, seen| {
        let moved = Moving::Moved(Moved {
            from: this.one,
            to: this.other,
            amount: this.amount,
            seen: format!("{seen:?}"),
        });
        match seen.0.open && seen.1.open {
            true => this.turn(seen, vec![moved]),
            false => Err(No(format!("{seen:?}"))),
        }
    },
    |_| None
);
// This command conflicts with another write only if that write closes the account.
command!(
    Note,
    (Balance, Notes),
    Noting,
    |send| (account(send.one), Filter::tag(Tag::new("account", send.one))),
    |this, seen| this.turn(seen, vec![Noting::Noted(this.about(seen)); 2]),
    |send| {
        let closed = FilterItem::everything().or_type("closed");
        Some(closed.and_tag(Tag::new("account", send.one)).into())
    }
);
command!(
    Audit,
    (Total, Notes, Balance),
    All,
    |send| {
        (
            Filter::everything().of_types(&["opened", "closed", "moved", "noted", "audited"]),
            Filter::everything(),
            account(send.one).or(account(send.other)),
        )
    },
    |this, seen| match seen.0.events % 3 {
        0 => Err(No(format!("{seen:?}"))),
        _ => this.turn(seen, vec![All::Audited(this.about(seen))]),
    },
    |_| None
);
command!(
    Free,
    (),
    Noting,
    |_send| (),
    |this, seen| this.turn(seen, vec![Noting::Noted(this.about(seen))]),
    |_| None
);
command!(
    Bomb,
    Notes,
    Moving,
    |send| Filter::tag(Tag::new("account", send.one)),
    |this, seen| this.turn(seen, vec![Moving::Bomb(this.about(seen))]),
    |_| None
);

thread_local! {
    /// The write of another program during the first decision of the next command.
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn meanwhile() {
    if let Some(other) = MEANWHILE.take() {
        other();
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A command, and optionally a write of another program during its decision.
    Send(Send, Option<Other>),
    Other(Other),
    /// The clock advances, and the app with snapshots restarts.
    Wait,
}

/// An append by another program.
#[derive(Clone, Debug)]
enum Other {
    Moved(u8, i64),
    Noted(u8),
    Unrelated,
    /// Events that cannot be decoded.
    Garbage(u8),
}

impl Other {
    fn append(&self) -> Append {
        let raw = |event: &dyn Fn() -> RawEvent| Append::events([event(), event()]);
        match *self {
            Other::Moved(to, amount) => raw(&|| {
                let moved = Moved { from: 100, to, amount, seen: String::new() };
                diptych::Event::encode(&Moving::Moved(moved)).unwrap()
            }),
            Other::Noted(account) => raw(&|| {
                let about = About { account, seen: String::new() };
                diptych::Event::encode(&Noting::Noted(about)).unwrap()
            }),
            Other::Unrelated => raw(&|| RawEvent::new("other", "{}").tag(Tag::new("account", 1))),
            Other::Garbage(account) => {
                raw(&|| RawEvent::new("moved", "?").tag(Tag::new("to", account)))
            }
        }
    }
}

fn other() -> impl Strategy<Value = Other> {
    prop_oneof![
        6 => (0..4_u8, 0..6_i64).prop_map(|(to, amount)| Other::Moved(to, amount)),
        3 => (0..4_u8).prop_map(Other::Noted),
        2 => Just(Other::Unrelated),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        4 => Just(Kind::Open),
        1 => Just(Kind::Close),
        6 => Just(Kind::Move),
        3 => Just(Kind::Note),
        1 => Just(Kind::Audit),
        1 => Just(Kind::Free),
    ];
    let send = (kind, 0..4_u8, 0..4_u8, 0..10_i64);
    let send = send.prop_map(|(kind, one, other, amount)| Send { kind, one, other, amount });
    prop_oneof![
        20 => (send, proptest::option::weighted(0.3, other()))
            .prop_map(|(send, other)| Step::Send(send, other)),
        4 => other().prop_map(Step::Other),
        2 => Just(Step::Wait),
        // These steps make an account unusable for good, so they are rare.
        1 => (0..100_u8).prop_map(|chance| match chance {
            0..8 => Step::Other(Other::Garbage(3)),
            8..16 => Step::Send(Send { kind: Kind::Bomb, one: 2, other: 0, amount: 1 }, None),
            _ => Step::Wait,
        }),
    ]
}

async fn start(store: &CountedStore, budget: usize, place: &Option<Arc<MemorySnapshots>>) -> App {
    let mut app = App::over(store.store()).cache_bytes(budget);
    if let Some(place) = place {
        let every = SnapshotOptions::every(3);
        app = app.snapshots_in(place.clone()).snapshots::<Balance>(every);
        app = app.snapshots::<Notes>(every).snapshots::<Total>(every);
    }
    app.start().await.unwrap()
}

struct World {
    app: App,
    /// The place for state snapshots, if this world uses them.
    place: Option<Arc<MemorySnapshots>>,
    store: CountedStore,
    clock: Clock,
    budget: usize,
}

impl World {
    async fn new(
        identity: LogIdentity,
        budget: usize,
        place: Option<Arc<MemorySnapshots>>,
    ) -> World {
        let clock = Clock::new();
        let mut limits = Limits::default();
        // Small batches make the app read a boundary in several batches.
        limits.batch_events = 3;
        let memory = Memory::new().limits(limits).time(TimeSource::Caller);
        let store = CountedStore::as_log(memory, identity, Some(clock.clone()));
        let app = start(&store, budget, &place).await;
        World { app, place, store, clock, budget }
    }

    /// Executes the step and returns its outcome as text.
    async fn take(&mut self, step: &Step) -> String {
        let outcome = match step {
            Step::Wait => {
                self.clock.advance(Duration::from_secs(1));
                if self.place.is_some() {
                    self.app.clone().stop().await.unwrap();
                    self.app = start(&self.store, self.budget, &self.place).await;
                }
                String::new()
            }
            Step::Other(other) => {
                self.store.write(other.append());
                String::new()
            }
            Step::Send(send, other) => {
                if let Some(append) = other.as_ref().map(Other::append) {
                    let store = self.store.clone();
                    MEANWHILE.set(Some(Box::new(move || store.write(append))));
                }
                let outcome = self.send(*send).await;
                meanwhile();
                outcome
            }
        };
        let cache = self.app.stats().cache;
        assert!(cache.bytes <= self.budget, "{cache:?}");
        assert!(self.budget > 0 || cache == Default::default(), "{cache:?}");
        outcome
    }

    async fn send(&self, send: Send) -> String {
        let app = &self.app;
        match send.kind {
            Kind::Open => text(app.execute(Open(send)).await),
            Kind::Close => text(app.execute(Close(send)).await),
            Kind::Move => text(app.execute(Move(send)).actor("ann").await),
            Kind::Note => text(app.execute(Note(send)).extra("a", "").await),
            Kind::Audit => text(app.execute(Audit(send)).await),
            Kind::Free => text(app.execute(Free(send)).await),
            Kind::Bomb => text(app.execute(Bomb(send)).await),
        }
    }
}

fn text(outcome: Result<Receipt, ExecuteError<No>>) -> String {
    match outcome {
        // If several folds fail on an event, any of them may report the error.
        Err(ExecuteError::Failed(CommandError::Fold(_))) => "a fold".to_owned(),
        outcome => format!("{outcome:?}"),
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let identity = LogIdentity::random();
    let mut cold = World::new(identity, 0, None).await;
    let mut tiny = World::new(identity, 2_500, None).await;
    let mut warm = World::new(identity, 64 << 20, None).await;
    let mut kept = World::new(identity, 2_500, Some(Arc::default())).await;
    for (at, step) in steps.iter().enumerate() {
        let expected = cold.take(step).await;
        for (world, name) in [(&mut tiny, "tiny"), (&mut warm, "warm"), (&mut kept, "kept")] {
            let outcome = world.take(step).await;
            prop_assert_eq!(&outcome, &expected, "{} at step {}: {:?}", name, at, step);
        }
    }
    let expected = everything(cold.store.inner());
    prop_assert_eq!(&everything(tiny.store.inner()), &expected);
    prop_assert_eq!(&everything(warm.store.inner()), &expected);
    prop_assert_eq!(&everything(kept.store.inner()), &expected);
    let hits = warm.app.stats().cache.hits;
    prop_assert!(steps.len() < 40 || hits > 0, "nothing came from the cache");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn a_cached_state_changes_no_outcome(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}
