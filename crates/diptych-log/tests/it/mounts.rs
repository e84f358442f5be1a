//! Tests with a file system that is mounted for them alone.

use std::{
    env,
    path::Path,
    process::{Command, Output},
};

/// The exit code of the script if the system permits no mounts.
const NOT_MOUNTED: i32 = 77;

/// Runs one test of this program once more, as the superuser of a name space of its own, after
/// `mount`, a command of the shell that gets the path of `folder` as `$1`. The test finds that path
/// in `variable`.
///
/// Without `unshare`, or where nothing may be mounted, the test is left out. In CI that is a
/// failure.
pub(crate) fn run_mounted(mount: &str, folder: &Path, variable: &str, test: &str) {
    let script = format!("{{ {mount}; }} || exit {NOT_MOUNTED}; exec \"$2\" --exact \"$3\"");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(folder).arg(env::current_exe().unwrap()).arg(test).env(variable, folder);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return left_out(&format!("`unshare` cannot be run: {error}")),
    };
    let Output { status, stdout, stderr } = output;
    let said = String::from_utf8_lossy(&stdout);
    let errors = String::from_utf8_lossy(&stderr);
    match status.code() {
        Some(0) => assert!(said.contains("1 passed"), "{said}"),
        Some(1 | NOT_MOUNTED) => left_out(&format!("nothing can be mounted: {errors}")),
        _ => panic!("{said}\n{errors}"),
    }
}

fn left_out(why: &str) {
    assert!(env::var_os("CI").is_none(), "{why}");
    println!("left out: {why}");
}
