//! How `append` handles its input within one run.

use std::{
    io::{BufRead, BufReader, Write},
    process::Child,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::program::{Program, events};

#[test]
fn each_commit_is_acknowledged_with_its_positions() {
    let ran = Program::new().run(&["append", "--batch", "3"], events("t", 7));
    ran.ended(0, "");
    let expected = [
        json!({"first": 1, "last": 3, "events": 3}),
        json!({"first": 4, "last": 6, "events": 3}),
        json!({"first": 7, "last": 7, "events": 1}),
    ];
    assert_eq!(ran.lines(), expected);
}

#[test]
fn many_commits_are_acknowledged_in_order() {
    let ran = Program::new().run(&["append", "--batch", "1"], events("t", 500));
    ran.ended(0, "");
    let firsts: Vec<u64> = ran.lines().iter().map(|line| line["first"].as_u64().unwrap()).collect();
    assert_eq!(firsts, (1..=500).collect::<Vec<_>>());
}

#[test]
fn empty_input_writes_nothing() {
    for input in ["", "\n\n  \n"] {
        let ran = Program::new().run(&["append"], input);
        ran.ended(0, "");
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn a_broken_line_is_named_and_its_commit_is_not_acknowledged() {
    let input = format!("{}{{\"type\":\"t\",\"tags\":[\"x\"],\"data\":1}}\n", events("t", 4));
    let ran = Program::new().run(&["append", "--batch", "3"], input);
    ran.ended(1, "line 5: tags: \"x\" is not a tag");
    ran.ended(1, "nothing from line 4 on was written");
    assert_eq!(ran.lines(), [json!({"first": 1, "last": 3, "events": 3})]);
}

#[test]
fn a_line_that_is_too_long_is_named() {
    let mut input = events("t", 1).into_bytes();
    input.extend(vec![b'x'; 20 << 20]);
    Program::new().run(&["append"], input).ended(1, "line 2: longer than");
}

#[test]
fn with_a_key_all_input_is_one_commit() {
    let ran = Program::new().run(&["append", "--key", "k"], events("t", 5_000));
    ran.ended(0, "");
    assert_eq!(ran.lines(), [json!({"first": 1, "last": 5_000, "events": 5_000})]);
}

#[test]
fn with_a_key_input_beyond_one_commit_is_refused_with_the_limit() {
    let ran = Program::new().run(&["append", "--key", "k"], events("t", 65_537));
    ran.ended(1, "commit_events 65536");
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_key_without_events_is_refused() {
    Program::new().run(&["append", "--key", "k"], "").ended(1, "a key needs at least one event");
}

#[test]
fn a_closed_output_does_not_end_the_loading() {
    let program = Program::new();
    let mut child = program.start(&["append", "--batch", "1"]);
    drop(child.stdout.take());
    let ran = crate::program::finish(child, events("t", 300));
    ran.ended(0, "");
    assert_eq!(ran.stderr, "");
}

/// Far longer than an acknowledgement takes.
const LONG: Duration = Duration::from_secs(120);

/// The lines that a program prints, as they come.
fn printed(child: &mut Child) -> Receiver<Value> {
    let (send, lines) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in output.lines() {
            let _ = send.send(serde_json::from_str(&line.unwrap()).unwrap());
        }
    });
    lines
}

/// Once, events from a slow pipe were acknowledged only at its end, or 64 commits later.
#[test]
fn what_was_read_is_acknowledged_when_the_input_pauses() {
    let program = Program::new();
    let mut child = program.start(&["append"]);
    let lines = printed(&mut child);
    let mut input = child.stdin.take().unwrap();
    let mut first = 1;
    for _ in 0..3 {
        input.write_all(events("t", 5).as_bytes()).unwrap();
        // They may come with a pause within them.
        let end = first + 5;
        while first < end {
            let line = lines.recv_timeout(LONG).expect("the input pauses");
            assert_eq!(line["first"], first);
            first = line["last"].as_u64().unwrap() + 1;
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(lines.recv_timeout(LONG).is_err(), "something was acknowledged twice");
}

#[test]
fn a_pause_does_not_end_a_commit_of_a_given_size() {
    let program = Program::new();
    let mut child = program.start(&["append", "--batch", "2", "--flush-ms", "0"]);
    let lines = printed(&mut child);
    let mut input = child.stdin.take().unwrap();
    for line in events("t", 5).lines() {
        input.write_all(line.as_bytes()).unwrap();
        input.flush().unwrap();
        input.write_all(b"\n").unwrap();
    }
    for (first, last) in [(1, 2), (3, 4)] {
        let line = lines.recv_timeout(LONG).expect("the input pauses");
        assert_eq!(line, json!({"first": first, "last": last, "events": 2}));
    }
    drop(input);
    let line = lines.recv_timeout(LONG).expect("the input has ended");
    assert_eq!(line, json!({"first": 5, "last": 5, "events": 1}));
    assert!(child.wait().unwrap().success());
}
