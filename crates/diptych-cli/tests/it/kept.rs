//! Events that one run leaves for the next.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::Command,
};

use diptych_log::{Log, LogOptions};
use diptych_store::{Append, RawEvent};
use serde_json::{Value, json};

use crate::program::{Program, events, finish, run};

#[test]
fn events_are_read_by_filter_bound_and_direction() {
    let program = Program::new();
    program.load(events("a", 10) + &events("b", 10));
    let read = |args: &[&str]| {
        let ran = program.run(&[&["read"], args].concat(), "");
        ran.ended(0, "");
        ran.positions()
    };
    assert_eq!(read(&[]), (1..=20).collect::<Vec<_>>());
    assert_eq!(read(&["--filter", "type=b", "--limit", "2"]), [11, 12]);
    assert_eq!(read(&["--filter", "tag=n:3", "--after", "3"]), [13]);
    assert_eq!(read(&["--filter", "type=a tag=n:1", "--filter", "type=b tag=n:2"]), [1, 12]);
    assert_eq!(read(&["--backwards", "--limit", "3"]), [20, 19, 18]);
    assert_eq!(read(&["--backwards", "--after", "18"]), [20, 19]);
    program.run(&["read", "--after", "21"], "").ended(1, "above the head");
}

#[test]
fn every_field_is_printed_as_it_was_appended() {
    let program = Program::new();
    let event = json!({
        "type": "t", "version": 2, "tags": ["a:1", "b:2"], "data": {"n": [1, null]},
        "id": "00000000-0000-0000-0000-000000000001", "occurred_at": "2013-01-01T10:15:00Z",
        "metadata": {
            "correlation": "00000000-0000-0000-0000-000000000002",
            "causation": "00000000-0000-0000-0000-000000000003",
            "actor": "ann", "ip": "::1"
        }
    });
    program.load(event.to_string());
    let mut read = program.run(&["read"], "").lines().remove(0);
    let fields = read.as_object_mut().unwrap();
    assert_eq!(fields.remove("position"), Some(json!(1)));
    assert!(fields.remove("recorded_at").unwrap().as_str().unwrap().ends_with('Z'));
    assert_eq!(read, event);
}

/// Once, events without a time of their own got the time of the copy.
#[test]
fn a_log_printed_and_appended_elsewhere_is_equal_and_keeps_its_times() {
    let one = Program::new();
    one.load(fs::read(sample()).unwrap());
    one.load("{\"type\":\"bytes\",\"data_base64\":\"AP8K\"}\n");
    let printed = one.run(&["read"], "").stdout;
    assert!(printed.lines().count() > 200);
    for keeps_both in [false, true] {
        let other = Program::new();
        let append: &[&str] =
            if keeps_both { &["append", "--keep-recorded-at"] } else { &["append"] };
        other.run(append, &printed).ended(0, "");
        let expected = printed.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let fields = line.as_object_mut().unwrap();
            let recorded = fields.remove("recorded_at").unwrap();
            fields.entry("occurred_at").or_insert(recorded.clone());
            if keeps_both {
                let metadata = fields.entry("metadata").or_insert(json!({}));
                metadata["recorded_at"] = recorded;
            }
            line
        });
        let expected: Vec<_> = expected.collect();
        let mut copied = other.run(&["read"], "").lines();
        for line in &mut copied {
            line.as_object_mut().unwrap().remove("recorded_at").unwrap();
        }
        assert_eq!(copied, expected);
    }
}

#[test]
fn a_commit_with_a_broken_line_writes_no_event() {
    let program = Program::new();
    let ran = program.run(&["append", "--batch", "3"], events("t", 5) + "{}\n");
    ran.ended(1, "line 6: ");
    assert_eq!(program.run(&["read"], "").positions(), [1, 2, 3]);
    assert_eq!(program.run(&["append", "--key", "k"], events("t", 5) + "{}\n").code, 1);
    assert_eq!(program.run(&["read"], "").positions(), [1, 2, 3]);
}

#[test]
fn events_under_one_key_are_written_once() {
    let program = Program::new();
    let args = ["append", "--key", "k"];
    let first = program.run(&args, events("t", 3));
    assert_eq!(first.lines(), [json!({"first": 1, "last": 3, "events": 3})]);
    // Equal events with the fields in another order.
    let same = "{\"data\":1,\"tags\":[\"n:1\"],\"type\":\"t\"}\n".to_owned();
    let again = program.run(&args, same + events("t", 3).split_once('\n').unwrap().1);
    again.ended(0, "");
    let repeated = json!({"first": 1, "last": 3, "events": 3, "repeated": true});
    assert_eq!(again.lines(), [repeated]);
    program.run(&args, events("t", 2)).ended(3, "used by a different request");
    assert_eq!(program.run(&["read"], "").positions(), [1, 2, 3]);
}

#[test]
fn a_condition_that_does_not_hold_refuses_with_the_position() {
    let program = Program::new();
    program.load(events("t", 3));
    let append = |after: &str| {
        let args = ["append", "--fail-if", "tag=n:2", "--after", after];
        program.run(&args, events("u", 1))
    };
    append("1").ended(3, "position 2 matches the condition");
    append("1").ended(3, "nothing from line 1 on was written");
    append("2").ended(0, "");
    program.run(&["append", "--fail-if", "type=u"], events("u", 1)).ended(3, "position 4");
}

