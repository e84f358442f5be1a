//! Apps and posters that read from real standbys, with tokens and without.

use std::time::Duration;

use diptych::{
    App, Fold, Position, Query, Receipt, Recorded,
    follow::{FollowState, NotYet, WaitError},
    poster::{Poster, PosterOptions},
    query::QueryError,
};
use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_postgres_testing::{PostgresServer, runtime};
use tokio::runtime::Runtime;

use super::shop::{Note, Place, Trade, sold};

/// The sum of all sales.
#[derive(Clone, Default)]
struct Turnover(i64);

impl Fold for Turnover {
    type Event = Trade;

    fn apply(&mut self, trade: &Recorded<Trade>) {
        match &trade.event {
            Trade::Sold { cents, .. } => self.0 += cents,
            Trade::Returned { cents, .. } => self.0 -= cents,
        }
    }
}

struct Sum;

impl Query for Sum {
    type View = Turnover;
    type Answer = i64;

    fn answer(&self, turnover: &Turnover) -> i64 {
        turnover.0
    }
}

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(60);
const READ_ONLY: &str = "&target_session_attrs=read-only";

async fn open(address: &str) -> PostgresStore {
    PostgresStore::open(address, PostgresOptions::default()).await.unwrap()
}

fn need(error: QueryError) -> (u64, u64) {
    let QueryError::NotYet(NotYet { need, have, .. }) = error else { panic!("{error:?}") };
    (need.get(), have.get())
}

#[test]
fn a_query_with_a_token_to_a_delayed_replica_answers_not_yet_and_then_waits_for_it() {
    let Some(primary) = PostgresServer::start() else { return };
    let runtime = runtime();
    let owner = runtime.block_on(async {
        let owner = open(&primary.address("postgres", "main")).await;
        let owner = App::over(owner).view::<Turnover>().start().await.unwrap();
        owner.execute(Note(vec![sold(1, 1, 100)])).await.unwrap();
        owner
    });
    let standby = primary.standby("recovery_min_apply_delay = '1500ms'");
    runtime.block_on(async {
        let at_standby = standby.address("postgres", "main") + READ_ONLY;
        let app = App::over(open(&at_standby).await).view::<Turnover>().start().await.unwrap();
        let poster = Poster::over(open(&at_standby).await).view::<Turnover>().open().await.unwrap();
        assert_eq!((*app.query(Sum).await.unwrap(), *poster.query(Sum).await.unwrap()), (100, 100));

        let session = owner.session();
        let receipt = owner.execute(Note(vec![sold(1, 1, 5)])).session(&session).await.unwrap();
        let token = session.token().await.unwrap();
        for ask in [app.query(Sum), poster.query(Sum)] {
            let early = ask.after(&receipt).within(SHORT).await.unwrap_err();
            assert_eq!(need(early), (2, 1));
        }
        let stale = app.query(Sum).after(&receipt).within(SHORT).or_stale().await.unwrap();
        assert_eq!((*stale, stale.stale), (100, Some(Position::new(2))));
        // Without a token it answers from what it has.
        assert_eq!(*app.query(Sum).await.unwrap(), 100);
        let resumed = poster.resume_session(&token).await.unwrap();
        assert_eq!(*poster.query(Sum).session(&resumed).within(LONG).await.unwrap(), 105);
        assert_eq!(*app.query(Sum).after(&receipt).within(LONG).await.unwrap(), 105);

        // The end of the log and a decision need the primary.
        let strong = app.query(Sum).strong().await.unwrap_err().to_string();
        assert!(strong.contains("read from a replica"), "{strong}");
        let young = app.query(Sum).at_most(LONG).await.unwrap_err().to_string();
        assert!(young.contains("read from a replica"), "{young}");
        for trades in [vec![], vec![sold(1, 1, 1)]] {
            let refused = app.execute(Note(trades)).after(&receipt).await.unwrap_err().to_string();
            assert!(refused.contains("connect to the primary"), "{refused}");
        }
        let past = app.query(Sum).as_of(Position::new(1)).await.unwrap();
        assert_eq!(*past, 100);
    });
}

