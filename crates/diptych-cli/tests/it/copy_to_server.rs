//! `diptych copy` into a server that runs with `--receive-copy`.

use std::{
    thread,
    time::{Duration, Instant},
};

use diptych_log::{Log, LogOptions};
use diptych_postgres_testing::{new_name, shared};
use diptych_store::{
    Append, Digest, Key, LogIdentity, RawEvent, Store, Tag, TimeSource, Timestamp, Tracking,
};
use pollster::block_on;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    copy::{address, copy, report},
    program::{Program, events, finish, run, spawn, spawn_with},
    served::{LONG, ServeProcess},
};

const EVENTS: u64 = 3_000;

/// Serves the log of the program, for a copy.
fn receiving(program: &Program) -> ServeProcess {
    ServeProcess::start_with(program, &["--listen=127.0.0.1:0", "--receive-copy"])
}

/// A log with times in the past, keys, tracking, and commits without events.
fn source() -> Program {
    source_of(EVENTS)
}

fn source_of(count: u64) -> Program {
    let program = Program::new();
    let options = LogOptions { time: TimeSource::Caller, ..LogOptions::default() };
    let log = Log::open(program.data(), options).unwrap();
    let store = Store::new(log.clone());
    let append = |micros: u64, mut append: Append| {
        append.recorded_at = Some(Timestamp::from_micros(i64::try_from(micros).unwrap()));
        // The close makes it durable.
        drop(block_on(store.append(append)).unwrap());
    };
    let origin = LogIdentity::random();
    for n in 1..=count {
        let event = RawEvent::new("counted", n.to_string()).tag(Tag::new("n", n.to_string()));
        let event = if n % 2 == 0 { event.id(Uuid::from_u128(n.into())) } else { event };
        let mut commit = Append::event(event);
        if n % 3 == 0 {
            commit = commit.key(Key::new(format!("key-{n}"), Digest::of(&n.to_le_bytes())));
        }
        if n % 7 == 0 {
            commit = commit.tracking(Tracking::new("with-events", n).origin(origin));
        }
        append(n * 1_000, commit);
        if n % 500 == 0 {
            let source = format!("no-events-{}", n % 1_000);
            append(n * 1_000, Append::default().tracking(Tracking::new(source, n)));
        }
    }
    log.close().unwrap();
    program
}

/// Asserts that the copy is whole, and has the same events with the same times.
fn is_a_copy(of: &Program, copy: &Program) {
    assert_eq!(of.run(&["read"], "").stdout, copy.run(&["read"], "").stdout);
    copy.run(&["verify"], "").ended(0, "");
}

#[test]
fn a_log_goes_into_a_server_and_back_into_a_folder_with_equal_digests() {
    let (from, held, back) = (source(), Program::new(), Program::new());
    let server = receiving(&held);
    server.messages().wait_for(&format!("diptych copy FROM {}", server.url));
    let there = report(&copy(&address(&from), &server.url));
    assert_eq!((&there["events"], &there["events_before"]), (&json!(EVENTS), &json!(0)));
    assert_eq!(there["commits"], json!(EVENTS + EVENTS / 500));
    assert_ne!(there["log"], there["from_log"]);
    let again = report(&copy(&address(&from), &server.url));
    assert_eq!((&again["events"], &again["commits"]), (&json!(0), &json!(0)));
    let home = report(&copy(&server.url, &address(&back)));
    assert_eq!(home["digest"], there["digest"]);
    is_a_copy(&from, &held);
    is_a_copy(&from, &back);

    // From here on it is the log of a usual server.
    assert_eq!(server.end().0, 0);
    let server = ServeProcess::start(&held);
    server.run(&["append"], events("after", 2)).ended(0, "");
    assert_eq!(server.run(&["read", "--filter", "type=after"], "").lines().len(), 2);
}

