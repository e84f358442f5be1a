//! `diptych serve`, and the commands that work on the log of a server.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::TcpListener,
    process::{Child, ChildStdin},
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};

use crate::{
    program::{Program, Ran, events, run},
    served::{Lines, Running, ServeProcess},
};

#[test]
fn events_that_are_appended_to_a_server_are_tailed_and_read_elsewhere() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    let tail = Running::new(server.spawn(&["tail", "--after", "0"]));
    let ran = server.run(&["append", "--batch", "2"], events("t", 5));
    ran.ended(0, "");
    assert_eq!(ran.lines()[2], json!({"first": 5, "last": 5, "events": 1}));
    tail.printed.wait_for_lines(5);
    let read = server.run(&["read"], "");
    read.ended(0, "");
    assert_eq!(tail.printed.all(), read.stdout.trim_end());
    assert_eq!(tail.interrupt(), 0);
    let backwards = server.run(&["read", "--backwards", "--limit", "2"], "");
    assert_eq!(backwards.positions(), [5, 4]);
    let filtered = server.run(&["tail", "--filter", "tag=n:3", "--until-head"], "");
    filtered.ended(0, "");
    assert_eq!(filtered.positions(), [3]);
    server.run(&["tail", "--after", "6"], "").ended(1, "above the head");
    let stats = &server.run(&["stats", "--json"], "").lines()[0];
    assert_eq!((&stats["events"], &stats["types"]), (&json!(5), &json!([{"type": "t"}])));
    // Other processes read the folder meanwhile, as beside any program that holds it.
    assert_eq!(program.run(&["read"], "").stdout, read.stdout);
    program.run(&["verify"], "").ended(0, "");
}

#[test]
fn keys_and_conditions_hold_on_a_server() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    let append = |args: &[&str]| server.run(&[&["append"], args].concat(), events("t", 3));
    append(&["--key", "k"]).ended(0, "");
    let repeated = json!({"first": 1, "last": 3, "events": 3, "repeated": true});
    assert_eq!(append(&["--key", "k"]).lines(), [repeated]);
    append(&["--fail-if", "tag=n:2"]).ended(3, "position 2 matches the condition");
    append(&["--fail-if", "tag=n:2", "--after", "2"]).ended(0, "");
    append(&["--accept-future-time"]).ended(1, "give it to the `diptych serve`");
    let broken = server.run(&["append", "--batch", "2"], events("t", 2) + "{}\n");
    broken.ended(1, "nothing from line 3 on was written");
}

#[test]
fn a_signal_ends_a_server_in_order() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    let tail = Running::new(server.spawn(&["tail", "--after", "0"]));
    server.run(&["append"], events("t", 3)).ended(0, "");
    tail.printed.wait_for_lines(3);
    let (code, said) = server.end();
    assert_eq!(code, 0, "{said}");
    // No other process holds the folder now.
    program.run(&["verify"], "").ended(0, "");
    assert_eq!(program.run(&["read"], "").positions(), [1, 2, 3]);
}

#[test]
fn a_tail_says_that_a_server_is_away_and_goes_on_when_it_is_back() {
    let program = Program::new();
    let mut server = ServeProcess::start(&program);
    let listen = server.listen().to_owned();
    let tail = Running::new(server.spawn(&["tail", "--after", "0"]));
    server.run(&["append"], events("before", 3)).ended(0, "");
    tail.printed.wait_for_lines(3);
    server.kill();
    tail.said.wait_for("does not answer; after position 3");
    let server = ServeProcess::start_at(&program, &listen);
    tail.said.wait_for("answers again");
    server.run(&["append"], events("after", 2)).ended(0, "");
    tail.printed.wait_for_lines(5);
    assert_eq!(tail.printed.all(), server.run(&["read"], "").stdout.trim_end());
    assert_eq!(tail.interrupt(), 0);
}

#[test]
fn a_tail_ends_if_the_server_has_another_log_then() {
    let (program, other) = (Program::new(), Program::new());
    other.load(events("other", 9));
    let mut server = ServeProcess::start(&program);
    let listen = server.listen().to_owned();
    let tail = Running::new(server.spawn(&["tail"]));
    server.run(&["append"], events("t", 1)).ended(0, "");
    tail.printed.wait_for_lines(1);
    server.kill();
    let _server = ServeProcess::start_at(&other, &listen);
    tail.said.wait_for("the history of the log changed");
    assert_eq!(tail.printed.to_vec().len(), 1);
}

/// An `append` whose input a thread writes.
struct Appender {
    process: Child,
    input: JoinHandle<()>,
    /// One line for each commit.
    acknowledged: Lines,
}

impl Appender {
    fn start(server: &ServeProcess, name: &'static str, lines: usize, has_ids: bool) -> Appender {
        let mut process = server.spawn(&["append", "--batch", "5"]);
        let acknowledged = Lines::of(process.stdout.take().unwrap());
        let input = process.stdin.take().unwrap();
        let input = thread::spawn(move || feed(input, name, lines, has_ids));
        Appender { process, input, acknowledged }
    }

