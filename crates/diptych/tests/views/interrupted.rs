//! Obstacles to a view: a store that does not answer, pending queries that are not polled, and
//! snapshots of a faulty fold.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use diptych::{
    App, AppBuilder, Command, DecisionContext, Event, Fold, Memory, Position, Query, QueryError,
    Recorded, Store,
    follow::{ControlError, FollowState},
    snapshot::{MemorySnapshots, SnapshotOptions, Snapshots},
    view::ViewOptions,
};
use diptych_store::{
    Append, Unavailable,
    testing::{Call, WrappedStore},
};
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(20);

#[derive(Event, Serialize, Deserialize)]
#[event("said")]
struct Said {
    text: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event("unheard")]
struct Unheard {}

/// The worth of one event. A test changes it to simulate a changed fold whose author forgot to
/// raise `VERSION`.
static WORTH: AtomicU64 = AtomicU64::new(1);

#[derive(Clone, Default, Serialize, Deserialize)]
struct HeardEvents {
    worth: u64,
    texts: Vec<String>,
}

impl Fold for HeardEvents {
    type Event = Said;

    const VERSION: Option<u32> = Some(1);

    fn apply(&mut self, said: &Recorded<Said>) {
        self.worth += WORTH.load(Ordering::SeqCst);
        self.texts.push(said.text.clone());
    }
}

struct Worth;

impl Query for Worth {
    type View = HeardEvents;
    type Answer = u64;

    fn answer(&self, heard: &HeardEvents) -> u64 {
        heard.worth
    }
}

struct Texts;

impl Query for Texts {
    type View = HeardEvents;
    type Answer = usize;

    fn answer(&self, heard: &HeardEvents) -> usize {
        heard.texts.len()
    }
}

struct Say;

impl Command for Say {
    type State = ();
    type Event = Said;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Said>, Infallible> {
        Ok(vec![Said { text: "as told".to_owned() }])
    }
}

/// A store with small batches. A test can make reads after a position fail, or make the look-up of
/// the last event hang.
#[derive(Clone)]
struct FaultyStore {
    store: Store,
    last_hangs: Arc<AtomicBool>,
    ends_at: Arc<AtomicU64>,
}

impl FaultyStore {
    fn new() -> FaultyStore {
        let (last_hangs, ends_at) = (Arc::default(), Arc::new(AtomicU64::new(u64::MAX)));
        FaultyStore { store: Store::new(Memory::new()), last_hangs, ends_at }
    }

    fn store(&self) -> WrappedStore {
        let FaultyStore { store, last_hangs, ends_at } = self.clone();
        WrappedStore::over(store).before(move |call| {
            let (mut fails, mut hangs) = (false, false);
            match call {
                Call::Read(_, read) => {
                    fails = read.after.get() >= ends_at.load(Ordering::SeqCst);
                    read.upto = read.after.plus(10).min(read.upto);
                }
                Call::Last(..) => hangs = last_hangs.load(Ordering::SeqCst),
                _ => {}
            }
            async move {
                if hangs {
                    pending::<()>().await;
                }
                match fails {
                    true => Err(Unavailable::Backend(Arc::new(io::Error::other("asleep"))).into()),
                    false => Ok(()),
                }
            }
        })
    }
}

async fn write(store: &Store, event: impl Event) {
    let append = Append::event(event.encode().unwrap());
    store.append(append).await.unwrap().synced().await.unwrap();
}