/// Waits until the log of the server has this number of events. Returns the number.
fn wait_for_events(server: &ServeProcess, count: u64) -> u64 {
    let begin = Instant::now();
    loop {
        let (_, log) = server.get("/v1/logs/log");
        let log: Value = serde_json::from_str(&log).unwrap();
        let head = log["head"].as_u64().unwrap();
        if head >= count {
            return head;
        }
        assert!(begin.elapsed() < LONG, "the copy stays at {head}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_copy_into_a_server_goes_on_after_kills_of_either_side() {
    const MANY: u64 = 10_000;
    let (from, held) = (source_of(MANY), Program::new());
    let mut server = receiving(&held);
    let start = || spawn(&["copy", "--wait-seconds", "60", &address(&from), &server.url]);
    let mut seen = 0;
    for _ in 0..3 {
        let mut copying = start();
        seen = wait_for_events(&server, seen + 500);
        copying.kill().unwrap();
        copying.wait().unwrap();
    }
    let copying = start();
    seen = wait_for_events(&server, seen + 500);
    assert!(seen < MANY, "the copy was done before the kill");
    let listen = server.listen().to_owned();
    server.kill();
    server = ServeProcess::start_with(&held, &["--listen", &listen, "--receive-copy"]);
    // The outcome of commits in flight that have no key and no id may be unknown.
    let ended = finish(copying, "");
    assert!(matches!(ended.code, 0 | 5), "{}", ended.stderr);
    report(&copy(&address(&from), &server.url));
    is_a_copy(&from, &held);
}

#[test]
fn a_server_that_receives_a_copy_refuses_other_appends_and_says_why() {
    let (from, held) = (source(), Program::new());
    let server = receiving(&held);
    let said = "this server receives a copy";
    server.run(&["append"], events("own", 1)).ended(1, said);
    server.run(&["append", "--key", "k"], events("own", 1)).ended(1, "runs without --receive-copy");
    let body = json!({"events": [{"type": "own", "data": 1}]}).to_string();
    let (status, answer) = server.post("/v1/logs/log/events", &body);
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains(said), "{answer}");
    assert_eq!(server.run(&["read"], "").stdout, "");
    report(&copy(&address(&from), &server.url));
}

#[test]
fn the_commits_of_a_copy_need_a_token_that_may_append_and_is_of_an_administrator() {
    let (from, held) = (source(), Program::new());
    let tokens = held.dir.path().join("tokens.toml");
    let tokens = tokens.to_str().unwrap();
    let token = |name: &str, scopes: &str| {
        let made = run(&["token", "--file", tokens, "--name", name, "--scope", scopes]);
        made.ended(0, "");
        made.stdout.trim().to_owned()
    };
    let (user, copier) = (token("user", "read,append"), token("copier", "read,append,admin"));
    let options = ["--listen=127.0.0.1:0", "--tokens", tokens];
    let with = |server: &ServeProcess, token: &str, args: &[&str], input: &str| {
        let place = if args[0] == "copy" { vec![] } else { vec!["--data", &server.url] };
        let args = [&args[..1], &place, &args[1..]].concat();
        finish(spawn_with(&args, &[("DIPTYCH_TOKEN", token)]), input)
    };
    let server = ServeProcess::start_with(&held, &[&options[..], &["--receive-copy"]].concat());
    let copied = |server: &ServeProcess, token: &str| {
        with(server, token, &["copy", "--json", &address(&from), &server.url], "")
    };
    let words = "this server receives a copy: its commits need the scopes append and admin, and \
                 the token \"user\" has read, append";
    copied(&server, &user).ended(5, words);
    with(&server, &user, &["append"], &events("own", 1)).ended(5, words);
    with(&server, &copier, &["append"], &events("own", 1)).ended(1, "this server receives a copy");
    assert_eq!(with(&server, &user, &["read"], "").stdout, "");
    report(&copied(&server, &copier));
    assert_eq!(server.end().0, 0);

    // A usual server takes no times, whatever the token.
    let server = ServeProcess::start_with(&held, &options);
    from.load(events("more", 1));
    copied(&server, &copier).ended(1, "`diptych serve --receive-copy`");
    with(&server, &user, &["append"], &events("own", 1)).ended(0, "");
}

#[test]
fn a_log_in_postgresql_goes_into_a_server() {
    let Some(database) = shared() else { return };
    let (from, held) = (source(), Program::new());
    let stored = database.address("postgres", &new_name());
    let first = report(&copy(&address(&from), &stored));
    let server = receiving(&held);
    let second = report(&copy(&stored, &server.url));
    assert_eq!(second["digest"], first["digest"]);
    is_a_copy(&from, &held);
}

#[test]
fn a_move_into_a_server_names_the_copy_as_another_way() {
    let (from, held) = (source(), Program::new());
    let server = receiving(&held);
    let refused = run(&["copy", "--move", &address(&from), &server.url]);
    refused.ended(1, "move the log into a new folder on its machine");
    refused.ended(1, "runs with --receive-copy, without --move");
}
