//! The demo on a log in PostgreSQL, with a real server.

use diptych_postgres_testing::PostgresServer;
use serde_json::Value;

use super::{Demo, elsewhere::served_on, lasting, until};
use crate::program::run;

/// The questions that the page asks.
const QUESTIONS: [&str; 7] = [
    "departure-board?airport=EWR&",
    "punctuality?",
    "routes?order=busiest&",
    "delay-by-hour?airport=EWR&day=2013-01-01&",
    "delay-by-weather?",
    "refusals?top=0&",
    "names?",
];

/// `DIPTYCH_DEMO_UNTIL=all` loads the whole month.
#[test]
fn the_demo_in_postgres_has_the_digests_of_the_demo_in_a_folder_and_its_page() {
    let Some(server) = PostgresServer::in_memory() else { return };
    let until = until();
    let until: Vec<&str> = until.iter().map(String::as_str).collect();
    let in_a_folder = Demo::new();
    let loaded = in_a_folder.load(&until);
    let address = server.address("postgres", "flights");
    let ran = run(&[&["demo", "--store", &address, "--once", "--json"], &until[..]].concat());
    ran.ended(0, "");
    let in_postgres: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(lasting(&in_postgres), lasting(&loaded));
    assert_eq!(in_postgres["digests"].as_object().unwrap().len(), 8);
    for (place, of) in [("folder", &loaded), ("PostgreSQL", &in_postgres)] {
        println!("{place}: {} commands, {} a second", of["commands"], of["commands_per_second"]);
    }

    // Each of both pages shows the same figures.
    let in_postgres = served_on(&address, &until);
    let in_a_folder = served_on(in_a_folder.data().to_str().unwrap(), &until);
    assert_eq!(in_postgres.ask("GET /", ""), in_a_folder.ask("GET /", ""));
    for question in QUESTIONS {
        let shown = in_postgres.get(&format!("/queries/{question}_consistency=strong"));
        assert_eq!(shown, in_a_folder.get(&format!("/queries/{question}_consistency=strong")));
    }
    let board = in_postgres.get("/queries/departure-board?airport=EWR");
    assert_eq!(board, in_a_folder.get("/queries/departure-board?airport=EWR"));
    // After the last flight of the month the board is empty.
    assert!(until.is_empty() || board["rows"].as_array().unwrap().len() > 10, "{board}");
}
