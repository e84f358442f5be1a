//! `diptych demo` as its users see it: loads, stops, resumes, and reports errors.

mod clients;
mod elsewhere;
mod postgres;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Ran, finish};

/// The flights until then break every rule that January breaks.
const UNTIL: &str = "2013-01-04T00:00:00Z";

/// The flights until this instant are loaded on a log outside of a folder, and all of January if it
/// is `all`.
fn until() -> Vec<String> {
    match std::env::var("DIPTYCH_DEMO_UNTIL") {
        Ok(all) if all == "all" => Vec::new(),
        Ok(instant) => vec!["--until".to_owned(), instant],
        Err(_) => vec!["--until".to_owned(), "2013-01-01T12:00:00Z".to_owned()],
    }
}

/// A folder for a demo.
struct Demo {
    dir: TempDir,
}

impl Demo {
    fn new() -> Demo {
        Demo { dir: TempDir::new().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
        command.args(["demo", "--wait-seconds", "0", "--data"]).arg(self.data()).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args).spawn().unwrap(), "")
    }

    /// Loads the remaining commands and returns the results.
    fn load(&self, args: &[&str]) -> Value {
        let ran = self.run(&[&["--once", "--json"], args].concat());
        ran.ended(0, "");
        // After a kill or a full disk, the engine warns that it repaired the end of the log.
        let is_repair = |line: &str| line.contains("cut off an unfinished commit");
        assert!(ran.stderr.lines().all(is_repair), "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Writes a file of flights beside the demo's folder.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A demo that serves its page. It is killed when dropped.
struct DemoServer {
    process: Child,
    address: String,
}

impl DemoServer {
    fn start(demo: &Demo, args: &[&str]) -> DemoServer {
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        DemoServer::of(demo.command(&args))
    }

    /// Starts this program, and reads the address of its page.
    fn of(mut command: Command) -> DemoServer {
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        // Drains the pipe, so that the program never blocks on it.
        thread::spawn(move || said.read_to_end(&mut Vec::new()));
        let address = line.trim().strip_prefix("the page is at http://").unwrap_or_else(|| {
            panic!("it says {line:?}");
        });
        let address = address.trim_end_matches('/').to_owned();
        DemoServer { process, address }
    }

    fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: \
             application/json\r\ncontent-length: {length}\r\n\r\n{body}",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(&format!("GET {path}"), "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until the log has at least this number of events.
    fn wait_for_events(&self, least: u64) {
        let begin = Instant::now();
        while self.get("/status")["log"]["head"].as_u64().unwrap() < least {
            assert!(begin.elapsed() < Duration::from_secs(60), "nothing comes");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the program by a termination signal. Returns its exit code and its output.
    fn end(mut self) -> (i32, String) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        let mut out = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.process.wait().unwrap().code().unwrap(), out)
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The results that must not depend on how the load ran.
fn lasting(outcome: &Value) -> Value {
    let names = ["events", "accepted", "refused", "refused_by_rule", "digests"];
    names.iter().map(|name| ((*name).to_owned(), outcome[*name].clone())).collect()
}

#[test]
fn a_second_run_loads_nothing_and_reports_equal_results() {
    let demo = Demo::new();
    let first = demo.load(&["--until", UNTIL]);
    assert_eq!(first["settled"], first["commands"]);
    assert_eq!(first["found"], 0);
    let sent = first["accepted"].as_u64().unwrap() + first["refused"].as_u64().unwrap();
    assert_eq!(Value::from(sent), first["commands"]);
    assert!(first["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    assert_eq!(first["digests"].as_object().unwrap().len(), 8);

    let again = demo.load(&["--until", UNTIL]);
    assert_eq!(again["found"], again["commands"]);
    assert_eq!(lasting(&again), lasting(&first));

    let text = demo.run(&["--once", "--until", UNTIL]);
    text.ended(0, "");
    assert!(text.stdout.contains("0 sent"), "{}", text.stdout);
    assert!(text.stdout.contains("flight-departed"), "{}", text.stdout);
}

/// Regression guard: kills during a load do not change its results.
#[test]
fn a_killed_load_continues_where_it_was() {
    let whole = Demo::new().load(&["--until", UNTIL]);
    let commands = whole["commands"].as_u64().unwrap();
    let kills = std::env::var("DIPTYCH_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills = kills.unwrap_or(4_u64);
    let demo = Demo::new();
    for kill in 1..=kills {
        // Alternates between full speed, and a speed so low that the kill comes before the end.
        let speed = if kill % 2 == kills % 2 { "50000" } else { "max" };
        let served = DemoServer::start(&demo, &["--until", UNTIL, "--speed", speed]);
        // A little later in each round, and never at the same command.
        served.wait_for_events(commands * kill / (kills + 1));
        drop(served);
    }
    let resumed = demo.load(&["--until", UNTIL]);
    let found = resumed["found"].as_u64().unwrap();
    assert!(found > 0 && found < commands, "the kills came too late or too early: {resumed}");
    assert_eq!(lasting(&resumed), lasting(&whole));
}

#[test]
fn a_termination_signal_ends_it_in_order_and_the_next_run_continues() {
    let demo = Demo::new();
    let args = ["--until", "2013-01-08T00:00:00Z"];
    let served = DemoServer::start(&demo, &args);
    served.wait_for_events(6_000);
    let (code, out) = served.end();
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("run the command again to continue"), "{out}");
    let rest = demo.load(&args);
    assert!(rest["found"].as_u64().unwrap() >= 6_000, "{rest}");
    assert_eq!(rest["settled"], rest["commands"]);
}

#[test]
fn acknowledged_commands_survive_a_kill() {
    let demo = Demo::new();
    let served = DemoServer::start(&demo, &["--until", "2013-01-01T00:00:00Z"]);
    let flight = r#"{"flight":"DI1-EWR-2013-01-02","departs_at":"2013-01-02T17:00:00Z",
                     "destination":"IAH","plane":null,"distance_miles":null}"#;
    let (status, receipt) = served.ask("POST /commands/schedule-flight", flight);
    assert_eq!(status, 200, "{receipt}");
    let (status, refused) = served.ask("POST /commands/schedule-flight", flight);
    assert_eq!(status, 422, "{refused}");
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(refused["rejection"]["rule"], "scheduled-once");
    let departure = r#"{"flight":"DI2-EWR-2013-01-02","plane":null,"at":"2013-01-02T17:05:00Z"}"#;
    assert_eq!(served.ask("POST /commands/depart-flight", departure).0, 422);
    drop(served);

    let served = DemoServer::start(&demo, &["--until", "2013-01-01T00:00:00Z"]);
    let card = served.get("/queries/flight-card?flight=DI1-EWR-2013-01-02&_consistency=strong");
    assert_eq!(card["destination"], "IAH");
    // Refusals are recorded, too.
    let refusals = served.get("/queries/refusals?_consistency=strong");
    assert_eq!(refusals["newest"][1]["flight"], "DI1-EWR-2013-01-02");
    // The event occurred when the command says, without a header for that.
    assert_eq!(refusals["newest"][0]["flight"], "DI2-EWR-2013-01-02");
    assert_eq!(refusals["newest"][0]["at"], "2013-01-02T17:05:00Z");
    let (code, _) = served.end();
    assert_eq!(code, 0);
}

#[test]
fn a_taken_port_and_a_held_folder_are_named() {
    let demo = Demo::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = demo.run(&["--listen", &address]);
    ran.ended(4, &format!("another program listens at {address}"));
    assert!(!demo.data().exists(), "something was written before that was known");

    let served = DemoServer::start(&demo, &["--until", "2013-01-01T00:00:00Z"]);
    demo.run(&["--once"]).ended(4, "process");
    drop(served);
}

/// Regression test: the demo loaded a month, and then refused to serve it.
#[test]
fn an_address_that_needs_a_host_is_refused_before_anything_is_read_or_written() {
    let demo = Demo::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let ran = demo.run(&["--listen", address, "--flights", "/no/such/file.csv"]);
        ran.ended(1, "no host is named");
        ran.ended(1, "--host");
    }
    let ran = demo.run(&["--listen", "0.0.0.0:0", "--host", "http://flights.example:80/"]);
    ran.ended(1, "without scheme, port and path");
    assert!(!demo.data().exists(), "something was written before that was known");
    // The address does not belong to this machine.
    demo.run(&["--listen", "192.0.2.1:0", "--host", "flights.example"]).ended(5, "cannot listen");
    assert!(!demo.data().exists(), "something was written before that was known");
}

#[test]
fn the_folder_of_another_log_stays_unchanged() {
    let demo = Demo::new();
    let mut append = Command::new(env!("CARGO_BIN_EXE_diptych"));
    append.args(["append", "--data"]).arg(demo.data());
    append.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let event = r#"{"type":"book-lent","data":{}}"#;
    finish(append.spawn().unwrap(), event).ended(0, "");
    demo.run(&["--once"]).ended(1, "is the folder of a log, and not of a demo");
    assert!(!demo.data().join("log").exists());

    // Also where the demo would have its log.
    let other = Demo::new();
    fs::create_dir(other.data()).unwrap();
    fs::rename(demo.data(), other.data().join("log")).unwrap();
    other.run(&["--once"]).ended(1, "book-lent");
}

/// Regression test: a single command without an instant, or of the year 9000, emptied the live
/// board for all visitors.
#[test]
fn a_command_far_from_the_flights_does_not_change_the_live_board() {
    let demo = Demo::new();
    let until = ["--until", "2013-01-02T17:00:00Z"];
    demo.load(&until);
    let served = DemoServer::start(&demo, &until);
    let board = "/queries/departure-board?airport=EWR&_consistency=strong";
    let before = served.get(board);
    assert!(before["rows"].as_array().unwrap().len() > 10, "{before}");
    let schedule = |flight: &str, departs_at: &str| {
        format!(
            r#"{{"flight":"{flight}","departs_at":"{departs_at}","destination":"IAH",
                "plane":null,"distance_miles":null}}"#
        )
    };
    let path = "POST /commands/schedule-flight";
    let without = schedule("ZZ1-EWR-2013-01-20", "2013-01-20T17:00:00Z");
    let (status, receipt) = served.ask(path, &without);
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(served.get(board), before);
    let card = served.get("/queries/flight-card?flight=ZZ1-EWR-2013-01-20&_consistency=strong");
    assert_eq!(card["scheduled_at"], "2013-01-19T17:00:00Z");

    let far = schedule("ZZ2-EWR-9000-01-01", "9000-01-01T17:00:00Z");
    let (status, refused) = served.ask(path, &far);
    assert_eq!(status, 422, "{refused}");
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(refused["rejection"]["rule"], "out-of-season");
    assert!(refused["detail"].as_str().unwrap().contains("choose a day"), "{refused}");
    let beside = schedule("ZZ3-EWR-2013-01-02", "2013-01-02T18:00:00Z");
    for instant in ["9000-01-01T17:00:00Z", "2026-11-26T17:00:00Z", "1970-01-01T00:00:00Z"] {
        let path = format!("{path} HTTP/1.1\r\ndiptych-occurred-at: {instant}\r\nx-rest:");
        let (status, denied) = served.ask(&path, &beside);
        assert_eq!(status, 403, "{denied}");
        assert!(denied.contains("far from these flights: give an instant from"), "{denied}");
    }
    assert_eq!(served.get(board), before);
}

/// The file of flights that is built into the program.
fn january() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(path.join("../../examples/flights/data/flights-2013-01.csv.gz")).unwrap()
}

#[test]
fn a_truncated_file_loads_nothing_and_the_repaired_file_loads_once() {
    let demo = Demo::new();
    let january = january();
    let args = |file: &str| ["--once", "--until", UNTIL, "--flights", file].map(str::to_owned);
    let half = demo.file("flights.csv.gz", &january[..january.len() / 2]);
    let run = |file: &str| {
        let args = args(file);
        demo.run(&args.each_ref().map(String::as_str))
    };
    run(&half).ended(1, "whole rows");
    assert!(!demo.data().exists(), "something was written of a file that is not whole");
    run(&demo.file("text.csv.gz", "no gzip at all")).ended(1, "not compressed by gzip");
    run("/no/such/file.csv").ended(1, "cannot be read");

    // The repaired file is equal to the built-in one.
    fs::write(&half, january).unwrap();
    let repaired = demo.load(&["--until", UNTIL, "--flights", &half]);
    let again = demo.load(&["--until", UNTIL]);
    assert_eq!(again["found"], again["commands"]);
    assert_eq!(lasting(&repaired), lasting(&again));
}

#[test]
fn a_bad_row_is_named_by_number_column_and_reason() {
    let demo = Demo::new();
    let header = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
                  arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,\
                  time_hour\n";
    let good = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,\
                2013-01-01T10:00:00Z\n";
    let bad = good.replace("UA,1545", "UA,1546").replace(",2,830", ",late,830");
    let file = demo.file("flights.csv", format!("{header}{good}{bad}"));
    let ran = demo.run(&["--once", "--flights", &file]);
    ran.ended(1, "row 2");
    ran.ended(1, "dep_delay");
    let hostile = good.replace("IAH", "<b>");
    let file = demo.file("flights.csv", format!("{header}{hostile}"));
    demo.run(&["--once", "--flights", &file]).ended(1, "row 1");
}

/// On a full disk acknowledged events stay, and with free space the load continues.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_and_acknowledged_events_stay() {
    let whole = lasting(&Demo::new().load(&["--until", UNTIL]));
    let demo = Demo::new();
    let program = env!("CARGO_BIN_EXE_diptych");
    let data = demo.data();
    // With the signal ignored, a write beyond the limit fails like one on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 3000; exec {program} demo --once --until {UNTIL} --data {}",
        data.display()
    );
    let mut limited = Command::new("bash");
    limited.args(["-c", &script]).stdin(Stdio::piped());
    let limited = limited.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ran = finish(limited, "");
    assert_eq!(ran.code, 5, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.to_lowercase().contains("file too large"), "{}", ran.stderr);
    let rest = demo.load(&["--until", UNTIL]);
    assert_eq!(lasting(&rest), whole);
}

/// A file stands in the place of the folder, because root may write to any folder.
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let demo = Demo::new();
    fs::write(demo.data(), "a file").unwrap();
    let ran = demo.run(&["--once"]);
    ran.ended(5, "data");
}

#[test]
fn the_speed_of_a_load_is_the_requested_one() {
    let demo = Demo::new();
    // Ten hours after the first departure take a fifth of a second.
    let until = "2013-01-01T20:00:00Z";
    let quick = demo.load(&["--until", until]);
    let other = Demo::new();
    let begin = Instant::now();
    let paced = other.load(&["--until", until, "--speed", "180000"]);
    assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
    assert_eq!(lasting(&paced), lasting(&quick));
}
