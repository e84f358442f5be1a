//! The commands on a log in PostgreSQL, with a real server.

use diptych::App;
use diptych_postgres_testing::{PostgresServer, new_name, runtime, shared};
use serde_json::{Value, json};

use crate::{
    program::{Program, Ran, events, finish, run, spawn},
    served::ServeProcess,
};

/// Runs a command on a log, with this input.
fn on(address: &str, args: &[&str], input: &str) -> Ran {
    let (command, options) = args.split_first().unwrap();
    finish(spawn(&[&[*command, "--data", address], options].concat()), input)
}

fn copied(from: &str, to: &str) -> Value {
    let ran = run(&["copy", "--json", from, to]);
    ran.ended(0, "");
    let report = ran.lines().remove(0);
    assert_eq!((&report["ok"], &report["digest"]), (&json!(true), &report["from_digest"]));
    report
}

#[test]
fn events_are_appended_read_followed_and_counted() {
    let Some(server) = shared() else { return };
    let address = server.address("postgres", &new_name());
    on(&address, &["append"], &events("a", 1_200)).ended(0, "");
    on(&address, &["append", "--key", "k"], &events("b", 2)).ended(0, "");
    let again = on(&address, &["append", "--key", "k"], &events("b", 2));
    assert_eq!(again.lines()[0]["repeated"], true);
    let refused = on(&address, &["append", "--fail-if", "type=b"], &events("c", 1));
    assert_eq!(refused.code, 3, "{}", refused.stderr);

    let read = on(&address, &["read", "--filter", "type=b"], "");
    assert_eq!(read.positions(), [1_201, 1_202]);
    let tail = on(&address, &["tail", "--last", "3", "--until-head"], "");
    assert_eq!(tail.positions(), [1_200, 1_201, 1_202]);
    let stats = on(&address, &["stats", "--json"], "").lines().remove(0);
    assert_eq!(stats["events"], 1_202);
    assert_eq!(stats["types"], json!([{ "type": "a" }, { "type": "b" }]));
}

#[test]
fn commands_that_read_work_at_a_replica_and_appends_name_the_primary() {
    let Some(server) = PostgresServer::start() else { return };
    let primary = server.address("postgres", "orders");
    on(&primary, &["append"], &events("a", 300)).ended(0, "");
    let standby = server.standby("");
    standby.caught_up(&server);
    let replica = standby.address("postgres", "orders") + "&target_session_attrs=read-only";
    assert_eq!(on(&replica, &["read", "--after", "297"], "").positions(), [298, 299, 300]);
    let tail = on(&replica, &["tail", "--last", "2", "--until-head"], "");
    assert_eq!(tail.positions(), [299, 300]);
    let stats = on(&replica, &["stats", "--json"], "").lines().remove(0);
    assert_eq!(stats["events"], 300);
    let folder = Program::new();
    let copy = copied(&replica, folder.data().to_str().unwrap());
    assert_eq!(copy["events"], 300);
    let refused = on(&replica, &["append"], &events("b", 1));
    assert!(refused.stderr.contains("address of the primary"), "{}", refused.stderr);
    assert_eq!(on(&primary, &["read", "--after", "300"], "").stdout, "");
}

#[test]
fn a_command_that_reads_makes_no_log() {
    let Some(server) = shared() else { return };
    let other = server.address("postgres", &new_name());
    run(&["postgres", "init", &other]).ended(0, "");
    let address = server.address("postgres", &new_name());
    for command in [["read"].as_slice(), &["tail", "--until-head"], &["stats"]] {
        on(&address, command, "").ended(5, "has no log");
    }
    run(&["postgres", "check", &address]).ended(5, "has no log");
}

#[test]
fn a_copy_goes_into_a_database_and_back_with_equal_digests_and_times() {
    let Some(server) = shared() else { return };
    let (from, back) = (Program::new(), Program::new());
    from.load(events("a", 2_500));
    from.run(&["append", "--key", "k"], events("b", 3)).ended(0, "");
    let folder = |program: &Program| program.data().display().to_string();
    let address = server.address("postgres", &new_name());
    let first = copied(&folder(&from), &address);
    assert_eq!((&first["events"], &first["events_before"]), (&json!(2_503), &json!(0)));
    let second = copied(&address, &folder(&back));
    assert_eq!(second["digest"], first["digest"]);
    assert_eq!(from.run(&["read"], "").stdout, back.run(&["read"], "").stdout);

    from.load(events("c", 5));
    let more = copied(&folder(&from), &address);
    assert_eq!((&more["events"], &more["events_before"]), (&json!(5), &json!(2_503)));
}