    /// The numbers of its events, by the position that was acknowledged for each.
    fn end(self) -> (Ran, BTreeMap<u64, usize>) {
        let output = self.process.wait_with_output().unwrap();
        self.input.join().unwrap();
        let ran = Ran {
            code: output.status.code().expect("it was not killed"),
            stdout: String::new(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        let mut numbers = 1..;
        let mut positions = BTreeMap::new();
        self.acknowledged.wait_for_end();
        for line in self.acknowledged.to_vec() {
            let line: Value = serde_json::from_str(&line).unwrap();
            let (first, last) = (line["first"].as_u64().unwrap(), line["last"].as_u64().unwrap());
            positions.extend((first..=last).zip(&mut numbers));
        }
        (ran, positions)
    }
}

fn feed(mut input: ChildStdin, name: &str, lines: usize, has_ids: bool) {
    for n in 1..=lines {
        let id = match has_ids {
            true => format!("\"id\":\"00000000-0000-4000-8000-{n:012}\","),
            false => String::new(),
        };
        let line = format!("{{\"type\":\"{name}\",{id}\"data\":{n}}}\n");
        // A program that ended early reads no more.
        if input.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

/// Kills a server twice under two programs that append and one that tails. One of the two gives its
/// events ids, so that each of its commits is found again.
#[test]
fn a_killed_server_loses_no_acknowledged_event_and_doubles_none() {
    const EVENTS: usize = 6_000;
    let program = Program::new();
    let mut server = ServeProcess::start(&program);
    let tail = Running::new(server.spawn(&["tail", "--after", "0"]));
    let with_ids = Appender::start(&server, "with-ids", EVENTS, true);
    let without = Appender::start(&server, "without", EVENTS, false);
    for commits in [50, 600] {
        with_ids.acknowledged.wait_for_lines(commits);
        server = server.kill_and_start(&program);
    }
    let (ran, kept) = with_ids.end();
    ran.ended(0, "");
    assert_eq!(kept.len(), EVENTS);
    let (ran, others) = without.end();
    // The outcome of a commit in flight may be unknown, which ends the program.
    assert!(matches!(ran.code, 0 | 5), "{}", ran.stderr);

    let read = server.run(&["read"], "");
    read.ended(0, "");
    let mut found: BTreeMap<&str, BTreeMap<u64, usize>> = BTreeMap::new();
    let lines = read.lines();
    for line in &lines {
        let n = usize::try_from(line["data"].as_u64().unwrap()).unwrap();
        let of = found.entry(line["type"].as_str().unwrap()).or_default();
        of.insert(line["position"].as_u64().unwrap(), n);
    }
    assert_eq!(found["with-ids"], kept);
    let without = &found["without"];
    assert!(others.iter().all(|(at, n)| without.get(at) == Some(n)));
    assert_eq!(
        without.values().collect::<BTreeSet<_>>().len(),
        without.len(),
        "an event is double"
    );
    tail.printed.wait_for_lines(lines.len());
    assert_eq!(tail.printed.all(), read.stdout.trim_end());
    assert_eq!(tail.interrupt(), 0);
}

#[test]
fn a_server_off_loopback_needs_its_own_flag() {
    let program = Program::new();
    program.run(&["serve", "--listen", "0.0.0.0:0"], "").ended(1, "--open-to-all");
    assert!(!program.data().exists());
}

#[test]
fn a_port_or_folder_of_another_process_is_exit_code_4() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let program = Program::new();
    program.run(&["serve", "--listen", &address], "").ended(4, "another program listens");
    assert!(!program.data().exists());
    let _server = ServeProcess::start(&program);
    program.run(&["serve", "--listen", "127.0.0.1:0"], "").ended(4, "");
}

#[test]
fn a_server_that_is_not_there_is_an_error_that_says_how_to_start_it() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("diptych://127.0.0.1:{port}/log");
    for command in ["read", "tail", "append", "stats"] {
        run(&[command, "--wait-seconds", "0", "--data", &url]).ended(5, "`diptych serve`");
    }
    run(&["read", "--data", "diptych://a b/log"]).ended(1, "no address of a log");
}

#[test]
fn commands_on_files_say_that_they_run_on_the_machine_of_the_server() {
    let url = "diptych://localhost:4500/log";
    let said = "on the machine of the server";
    run(&["verify", "--data", url]).ended(1, said);
    run(&["adopt", "--data", url, "--moved"]).ended(1, said);
    run(&["archive", "--data", url, "--to", "archive"]).ended(1, said);
    run(&["backup", "--data", url, "--to", "safe"]).ended(1, said);
    run(&["restore", "--from", "safe", "--data", url]).ended(1, said);
    run(&["serve", "--data", url]).ended(1, said);
}
