//! The programs of pages, and the text around them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// The command that runs a program.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pages"));
    command.arg(name);
    command
}

/// Runs a program in a folder until it ends, which has to be in order, and returns its output.
pub(crate) fn run(command: &mut Command, folder: &Path) -> String {
    let Output { status, stdout, stderr } = command.current_dir(folder).output().unwrap();
    assert!(status.success(), "{command:?}: {status}, {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs a program in a folder that has to fail, and returns its words about that.
pub(crate) fn fail(command: &mut Command, folder: &Path) -> String {
    let Output { status, stderr, .. } = command.current_dir(folder).output().unwrap();
    assert!(!status.success(), "{command:?} did not fail");
    String::from_utf8(stderr).unwrap()
}

/// The part of a page between two texts.
pub(crate) fn part_of(page: &str, from: &str, to: &str) -> String {
    let text = fs::read_to_string(Path::new("../../docs").join(page)).unwrap();
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{page} has no {from:?}"));
    let (part, _) = rest.split_once(to).unwrap_or_else(|| panic!("{page} has no {to:?}"));
    part.to_owned()
}

#[test]
fn a_name_that_is_no_program_is_answered_with_all_names() {
    let folder = tempfile::tempdir().unwrap();
    let words = fail(&mut program("none"), folder.path());
    assert!(words.contains("name a program: customers, depot, http"), "{words}");
}
