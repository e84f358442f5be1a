//! `diptych copy` between folders and servers.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    program::{Program, Ran, events, run, spawn},
    served::ServeProcess,
};

/// Copies between two addresses. It does not wait for other holders of a folder.
pub(crate) fn copy(from: &str, to: &str) -> Ran {
    run(&["copy", "--wait-seconds", "0", "--json", from, to])
}

pub(crate) fn address(program: &Program) -> String {
    program.data().display().to_string()
}

/// The report of a copy that went well.
pub(crate) fn report(ran: &Ran) -> Value {
    ran.ended(0, "");
    let report = ran.lines().remove(0);
    assert_eq!((&report["ok"], &report["digest"]), (&json!(true), &report["from_digest"]));
    report
}

/// A log with commits of several sizes, one of them under a key.
fn source() -> Program {
    let program = Program::new();
    program.load(events("a", 2_500));
    program.run(&["append", "--key", "k"], events("b", 3)).ended(0, "");
    program.run(&["append", "--batch", "7"], events("c", 100)).ended(0, "");
    program
}

#[test]
fn a_copy_prints_equal_events_and_digests_and_takes_commits_of_its_own() {
    let (from, to) = (source(), Program::new());
    let ran = copy(&address(&from), &address(&to));
    let copied = report(&ran);
    assert_eq!((&copied["upto"], &copied["events"]), (&json!(2_603), &json!(2_603)));
    assert_ne!(copied["log"], copied["from_log"]);
    assert_eq!(from.run(&["read"], "").stdout, to.run(&["read"], "").stdout);
    to.run(&["verify"], "").ended(0, "");
    // The key is used in the copy, too.
    let again = to.run(&["append", "--key", "k"], events("b", 3));
    assert_eq!(again.lines()[0]["repeated"], json!(true));
    to.load(events("d", 1));
    copy(&address(&from), &address(&to)).ended(1, "it is no beginning of the source");
}

#[test]
fn a_copy_is_brought_up_to_date_by_the_same_command() {
    let (from, to) = (source(), Program::new());
    report(&copy(&address(&from), &address(&to)));
    from.load(events("e", 10));
    let more = report(&copy(&address(&from), &address(&to)));
    assert_eq!((&more["events"], &more["events_before"]), (&json!(10), &json!(2_603)));
    let none = report(&copy(&address(&from), &address(&to)));
    assert_eq!((&none["events"], &none["commits"]), (&json!(0), &json!(0)));
}

#[test]
fn a_copy_that_is_killed_is_continued_by_the_same_command() {
    let (from, to) = (Program::new(), Program::new());
    from.run(&["append", "--batch", "3"], events("t", 9_000)).ended(0, "");
    for pause_ms in [20, 60, 120, 200] {
        let mut copying = spawn(&["copy", "--wait-seconds", "60", &address(&from), &address(&to)]);
        // Wherever it is then, the next one goes on.
        thread::sleep(Duration::from_millis(pause_ms));
        copying.kill().unwrap();
        copying.wait().unwrap();
    }
    report(&copy(&address(&from), &address(&to)));
    assert_eq!(from.run(&["read"], "").stdout, to.run(&["read"], "").stdout);
}

#[test]
fn the_log_of_a_server_is_copied_into_a_folder_while_it_is_written_to() {
    let (from, to) = (source(), Program::new());
    let server = ServeProcess::start(&from);
    let first = report(&copy(&server.url, &address(&to)));
    assert_eq!(first["upto"], json!(2_603));
    server.run(&["append"], events("f", 5)).ended(0, "");
    let second = report(&copy(&server.url, &address(&to)));
    assert_eq!((&second["events"], &second["from_log"]), (&json!(5), &first["from_log"]));
    assert_eq!(server.run(&["read"], "").stdout, to.run(&["read"], "").stdout);
}

#[test]
fn a_copy_into_a_server_is_refused_and_says_where_to_copy() {
    let (from, to) = (source(), Program::new());
    let server = ServeProcess::start(&to);
    let refused = copy(&address(&from), &server.url);
    refused.ended(1, "`diptych serve --receive-copy`");
    refused.ended(1, "copy into a folder on the machine of the server");
    assert_eq!(server.run(&["read"], "").stdout, "");
}

#[test]
fn a_target_of_another_source_is_refused_and_stays_as_it_was() {
    let (from, other, to) = (source(), Program::new(), Program::new());
    other.load(events("other", 1));
    report(&copy(&address(&other), &address(&to)));
    let before = to.run(&["read"], "").stdout;
    copy(&address(&from), &address(&to)).ended(1, "is a copy of the log");
    assert_eq!(to.run(&["read"], "").stdout, before);
    // A log that is no copy gets no note.
    copy(&address(&from), &address(&other)).ended(1, "differs from the source at position 1");
    assert!(!other.data().join("copied-from").exists());
    copy(&address(&from), &address(&from)).ended(1, "both addresses lead to one log");
}

#[test]
fn both_addresses_of_one_log_are_refused() {
    let from = source();
    let server = ServeProcess::start(&from);
    copy(&address(&from), &server.url).ended(1, "both addresses lead to one log");
    let missing = from.dir.path().join("missing");
    copy(missing.to_str().unwrap(), &server.url).ended(1, "there is no log in");
    assert!(!fs::exists(missing).unwrap());
}
