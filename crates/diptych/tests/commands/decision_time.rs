//! Rules ask their context for the time. The time is read for each try, is never before the newest
//! event that the rule knows, and is stored with the events of the decision.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use diptych::{
    App, AppBuilder, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold,
    Memory, Recorded, Tag, Timestamp,
    snapshot::{MemorySnapshots, SnapshotOptions, Snapshots},
    testing::{Clock, ControlledClock, given, nothing_given},
};
use diptych_store::{
    Append, Store,
    testing::{Call, WrappedStore},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("lot-bid")]
struct Bid {
    #[tag]
    lot: String,
    amount: u64,
}

/// The newest bid, and when a bid was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lot {
    amount: u64,
    decided: Vec<Option<Timestamp>>,
}

impl Fold for Lot {
    type Event = Bid;

    const VERSION: Option<u32> = Some(1);

    fn apply(&mut self, bid: &Recorded<Bid>) {
        self.amount = bid.amount;
        self.decided.push(bid.decided_at());
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[error("bidding ended at {ends}, and it is {now}")]
struct BiddingOver {
    ends: Timestamp,
    now: Timestamp,
}

/// A bid that is accepted before an instant.
#[derive(Clone, Serialize)]
struct PlaceBid {
    amount: u64,
    ends: Timestamp,
}

fn lot() -> Filter {
    Filter::tag(Tag::new("lot", "vase"))
}

fn bid(amount: u64) -> Bid {
    Bid { lot: "vase".to_owned(), amount }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Command for PlaceBid {
    type State = Lot;
    type Event = Bid;
    type Rejection = BiddingOver;

    fn boundary(&self) -> Filter {
        lot()
    }

    fn decide(&self, _: &Lot, context: &DecisionContext) -> Result<Vec<Bid>, BiddingOver> {
        let (now, ends) = (context.now(), self.ends);
        match now < ends {
            true => Ok(vec![bid(self.amount), bid(self.amount + 1)]),
            false => Err(BiddingOver { ends, now }),
        }
    }
}

/// A command whose rejection tells the state and the time.
struct Look;

#[derive(Debug, thiserror::Error)]
#[error("seen")]
struct SeenLot {
    lot: Lot,
    now: Timestamp,
}

impl Command for Look {
    type State = Lot;
    type Event = Bid;
    type Rejection = SeenLot;

    fn boundary(&self) -> Filter {
        lot()
    }

    fn decide(&self, lot: &Lot, context: &DecisionContext) -> Result<Vec<Bid>, SeenLot> {
        assert_eq!(context.now(), context.now());
        Err(SeenLot { lot: lot.clone(), now: context.now() })
    }
}

/// A command that does not ask for the time.
struct BidAtOnce(u64);

impl Command for BidAtOnce {
    type State = Lot;
    type Event = Bid;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        lot()
    }

    fn decide(&self, _: &Lot, _: &DecisionContext) -> Result<Vec<Bid>, Self::Rejection> {
        Ok(vec![bid(self.0)])
    }
}

async fn look(app: &App) -> SeenLot {
    match app.execute(Look).await {
        Err(ExecuteError::Rejected(seen)) => seen,
        other => panic!("{other:?}"),
    }
}

fn at(clock: &Clock) -> impl Fn() -> Timestamp + Send + Sync + 'static {
    let clock = clock.clone();
    move || clock.now()
}

fn recording_by(recorder: &Clock) -> AppBuilder {
    App::over(ControlledClock::new(recorder.clone()))
}

const NOON: &str = "2026-03-01T12:00:00Z";

#[tokio::test]
async fn a_rule_asks_for_the_time_and_the_events_keep_it() {
    let (recorder, clock) = (Clock::new(), Clock::new());
    let app = recording_by(&recorder).clock(at(&clock)).start().await.unwrap();
    let ends = time(NOON);
    clock.set(time("2026-03-01T11:59:59.999999Z"));
    app.execute(PlaceBid { amount: 5, ends }).await.unwrap();
    app.execute(BidAtOnce(7)).await.unwrap();
    let decided = time("2026-03-01T11:59:59.999999Z");
    assert_eq!(look(&app).await.lot.decided, [Some(decided), Some(decided), None]);
    clock.set(ends);
    let refused = app.execute(PlaceBid { amount: 6, ends }).await.unwrap_err();
    let ExecuteError::Rejected(ended) = refused else { panic!("{refused:?}") };
    assert_eq!(ended, BiddingOver { ends, now: ends });
    // A state that folded its own events equals a state that read them from the store.
    let beside = app.beside().start().await.unwrap();
    assert_eq!(look(&beside).await.lot, look(&app).await.lot);
}

#[tokio::test]
async fn the_time_is_never_before_the_newest_event_that_the_rule_knows() {
    let (recorder, clock) = (Clock::new(), Clock::new());
    let app = recording_by(&recorder).clock(at(&clock)).start().await.unwrap();
    let other = app.beside().start().await.unwrap();
    recorder.set(time(NOON));
    app.execute(BidAtOnce(1)).await.unwrap();
    // The clock of the rules still shows the year 2000.
    assert_eq!(look(&app).await.now, time(NOON));
    assert_eq!(look(&other).await.now, time(NOON));
    let later = time("2026-03-01T12:00:01Z");
    recorder.set(later);
    other.execute(BidAtOnce(2)).await.unwrap();
    assert_eq!(look(&app).await.now, later);
    clock.set(time("2026-03-02T00:00:00Z"));
    assert_eq!(look(&app).await.now, time("2026-03-02T00:00:00Z"));
}

/// Snapshots that a test looks at.
struct SharedSnapshots(Arc<MemorySnapshots>);

impl Snapshots for SharedSnapshots {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.load(name)
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.save(name, bytes)
    }

