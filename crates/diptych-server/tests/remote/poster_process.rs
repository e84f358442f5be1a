//! A poster in a process of its own, which can be killed. It has the domain of the tests of
//! posters: words on a wall.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command as Program, Stdio},
};

use diptych::{
    Command, DecisionContext, Event, Fold, Query, Recorded,
    catalogue::{Catalogue, WithSchemas},
    poster::Poster,
};
use diptych_server::{Owner, Server};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

const SOURCE: &str = "DIPTYCH_POSTER_SOURCE";
const OWNER: &str = "DIPTYCH_POSTER_OWNER";
const ADDRESS: &str = "DIPTYCH_POSTER_ADDRESS";
const READY: &str = "the poster is served";

/// A word was written on the wall.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[event("word-written")]
pub(crate) struct WordWritten {
    pub(crate) word: String,
}

/// All words, in their order.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Wall(pub(crate) Vec<String>);

impl Fold for Wall {
    type Event = WordWritten;

    fn apply(&mut self, written: &Recorded<WordWritten>) {
        self.0.push(written.word.clone());
    }
}

/// Writes a word, unless it is rude.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WriteWord {
    pub(crate) word: String,
}

#[derive(Debug, thiserror::Error, Serialize, JsonSchema)]
#[error("{word:?} is rude")]
pub(crate) struct IsRude {
    word: String,
}

impl Command for WriteWord {
    type State = ();
    type Event = WordWritten;
    type Rejection = IsRude;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<WordWritten>, IsRude> {
        match &*self.word {
            "rude" => Err(IsRude { word: self.word.clone() }),
            word => Ok(vec![WordWritten { word: word.to_owned() }]),
        }
    }
}

/// The words on the wall.
#[derive(Clone, Deserialize, JsonSchema)]
pub(crate) struct Words {}

impl Query for Words {
    type View = Wall;
    type Answer = Vec<String>;

    fn answer(&self, wall: &Wall) -> Vec<String> {
        wall.0.clone()
    }
}

/// The digest of the wall.
#[derive(Clone, Deserialize, JsonSchema)]
pub(crate) struct WallDigest {}

impl Query for WallDigest {
    type View = Wall;
    type Answer = String;

    fn answer(&self, wall: &Wall) -> String {
        diptych::digest(wall).unwrap().to_string()
    }
}

pub(crate) fn catalogue() -> Catalogue<WithSchemas> {
    Catalogue::with_schemas()
        .command::<WriteWord>("write-word")
        .live_query::<Words>("words")
        .live_query::<WallDigest>("wall-digest")
        .view::<Wall>()
}

/// The process: this test binary, which runs the test below.
pub(crate) struct PosterProcess(Child);

impl PosterProcess {
    /// A poster of this source, which serves at this address.
    pub(crate) fn start(source: &str, owner: SocketAddr, address: SocketAddr) -> PosterProcess {
        let mut program = Program::new(env::current_exe().unwrap());
        program.args(["--exact", "poster_process::a_process_is_a_poster", "--nocapture"]);
        program.env(SOURCE, source).env(OWNER, format!("http://{owner}"));
        program.env(ADDRESS, address.to_string());
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(READY)), "the process is no poster");
        PosterProcess(child)
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for PosterProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does nothing, unless this process is the child of another test.
#[test]
fn a_process_is_a_poster() {
    let Ok(source) = env::var(SOURCE) else { return };
    let (owner, address) = (env::var(OWNER).unwrap(), env::var(ADDRESS).unwrap());
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async move {
        let poster = Poster::follow(source).catalogue(catalogue()).open().await.unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        println!("{READY}");
        let server = Server::poster(poster).owner(Owner::at(&owner).unwrap());
        server.serve(listener, std::future::pending()).await.unwrap();
    });
}