#[test]
fn stats_count_types_and_tag_keys() {
    let program = Program::new();
    program.load(events("a", 1_200) + &events("b", 34));
    let ran = program.run(&["stats"], "");
    ran.ended(0, "");
    for line in ["events    1,234", "a      1,200", "b         34", "n        1,234"] {
        assert!(ran.stdout.lines().any(|has| has == line), "{line:?} in\n{}", ran.stdout);
    }
    let json = &program.run(&["stats", "--json"], "").lines()[0];
    assert_eq!(json["events"], 1_234);
    assert_eq!(json["types"][1], json!({"type": "b", "events": 34}));
    assert_eq!(json["tag_keys"], json!([{"key": "n", "tags": 1_234}]));
}

#[test]
fn verify_accepts_an_intact_log() {
    let program = Program::new();
    program.load(events("a", 1_200));
    let ran = program.run(&["verify"], "");
    ran.ended(0, "");
    assert!(ran.stdout.starts_with("everything is in order\n"), "{}", ran.stdout);
    let json = &program.run(&["verify", "--json"], "").lines()[0];
    assert_eq!((&json["ok"], &json["events"]), (&json!(true), &json!(1_200)));
}

#[test]
fn verify_names_the_place_of_damage() {
    let program = Program::new();
    program.load(events("a", 1_200));
    // Tag and payload of one event. The two stand together only in the segment, not in its index.
    let event = b"n:600600";
    let files =
        fs::read_dir(program.data().join("segments")).unwrap().map(|file| file.unwrap().path());
    let place = |file: &PathBuf| fs::read(file).unwrap().windows(8).position(|is| is == event);
    let (place, file) = files.filter_map(|file| Some((place(&file)?, file))).next().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[place + 4] ^= 1;
    fs::write(&file, bytes).unwrap();

    let ran = program.run(&["verify"], "");
    ran.ended(2, file.file_name().unwrap().to_str().unwrap());
    let ran = program.run(&["verify", "--json"], "");
    ran.ended(2, "");
    let json = &ran.lines()[0];
    assert_eq!(json["ok"], false);
    let place = json["damage"][0]["place"].as_str().unwrap();
    assert!(place.contains(file.file_name().unwrap().to_str().unwrap()), "{json}");
}

/// Regression test: the end of a log was cut off at the end of a commit, and its index was removed.
/// `verify` reported no damage, although no command could open the log.
#[test]
fn verify_finds_that_events_are_missing_at_the_end() {
    let program = Program::new();
    program.load(events("a", 600));
    let segments = program.data().join("segments");
    let segment = fs::read_dir(&segments).unwrap().next().unwrap().unwrap().path();
    let shorter = fs::read(&segment).unwrap();
    program.load(events("a", 600));
    fs::write(&segment, shorter).unwrap();
    fs::remove_dir_all(program.data().join("index")).unwrap();

    let missing = "events from position 601 to at least 1200";
    program.run(&["verify"], "").ended(2, missing);
    let ran = program.run(&["verify", "--json"], "");
    ran.ended(2, missing);
    let what = &ran.lines()[0]["damage"][0]["what"];
    assert!(what.as_str().unwrap().contains(missing), "{what}");
    program.run(&["read"], "").ended(2, missing);

    // Without a segment there are no events to read, but the log still records that it had some.
    fs::remove_file(&segment).unwrap();
    program.run(&["verify"], "").ended(2, "events from position 1 to at least 1200");
}

#[test]
fn a_held_folder_is_named_with_its_holder() {
    let program = Program::new();
    program.load(events("a", 1));
    // It holds the folder until its input ends.
    let holder = program.start(&["append"]);
    let id = holder.id().to_string();
    // The holder needs a moment to take the folder and to write its process id.
    let mut tries = (0..5_000).map(|_| program.run(&["append"], ""));
    let refused = tries.find(|ran| ran.code != 0 && ran.stderr.contains(&id)).unwrap();
    refused.ended(4, &id);
    finish(holder, "").ended(0, "");
    program.run(&["read"], "").ended(0, "");
}

/// Once each of these took the folder, and waited for its holder.
#[test]
fn commands_that_read_are_not_held_up_by_the_holder_of_the_folder() {
    let program = Program::new();
    program.load(events("a", 3));
    let holder = Log::open(program.data(), LogOptions::default()).unwrap();
    let event = RawEvent::new("b", *b"1");
    holder.blocking().commit(Append::event(event)).unwrap();
    let ran = program.run(&["read"], "");
    ran.ended(0, "");
    assert_eq!(ran.positions(), [1, 2, 3, 4]);
    let stats = program.run(&["stats", "--json"], "");
    stats.ended(0, "");
    assert_eq!(stats.lines()[0]["events"], 4);
    let verified = program.run(&["verify", "--json"], "");
    verified.ended(0, "");
    assert_eq!(
        (&verified.lines()[0]["open"], &verified.lines()[0]["events"]),
        (&true.into(), &4.into())
    );
    let said = program.run(&["verify", "--rate", "1000000"], "");
    said.ended(0, "");
    assert!(
        said.stdout.contains("in order up to position 4; another process has"),
        "{}",
        said.stdout
    );
    holder.close().unwrap();
    let verified = program.run(&["verify", "--json"], "");
    assert_eq!(verified.lines()[0]["open"], false);
}

