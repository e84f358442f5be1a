//! `diptych copy --move`, here between folders.

mod postgres;

use std::{thread, time::Duration};

use diptych::{App, DecisionContext, Event, Filter, Fold, Query, Recorded};
use diptych_log::{Arrival, LogOptions, MoveTarget, ReadOnlyLog, fence};
use diptych_store::EventStore;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    program::{Program, Ran, events, run, spawn},
    served::ServeProcess,
};

fn address(program: &Program) -> String {
    program.data().canonicalize().unwrap_or(program.data()).display().to_string()
}

/// Moves the log of one folder to another one. It does not wait for a program with the source.
fn move_log(from: &Program, to: &Program) -> Ran {
    run(&["copy", "--move", "--wait-seconds", "0", "--json", &address(from), &address(to)])
}

/// The report of a move that went well.
fn report(ran: &Ran) -> Value {
    ran.ended(0, "");
    let report = ran.lines().remove(0);
    assert_eq!((&report["ok"], &report["digest"]), (&json!(true), &report["from_digest"]));
    assert_eq!((&report["log"], &report["epoch"]), (&report["from_log"], &report["from_epoch"]));
    report
}

fn source() -> Program {
    let program = Program::new();
    program.load(events("a", 2_500));
    program.run(&["append", "--key", "k"], events("b", 3)).ended(0, "");
    program
}

/// Asserts that the log is in the folder `to`, and `from` refuses appends and is read.
fn has_moved(from: &Program, to: &Program) {
    let refused = from.run(&["append"], events("late", 1));
    let place = format!("moved to {} and takes commits there", address(to));
    refused.ended(1, &place);
    let read = from.run(&["read"], "").stdout;
    assert_eq!(to.run(&["read"], "").stdout, read);
    for program in [from, to] {
        program.run(&["verify"], "").ended(0, "");
    }
    to.load(events("new", 2));
    assert_eq!(from.run(&["read"], "").stdout, read);
}

#[test]
fn a_moved_log_keeps_its_identity_and_keys_and_its_old_folder_takes_no_commits() {
    let (from, to) = (source(), Program::new());
    let moved = report(&move_log(&from, &to));
    assert_eq!((&moved["upto"], &moved["events"]), (&json!(2_503), &json!(2_503)));
    let again = to.run(&["append", "--key", "k"], events("b", 3));
    assert_eq!(again.lines()[0]["repeated"], json!(true));
    has_moved(&from, &to);
    // The target went on since.
    let before = move_log(&from, &to);
    before.ended(0, "");
    assert_eq!(before.lines()[0]["moved_before"], json!(true));
    assert_eq!(before.lines()[0]["log"], moved["log"]);
    move_log(&from, &Program::new()).ended(1, "takes commits there");
}

#[test]
fn a_move_waits_for_the_program_with_the_source_and_then_copies_only_the_rest() {
    let (from, to) = (source(), Program::new());
    let server = ServeProcess::start(&from);
    let held = move_log(&from, &to);
    held.ended(4, "the source is not fenced, and goes on as before: end the program");
    server.run(&["append"], events("more", 7)).ended(0, "");
    to.run(&["append"], events("early", 1)).ended(1, "takes no commits here until all of it");
    server.end();
    let moved = report(&move_log(&from, &to));
    assert_eq!((&moved["events"], &moved["events_before"]), (&json!(7), &json!(2_503)));
    has_moved(&from, &to);
}

#[test]
fn a_move_that_ended_after_any_of_its_steps_is_finished_by_the_same_command() {
    for steps in 1..=3 {
        let (from, to) = (source(), Program::new());
        let options = LogOptions::default();
        let identity = ReadOnlyLog::open(from.data(), options.clone()).unwrap().identity();
        let (old, new) = (address(&from), to.dir.path().canonicalize().unwrap().join("data"));
        let begun = Arrival::begin(&new, identity, &old, &options).unwrap();
        assert!(matches!(begun, MoveTarget::Incomplete(_)));
        drop(begun);
        if steps > 1 {
            // The source may still be appended to, and the target not.
            from.load(events("between", 1));
        }
        if steps > 2 {
            fence(&old, identity, &new, &options).unwrap();
            from.run(&["append"], events("late", 1)).ended(1, "takes commits there");
        }
        let early = to.run(&["append"], events("early", 1));
        early.ended(1, "repeat `diptych copy --move");
        assert_eq!(to.run(&["read"], "").stdout, "");
        report(&move_log(&from, &to));
        has_moved(&from, &to);
    }
}

#[test]
fn a_move_that_is_killed_leaves_at_most_one_folder_that_takes_commits() {
    let (from, to) = (Program::new(), Program::new());
    from.run(&["append", "--batch", "3"], events("t", 9_000)).ended(0, "");
    for pause_ms in [10, 30, 60, 100, 150, 250] {
        let command = ["copy", "--move", "--wait-seconds", "60", &address(&from), &address(&to)];
        let mut moving = spawn(&command);
        // Wherever it is then, the next one goes on.
        thread::sleep(Duration::from_millis(pause_ms));
        moving.kill().unwrap();
        moving.wait().unwrap();
        // A folder without a log takes a commit as a log of its own, so it is not asked.
        let takes = |program: &Program| {
            let exists = program.data().join("manifest").exists();
            exists && program.run(&["append"], events("probe", 1)).code == 0
        };
        assert!(!(takes(&from) && takes(&to)), "both folders take commits");
    }
    move_log(&from, &to).ended(0, "");
    from.run(&["append"], events("late", 1)).ended(1, "takes commits there");
    let old = from.run(&["read"], "").stdout;
    assert!(to.run(&["read"], "").stdout.starts_with(&old));
    to.load(events("new", 2));
}

