//! Recorded histories of concurrent clients, with kills of the server in between.
//!
//! `DIPTYCH_HISTORIES` sets how many histories are checked, and `DIPTYCH_HISTORY_CALLS` how many
//! calls each client makes between two kills.

use std::{env, time::Duration};

use diptych_postgres::PostgresOptions;
use diptych_store::{
    Store,
    testing::history::{Deployment, Drill, Survival},
};

use super::server::PostgresServer;

const HISTORIES: u64 = 2;
const CALLS: u64 = 60;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// A server with a log of its own for each history. Each client has a handle of its own, as a
/// process has one.
struct KilledServer<'a> {
    server: &'a mut PostgresServer,
    log: String,
}

impl Deployment for KilledServer<'_> {
    fn start(&mut self, round: u64) {
        if round > 0 {
            self.server.restart();
        }
    }

    fn connect(&mut self, _client: u64) -> Store {
        let mut options = PostgresOptions::default();
        // The calls of a round end soon after its kill.
        options.answer_time = Duration::from_secs(2);
        Store::new(self.server.open_with(&self.log, options))
    }

    fn kill(&mut self) {
        self.server.kill();
    }
}

#[test]
fn a_store_whose_server_is_killed_has_a_right_history() {
    let Some(mut server) = PostgresServer::start() else { return };
    for seed in 0..number("DIPTYCH_HISTORIES", HISTORIES) {
        println!("seed {seed}");
        let calls = number("DIPTYCH_HISTORY_CALLS", CALLS);
        let drill = Drill { kills: 3, calls, ..Drill::new(seed) };
        let mut killed = KilledServer { server: &mut server, log: format!("history-{seed}") };
        let history = drill.run_and_check(&mut killed, Survival::EveryCommit);
        println!("{} calls, {} commits", history.operations().len(), history.commits().len());
        assert!(history.commits().len() > 10, "the clients did little");
    }
}