async fn say(store: &Store) {
    write(store, Said { text: "so long that it is seen".to_owned() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_over_unreadable_events_fails_and_the_app_can_be_dropped() {
    let faulty = FaultyStore::new();
    let app = App::over(faulty.store()).view::<HeardEvents>().start().await.unwrap();
    let view = app.view::<HeardEvents>().unwrap();
    view.pause().await.unwrap();
    for _ in 0..50 {
        write(&faulty.store, Unheard {}).await;
    }
    // The first pages hold no event of the view. The read of the next page fails.
    faulty.ends_at.store(20, Ordering::SeqCst);
    let stepped = tokio::time::timeout(LONG, view.step()).await;
    assert!(matches!(stepped, Ok(Err(ControlError::Failed { .. }))), "{stepped:?}");
    assert_eq!(view.status().state, FollowState::Paused);
    let (dropped, is_dropped) = mpsc::channel();
    thread::spawn(move || {
        drop(app);
        dropped.send(()).unwrap();
    });
    is_dropped.recv_timeout(LONG).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_query_of_the_past_blocks_no_view() {
    let faulty = FaultyStore::new();
    let app = App::over(faulty.store())
        .view_with::<HeardEvents>(ViewOptions { copies: 2, ..ViewOptions::default() });
    let app = app.start().await.unwrap();
    for _ in 0..5 {
        say(&faulty.store).await;
    }
    assert_eq!(*app.query(Texts).strong().await.unwrap(), 5);
    faulty.last_hangs.store(true, Ordering::SeqCst);
    let mut past = Box::pin(app.query(Texts).as_of(Position::new(3)));
    assert!(past.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    for _ in 0..5 {
        say(&faulty.store).await;
        app.query(Texts).strong().within(LONG).await.unwrap();
    }
    faulty.last_hangs.store(false, Ordering::SeqCst);
    drop(past);
    assert_eq!(*app.query(Texts).as_of(Position::new(3)).await.unwrap(), 3);
}

/// A query that runs until the test sends `end`.
struct Long {
    began: mpsc::Sender<()>,
    end: Mutex<mpsc::Receiver<()>>,
}

impl Query for Long {
    type View = HeardEvents;
    type Answer = ();

    fn answer(&self, _: &HeardEvents) {
        self.began.send(()).unwrap();
        self.end.lock().unwrap().recv().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_view_that_waited_for_a_query_is_still_paused() {
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone())
        .view_with::<HeardEvents>(ViewOptions { copies: 2, ..ViewOptions::default() });
    let app = app.start().await.unwrap();
    let view = app.view::<HeardEvents>().unwrap();
    view.pause().await.unwrap();
    say(&store).await;
    say(&store).await;
    let ((began, begins), (end, ends)) = (mpsc::channel(), mpsc::channel());
    let asking = app.clone();
    let long = Long { began, end: Mutex::new(ends) };
    let asked = tokio::spawn(async move { asking.query(long).await.map(drop) });
    tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
    view.step().await.unwrap();
    let stepping = app.clone();
    let step = tokio::spawn(async move { stepping.view::<HeardEvents>().unwrap().step().await });
    while !matches!(view.status().state, FollowState::Stalled { .. }) {
        tokio::task::yield_now().await;
    }
    end.send(()).unwrap();
    assert_eq!(step.await.unwrap(), Ok(Position::new(2)));
    assert_eq!(view.status().state, FollowState::Paused);
    asked.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_query_waits_for_writes_made_after_it_was_built() {
    let store = Store::new(Memory::new());
    let app = App::over_store(store.clone()).view::<HeardEvents>().start().await.unwrap();
    app.view::<HeardEvents>().unwrap().pause().await.unwrap();
    let (session, soon) = (app.session(), Duration::from_millis(1));
    let asks = [
        app.query(Texts).session(&session).within(soon),
        app.query(Texts).own_writes(&session).within(soon),
    ];
    let monotonic = app.query(Texts).monotonic(&session).within(soon);
    app.execute(Say).session(&session).await.unwrap();
    for ask in asks {
        assert!(matches!(ask.await, Err(QueryError::NotYet(_))));
    }
    // A monotonic query requires only the position that the session has already seen.
    assert_eq!(*monotonic.await.unwrap(), 0);
}

fn kept(store: &Store, place: &Arc<MemorySnapshots>) -> AppBuilder {
    let options = SnapshotOptions { every_events: Some(4), keep: 3 };
    let app = App::over_store(store.clone()).view::<HeardEvents>();
    app.snapshots::<HeardEvents>(options).snapshots_in(place.clone())
}

#[tokio::test]
async fn a_view_takes_as_much_memory_after_a_restart() {
    let (place, store) = (Arc::new(MemorySnapshots::default()), Store::new(Memory::new()));
    for _ in 0..10 {
        say(&store).await;
    }
    let app = kept(&store, &place).start().await.unwrap();
    let before = app.views()[0].memory.unwrap().copy_bytes;
    app.stop().await.unwrap();
    let app = kept(&store, &place).start().await.unwrap();
    assert_eq!(app.views()[0].events, 0, "the view must start from the snapshot");
    assert_eq!(app.views()[0].memory.unwrap().copy_bytes, before);
}

#[tokio::test]
async fn snapshots_from_before_a_rebuild_are_never_used_again() {
    let (place, store) = (Arc::new(MemorySnapshots::default()), Store::new(Memory::new()));
    let answer = async |app: &App| app.query(Worth).await.unwrap().value;
    WORTH.store(7, Ordering::SeqCst);
    for _ in 0..3 {
        let app = kept(&store, &place).start().await.unwrap();
        for _ in 0..4 {
            say(&store).await;
        }
        app.query(Worth).strong().await.unwrap();
        app.stop().await.unwrap();
    }
    WORTH.store(1, Ordering::SeqCst);
    let app = kept(&store, &place).start().await.unwrap();
    assert_eq!(answer(&app).await, 84, "the view must start from a snapshot of the other program");
    app.view::<HeardEvents>().unwrap().rebuild().await.unwrap();
    assert!(place.names("").unwrap().is_empty());
    while answer(&app).await != 12 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*app.query(Worth).as_of(Position::new(5)).await.unwrap(), 5);
    app.stop().await.unwrap();
    let app = kept(&store, &place).start().await.unwrap();
    assert_eq!((answer(&app).await, app.views()[0].events), (12, 0));
}
