//! Backups of a log while another process writes to it, and the recovery when the log is gone.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use diptych_log::{Log, LogOptions};
use diptych_store::{Append, RawEvent, Tag};
use serde_json::json;

use crate::program::{Program, Ran, events, finish, run};

fn on(command: &str, args: &[(&str, &Path)]) -> Ran {
    let mut line = vec![command, "--wait-seconds", "0", "--json"];
    for (name, path) in args {
        line.extend([*name, path.to_str().unwrap()]);
    }
    run(&line)
}

fn verified(dir: &Path) -> u64 {
    let ran = on("verify", &[("--data", dir)]);
    ran.ended(0, "");
    ran.lines()[0]["events"].as_u64().unwrap()
}

fn append(dir: &Path, input: &str) -> Ran {
    let line = ["append", "--wait-seconds", "0", "--data", dir.to_str().unwrap()];
    let mut program = Command::new(env!("CARGO_BIN_EXE_diptych"));
    program.args(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(program.spawn().unwrap(), input)
}

#[test]
fn a_backup_of_a_log_in_use_restores_the_log() {
    let program = Program::new();
    let (data, copy) = (program.data(), program.dir.path().join("copy"));
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/library.ndjson");
    program.load(fs::read(sample).unwrap());
    let loaded = program.run(&["read"], "").lines().len() as u64;

    // Another process writes and holds the folder meanwhile. It acknowledges a commit a few commits
    // later.
    let mut writer = program.start(&["append", "--batch", "100"]);
    let mut input = writer.stdin.take().unwrap();
    let mut acknowledged = BufReader::new(writer.stdout.take().unwrap()).lines();
    let many = events("counted", 20_000);
    let feeding = std::thread::spawn(move || {
        input.write_all(many.as_bytes()).unwrap();
        input
    });
    assert!(acknowledged.next().unwrap().unwrap().contains("\"events\":100"));
    let backup = || {
        let ran = on("backup", &[("--data", &data), ("--to", &copy)]);
        ran.ended(0, "");
        ran.lines().remove(0)
    };
    let first = backup();
    let upto = first["upto"].as_u64().unwrap();
    assert!(upto >= loaded + 100 && (upto - loaded).is_multiple_of(100), "half a commit: {first}");
    assert_eq!(verified(&copy), upto);

    // The writer continues, and the next backup copies only the new events.
    let input = feeding.join().unwrap();
    drop(input);
    assert_eq!(acknowledged.count(), 199);
    assert!(writer.wait().unwrap().success());
    let second = backup();
    assert_eq!((&second["from"], &second["upto"]), (&json!(upto), &json!(loaded + 20_000)));
    assert_eq!(backup()["copied"], 0);
    assert_eq!(verified(&copy), loaded + 20_000);

    // A backup can be read, but it cannot be written to.
    let in_copy =
        |args: &[&str]| run(&[&[args[0], "--data", copy.to_str().unwrap()], &args[1..]].concat());
    let read = in_copy(&["read", "--backwards", "--limit", "3"]);
    assert_eq!(read.positions()[0], loaded + 20_000);
    let stats = &in_copy(&["stats", "--json"]).lines()[0];
    assert_eq!(stats["events"], loaded + 20_000);
    let tail = in_copy(&["tail", "--until-head", "--last", "1"]);
    assert_eq!(tail.positions(), [loaded + 20_000]);
    append(&copy, &events("more", 1)).ended(5, "diptych restore");

    // The log is lost.
    fs::remove_dir_all(&data).unwrap();
    let ran = on("restore", &[("--from", &copy), ("--data", &data)]);
    ran.ended(0, "");
    let restored = &ran.lines()[0];
    assert_eq!((&restored["log"], &restored["upto"]), (&second["log"], &second["upto"]));
    assert_eq!(restored["epoch_of_backup"], second["epoch"]);
    assert!(restored["epoch"].as_str().unwrap().starts_with("2-"), "{restored}");
    assert_eq!(verified(&data), loaded + 20_000);
    append(&data, &events("more", 2)).ended(0, "");
    assert_eq!(
        program.run(&["read", "--filter", "type=more"], "").positions(),
        [loaded + 20_001, loaded + 20_002]
    );
    assert_eq!(program.run(&["stats", "--json"], "").lines()[0]["epoch"], restored["epoch"]);
    // The backups of the restored log need a folder of their own, because it has a new epoch.
    let mixed = on("backup", &[("--data", &data), ("--to", &copy)]);
    mixed.ended(1, "is a backup of");
}

#[test]
fn each_report_is_one_line() {
    let program = Program::new();
    program.load(events("a", 1_200));
    let (copy, again) = (program.dir.path().join("copy"), program.dir.path().join("again"));
    let (copy, again) = (copy.to_str().unwrap(), again.to_str().unwrap());
    let ran = program.run(&["backup", "--to", copy], "");
    ran.ended(0, "");
    assert!(ran.stdout.starts_with("backed up positions 1 to 1,200 of "), "{}", ran.stdout);
    assert!(ran.stdout.contains("0 segments linked, 1 copied, 0 kept; "), "{}", ran.stdout);
    let ran = program.run(&["backup", "--copy", "--to", copy], "");
    assert!(ran.stdout.contains("nothing new up to position 1,200"), "{}", ran.stdout);
    let ran = run(&["restore", "--from", copy, "--data", again]);
    ran.ended(0, "");
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.starts_with("restored up to position 1,200 as "), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 1);
}

