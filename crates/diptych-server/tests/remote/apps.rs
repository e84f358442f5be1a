//! Apps over the log of a server: several on one log, and across restarts of the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use diptych::{
    App, AppBuilder, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold,
    Log, Memory, Query, QueryError, Receipt, Recorded, Store, Tag,
    remote::{AddressError, RemoteOptions},
    store::{Append, EventStore, RawEvent, Read, Unavailable},
};
use diptych_sqlite::{Projection, Sqlite, Transaction};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::served_log::ServedLog;

/// Far longer than anything takes that a test waits for.
const LONG: Duration = Duration::from_secs(120);

/// Pieces of an item come and go.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
enum Stock {
    #[event("pieces-added")]
    Added {
        #[tag]
        item: String,
        pieces: u32,
    },
    #[event("piece-taken")]
    Taken {
        #[tag]
        item: String,
        by: String,
    },
}

/// The pieces of one item.
#[derive(Clone, Default)]
struct Pieces(u32);

impl Fold for Pieces {
    type Event = Stock;

    fn apply(&mut self, event: &Recorded<Stock>) {
        match &event.event {
            Stock::Added { pieces, .. } => self.0 += pieces,
            Stock::Taken { .. } => self.0 -= 1,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no piece is left")]
struct NoPiece;

fn of_item(item: &str) -> Filter {
    Filter::tag(Tag::new("item", item))
}

#[derive(Clone)]
struct Add(&'static str, u32);

impl Command for Add {
    type State = Pieces;
    type Event = Stock;
    type Rejection = NoPiece;

    fn boundary(&self) -> Filter {
        of_item(self.0)
    }

    fn decide(&self, _: &Pieces, _: &DecisionContext) -> Result<Vec<Stock>, NoPiece> {
        Ok(vec![Stock::Added { item: self.0.to_owned(), pieces: self.1 }])
    }
}

#[derive(Clone, Serialize)]
struct Take {
    item: &'static str,
    by: String,
}

impl Command for Take {
    type State = Pieces;
    type Event = Stock;
    type Rejection = NoPiece;

    fn boundary(&self) -> Filter {
        of_item(self.item)
    }

    fn decide(&self, pieces: &Pieces, _: &DecisionContext) -> Result<Vec<Stock>, NoPiece> {
        match pieces.0 {
            0 => Err(NoPiece),
            _ => Ok(vec![Stock::Taken { item: self.item.to_owned(), by: self.by.clone() }]),
        }
    }
}

/// The pieces of all items, and who took some.
#[derive(Clone, Default)]
struct Shelf {
    pieces: BTreeMap<String, u32>,
    takers: Vec<String>,
}

impl Fold for Shelf {
    type Event = Stock;

    fn apply(&mut self, event: &Recorded<Stock>) {
        match &event.event {
            Stock::Added { item, pieces } => {
                *self.pieces.entry(item.clone()).or_default() += pieces
            }
            Stock::Taken { item, by } => {
                *self.pieces.entry(item.clone()).or_default() -= 1;
                self.takers.push(by.clone());
            }
        }
    }
}

struct PiecesOf(&'static str);

impl Query for PiecesOf {
    type View = Shelf;
    type Answer = u32;

    fn answer(&self, shelf: &Shelf) -> u32 {
        shelf.pieces.get(self.0).copied().unwrap_or_default()
    }
}

struct Takers;

impl Query for Takers {
    type View = Shelf;
    type Answer = Vec<String>;

    fn answer(&self, shelf: &Shelf) -> Vec<String> {
        shelf.takers.clone()
    }
}

/// A row for each taken piece.
struct TakenRows;

impl Projection for TakenRows {
    type Event = Stock;

    fn name(&self) -> &str {
        "taken"
    }

    fn create(&self, tx: &Transaction<'_>) -> diptych_sqlite::Result {
        tx.execute_batch("CREATE TABLE taken (item TEXT NOT NULL, taker TEXT NOT NULL)")?;
        Ok(())
    }

    fn apply(&self, tx: &Transaction<'_>, event: &Recorded<Stock>) -> diptych_sqlite::Result {
        if let Stock::Taken { item, by } = &event.event {
            tx.execute("INSERT INTO taken VALUES (?1, ?2)", (item, by))?;
        }
        Ok(())
    }
}

/// A log in a folder, and its server, which can be started again at the same address.
struct Shop {
    _dir: TempDir,
    log: Log,
    address: SocketAddr,
    served: Option<ServedLog>,
}

impl Shop {
    fn open() -> Shop {
        let dir = TempDir::new().unwrap();
        let log = Log::open(dir.path(), diptych::LogOptions::default()).unwrap();
        let served = ServedLog::start(Store::new(log.clone()));
        Shop { _dir: dir, log, address: served.address, served: Some(served) }
    }

    fn builder(&self) -> impl Future<Output = AppBuilder> + use<> {
        let address = format!("diptych://{}/log", self.address);
        async move { App::connect(&address).await.unwrap().view::<Shelf>() }
    }

    async fn app(&self) -> App {
        self.builder().await.start().await.unwrap()
    }

    /// Stops the server, and starts another one for the log at the same address.
    fn restart(&mut self) {
        self.stop();
        let store = Store::new(self.log.clone());
        self.served = Some(ServedLog::start_at(store, self.address));
    }

    fn stop(&mut self) {
        drop(self.served.take());
    }

    /// The takers in the log, in order.
    async fn takers(&self) -> Vec<String> {
        let app = App::over(self.log.clone()).view::<Shelf>().start().await.unwrap();
        let takers = app.query(Takers).strong().await.unwrap().value;
        app.stop().await.unwrap();
        takers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_on_one_server_decide_conflicts_again_and_never_take_too_much() {
    const PIECES: u32 = 60;
    let shop = Shop::open();
    let apps = [shop.app().await, shop.app().await];
    apps[0].execute(Add("pen", PIECES)).await.unwrap();
    let mut tasks = Vec::new();
    for (n, app) in apps.iter().enumerate() {
        for m in 0..PIECES {
            let (app, by) = (app.clone(), format!("{n}-{m}"));
            tasks.push(tokio::spawn(async move { app.execute(Take { item: "pen", by }).await }));
        }
    }
    let (mut receipts, mut rejections) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => receipts += 1,
            Err(ExecuteError::Rejected(NoPiece)) => rejections += 1,
            Err(ExecuteError::Failed(error)) => panic!("{error}"),
        }
    }
    assert_eq!((receipts, rejections), (PIECES, PIECES));
    let takers = shop.takers().await;
    assert_eq!(takers.len() as u32, PIECES);
    assert_eq!(takers.iter().collect::<BTreeSet<_>>().len(), takers.len());
    for app in apps {
        assert_eq!(*app.query(PiecesOf("pen")).strong().await.unwrap(), 0);
        app.stop().await.unwrap();
    }
}

/// Each of two apps keeps the state of the boundary in its cache. The other one's commits make it
/// stale, and the server refuses the append.
#[tokio::test]
async fn a_decision_over_a_stale_cache_is_refused_by_the_server_and_made_again() {
    let shop = Shop::open();
    let (one, two) = (shop.app().await, shop.app().await);
    one.execute(Add("pen", 1)).await.unwrap();
    let receipt = two.execute(Add("pen", 1)).await.unwrap();
    one.query(PiecesOf("pen")).after(&receipt).await.unwrap();
    let take = |by: &str| Take { item: "pen", by: by.to_owned() };
    one.execute(take("ann")).await.unwrap();
    two.execute(take("ben")).await.unwrap();
    let none = one.execute(take("cem")).await;
    assert!(matches!(none, Err(ExecuteError::Rejected(NoPiece))));
    assert_eq!(shop.takers().await, ["ann", "ben"]);
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn a_receipt_of_one_app_lets_another_app_read_the_write() {
    let shop = Shop::open();
    let (writer, reader) = (shop.app().await, shop.app().await);
    for pieces in 1..=50 {
        let receipt = writer.execute(Add("pen", 1)).await.unwrap().to_string();
        let receipt: Receipt = receipt.parse().unwrap();
        let answer = reader.query(PiecesOf("pen")).after(&receipt).await.unwrap();
        assert_eq!(*answer, pieces);
    }
    writer.stop().await.unwrap();
    reader.stop().await.unwrap();
}

#[tokio::test]
async fn views_and_rows_follow_a_server_and_go_on_after_its_restart() {
    let mut shop = Shop::open();
    let rows = TempDir::new().unwrap();
    let file = rows.path().join("rows.db");
    let builder = shop.builder().await.projection(Sqlite::at(&file).projection(TakenRows));
    let (app, writer) = (builder.start().await.unwrap(), shop.app().await);
    writer.execute(Add("pen", 100)).await.unwrap();
    for round in 0..3 {
        for n in 0..10 {
            let take = Take { item: "pen", by: format!("{round}-{n}") };
            writer.execute(take).await.unwrap();
        }
        shop.restart();
    }
    let receipt = writer.execute(Take { item: "pen", by: "last".to_owned() }).await.unwrap();
    app.projection("taken").unwrap().after(&receipt, LONG).await.unwrap();
    assert_eq!(*app.query(PiecesOf("pen")).after(&receipt).await.unwrap(), 69);
    let takers = shop.takers().await;
    assert_eq!(app.query(Takers).strong().await.unwrap().value, takers);
    app.stop().await.unwrap();
    writer.stop().await.unwrap();
    let db = diptych_sqlite::rusqlite::Connection::open(&file).unwrap();
    let mut select = db.prepare("SELECT taker FROM taken ORDER BY rowid").unwrap();
    let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(rows.collect::<Result<Vec<_>, _>>().unwrap(), takers);
}

/// The server is started again under commands of two apps, some with a key and some without.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_and_doubles_no_command() {
    const COMMANDS: usize = 300;
    let mut shop = Shop::open();
    let apps = [shop.app().await, shop.app().await];
    apps[0].execute(Add("pen", 2 * COMMANDS as u32)).await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for (n, app) in apps.iter().cloned().enumerate() {
        let done = done.clone();
        tasks.push(tokio::spawn(async move {
            let (mut certain, mut uncertain) = (Vec::new(), Vec::new());
            for m in 0..COMMANDS {
                let by = format!("{n}-{m}");
                let take = Take { item: "pen", by: by.clone() };
                match n {
                    // A command with a key is sent until it has a receipt.
                    0 => loop {
                        match app.execute(take.clone()).key(&by).await {
                            Ok(_) => break certain.push(by),
                            Err(ExecuteError::Failed(
                                CommandError::OutcomeUnknown(_)
                                | CommandError::Unavailable(_)
                                | CommandError::Conflict(_),
                            )) => {}
                            Err(error) => panic!("{error}"),
                        }
                    },
                    _ => match app.execute(take).await {
                        Ok(_) => certain.push(by),
                        Err(ExecuteError::Failed(CommandError::OutcomeUnknown(_))) => {
                            uncertain.push(by);
                        }
                        // Nothing was written.
                        Err(ExecuteError::Failed(
                            CommandError::Unavailable(_) | CommandError::Conflict(_),
                        )) => {}
                        Err(error) => panic!("{error}"),
                    },
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            (certain, uncertain)
        }));
    }
    for share in 1..=3 {
        while done.load(Ordering::SeqCst) < share * COMMANDS / 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::block_in_place(|| shop.restart());
    }
    let (mut certain, mut uncertain) = (BTreeSet::new(), BTreeSet::new());
    for task in tasks {
        let (ours, unknown) = task.await.unwrap();
        certain.extend(ours);
        uncertain.extend(unknown);
    }
    let takers = shop.takers().await;
    let distinct: BTreeSet<String> = takers.iter().cloned().collect();
    assert_eq!(distinct.len(), takers.len(), "a command is double");
    assert!(certain.is_subset(&distinct), "a command is lost");
    assert!(distinct.difference(&certain).all(|by| uncertain.contains(by)), "a failure is there");
    for app in apps {
        assert_eq!(app.query(Takers).strong().await.unwrap().value, takers);
        app.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_app_ends_with_history_changed_when_another_log_is_at_the_address() {
    let mut shop = Shop::open();
    let app = shop.app().await;
    let receipt = app.execute(Add("pen", 1)).await.unwrap();
    assert_eq!(*app.query(PiecesOf("pen")).after(&receipt).await.unwrap(), 1);
    shop.stop();
    let other = Store::new(Memory::new());
    let _served = ServedLog::start_at(other.clone(), shop.address);
    let asked = app.query(PiecesOf("pen")).strong().await;
    assert!(matches!(asked, Err(QueryError::HistoryChanged(_))), "{asked:?}");
    let sent = app.execute(Add("pen", 1)).await;
    let Err(ExecuteError::Failed(CommandError::Unavailable(Unavailable::HistoryChanged(changed)))) =
        sent
    else {
        panic!("{sent:?}")
    };
    assert_eq!((changed.was, changed.is), (app.identity(), other.identity()));
    // Once the view has noticed it, too, no query is answered from the old history.
    loop {
        match app.query(PiecesOf("pen")).await {
            Ok(answer) => assert_eq!(answer.value, 1),
            Err(QueryError::HistoryChanged(_)) => break,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let _ = app.stop().await;
}

#[tokio::test]
async fn an_address_is_a_folder_memory_or_a_server_and_anything_else_is_an_error() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("log");
    for address in [format!("file:{}", folder.display()), folder.display().to_string()] {
        let app = App::connect(&address).await.unwrap().start().await.unwrap();
        app.execute(Add("pen", 1)).await.unwrap();
        app.stop().await.unwrap();
    }
    let memory = App::connect("memory:").await.unwrap().start().await.unwrap();
    memory.execute(Add("pen", 1)).await.unwrap();
    assert_eq!(memory.head().get(), 1);
    let log = Log::open(&folder, diptych::LogOptions::default()).unwrap();
    let both = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    assert_eq!(both.len(), 2);
    let held = App::connect(&folder.display().to_string()).await;
    assert!(matches!(held, Err(AddressError::Folder(_))));
    let unknown = App::connect("nats://host").await;
    assert!(matches!(unknown, Err(AddressError::Invalid(_))));
    let wrong = App::connect("diptych://").await;
    assert!(matches!(wrong, Err(AddressError::Server(_))));
}

/// Once, the token of an answer asked the server for the event at its position, which failed while
/// the server was away.
#[tokio::test]
async fn answers_have_tokens_while_the_server_is_away() {
    let mut shop = Shop::open();
    let (app, writer) = (shop.app().await, shop.app().await);
    writer.execute(Add("pen", 3)).await.unwrap();
    let session = app.session();
    let answer = app.query(PiecesOf("pen")).strong().session(&session).within(LONG).await.unwrap();
    assert_eq!((*answer, session.seen().get()), (3, 1));
    shop.stop();
    let token = session.token().await.unwrap();
    let resumed = app.resume_session(&token).await.unwrap();
    assert_eq!(*app.query(PiecesOf("pen")).session(&resumed).await.unwrap(), 3);
    shop.restart();
    let other = shop.app().await;
    assert_eq!(*other.query(PiecesOf("pen")).token(&token).within(LONG).await.unwrap(), 3);
    for app in [app, writer, other] {
        app.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_token_that_needs_the_log_says_so_while_the_server_is_away() {
    let mut shop = Shop::open();
    let mut options = RemoteOptions::default();
    options.answer_time = Duration::from_millis(500);
    let address = format!("diptych://{}/log", shop.address);
    let app = App::connect_with(&address, options).await.unwrap().view::<Shelf>();
    let app = app.start().await.unwrap();
    // The view takes no such events, so it does not know the event at its position.
    let other = Append::event(RawEvent::new("other", "{}"));
    shop.log.append(other).await.unwrap().synced().await.unwrap();
    let session = app.session();
    app.query(PiecesOf("pen")).strong().session(&session).within(LONG).await.unwrap();
    assert_eq!(session.seen().get(), 1);
    shop.stop();
    let error = session.token().await.unwrap_err();
    let says = "tokens name the event at position 1, and only the log has that event: ";
    assert!(error.to_string().contains(says), "{error}");
    shop.restart();
    session.token().await.unwrap();
    app.stop().await.unwrap();
}
