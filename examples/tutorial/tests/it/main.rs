//! Runs the programs of the pages, and sends each request that a page shows. The answers must be
//! those of the page, where `…` stands for a text that differs in each run.

mod page;
mod service;

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use diptych_sqlite::rusqlite::{self, Connection, OpenFlags, types::Value};

use crate::{
    page::{Step, agrees, steps},
    service::{INSURER, Service, request},
};

#[test]
fn the_requests_of_the_first_chapter_are_answered_as_shown() {
    let folder = tempfile::tempdir().unwrap();
    let rows = run("records.md", env!("CARGO_BIN_EXE_tutorial-rows"), folder.path());
    assert!(rows >= 9, "the first chapter shows {rows} requests");
}

#[test]
fn the_requests_of_all_chapters_on_the_shed_are_answered_as_shown() {
    let folder = tempfile::tempdir().unwrap();
    let first = run("first-service.md", env!("CARGO_BIN_EXE_tutorial-first"), folder.path());
    assert!(first >= 8, "the second chapter shows {first} requests");
    let grown = run("growing-it.md", env!("CARGO_BIN_EXE_tutorial-grown"), folder.path());
    assert!(grown >= 4, "the third chapter shows {grown} requests");
    let reminded = run("processes.md", env!("CARGO_BIN_EXE_tutorial-reminded"), folder.path());
    assert!(reminded >= 3, "the fourth chapter shows {reminded} requests");
    let shared = run("services.md", env!("CARGO_BIN_EXE_tutorial-shared"), folder.path());
    assert!(shared >= 5, "the fifth chapter shows {shared} requests");
}

/// The first program of the README, which takes a seat once.
#[test]
fn a_seat_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let take = |seat: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tutorial-seats"));
        let output = program.arg(seat).current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let readme = fs::read_to_string("../../README.md").unwrap();
    for (seat, answer) in [
        ("12A", "the seat is yours, by event 1\n"),
        ("12A", "rejected: the seat is taken\n"),
        ("12B", "the seat is yours, by event 2\n"),
    ] {
        assert_eq!(take(seat), answer);
        assert!(readme.contains(&format!("$ cargo run -- {seat}\n{answer}")), "{seat}: {answer}");
    }
}

/// Does the steps of a page in a folder, and returns the number of compared answers.
fn run(page: &str, program: &str, folder: &Path) -> usize {
    let text = fs::read_to_string(Path::new("../../docs/start").join(page)).unwrap();
    let (mut service, mut insurer) = (None::<Service>, None::<Service>);
    let mut compared = 0;
    let stop = text.lines().position(|line| line.contains("Stop the shed with Ctrl-C"));
    for Step { line, command, output } in steps(&text) {
        let is_stopped = stop.is_some_and(|stop| line > stop);
        if is_stopped && let Some(service) = service.take() {
            service.stop("INT");
        }
        let answer = match command.split(' ').next() {
            Some("cargo") if command == "cargo run" => {
                drop(service.take()); // it holds the folder
                service = Some(Service::start(Command::new(program), folder));
                continue;
            }
            Some("cargo") if command == "cargo run --bin insurer" => {
                let shed = service.as_ref().expect("the page runs the shed first");
                let mut program = Command::new(env!("CARGO_BIN_EXE_tutorial-insurer"));
                program.env("SHED", format!("http://{}", shed.address));
                insurer = Some(Service::start(program, folder));
                continue;
            }
            Some("curl") => {
                let asked = match command.contains(INSURER) {
                    true => &insurer,
                    false => &service,
                };
                let asked = asked.as_ref().expect("the page runs the service first");
                let send = || request(&asked.address, &command);
                // A command is sent once. A query can be a little early, as its page says.
                match command.contains(" -d ") || command.contains(" -X ") {
                    true => send(),
                    false => eventually(send, |answer| agrees(answer, &output)),
                }
            }
            Some("sqlite3") => {
                eventually(|| sql(folder, &command), |answer| agrees(answer, &output))
            }
            Some("cat") => {
                let file = folder.join(command.trim_start_matches("cat "));
                // The letter is written a little later than its command.
                eventually(
                    || fs::read_to_string(&file).unwrap_or_else(|error| error.to_string()),
                    |answer| agrees(answer, &output),
                )
            }
            _ => continue,
        };
        assert!(
            agrees(&answer, &output),
            "{page}, line {line}: {command}\nthe page has\n{output}\nand the answer is\n{answer}"
        );
        compared += 1;
    }
    compared
}

/// The rows of `sqlite3 FILE "QUERY"`, in the form of that program, or the reason why there are
/// none. At first there is no table, because a service starts before its projections are done.
fn sql(folder: &Path, command: &str) -> String {
    let (before, query) = command.split_once('"').expect("a query in quotes");
    let file = before.split(' ').nth(1).expect("a file");
    let rows = rows(&folder.join(file), query.trim_end_matches('"'));
    rows.unwrap_or_else(|error| error.to_string())
}

fn rows(file: &Path, query: &str) -> rusqlite::Result<String> {
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = database.prepare(query)?;
    let columns = statement.column_count();
    let text = |value: Value| match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        other => panic!("{other:?}"),
    };
    let rows = statement.query_map((), |row| {
        let cells: Result<Vec<_>, _> = (0..columns).map(|at| row.get(at).map(text)).collect();
        Ok(format!("{}\n", cells?.join("|")))
    });
    rows?.collect()
}

/// Asks until the answer is as it should be, because views and reports are a little behind the log.
/// After a minute it returns the last answer.
fn eventually<T>(ask: impl Fn() -> T, is_done: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if is_done(&answer) || begun.elapsed() > Duration::from_secs(60) {
            return answer;
        }
        thread::yield_now();
    }
}
