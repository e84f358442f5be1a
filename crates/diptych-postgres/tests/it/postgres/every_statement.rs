//! The connection is lost at every statement that a store sends: before the server has it, and
//! before its answer arrives.

use std::collections::BTreeSet;

use diptych_postgres::{OpenError, PostgresOptions, PostgresStore, StoreBuilder};
use diptych_store::{
    Append, AppendError, Filter, Key, Position, RawEvent, Read, ReadCommits, Refusal, Store, Tag,
    Tracking,
};
use pollster::block_on;

use super::{
    append, event,
    inline::{Lines, assert_in_step},
    payloads,
    server::PostgresServer,
    statements::{CUTS, StatementProxy},
    unless_newer,
};

/// Tries until the connections were cut at an armed statement. Some are sent now and then, as those
/// that make partitions.
const TRIES: usize = 200;

/// Does the work again and again, with the connections cut once at each statement that passes,
/// before its request and before its answer. Statements that only a new connection or a new store
/// sends are among them. Returns them, and the last store.
fn cut_at_each(
    proxy: &StatementProxy,
    open: impl Fn() -> Result<PostgresStore, OpenError>,
    mut work: impl FnMut(&Store),
) -> (BTreeSet<String>, Store) {
    let mut store = opened(&open);
    work(&store);
    proxy.cut();
    work(&store);
    let mut done = BTreeSet::new();
    while let Some(statement) = proxy.seen().difference(&done).next().cloned() {
        for cut in CUTS {
            let cuts = || proxy.cuts().get(&(statement.clone(), cut)).copied().unwrap_or_default();
            for turn in 0..TRIES {
                if cuts() > 0 {
                    break;
                }
                // A connection prepares each statement once.
                if turn % 2 == 1 || statement.starts_with("prepare") {
                    proxy.cut();
                }
                proxy.arm(&statement, cut);
                if turn % 4 == 3 {
                    drop(store);
                    store = opened(&open);
                }
                work(&store);
            }
            assert!(cuts() > 0, "no connection was cut at the {cut:?} of {statement}");
        }
        done.insert(statement);
    }
    (done, store)
}

/// A store. Its opening fails if its connection is lost.
fn opened(open: impl Fn() -> Result<PostgresStore, OpenError>) -> Store {
    let mut tries = (0..5).map(|_| open());
    let store = tries.find_map(Result::ok);
    Store::new(store.expect("a store that opens after a lost connection"))
}

/// Asserts that there is a statement with each of these words.
fn assert_has(statements: &BTreeSet<String>, words: &[&str]) {
    for word in words {
        let named = statements.iter().any(|statement| statement.contains(word));
        assert!(named, "no statement has {word:?}: {statements:#?}");
    }
    println!("{} statements", statements.len());
}

/// Statements of each new connection, and of the watch of the head.
const OF_CONNECTIONS: [&str; 7] = [
    "set session characteristics",
    "select current_setting('server_version_num')",
    "from diptych.log l where name = $1",
    "pg_control_system()",
    "pg_walfile_name",
    "listen diptych_1",
    "select epoch, head from diptych.log",
];

/// An event of a type that the store has not seen.
fn of_new_type(number: u64) -> RawEvent {
    RawEvent::new(format!("type-{number}"), number.to_string()).tag(Tag::new("k", 1))
}

fn few_positions() -> PostgresOptions {
    let mut options = PostgresOptions::default();
    // Partitions are made now and then.
    options.partition_events = 20;
    options
}

#[test]
fn an_append_is_executed_once_wherever_the_connection_is_lost() {
    let Some(server) = PostgresServer::in_memory() else { return };
    drop(server.open_with("main", few_positions()));
    let proxy = StatementProxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let open = || block_on(PostgresStore::open(&address, few_positions()));
    let mut number = 0;
    let (statements, store) = cut_at_each(&proxy, open, |store| {
        number += 1;
        let mut own = Append::event(of_new_type(number));
        own.key = Some(Key::new(number.to_string(), diptych_store::Digest([7; 16])));
        own.tracking = Some(Tracking::new("source", number));
        let committed = append(store, own.condition(unless_newer("k:1", number - 1))).unwrap();
        assert_eq!(committed.last.get(), number);
    });
    assert_has(&statements, &OF_CONNECTIONS);
    let own = [
        "select o_epoch, o_head, o_verdicts from diptych.append",
        "prepare select o_epoch, o_head, o_verdicts from diptych.append",
        "insert into diptych.type_name",
        "select diptych.add_partition",
        "pg_notify",
    ];
    assert_has(&statements, &own);
    let expected: Vec<_> = (1..=number).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&store), expected);
}

