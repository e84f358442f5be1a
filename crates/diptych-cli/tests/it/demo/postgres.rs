//! The demo on a log in PostgreSQL, with a real server.

use diptych_postgres_testing::{new_name, shared};
use serde_json::Value;

use super::{Demo, UNTIL, elsewhere::served_on, lasting};
use crate::program::run;

#[test]
fn the_demo_in_postgres_has_the_digests_of_the_demo_in_a_folder_and_its_page() {
    let Some(server) = shared() else { return };
    let in_a_folder = Demo::new();
    let loaded = in_a_folder.load(&["--until", UNTIL]);
    let address = server.address("postgres", &new_name());
    let ran = run(&["demo", "--data", &address, "--once", "--json", "--until", UNTIL]);
    ran.ended(0, "");
    let in_postgres: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(lasting(&in_postgres), lasting(&loaded));
    assert_eq!(in_postgres["digests"].as_object().unwrap().len(), 8);

    let in_postgres = served_on(&address, &["--until", UNTIL]);
    let in_a_folder = served_on(in_a_folder.data().to_str().unwrap(), &["--until", UNTIL]);
    assert_eq!(in_postgres.ask("GET /", ""), in_a_folder.ask("GET /", ""));
    let board = "/queries/departure-board?airport=EWR&_consistency=strong";
    let shown = in_postgres.get(board);
    assert!(shown["rows"].as_array().unwrap().len() > 10, "{shown}");
    assert_eq!(shown, in_a_folder.get(board));
}