#[test]
fn a_closed_output_ends_the_reading_quietly() {
    let program = Program::new();
    program.load(events("a", 50_000));
    let mut child = program.start(&["read"]);
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"position\":1,"), "{first}");
    let ran = finish(child, "");
    ran.ended(0, "");
    assert_eq!(ran.stderr, "");
}

#[test]
fn tail_begins_with_the_last_events_or_after_a_position() {
    let program = Program::new();
    program.load(events("a", 30) + &events("b", 1) + &events("a", 5));
    let tail = |args: &[&str]| {
        let ran = program.run(&[&["tail", "--until-head"], args].concat(), "");
        ran.ended(0, "");
        ran.positions()
    };
    assert_eq!(tail(&[]), (27..=36).collect::<Vec<_>>());
    assert_eq!(tail(&["--last", "2"]), [35, 36]);
    assert_eq!(tail(&["--last", "0"]), [0; 0]);
    assert_eq!(tail(&["--last", "3", "--filter", "type=b"]), [31]);
    assert_eq!(tail(&["--last", "2", "--filter", "tag=n:5"]), [5, 36]);
    assert_eq!(tail(&["--after", "34"]), [35, 36]);
}

#[cfg(unix)]
#[test]
fn tail_prints_new_events_and_ends_quietly_when_interrupted() {
    let program = Program::new();
    program.load(events("a", 1));
    let mut tail = program.start(&["tail"]);
    let mut printed = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || printed.next().unwrap().unwrap();
    assert!(next().contains("\"position\":1,"));
    for position in 2..=4 {
        // Tail does not hold the folder.
        finish(program.start(&["append"]), events("a", 1)).ended(0, "");
        assert!(next().contains(&format!("\"position\":{position},")));
    }
    let killed = Command::new("kill").args(["-INT", &tail.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ran = finish(tail, "");
    ran.ended(0, "");
    assert_eq!(ran.stderr, "");
}

#[test]
fn tail_reads_a_folder_that_another_process_holds() {
    let program = Program::new();
    program.load(events("a", 3));
    let holder = Log::open(program.data(), LogOptions::default()).unwrap();
    let event = RawEvent::new("b", *b"1");
    holder.blocking().commit(Append::event(event)).unwrap();
    let ran = program.run(&["tail", "--until-head", "--last", "2"], "");
    ran.ended(0, "");
    assert_eq!(ran.positions(), [3, 4]);
    holder.close().unwrap();
}

/// Once, `tail` and a backup from outside failed if the file `head` was removed while a program had
/// the log open, and a running `tail` stood still.
#[test]
fn tail_and_backup_go_on_when_the_published_head_is_removed() {
    let program = Program::new();
    program.load(events("a", 3));
    let holder = Log::open(program.data(), LogOptions::default()).unwrap();
    let commit = || holder.blocking().commit(Append::event(RawEvent::new("b", *b"1"))).unwrap();
    commit();
    let mut tail = program.start(&["tail", "--last", "1"]);
    let mut printed = BufReader::new(tail.stdout.take().unwrap()).lines();
    for position in 4..10 {
        assert!(printed.next().unwrap().unwrap().contains(&format!("\"position\":{position},")));
        // The program makes the file again now and then.
        let _ = fs::remove_file(program.data().join("head"));
        let once = program.run(&["tail", "--until-head", "--last", "1"], "");
        once.ended(0, "");
        assert_eq!(once.positions(), [position]);
        let copy = program.dir.path().join("copy");
        let copied = program.run(&["backup", "--json", "--to", copy.to_str().unwrap()], "");
        copied.ended(0, "");
        assert_eq!(copied.lines()[0]["upto"], position);
        commit();
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    holder.close().unwrap();
}

/// Once, reading on a full disk printed that the log stops taking commits. Here no file may grow.
#[cfg(unix)]
#[test]
fn a_log_is_read_without_a_word_where_nothing_can_be_written() {
    let program = Program::new();
    program.load(events("a", 50));
    for command in ["read", "tail --until-head", "stats"] {
        let script = format!("ulimit -f 0; exec \"$0\" {command} --data \"$1\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_diptych")]).arg(program.data());
        let output = shell.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}");
    }
}

#[test]
fn the_sample_is_loaded_once() {
    let program = Program::new();
    let data = program.data();
    let sample = ["sample", "--data", data.to_str().unwrap()];
    run(&sample).ended(0, "appended in one commit");
    let ran = run(&sample);
    ran.ended(0, "there since an earlier run");
    assert_eq!(ran.lines().len(), 8);
    let events = fs::read_to_string(self::sample()).unwrap().lines().count();
    assert_eq!(program.run(&["read"], "").lines().len(), events);
}

fn sample() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/samples/library.ndjson")
}
