//! The page of the command line lists the members of each JSON output.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::program::{Program, run};

/// The members that the page lists for this output.
fn listed(page: &str, output: &str) -> BTreeSet<String> {
    let row = format!("| `{output}` | ");
    let row = page.lines().find_map(|line| line.strip_prefix(&row));
    let row = row.unwrap_or_else(|| panic!("add a row for {output}"));
    row.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_page_lists_the_members_of_each_json_output() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/command-line.md");
    let page = fs::read_to_string(path).unwrap();
    let program = Program::new();
    program.load("{\"type\":\"opened\",\"tags\":[\"account:ann\"],\"data\":1}\n");
    let folder = |name: &str| program.dir.path().join(name).to_str().unwrap().to_owned();
    let [data, backup, log, archive, demo] =
        ["data", "backup", "log", "archive", "demo"].map(folder);
    let table = folder("ports.csv");
    fs::write(&table, "faa,city\nOSL,Oslo\n").unwrap();
    let record = ["--data", &data, "--record", "port", "--key", "faa"];
    let of_record = |command, file| [&[command, file], &record[..]].concat();
    let back = folder("back.db");
    for (output, args) in [
        ("import --json", of_record("import", &table)),
        ("compare --json", of_record("compare", &table)),
        ("export --json", of_record("export", &back)),
        ("stats --json", vec!["stats", "--data", &data]),
        ("verify --json", vec!["verify", "--data", &data]),
        ("backup --json", vec!["backup", "--data", &data, "--to", &backup]),
        ("restore --json", vec!["restore", "--from", &backup, "--data", &log]),
        ("archive --json", vec!["archive", "--data", &log, "--to", &archive]),
        ("adopt --json", vec!["adopt", "--data", &log, "--copy"]),
        ("demo --json", vec!["demo", "--data", &demo, "--once", "--until", "2013-01-01T09:00:00Z"]),
    ] {
        let ran = run(&[args.as_slice(), &["--json"]].concat());
        assert_eq!(ran.code, 0, "{output}: {}", ran.stderr);
        let lines = ran.lines();
        let Value::Object(members) = &lines[0] else { panic!("{output} is no object") };
        let members: BTreeSet<String> = members.keys().cloned().collect();
        assert_eq!(listed(&page, output), members, "{output}");
    }
}
