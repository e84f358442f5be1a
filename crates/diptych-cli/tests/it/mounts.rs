//! Programs that see a file system that is mounted for them alone.

use std::{env, process::Command};

/// The exit code of the script if the system permits no mounts.
pub(crate) const NOT_MOUNTED: i32 = 77;

/// A shell in a name space of its own, in which it is the superuser. It mounts by the first script,
/// then it runs the second one. Arguments that are added are `$1`, `$2` and so on.
pub(crate) fn mounted(mount: &str, then: &str) -> Command {
    let script = format!("{{ {mount}; }} || exit {NOT_MOUNTED}; {then}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command
}

/// Says that the test was left out. In CI that is a failure, because CI has to run all tests.
#[allow(clippy::print_stdout)]
pub(crate) fn left_out(why: &str) {
    assert!(env::var_os("CI").is_none(), "left out, {why}");
    println!("left out, {why}");
}
