//! Stores that are wrong on purpose. They prove that the tests of this crate notice the mistakes
//! that stores in PostgreSQL make.

use std::{future::poll_fn, thread, time::Duration};

use diptych_postgres::{PostgresOptions, PostgresStore};
use diptych_store::{
    Store,
    testing::{Outcome, Setup, Suite, TestStore, WrappedStore, cases},
};
use pollster::block_on;
use tokio_postgres::{AsyncMessage, NoTls};

use super::{
    alternating::alternating,
    contention::{race, seen_among_slow_appenders, sees_commits_without_hints},
    handles,
    proxy::Proxy,
    server::{PostgresServer, new_name, runtime},
};

const LOCK: &str =
    "select l.epoch, l.head, l.commits, l.recorded_at into o_epoch, o_head, v_commits, v_time
  from diptych.log l where l.id = p_log for no key update;";
const WITHOUT_LOCK: &str =
    "select l.epoch, l.head, l.commits, l.recorded_at into o_epoch, o_head, v_commits, v_time
  from diptych.log l where l.id = p_log;";

/// Replaces texts in the function that decides appends.
fn change_append(server: &PostgresServer, changes: &[(&str, &str)]) {
    let text = "select pg_get_functiondef(p.oid) from pg_proc p \
                where p.pronamespace = 'diptych'::regnamespace and p.proname = 'append'";
    let asked = async { server.client("postgres").await.query_one(text, &[]).await };
    let mut text: String = runtime().block_on(asked).unwrap().get(0);
    for (is, becomes) in changes {
        assert_eq!(text.matches(is).count(), 1, "the function has another text than {is:?}");
        text = text.replace(is, becomes);
    }
    server.execute("postgres", &text);
}

/// The conditions of a batch are checked, and then the log is locked.
fn check_before_the_lock(server: &PostgresServer) {
    let then = "v_head := o_head;\n";
    let late = format!("{LOCK}\n  {then}");
    change_append(server, &[(LOCK, WITHOUT_LOCK), (then, &late)]);
}

#[test]
fn a_store_that_checks_before_it_locks_lets_several_racers_win() {
    let Some(server) = PostgresServer::start() else { return };
    let stores = handles(|| server.open("main"), 16);
    assert_eq!(race(&stores, "seat:right"), 1);
    check_before_the_lock(&server);
    let caught = (0..200).find(|round| race(&stores, &format!("seat:{round}")) > 1);
    println!("caught in round {caught:?}");
    assert!(caught.is_some(), "the racers did not notice it");
}

#[test]
fn the_conformance_suite_fails_a_store_that_checks_before_it_locks() {
    let Some(server) = PostgresServer::start() else { return };
    drop(server.open("main"));
    let fresh = |_: &Setup| {
        let name = new_name();
        let handles = (0..8).map(|_| server.open(&name)).collect();
        Some(TestStore::new(alternating(handles)))
    };
    let suite = Suite::new(&fresh);
    let named = |name: &str| cases().iter().find(|case| case.name == name).unwrap();
    let outcomes = || {
        let contended = ["one_of_64_contenders_wins", "retries_lose_no_update"];
        contended.map(|name| named(name).run(&suite))
    };
    assert_eq!(outcomes(), [Outcome::Passed, Outcome::Passed]);
    check_before_the_lock(&server);
    let failed = (0..20)
        .find_map(|_| outcomes().into_iter().find(|outcome| matches!(outcome, Outcome::Failed(_))));
    println!("{failed:?}");
    assert!(failed.is_some(), "the suite did not notice it");
}

/// Positions become numbers of a sequence, and no lock keeps commits in their order.
fn order_by_a_sequence(server: &PostgresServer) {
    drop(server.open("main"));
    server.execute("postgres", "create sequence public.pos");
    let position = "v_pos := v_head + 1;
      v_verdicts[4 * i - 2] := v_pos;
      v_head := v_head + c_events[i];
      v_verdicts[4 * i - 1] := v_head;";
    let of_sequence = "v_pos := nextval('public.pos');
      v_verdicts[4 * i - 2] := v_pos;
      v_head := greatest(v_head, v_pos);
      v_verdicts[4 * i - 1] := v_pos;";
    // Each commit is looked at, also where a batch could be accepted as a whole.
    let (as_a_whole, one_by_one) = ("if cardinality(d_commit) = 0 and", "if false and");
    let changes = [
        (as_a_whole, one_by_one),
        (LOCK, WITHOUT_LOCK),
        (position, of_sequence),
        ("set head = v_head,", "set head = greatest(l.head, v_head),"),
    ];
    change_append(server, &changes);
}

#[test]
fn a_store_whose_order_is_that_of_a_sequence_lets_a_subscriber_skip_events() {
    let all: Vec<u64> = (1..=600).collect();
    // The server decides whether a commit overtakes another one.
    for _ in 0..5 {
        let Some(server) = PostgresServer::start() else { return };
        order_by_a_sequence(&server);
        match seen_among_slow_appenders(&server) {
            Ok(seen) if seen == all => {}
            Ok(seen) => return println!("a subscriber saw {} of {} events", seen.len(), all.len()),
            Err(error) => return println!("a subscriber failed: {error}"),
        }
    }
    panic!("it was not noticed");
}

/// A handle whose head moves by notifications alone.
fn by_notifications(address: &str, proxy: &Proxy) -> Store {
    let store = block_on(PostgresStore::open(address, PostgresOptions::default())).unwrap();
    let wrong = WrappedStore::new(store).behind();
    let listened = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let told = wrong.clone();
    thread::spawn(move || {
        runtime().block_on(async {
            loop {
                let Ok((client, mut connection)) = tokio_postgres::connect(&listened, NoTls).await
                else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let messages = async {
                    while let Some(Ok(message)) =
                        poll_fn(|context| connection.poll_message(context)).await
                    {
                        if let AsyncMessage::Notification(_) = message {
                            told.catch_up();
                        }
                    }
                };
                let _ = tokio::join!(client.batch_execute("listen diptych_1"), messages);
            }
        });
    });
    Store::new(wrong)
}

#[test]
fn a_store_that_trusts_notifications_leaves_a_subscriber_behind() {
    let Some(server) = PostgresServer::start() else { return };
    drop(server.open("main"));
    let proxy = Proxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let wrong = by_notifications(&address, &proxy);
    let within = Duration::from_secs(1);
    assert!(!sees_commits_without_hints(&server, &proxy, &wrong, within), "it was not noticed");
}
