//! The demo on the log of a server, and a poster of it in another process.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Demo, DemoServer, lasting, until};
use crate::{program::Program, served::ServeProcess};

/// A demo that serves its page, on this log.
pub(super) fn served_on(log: &str, args: &[&str]) -> DemoServer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command.args(["demo", "--wait-seconds", "60", "--data", log, "--listen", "127.0.0.1:0"]);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    DemoServer::of(command)
}

/// `DIPTYCH_DEMO_UNTIL=all` loads the whole month.
#[test]
fn the_demo_on_a_server_has_the_digests_of_the_demo_in_a_folder() {
    let until = until();
    let until: Vec<&str> = until.iter().map(String::as_str).collect();
    let in_a_folder = Demo::new().load(&until);
    let program = Program::new();
    let server = ServeProcess::start(&program);
    let ran = server.run(&[&["demo", "--once", "--json"], &until[..]].concat(), "");
    ran.ended(0, "");
    let on_a_server: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(lasting(&on_a_server), lasting(&in_a_folder));
    assert_eq!(on_a_server["digests"].as_object().unwrap().len(), 8);
}

#[test]
fn a_poster_in_another_process_shows_the_boards_and_sends_the_commands_of_its_page() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    let until = ["--until", "2013-01-01T18:00:00Z"];
    server.run(&["demo", "--once", "--json", until[0], until[1]], "").ended(0, "");
    let owner = served_on(&server.url, &until);
    let poster = served_on(&server.url, &["--poster", &format!("http://{}", owner.address)]);
    let board = "/queries/departure-board?airport=EWR&_consistency=strong";
    let shown = poster.get(board);
    assert!(shown["rows"].as_array().unwrap().len() > 10, "{shown}");
    assert_eq!(shown, owner.get(board));
    let (status, page) = poster.ask("GET /", "");
    assert!(status == 200 && page.contains("<html"), "{page}");

    let flight = r#"{"flight":"DI1-EWR-2013-01-02","departs_at":"2013-01-02T17:00:00Z",
                     "destination":"IAH","plane":null,"distance_miles":null}"#;
    let (status, receipt) = poster.ask("POST /commands/schedule-flight", flight);
    assert_eq!(status, 200, "{receipt}");
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    let receipt = receipt["receipt"].as_str().unwrap();
    let card = format!("/queries/flight-card?flight=DI1-EWR-2013-01-02&_after={receipt}");
    assert_eq!(poster.get(&card), owner.get(&card));
    let (status, refused) = poster.ask("POST /commands/schedule-flight", flight);
    assert_eq!(status, 422, "{refused}");
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(refused["rejection"]["rule"], "scheduled-once");
    assert!(poster.get("/status")["source"]["away_since"].is_null());
}