fn sell(runtime: &Runtime, app: &App, cents: i64) -> Receipt {
    runtime.block_on(app.execute(Note(vec![sold(1, 1, cents)])).into_future()).unwrap()
}

/// The address of whichever of the servers takes writes.
fn either(one: &PostgresServer, two: &PostgresServer) -> String {
    let (one, two) = (one.port(), two.port());
    format!("postgres://postgres@127.0.0.1:{one},127.0.0.1:{two}/postgres?log=main")
}

#[test]
fn views_projections_and_posters_of_lost_commits_say_so_and_begin_again_in_the_new_epoch() {
    let Some(mut primary) = PostgresServer::start() else { return };
    let reports = PostgresServer::start().unwrap();
    let place = Place::new(&reports);
    let runtime = runtime();
    drop(primary.open("main"));
    let standby = primary.standby("");
    let address = either(&primary, &standby);
    let start = || async {
        let app = App::over(open(&address).await).view::<Turnover>();
        app.projection(place.sales()).start().await.unwrap()
    };
    let app = runtime.block_on(start());
    let mut options = PosterOptions::default();
    options.ask_interval = Duration::from_millis(50);
    let store = runtime.block_on(open(&address));
    let poster = Poster::over(store).view::<Turnover>().options(options).open();
    let poster = runtime.block_on(poster).unwrap();
    sell(&runtime, &app, 100);
    standby.caught_up(&primary);
    standby.cut();
    let lost = sell(&runtime, &app, 7);
    runtime.block_on(async {
        assert_eq!(*app.query(Sum).after(&lost).await.unwrap(), 107);
        assert_eq!(*poster.query(Sum).after(&lost).await.unwrap(), 107);
        app.projection("sales").unwrap().after(&lost, LONG).await.unwrap();
    });
    primary.kill();
    standby.promote();

    // The first that reaches the new primary finds that they are gone.
    let changed = loop {
        let answer = runtime.block_on(app.query(Sum).strong().into_future());
        if let Err(QueryError::HistoryChanged(changed)) = answer {
            break changed;
        }
    };
    assert_eq!(changed.is.epoch.number(), changed.was.epoch.number() + 1);
    runtime.block_on(async {
        let refused = app.execute(Note(vec![sold(1, 1, 1)])).await.unwrap_err().to_string();
        assert!(refused.contains("the history of the log changed"), "{refused}");
        let followed = app.projection("sales").unwrap();
        let stopped = followed.caught_up(LONG).await.unwrap_err();
        assert!(matches!(stopped, WaitError::HistoryChanged(_)), "{stopped:?}");
        poster.source_changed(false).await;
        while !matches!(poster.views()[0].state, FollowState::HistoryChanged(_)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let answer = poster.query(Sum).strong().await.unwrap_err();
        assert!(matches!(answer, QueryError::HistoryChanged(_)), "{answer:?}");
        poster.stop().await.unwrap();
        app.stop().await.unwrap();
    });

    // After a restart the view has what the log has. The rows are of lost events, so the projection
    // stops until it is rebuilt, and a token of a lost event is refused.
    let app = runtime.block_on(start());
    runtime.block_on(async {
        assert_eq!(*app.query(Sum).strong().await.unwrap(), 100);
        let refused = app.query(Sum).after(&lost).await.unwrap_err();
        assert!(matches!(refused, QueryError::Token(_)), "{refused:?}");
        let followed = app.projection("sales").unwrap();
        let stopped = followed.caught_up(LONG).await.unwrap_err();
        assert!(stopped.to_string().contains("rebuild the projection"), "{stopped}");
        followed.rebuild().await.unwrap();
        followed.caught_up(LONG).await.unwrap();
    });
    assert_eq!(place.assert_in_step(&reports, app.store()), Position::new(1));
    runtime.block_on(app.stop()).unwrap();
}