    fn names(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.0.names(prefix)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
}

/// A snapshot holds the time of the newest event in it.
#[tokio::test]
async fn a_state_from_a_snapshot_knows_the_time_of_its_newest_event() {
    let (recorder, clock) = (Clock::new(), Clock::new());
    let snapshots = Arc::new(MemorySnapshots::default());
    let store = Store::new(ControlledClock::new(recorder.clone()));
    let start = async || {
        let app = App::over_store(store.clone()).clock(at(&clock));
        let options = SnapshotOptions::every(1);
        let app = app.snapshots_in(SharedSnapshots(snapshots.clone())).snapshots::<Lot>(options);
        app.start().await.unwrap()
    };
    let app = start().await;
    recorder.set(time(NOON));
    app.execute(BidAtOnce(1)).await.unwrap();
    app.stop().await.unwrap();
    assert_eq!(snapshots.names("").unwrap().len(), 1);
    assert_eq!(look(&start().await).await.now, time(NOON));
}

#[tokio::test]
async fn each_try_reads_the_time_again() {
    let (clock, memory) = (Arc::new(AtomicI64::new(1_000_000)), Store::new(Memory::new()));
    let (behind, calls) = (memory.clone(), Arc::new(AtomicI64::new(0)));
    // Another writer comes first, once.
    let store = WrappedStore::over(memory).before(move |call| {
        let first = matches!(call, Call::Append(_)) && calls.fetch_add(1, Ordering::Relaxed) == 0;
        let behind = behind.clone();
        async move {
            if first {
                let event = bid(9).encode().unwrap();
                let commit = behind.append(Append::events(vec![event])).await.unwrap();
                commit.synced().await.unwrap();
            }
            Ok(())
        }
    });
    let far = Timestamp::now().as_micros() + 3_600_000_000;
    clock.store(far, Ordering::Relaxed);
    let ticks = move || Timestamp::from_micros(clock.fetch_add(1, Ordering::Relaxed));
    let app = App::over(store).clock(ticks).start().await.unwrap();
    app.execute(PlaceBid { amount: 5, ends: Timestamp::from_micros(i64::MAX) }).await.unwrap();
    assert_eq!(app.stats().conflicts, 1);
    let decided = Some(Timestamp::from_micros(far + 1));
    assert_eq!(look(&app).await.lot.decided, [None, decided, decided]);
}

#[tokio::test]
async fn the_time_is_no_part_of_the_command() {
    let (recorder, clock) = (Clock::new(), Clock::new());
    let app = recording_by(&recorder).clock(at(&clock)).start().await.unwrap();
    let command = PlaceBid { amount: 5, ends: time(NOON) };
    clock.set(time("2026-03-01T11:00:00Z"));
    let first = app.execute(command.clone()).key("bid-1").await.unwrap();
    // The rule would now reject the command.
    clock.set(time("2026-03-01T13:00:00Z"));
    let again = app.execute(command).key("bid-1").await.unwrap();
    assert_eq!((first.first(), first.last()), (again.first(), again.last()));
    assert_eq!(look(&app).await.lot.decided.len(), 2);
}

/// An event that claims a time of decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Forged(u8);

impl Event for Forged {
    fn types() -> Vec<diptych::EventType> {
        vec![diptych::EventType::new("forged")]
    }

