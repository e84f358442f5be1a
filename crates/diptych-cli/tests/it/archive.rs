//! Segments are moved to an archive, and read from there as before.

use diptych_log::{Background, Log, LogOptions};
use diptych_store::{Append, RawEvent, Tag};

use crate::program::{Program, run};

/// A log of small segments.
fn small(program: &Program, events: u64) -> Log {
    let options =
        LogOptions { segment_bytes: 2048, background: Background::Inline, ..LogOptions::default() };
    let log = Log::open(program.data(), options).unwrap();
    for number in 0..events {
        let event = RawEvent::new("counted", number.to_string()).tag(Tag::new("n", number));
        log.blocking().commit(Append::event(event)).unwrap();
    }
    log
}

#[test]
fn archived_segments_are_read_moved_and_missed() {
    let program = Program::new();
    let held = small(&program, 400);
    let archive = program.dir.path().join("archive");
    let to = archive.to_str().unwrap();
    program.run(&["archive", "--to", to], "").ended(4, "`Log::archive`");
    held.close().unwrap();
    let before = program.run(&["read"], "").stdout;

    program.run(&["archive"], "").ended(1, "--to");
    program.run(&["archive", "--to", to, "--upto", "9", "--keep-segments", "2"], "").ended(1, "");
    let inside = program.data().join("archive");
    program.run(&["archive", "--to", inside.to_str().unwrap()], "").ended(1, "within each other");
    let done = program.run(&["archive", "--to", to, "--keep-segments", "2", "--json"], "");
    done.ended(0, "");
    let moved = done.lines()[0]["moved"].as_u64().unwrap();
    assert!(moved > 2, "{}", done.stdout);
    assert_eq!(done.lines()[0]["archived"], moved);
    let stats = program.run(&["stats", "--json"], "");
    assert_eq!(stats.lines()[0]["archived_segments"], moved, "{}", stats.stdout);
    assert_eq!(stats.lines()[0]["archive"], to);
    assert!(program.run(&["stats"], "").stdout.contains(to));
    assert_eq!(program.run(&["read"], "").stdout, before);
    for command in ["append", "read", "stats", "verify"] {
        run(&[command, "--data", to]).ended(1, "is the archive of a log");
    }
    program.run(&["verify"], "").ended(0, "");

    let elsewhere = program.dir.path().join("elsewhere");
    std::fs::rename(&archive, &elsewhere).unwrap();
    program.run(&["read"], "").ended(5, "diptych archive --relocated");
    program.run(&["verify"], "").ended(5, to);
    let part = program.run(&["verify", "--without-archive", "--json"], "");
    part.ended(0, "");
    assert_eq!(part.lines()[0]["skipped_segments"], moved);
    let absent = program.run(&["read", "--filter", "tag=n:absent"], "");
    assert_eq!((absent.code, absent.stdout.as_str()), (0, ""));
    program.load("{\"type\":\"counted\",\"data\":1}\n");
    program.run(&["archive", "--to", to], "").ended(5, "is not there");
    assert!(!archive.exists());
    let now = elsewhere.to_str().unwrap();
    program.run(&["archive", "--relocated", now], "").ended(0, "");
    assert!(program.run(&["read"], "").stdout.starts_with(&before));
    let done = program.run(&["archive", "--to", now], "");
    done.ended(0, "");
    assert!(done.stdout.starts_with("1 segment moved"), "{}", done.stdout);
    program.run(&["verify"], "").ended(0, "");

    program.run(&["archive", "--back", "--to", now], "").ended(1, "cannot be used with");
    let whole = program.run(&["read"], "").stdout;
    let done = program.run(&["archive", "--back"], "");
    done.ended(0, "");
    assert!(done.stdout.contains("the log has no archive now"), "{}", done.stdout);
    std::fs::remove_dir_all(&elsewhere).unwrap();
    assert_eq!(program.run(&["read"], "").stdout, whole);
    program.run(&["verify"], "").ended(0, "");
    program.run(&["archive", "--back"], "").ended(1, "has no archive");
}