#[test]
fn the_log_of_a_server_is_copied_into_a_database_while_it_is_written_to() {
    let Some(server) = shared() else { return };
    let program = Program::new();
    program.load(events("a", 2_500));
    let served = ServeProcess::start(&program);
    served.run(&["append", "--key", "k"], events("b", 3)).ended(0, "");
    let address = server.address("postgres", &new_name());
    let first = copied(&served.url, &address);
    assert_eq!((&first["events"], &first["events_before"]), (&json!(2_503), &json!(0)));

    served.run(&["append"], events("c", 5)).ended(0, "");
    let more = copied(&served.url, &address);
    assert_eq!((&more["events"], &more["events_before"]), (&json!(5), &json!(2_503)));
    assert_eq!(on(&address, &["read"], "").stdout, served.run(&["read"], "").stdout);
    // The key is used in the copy, too, and a copy back has the digest of the server.
    let again = on(&address, &["append", "--key", "k"], &events("b", 3));
    assert_eq!(again.lines()[0]["repeated"], true, "{}", again.stderr);
    let back = Program::new();
    let returned = copied(&address, back.data().to_str().unwrap());
    assert_eq!(returned["digest"], more["digest"]);
}

#[test]
fn a_database_is_made_checked_and_migrated() {
    let Some(server) = PostgresServer::start() else { return };
    let address = server.address("postgres", "orders");
    let check = run(&["postgres", "check", &address]);
    check.ended(5, "diptych postgres init");
    assert!(check.stdout.contains("schema   none"), "{}", check.stdout);
    run(&["postgres", "migrate", &address]).ended(5, "diptych postgres init");

    let made = run(&["postgres", "init", "--partition-events", "1000", &address]);
    made.ended(0, "");
    assert!(made.stdout.contains("version 7, made"), "{}", made.stdout);
    assert!(made.stdout.contains("orders, made"), "{}", made.stdout);
    let again = run(&["postgres", "init", &address]);
    again.ended(0, "");
    assert_eq!(again.stdout, made.stdout.replace(", made", ", was there"));
    let other = run(&["postgres", "check", &server.address("postgres", "bills")]);
    other.ended(5, "has no log \"bills\"");

    on(&address, &["append"], &events("a", 3)).ended(0, "");
    let check = run(&["postgres", "check", &address]);
    check.ended(0, "");
    for part in ["version 7 of 7", "head      3", "up to position", "synchronous_standby_names"] {
        assert!(check.stdout.contains(part), "{part:?} is not in: {}", check.stdout);
    }
    let migrated = run(&["postgres", "migrate", &address]);
    assert_eq!(migrated.stdout, "the schema has version 7, which is the newest\n");
    server.execute("postgres", "insert into diptych.schema_version (version) values (8)");
    run(&["postgres", "migrate", &address]).ended(5, "use a newer program");
    run(&["postgres", "check", &address]).ended(5, "use a newer program");
}

#[test]
fn a_check_names_a_setting_that_loses_commits() {
    let Some(server) = PostgresServer::with("full_page_writes = off\nautovacuum = off\n") else {
        return;
    };
    let address = server.address("postgres", "orders");
    let check = run(&["postgres", "check", &address]);
    check.ended(5, "full_page_writes is off");
    assert!(check.stdout.contains("autovacuum is off"), "{}", check.stdout);
    run(&["postgres", "init", &address]).ended(5, "full_page_writes is off");
    run(&["postgres", "check", &server.address("postgres", "orders")]).ended(5, "schema");
}

#[test]
fn a_server_that_is_away_and_a_wrong_address_are_named() {
    let nowhere = "postgres://ann:secret@127.0.0.1:1/shop?log=orders";
    let away = run(&["postgres", "check", "--wait-seconds", "1", nowhere]);
    away.ended(5, "127.0.0.1/shop");
    assert!(!away.stderr.contains("secret"), "{}", away.stderr);
    run(&["postgres", "check", "bank"]).ended(1, "a log in PostgreSQL");
}

#[test]
fn an_app_connects_to_the_log_of_an_address() {
    let Some(server) = shared() else { return };
    let address = server.address("postgres", &new_name());
    runtime().block_on(async {
        let app = App::connect(&address).await.unwrap().start().await.unwrap();
        app.stop().await.unwrap();
        let nowhere = "postgres://ann:secret@127.0.0.1:1/shop?log=orders";
        let error = App::connect(nowhere).await.err().unwrap().to_string();
        assert!(error.contains("127.0.0.1/shop") && !error.contains("secret"), "{error}");
    });
    on(&address, &["append"], &events("a", 2)).ended(0, "");
    on(&address, &["stats"], "").ended(0, "");
}
