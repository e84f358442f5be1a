//! A copy of a folder is refused until it is adopted.

use std::{path::PathBuf, process::Command};

use crate::{
    program::{Program, events, run},
    served::ServeProcess,
};

/// Puts a copy of the log into the place of the log, which gets this name.
fn replace_by_copy(program: &Program, name: &str) -> PathBuf {
    let original = program.dir.path().join(name);
    std::fs::rename(program.data(), &original).unwrap();
    let copied = Command::new("cp").arg("-a").args([&original, &program.data()]).status();
    assert!(copied.unwrap().success());
    original
}

#[test]
fn a_server_takes_commits_on_a_volume_that_moves_if_it_is_told_to() {
    let program = Program::new();
    program.load(events("a", 2));
    replace_by_copy(&program, "on-the-old-machine");
    let options = ["--listen=127.0.0.1:0", "--accept-new-place"];
    let refused = program.run(&["serve", options[0]], "");
    refused.ended(1, "serve it with `diptych serve --accept-new-place`");
    program.run(&["serve", options[0], "--accept-new-place=false"], "").ended(1, "adopt --moved");

    let server = ServeProcess::start_with(&program, &options);
    server.run(&["append"], events("b", 3)).ended(0, "");
    assert_eq!(server.end().0, 0);
    replace_by_copy(&program, "on-the-second-machine");
    let server = ServeProcess::start_with(&program, &options);
    server.run(&["append"], events("c", 1)).ended(0, "");
    assert_eq!(server.run(&["read"], "").positions(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_copied_folder_takes_events_once_it_is_adopted() {
    let program = Program::new();
    let line = "{\"type\":\"opened\",\"data\":1}\n";
    program.load(line);
    let original = replace_by_copy(&program, "original");
    let refused = program.run(&["append"], line);
    refused.ended(1, "diptych adopt --moved");
    assert!(refused.stderr.contains("diptych adopt --copy"), "{}", refused.stderr);
    program.run(&["verify"], "").ended(0, "");

    program.run(&["adopt"], "").ended(1, "--moved");
    program.run(&["adopt", "--moved", "--copy"], "").ended(1, "cannot be used with");
    let adopted = program.run(&["adopt", "--replica"], "");
    assert!(adopted.stdout.starts_with("a replica of "), "{}", adopted.stdout);
    program.run(&["append"], line).ended(1, "is a replica");
    let adopted = program.run(&["adopt", "--copy", "--json"], "");
    adopted.ended(0, "");
    let report = &adopted.lines()[0];
    assert_eq!(report["adopted"], "copy");
    assert_eq!(report["upto"], 1);
    assert!(report["epoch"].as_str().unwrap().starts_with("2-"), "{report}");
    program.load(line);
    assert_eq!(program.run(&["stats", "--json"], "").lines()[0]["epoch"], report["epoch"]);

    let data = original.to_str().unwrap();
    let stats = run(&["stats", "--json", "--data", data]);
    assert!(stats.lines()[0]["epoch"].as_str().unwrap().starts_with("1-"), "{}", stats.stdout);
    run(&["adopt", "--moved", "--data", data]).ended(0, "");
    let nothing = program.dir.path().join("nothing");
    run(&["adopt", "--moved", "--data", nothing.to_str().unwrap()]).ended(1, "no log in");
}