    fn encode(&self) -> Result<diptych::store::RawEvent, diptych::event::SchemaError> {
        use diptych::event::{Codec, Json};
        let mut event = diptych::store::RawEvent::new("forged", Json::encode(self)?);
        event.metadata.extra.insert("diptych:decided-at".into(), NOON.into());
        Ok(event)
    }

    fn decode(
        encoded: &diptych::event::EncodedEvent<'_>,
    ) -> Result<Forged, diptych::event::SchemaError> {
        encoded.read::<diptych::event::Json, _>()
    }
}

struct Forge;

impl Command for Forge {
    type State = ();
    type Event = Forged;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Forged>, Self::Rejection> {
        Ok(vec![Forged(1)])
    }
}

#[tokio::test]
async fn nobody_else_can_write_a_time_of_decision() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let execute = app.execute(BidAtOnce(1)).extra("diptych:decided-at", NOON);
    let Err(ExecuteError::Failed(CommandError::Invalid(invalid))) = execute.await else {
        panic!("the name is reserved");
    };
    assert!(invalid.problem.contains("reserved"), "{invalid}");
    let error = app.execute(Forge).await.unwrap_err().to_string();
    assert!(error.contains("diptych:decided-at") && error.contains("reserved"), "{error}");
    app.execute(BidAtOnce(1)).extra("decided-at", NOON).await.unwrap();
    assert_eq!(look(&app).await.lot.decided, [None]);
}

#[tokio::test]
async fn a_rule_sees_who_sent_the_command() {
    struct OnlyAnn;

    impl Command for OnlyAnn {
        type State = ();
        type Event = Bid;
        type Rejection = BiddingOver;

        fn boundary(&self) {}

        fn decide(&self, (): (), context: &DecisionContext) -> Result<Vec<Bid>, BiddingOver> {
            match context.metadata().actor.as_deref() {
                Some("ann") => Ok(vec![bid(1)]),
                _ => Err(BiddingOver { ends: context.now(), now: context.now() }),
            }
        }
    }

    let app = App::over(Memory::new()).start().await.unwrap();
    app.execute(OnlyAnn).actor("ann").await.unwrap();
    assert!(app.execute(OnlyAnn).actor("ben").await.is_err());
}

#[test]
fn a_test_of_a_rule_sets_the_time() {
    let ends = time(NOON);
    let place = || PlaceBid { amount: 5, ends };
    let before = time("2026-03-01T11:00:00Z");
    nothing_given().at(before).when(place()).then([bid(5), bid(6)]);
    nothing_given().at(ends).when(place()).then_rejected(BiddingOver { ends, now: ends });
    // The kit stores the time of the decision, as an app does.
    let lots: Lot = given([bid(1)]).at(before).when(place()).then_state(lot());
    assert_eq!(lots.decided, [None, Some(before), Some(before)]);
}
