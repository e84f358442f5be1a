//! A new version of a report that is built beside the old one, compared with it, and switched.

use std::{
    thread,
    time::{Duration, Instant},
};

use diptych::{
    App, Recorded,
    follow::{ControlError, FollowerControl, Switch, VersionState},
};
use diptych_postgres_tables::{Projection, SwitchPolicy, Transaction};
use diptych_postgres_testing::{PostgresServer, shared};

use super::shop::{Place, Trade, app, note, sold};

/// Never reached unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// A report of what each shop sold, in one of its versions.
struct Takings {
    version: u32,
    /// Its answers are wrong by so much for each trade.
    error: i64,
}

impl Projection for Takings {
    type Event = Trade;

    fn name(&self) -> &str {
        "takings"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn create(&self) -> Vec<String> {
        let version = self.version;
        vec![
            format!("create table takings_v{version} (shop text primary key, cents bigint)"),
            format!("create index takings_by_cents_v{version} on takings_v{version} (cents)"),
        ]
    }

    fn readers(&self) -> Vec<(String, String)> {
        vec![("takings".to_owned(), format!("takings_v{}", self.version))]
    }

    fn compared(&self) -> Vec<String> {
        vec!["select shop, cents from takings order by shop;".to_owned()]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Trade>,
    ) -> diptych_postgres_tables::Result {
        let Trade::Sold { shop, cents, .. } = &event.event else { return Ok(()) };
        let sql = format!(
            "insert into takings_v{0} as t values ($1, $2)
             on conflict (shop) do update set cents = t.cents + excluded.cents",
            self.version
        );
        tx.execute(&sql, &[shop, &(cents + self.error)])?;
        Ok(())
    }
}

async fn run(
    log: &App,
    place: &Place,
    (version, error): (u32, i64),
    policy: SwitchPolicy,
) -> (App, FollowerControl) {
    let target = place.tables().projection(Takings { version, error }).beside(policy);
    let app = log.beside().projection(target).start().await.unwrap();
    let control = app.projection("takings").unwrap();
    (app, control)
}

/// The served version, its position, and the rows that readers see.
fn asked(server: &PostgresServer, place: &Place) -> (i64, i64, Vec<(String, i64)>) {
    let ask = || {
        let served = "select version, position from diptych_checkpoint where name = 'takings'";
        let [served, rows] = place.ask(server, [served, "select * from takings order by shop"]);
        let rows = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        (served[0].get(0), served[0].get(1), rows)
    };
    thread::scope(|scope| scope.spawn(ask).join().unwrap())
}

fn wait_until(control: &FollowerControl, version: u32, wanted: impl Fn(&VersionState) -> bool) {
    let began = Instant::now();
    let is_so = || {
        let versions = control.status().versions;
        versions.iter().any(|it| it.version == version && wanted(&it.state))
    };
    while !is_so() {
        assert!(began.elapsed() < LONG, "{:?}", control.status());
        thread::yield_now();
    }
}

fn shops(cents: [i64; 2]) -> Vec<(String, i64)> {
    vec![("shop-1".to_owned(), cents[0]), ("shop-2".to_owned(), cents[1])]
}

fn write(log: &App, events: impl IntoIterator<Item = Trade>) {
    tokio::task::block_in_place(|| note(log, events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_built_beside_the_served_one_and_switched_forward_and_back() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let log = app();
    write(&log, [sold(1, 1, 100), sold(2, 1, 200)]);
    let (old_app, old) = run(&log, &place, (1, 0), SwitchPolicy::Automatic).await;
    old.caught_up(LONG).await.unwrap();
    let (new_app, new) = run(&log, &place, (2, 0), SwitchPolicy::ByCommand).await;
    wait_until(&new, 2, |state| matches!(state, VersionState::Equal { .. }));
    assert_eq!(asked(server, &place), (1, 2, shops([100, 200])));
    new.switch(Switch::forward()).await.unwrap();
    assert_eq!(asked(server, &place), (2, 2, shops([100, 200])));

    // Both go on, and the old one is shown again.
    write(&log, [sold(1, 1, 5)]);
    new.caught_up(LONG).await.unwrap();
    let positions = || old.status().versions.iter().map(|it| it.position.get()).collect::<Vec<_>>();
    let began = Instant::now();
    while positions() != [3, 3] {
        assert!(began.elapsed() < LONG, "{:?}", old.status());
        thread::yield_now();
    }
    new.switch(Switch::back()).await.unwrap();
    assert_eq!(asked(server, &place), (1, 3, shops([105, 200])));
    new.switch(Switch::forward()).await.unwrap();
    old_app.stop().await.unwrap();
    new.drop_version(1).await.unwrap();
    assert_eq!(asked(server, &place), (2, 3, shops([105, 200])));
    let tables = || {
        let [rows] = place.ask(
            server,
            ["select tablename::text from pg_tables
            where schemaname = current_schema() and tablename like 'takings%'"],
        );
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    let tables = thread::scope(|scope| scope.spawn(tables).join().unwrap());
    assert_eq!(tables, ["takings_v2"]);
    new_app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_differs_is_not_switched_and_tells_the_difference() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let log = app();
    write(&log, [sold(1, 1, 100), sold(2, 1, 200)]);
    let (old_app, old) = run(&log, &place, (1, 0), SwitchPolicy::Automatic).await;
    old.caught_up(LONG).await.unwrap();
    old_app.stop().await.unwrap();
    let (app, control) = run(&log, &place, (2, 1), SwitchPolicy::Automatic).await;
    wait_until(&control, 2, |state| match state {
        VersionState::Different { difference, .. } => {
            assert!(difference.contains("version 1 has (shop-1,100)"), "{difference}");
            true
        }
        _ => false,
    });
    assert_eq!(asked(server, &place), (1, 2, shops([100, 200])));
    let refused = control.switch(Switch::forward()).await.unwrap_err();
    assert!(matches!(refused, ControlError::Different { .. }), "{refused}");
    control.switch(Switch::forward().accept_difference()).await.unwrap();
    assert_eq!(asked(server, &place), (2, 2, shops([101, 201])));
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_others_in_the_place_of_a_name_for_readers_is_noticed() {
    let Some(server) = shared() else { return };
    let place = Place::new(server);
    let log = app();
    write(&log, [sold(1, 1, 100)]);
    let (app, control) = run(&log, &place, (1, 0), SwitchPolicy::Automatic).await;
    control.caught_up(LONG).await.unwrap();
    app.stop().await.unwrap();
    let change =
        "create or replace view takings as select shop, cents + 1 as cents from takings_v1";
    thread::scope(|scope| scope.spawn(|| place.execute(server, change)).join().unwrap());
    let checked = || {
        let target = place.tables().projection(Takings { version: 1, error: 0 });
        let mut target = target.beside(SwitchPolicy::Automatic);
        diptych::projection::Target::checkpoint(&mut target).unwrap_err()
    };
    let error = thread::scope(|scope| scope.spawn(checked).join().unwrap());
    assert!(
        error.to_string().contains("view takings of projection takings was changed"),
        "{error}"
    );
}
