//! How `append` handles its input within one run.

use serde_json::json;

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
