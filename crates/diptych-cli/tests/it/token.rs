//! `diptych token`.

use crate::program::run;

#[test]
fn a_token_is_printed_once_and_the_file_has_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    let file = file.to_str().unwrap();
    let made = run(&["token", "--file", file, "--name", "ops", "--scope", "read,append"]);
    made.ended(0, "");
    let token = made.stdout.trim();
    assert!(token.starts_with("diptych_") && token.len() > 40, "{token}");
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(!kept.contains(token), "{kept}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may not read it");
    }
    run(&["token", "--file", file, "--name", "scraper", "--scope", "admin"]).ended(0, "");
    let listed = run(&["token", "--file", file]);
    assert_eq!(listed.stdout, "ops read,append\nscraper admin\n");
    run(&["token", "--file", file, "--revoke", "ops"]).ended(0, "");
    assert_eq!(run(&["token", "--file", file]).stdout, "scraper admin\n");
}

#[test]
fn wrong_use_of_tokens_is_exit_code_1_and_leaves_the_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    let file = file.to_str().unwrap();
    let make = |name, scope| run(&["token", "--file", file, "--name", name, "--scope", scope]);
    make("ops", "write").ended(1, "read, append, admin, feed and feed:NAME");
    run(&["token", "--file", file, "--name", "ops"]).ended(1, "--scope");
    run(&["token", "--file", file]).ended(1, "cannot be read");
    make("ops", "read").ended(0, "");
    let before = std::fs::read_to_string(file).unwrap();
    make("ops", "admin").ended(1, "revoke that one first");
    run(&["token", "--file", file, "--revoke", "shop"]).ended(1, "there is no token \"shop\"");
    assert_eq!(std::fs::read_to_string(file).unwrap(), before);
    std::fs::write(file, "").unwrap();
    run(&["token", "--file", file]).ended(1, "version");
}