/// Once, the first open after a restore warned once for each segment, because a backup has no index
/// files.
#[test]
fn the_first_commands_after_a_restore_warn_once_at_most() {
    let program = Program::new();
    let options = LogOptions { segment_bytes: 2048, ..LogOptions::default() };
    let log = Log::open(program.data(), options).unwrap();
    for number in 0..300 {
        let event = RawEvent::new("counted", number.to_string()).tag(Tag::new("n", number));
        log.blocking().commit(Append::event(event)).unwrap();
    }
    log.close().unwrap();
    let copy = program.dir.path().join("copy");
    on("backup", &[("--data", &program.data()), ("--to", &copy)]).ended(0, "");
    fs::remove_dir_all(program.data()).unwrap();
    on("restore", &[("--from", &copy), ("--data", &program.data())]).ended(0, "");
    for command in ["read", "append", "read"] {
        let input = if command == "append" { events("more", 1) } else { String::new() };
        let args = [command, "--filter", "tag=n:77"];
        let args = if command == "append" { &args[..1] } else { &args[..] };
        let ran = program.run(args, input);
        ran.ended(0, "");
        let warnings = ran.stderr.matches("is missing, damaged").count();
        assert!(warnings <= 1, "{warnings} warnings of {command}: {}", ran.stderr);
    }
}

#[test]
fn wrong_use_changes_nothing() {
    let program = Program::new();
    let (data, other) = (program.data(), program.dir.path().join("other"));
    let nothing = on("backup", &[("--data", &data), ("--to", &other)]);
    nothing.ended(1, "there is no log in");
    let nothing = on("restore", &[("--from", &data), ("--data", &other)]);
    nothing.ended(1, "there is no log in");
    assert!(!data.exists() && !other.exists());
    program.load(events("a", 10));
    let below = data.join("backup");
    on("backup", &[("--data", &data), ("--to", &below)]).ended(1, "from which it would be copied");
    on("backup", &[("--data", &data), ("--to", &data)]).ended(1, "from which it would be copied");
    on("restore", &[("--from", &data), ("--data", program.dir.path())]).ended(1, "is not empty");
    assert!(!below.exists());
    append(&other, &events("b", 1)).ended(0, "");
    on("backup", &[("--data", &data), ("--to", &other)]).ended(1, "is not empty, and no backup");
    // A file where a folder is needed.
    let file = program.dir.path().join("file");
    fs::write(&file, "x").unwrap();
    on("backup", &[("--data", &data), ("--to", &file)]).ended(5, "run the command again");
}
