//! A copy of a folder is refused until it is adopted.

use std::process::Command;

use crate::program::{Program, run};

#[test]
fn a_copied_folder_takes_events_once_it_is_adopted() {
    let program = Program::new();
    let line = "{\"type\":\"opened\",\"data\":1}\n";
    program.load(line);
    let original = program.dir.path().join("original");
    std::fs::rename(program.data(), &original).unwrap();
    let copied = Command::new("cp").arg("-a").args([&original, &program.data()]).status();
    assert!(copied.unwrap().success());
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
