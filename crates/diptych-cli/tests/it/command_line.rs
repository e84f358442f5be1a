//! Help, completions, and wrong arguments.

use crate::program::{Program, run};

#[test]
fn help_shows_commands_and_exit_codes() {
    let ran = run(&["--help"]);
    ran.ended(0, "");
    for said in
        ["append", "read", "tail", "stats", "serve", "copy", "verify", "adopt", "archive", "sample"]
    {
        assert!(ran.stdout.contains(said), "{said}");
    }
    assert!(ran.stdout.contains("Exit codes:"));
}

#[test]
fn every_command_has_help_with_the_exit_codes() {
    for command in [
        "append", "read", "tail", "stats", "serve", "copy", "verify", "sample", "import",
        "compare", "export",
    ] {
        let ran = run(&[command, "--help"]);
        ran.ended(0, "");
        assert!(ran.stdout.contains("outcome of a commit is unknown"), "{command}");
    }
}

#[test]
fn wrong_use_is_exit_code_1() {
    run(&["read"]).ended(1, "--data");
    run(&["write"]).ended(1, "unrecognized subcommand");
    let program = Program::new();
    program.run(&["read", "--filter", "kind=a"], "").ended(1, "a term starts with type= or tag=");
    program.run(&["append", "--after", "3"], "").ended(1, "--fail-if");
    program.run(&["append", "--batch", "0"], "").ended(1, "--batch");
}

#[test]
fn an_address_is_a_folder_and_another_scheme_is_an_error() {
    let program = Program::new();
    let address = format!("file:{}", program.data().display());
    run(&["read", "--data", &address]).ended(1, "it has no segments");
    run(&["read", "--data", "mysql://db/bank"]).ended(1, "no mysql: store");
    run(&["append", "--data", "memory:"]).ended(1, "no memory: store");
}

#[test]
fn a_missing_folder_is_an_error_and_does_not_become_a_log() {
    for command in ["read", "tail", "stats", "verify"] {
        let program = Program::new();
        program.run(&[command], "").ended(1, "there is no log in");
        assert!(!program.data().exists(), "{command}");
        std::fs::create_dir(program.data()).unwrap();
        program.run(&[command], "").ended(1, "it has no segments");
        assert_eq!(std::fs::read_dir(program.data()).unwrap().count(), 0, "{command}");
    }
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(&["completions", shell]);
        ran.ended(0, "");
        assert!(ran.stdout.contains("until-head"), "{shell}");
    }
}
