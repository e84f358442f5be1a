//! A process that serves a fresh log each time that the test asks for one.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Lines, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::LazyLock,
    thread,
};

use diptych::store::Store;
use diptych_log::{Log, LogOptions};
use diptych_remote::wire::{self, messages};
use diptych_store::{TimeSource, testing::Setup};
use parking_lot::Mutex;
use prost::Message;

use crate::served_log::ServedLog;

const SERVES: &str = "DIPTYCH_SERVES_FRESH_LOGS";
const FRESH: &str = "fresh";
const ENDS: &str = "ends";
const SERVED: &str = "served at ";

/// The process of all tests of this binary: the binary itself, which runs the test below. It ends
/// with its input, and so with the tests.
static PROCESS: LazyLock<Mutex<LogProcess>> = LazyLock::new(|| Mutex::new(LogProcess::start()));

struct LogProcess {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl LogProcess {
    fn start() -> LogProcess {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "log_process::a_process_serves_fresh_logs", "--nocapture"]);
        command.env(SERVES, "yes").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        LogProcess { child, orders, answers }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn answer(&mut self) -> SocketAddr {
        for line in self.answers.by_ref() {
            // The report of the tests stands between the answers.
            if let Some((_, address)) = line.unwrap().split_once(SERVED) {
                return address.parse().unwrap();
            }
        }
        panic!("the process that serves logs has ended: {:?}", self.child.wait());
    }
}

/// A log in a folder of the other process, and its server there. Both end with this value.
pub(crate) struct OtherLog {
    pub(crate) address: SocketAddr,
}

impl OtherLog {
    pub(crate) fn fresh(setup: &Setup) -> OtherLog {
        let mut process = PROCESS.lock();
        process.order(&format!("{FRESH} {}", text(setup)));
        OtherLog { address: process.answer() }
    }

    /// The id of the process that serves the log.
    pub(crate) fn process_id() -> u32 {
        PROCESS.lock().child.id()
    }
}

impl Drop for OtherLog {
    fn drop(&mut self) {
        PROCESS.lock().order(&format!("{ENDS} {}", self.address));
    }
}

/// The setup of a store in one word.
fn text(setup: &Setup) -> String {
    let limits = wire::limits_message(&setup.limits).encode_to_vec();
    let limits: String = limits.iter().map(|byte| format!("{byte:02x}")).collect();
    let time = match setup.time {
        TimeSource::Clock => "clock",
        TimeSource::Caller => "caller",
    };
    format!("{time}-{limits}")
}

fn setup(text: &str) -> Setup {
    let (time, limits) = text.split_once('-').unwrap();
    let digits = (0..limits.len()).step_by(2);
    let limits: Vec<u8> =
        digits.map(|at| u8::from_str_radix(&limits[at..at + 2], 16).unwrap()).collect();
    let time = match time {
        "clock" => TimeSource::Clock,
        _ => TimeSource::Caller,
    };
    Setup { limits: wire::limits_of(&messages::Limits::decode(&*limits).unwrap()), time }
}

/// Does nothing, unless this process is the child of another test.
#[test]
fn a_process_serves_fresh_logs() {
    if env::var_os(SERVES).is_none() {
        return;
    }
    let (mut logs, mut ending) = (HashMap::new(), Vec::new());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (order, of) = line.split_once(' ').unwrap();
        if order == ENDS {
            let ended = logs.remove(of);
            // The server waits for its connections.
            ending.push(thread::spawn(move || drop(ended)));
            continue;
        }
        let Setup { limits, time } = setup(of);
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { limits, time, ..LogOptions::default() };
        let log = Log::open(folder.path(), options).unwrap();
        let served = ServedLog::start(Store::new(log));
        println!("{SERVED}{}", served.address);
        logs.insert(served.address.to_string(), (served, folder));
    }
    drop(logs);
    ending.into_iter().for_each(|ending| ending.join().unwrap());
    // Nobody reads the report of this test.
    std::process::exit(0);
}
