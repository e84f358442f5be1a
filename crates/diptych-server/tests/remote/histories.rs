//! Recorded histories of concurrent clients over the network, with kills of the server in between.

use std::{env, net::SocketAddr, thread, time::Duration};

use diptych_remote::{AppendAnswer, RemoteOptions, RemoteStore};
use diptych_store::{
    Store,
    testing::history::{Deployment, Drill, Survival},
};
use tempfile::TempDir;

use crate::child::{ServerProcess, free_address};

const HISTORIES: u64 = 2;
const CALLS: u64 = 120;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// A server in a child process. Each client has a connection of its own.
struct HistoryServer {
    folder: TempDir,
    address: SocketAddr,
    answer: AppendAnswer,
    server: Option<ServerProcess>,
    pause_ms: u64,
}

impl Deployment for HistoryServer {
    fn start(&mut self, _round: u64) {
        self.server = Some(ServerProcess::start(self.folder.path(), self.address));
    }

    fn connect(&mut self, _client: u64) -> Store {
        let mut options = RemoteOptions::default();
        options.append_answer = self.answer;
        // The calls of a round end soon after its kill.
        options.answer_time = Duration::from_millis(500);
        let address = format!("diptych://{}", self.address);
        let store = pollster::block_on(RemoteStore::connect(&address, options));
        Store::new(store.unwrap())
    }

    fn kill(&mut self) {
        thread::sleep(Duration::from_millis(self.pause_ms));
        self.server.take().unwrap().kill();
    }
}

fn each_is_right(answer: AppendAnswer) {
    for seed in 0..number("DIPTYCH_HISTORIES", HISTORIES) {
        let calls = number("DIPTYCH_HISTORY_CALLS", CALLS);
        let drill = Drill { kills: 3, calls, ..Drill::new(seed) };
        let folder = tempfile::tempdir().unwrap();
        let pause_ms = 20 + seed * 15;
        let mut served =
            HistoryServer { folder, address: free_address(), answer, server: None, pause_ms };
        let history = drill.run_and_check(&mut served, Survival::EveryCommit);
        println!("{} calls, {} commits", history.operations().len(), history.commits().len());
    }
}

#[test]
fn a_remote_store_whose_server_is_killed_has_a_right_history() {
    each_is_right(AppendAnswer::Synced);
}

#[test]
fn a_remote_store_that_answers_early_has_a_right_history() {
    each_is_right(AppendAnswer::Accepted);
}
