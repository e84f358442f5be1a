use std::fs;

use diptych_store::testing::cases;

/// The names in the last column of every table row.
fn names(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_suffix(" |"));
    let proofs = rows.filter_map(|row| row.rsplit('|').next());
    let quoted = proofs.flat_map(|proof| proof.split('`').skip(1).step_by(2));
    quoted.collect()
}

#[test]
fn every_rule_of_the_dcb_table_names_existing_cases() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/dcb.md");
    let text = fs::read_to_string(path).unwrap();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let header = line.contains("proven by");
        assert!(header || !names(line).is_empty(), "no case proves this rule: {line}");
    }
    let names = names(&text);
    assert!(names.len() > 30, "the tables could not be read: {names:?}");
    for name in names {
        let exists = cases().iter().any(|case| case.name == name);
        assert!(exists, "{name} is no case of the suite");
    }
}
