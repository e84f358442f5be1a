//! The settings of `diptych serve`, and its messages.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    program::{Program, events, run},
    served::{LONG, Running, ServeProcess},
};

#[test]
fn a_file_has_the_settings_and_flags_override_it() {
    let program = Program::new();
    let file = program.dir.path().join("diptych.toml");
    fs::write(&file, "listen = \"127.0.0.1:1\"\nhost = [\"log.example.org\"]\n").unwrap();
    let file = file.to_str().unwrap();
    let server = ServeProcess::start_with(&program, &["--config", file, "--listen=127.0.0.1:0"]);
    server.run(&["append"], events("t", 3)).ended(0, "");
    let printed = program.run(&["serve", "--config", file, "--print-config"], "");
    printed.ended(0, "");
    let line = format!("listen = \"127.0.0.1:1\"  # {file}, line 1\n");
    assert!(printed.stdout.contains(&line), "{}", printed.stdout);
    assert!(printed.stdout.contains("open-to-all = false  # default"), "{}", printed.stdout);
}

#[test]
fn wrong_settings_are_refused_before_anything_is_written() {
    let program = Program::new();
    let file = program.dir.path().join("diptych.toml");
    fs::write(&file, "# settings\nlissten = \"127.0.0.1:1\"\n").unwrap();
    let refused = program.run(&["serve", "--config", file.to_str().unwrap()], "");
    refused.ended(1, "line 2: there is no setting \"lissten\": \"listen\" may be meant");
    program.run(&["serve", "--certificate", "c.pem"], "").ended(1, "private-key is not");
    run(&["serve"]).ended(1, "DIPTYCH_DATA");
    assert!(!program.data().exists());
}

/// The messages of a server, each of which has to be a JSON object with a time and a level.
fn json_lines(text: &str) -> Vec<Value> {
    let lines =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
    let lines: Vec<Value> = lines.collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    lines
}

#[test]
fn start_refusals_and_stop_are_json_lines_on_request() {
    let program = Program::new();
    let tokens = program.dir.path().join("tokens.toml");
    let tokens = tokens.to_str().unwrap();
    run(&["token", "--file", tokens, "--name", "reader", "--scope", "read"]).ended(0, "");
    let options = ["--listen=127.0.0.1:0", "--tokens", tokens, "--log-format=json"];
    let server = ServeProcess::start_with(&program, &options);
    assert_eq!(server.get("/v1/logs/log").0, 401);
    server.messages().wait_for("a request was refused");
    let url = server.url.clone();
    let (code, said) = server.end();
    assert_eq!(code, 0, "{said}");
    let lines = json_lines(&said);
    let start = &lines[0];
    assert_eq!((&start["message"], &start["url"]), (&json!("serving the log"), &json!(url)));
    assert_eq!((&start["events"], &start["level"]), (&json!(0), &json!("INFO")));
    let refusal = lines.iter().find(|line| line["level"] == "WARN").unwrap();
    assert!(refusal["message"].as_str().unwrap().contains("needs a token"), "{refusal}");
    assert!(refusal["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{refusal}");
    let ends: Vec<&str> =
        lines.iter().rev().take(2).map(|line| line["message"].as_str().unwrap()).collect();
    assert!(ends[1].starts_with("stopping: ") && ends[0].starts_with("stopped: "), "{ends:?}");
}

#[test]
fn the_failure_of_a_server_is_a_json_line_with_its_exit_code() {
    let program = Program::new();
    let _server = ServeProcess::start(&program);
    let options = ["serve", "--listen=127.0.0.1:0", "--log-format=json"];
    let second = program.run(&options, "");
    assert_eq!(second.code, 4, "{}", second.stderr);
    let lines = json_lines(&second.stderr);
    let last = lines.last().unwrap();
    assert_eq!((&last["level"], &last["exit_code"]), (&json!("ERROR"), &json!(4)));
}

#[test]
fn a_server_tells_its_health_and_its_metrics() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(server.get("/ready"), (200, "{\"status\":\"ready\"}".to_owned()));
    assert_eq!(server.get("/v1/logs/log").0, 200);
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, 200, "{metrics}");
    assert!(
        metrics.contains("diptych_http_requests_total{path=\"log\",status=\"200\"} 1"),
        "{metrics}"
    );
}

#[test]
fn a_server_measures_its_calls_by_name_and_status() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    server.run(&["append"], events("a", 3)).ended(0, "");
    assert_eq!(server.run(&["read"], "").lines().len(), 3);
    let shows = |part: &str| {
        let begin = Instant::now();
        loop {
            let metrics = server.get("/metrics").1;
            if metrics.contains(part) {
                return;
            }
            assert!(begin.elapsed() < LONG, "{part:?} is not in {metrics}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    // The connections have ended with their programs.
    for call in ["Append", "Watch"] {
        shows(&format!("diptych_grpc_calls_in_flight{{call=\"{call}\"}} 0"));
    }
    shows("diptych_grpc_calls_total{call=\"Describe\",status=\"OK\"}");
    shows("diptych_grpc_calls_total{call=\"Read\",status=\"OK\"}");
    shows("diptych_grpc_call_seconds_count{call=\"Read\"}");
    let tail = Running::new(server.spawn(&["tail"]));
    tail.printed.wait_for_lines(3);
    shows("diptych_grpc_calls_in_flight{call=\"Watch\"} 1");
    assert_eq!(tail.interrupt(), 0);
    shows("diptych_grpc_calls_in_flight{call=\"Watch\"} 0");
}