#[test]
fn an_append_with_rows_is_executed_once_wherever_the_connection_is_lost() {
    let Some(server) = PostgresServer::in_memory() else { return };
    let proxy = StatementProxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let open = || {
        let builder = StoreBuilder::new(&address, few_positions());
        block_on(builder.inline(Lines { schema: "public".to_owned() }).open())
    };
    drop(opened(open));
    // Those that make the tables are not sent again.
    proxy.forget();
    let mut accepted = 0;
    let (statements, store) = cut_at_each(&proxy, open, |store| {
        append(store, Append::event(of_new_type(accepted))).unwrap();
        accepted += 1;
        // Each is decided again by itself, and refused.
        let refused = append(store, Append::event(event(format!("refused-{accepted}"), "k:1")));
        let is_refused = matches!(&refused, Err(AppendError::Refused(Refusal::Rows { .. })));
        assert!(is_refused, "{refused:?}");
        assert_eq!(block_on(store.fresh_head()).unwrap().get(), accepted);
    });
    assert_has(&statements, &OF_CONNECTIONS);
    let own = [
        "begin",
        "for no key update",
        "diptych.append(",
        "update \"public\".reached",
        "insert into \"public\".line",
        "commit",
        "rollback",
        "savepoint diptych_commit",
        "rollback to savepoint diptych_commit",
        "release savepoint diptych_commit",
        "select verdicts from diptych.writer",
        "update diptych.writer set batch",
        "insert into diptych.writer",
    ];
    assert_has(&statements, &own);
    assert_in_step(&server, &store);
}

#[test]
fn a_read_has_one_answer_wherever_the_connection_is_lost() {
    let Some(server) = PostgresServer::in_memory() else { return };
    let writer = Store::new(server.open("main"));
    for number in 1..=9_u64 {
        let mut own = Append::event(event(number, &format!("k:{}", number % 2)));
        own.key = Some(Key::new(number.to_string(), diptych_store::Digest([7; 16])));
        own.tracking = Some(Tracking::new("source", number));
        append(&writer, own).unwrap();
    }
    let all = |store: &Store| {
        let filter = |text: &str| text.parse::<Filter>().unwrap();
        let mut answers = Vec::new();
        for text in ["*", "tag=k:1", "type=noted", "type=noted tag=k:1 or tag=k:0"] {
            for read in [Read::all(), Read::backwards()] {
                let batch = block_on(store.read(&filter(text), read)).unwrap();
                let events = batch.iter().map(|event| event.position().get());
                answers.push(format!("{text}: {:?}", events.collect::<Vec<_>>()));
            }
        }
        let commits = block_on(store.commits(ReadCommits::after(Position::START))).unwrap();
        answers
            .push(format!("{:?}", commits.iter().map(|commit| commit.last()).collect::<Vec<_>>()));
        let at = Position::new(9);
        answers.push(format!("{:?}", block_on(store.checksum(Position::new(4))).unwrap()));
        answers.push(format!("{:?}", block_on(store.last(&filter("tag=k:0"), at)).unwrap()));
        answers.push(format!("{:?}", block_on(store.count(&Tag::new("k", 1), at)).unwrap()));
        answers.push(format!("{:?}", block_on(store.keyed("3")).unwrap()));
        answers.push(format!("{:?}", block_on(store.tracked("source")).unwrap()));
        answers.push(format!("{:?}", block_on(store.types()).unwrap()));
        answers.push(format!("{:?}", block_on(store.fresh_head()).unwrap()));
        answers
    };
    let expected = all(&writer);
    assert!(expected[0].contains("[1, 2, 3, 4, 5, 6, 7, 8, 9]"), "{expected:?}");
    let proxy = StatementProxy::start(server.port());
    let address = server.address_at(proxy.port(), "postgres", "main");
    let open = || block_on(PostgresStore::open(&address, PostgresOptions::default()));
    let (statements, _) = cut_at_each(&proxy, open, |store| assert_eq!(all(store), expected));
    assert_has(&statements, &OF_CONNECTIONS);
    let own = [
        "order by e.pos limit $4",
        "order by e.pos desc limit $4",
        "from diptych.tag t cross join lateral",
        "unnest($6::text[], $7::bigint[]",
        "where e.bytes <= $5 or e.pos <= $6",
        "from diptych.key k where k.log = $1",
        "from diptych.tracked",
        "select count(*) from diptych.tag",
        "left join diptych.key",
        "left join diptych.tracking",
    ];
    assert_has(&statements, &own);
}