#[test]
fn a_server_of_a_log_that_moved_answers_reads_and_refuses_appends_with_the_new_folder() {
    let (from, to) = (source(), Program::new());
    report(&move_log(&from, &to));
    let server = ServeProcess::start(&from);
    server.messages().wait_for("this server answers reads, and refuses appends");
    assert_eq!(server.run(&["read"], "").stdout, to.run(&["read"], "").stdout);
    let refused = server.run(&["append"], events("late", 1));
    refused.ended(5, &format!("moved to {} and takes commits there", address(&to)));
}

#[test]
fn a_server_neither_gives_its_log_away_nor_takes_one_and_names_the_commands_that_do() {
    let (from, other) = (source(), Program::new());
    let server = ServeProcess::start(&from);
    let move_to = |from: &str, to: &str| run(&["copy", "--move", "--wait-seconds", "0", from, to]);
    let there = address(&other);
    let away = move_to(&server.url, &there);
    away.ended(1, "stop its `diptych serve`, and move the folder that it serves");
    away.ended(1, &format!("`diptych copy --move FOLDER {there}`"));
    let database = "postgres://ann:secret@127.0.0.1:1/shop?log=orders";
    let away = move_to(&server.url, database);
    away.ended(1, "`diptych copy --move FOLDER postgres://127.0.0.1:1/shop?log=orders`");
    move_to(&server.url, &server.url).ended(1, "`diptych copy --move FOLDER TO`");
    let here = move_to(&address(&from), &server.url);
    here.ended(1, &format!("`diptych copy --move {} FOLDER`", address(&from)));
    here.ended(1, "`diptych serve --data FOLDER`");
    move_to(database, "http://localhost:1/log").ended(1, "`diptych serve --data FOLDER`");
    assert!(!other.data().exists());
    server.run(&["append"], events("more", 1)).ended(0, "");
}

#[test]
fn a_log_moves_only_to_another_empty_folder() {
    let (from, other) = (source(), Program::new());
    let move_to = |from: &str, to: &str| run(&["copy", "--move", "--wait-seconds", "0", from, to]);
    move_to(&address(&from), &address(&from)).ended(1, "give another place");
    let within = from.data().join("within");
    move_to(&address(&from), within.to_str().unwrap()).ended(1, "lies in it");
    other.load(events("other", 1));
    move_log(&from, &other).ended(1, "take an empty folder");
    // A copy has an identity of its own.
    let copy = Program::new();
    run(&["copy", &address(&from), &address(&copy)]).ended(0, "");
    move_log(&from, &copy).ended(1, "take an empty folder");
    // None of this touched the source.
    from.load(events("more", 1));
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("counted")]
struct Counted {
    #[tag]
    n: u32,
}

#[derive(Clone, Default)]
struct Total(u64);

impl Fold for Total {
    type Event = Counted;

    fn apply(&mut self, counted: &Recorded<Counted>) {
        self.0 += u64::from(counted.event.n);
    }
}

struct Count(u32);

impl diptych::Command for Count {
    type State = Total;
    type Event = Counted;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        Filter::everything()
    }

    fn decide(&self, _: &Total, _: &DecisionContext) -> Result<Vec<Counted>, Self::Rejection> {
        Ok(vec![Counted { n: self.0 }])
    }
}

struct Sum;

impl Query for Sum {
    type View = Total;
    type Answer = u64;

    fn answer(&self, total: &Total) -> u64 {
        total.0
    }
}

#[test]
fn receipts_and_sessions_of_before_a_move_are_good_after_it() {
    let (from, to) = (Program::new(), Program::new());
    let start = |program: &Program| {
        let app = App::open(program.data()).unwrap().view::<Total>();
        block_on(app.start()).unwrap()
    };
    let app = start(&from);
    let session = app.session();
    let receipt = block_on(app.execute(Count(3))).unwrap();
    let seen = app.query(Sum).after(&receipt).session(&session);
    assert_eq!(*block_on(seen.into_future()).unwrap(), 3);
    let token = block_on(session.token()).unwrap();
    block_on(app.stop()).unwrap();
    report(&move_log(&from, &to));
    let app = start(&to);
    assert_eq!(*block_on(app.query(Sum).after(&receipt).into_future()).unwrap(), 3);
    let resumed = block_on(app.resume_session(&token)).unwrap();
    assert_eq!(*block_on(app.query(Sum).session(&resumed).into_future()).unwrap(), 3);
    block_on(app.execute(Count(4))).unwrap();
    assert_eq!(*block_on(app.query(Sum).strong().into_future()).unwrap(), 7);
    block_on(app.stop()).unwrap();
}
