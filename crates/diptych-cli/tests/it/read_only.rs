//! Commands on a log, and on a backup, that lie on a read-only file system.

use std::{path::Path, process::Stdio};

use crate::{
    mounts::{NOT_MOUNTED, left_out, mounted},
    program::{Program, Ran, events, finish, spawn},
};

/// A small read-only file system over the folder `$1`, with the contents of the folder.
const MOUNT: &str = "mkdir \"$1.written\" && cp -a \"$1/.\" \"$1.written\" \
                     && mount -t tmpfs place \"$1\" && cp -a \"$1.written/.\" \"$1\" \
                     && rm -r \"$1.written\" && mount -o remount,ro \"$1\"";

/// Runs the program, which finds a read-only file system with the contents of `place` in its place.
/// The answer is `None` if the system permits no mounts. In CI that is a failure.
fn run_over_read_only(place: &Path, args: &[&str], input: &str) -> Option<Ran> {
    let mut command = mounted(MOUNT, "shift; exec \"$@\"");
    command.arg(place).arg(env!("CARGO_BIN_EXE_diptych")).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let left_out = |why: String| {
        left_out(&why);
        None
    };
    let ran = match command.spawn() {
        Ok(child) => finish(child, input),
        Err(error) => return left_out(format!("without `unshare`: {error}")),
    };
    let is_unshare = ran.stderr.starts_with("unshare:");
    match ran.code {
        NOT_MOUNTED => left_out(format!("because nothing can be mounted: {}", ran.stderr)),
        1 if is_unshare => left_out(format!("without a name space: {}", ran.stderr)),
        _ => Some(ran),
    }
}

#[test]
fn commands_that_read_work_on_a_read_only_file_system_and_others_say_why_not() {
    let program = Program::new();
    let place = program.dir.path().join("place");
    let path = |name: &str| program.dir.path().join(name).to_str().unwrap().to_owned();
    let (data, copy) = (path("place/log"), path("place/backup"));
    let copy_of_backup = path("new-backup");
    std::fs::create_dir(&place).unwrap();
    let run = |args: &[&str], input: &str| finish(spawn(args), input);
    run(&["append", "--data", &data], &events("a", 40)).ended(0, "");
    run(&["backup", "--data", &data, "--to", &copy], "").ended(0, "");

    let read = |args: &[&str]| {
        let ran = run_over_read_only(&place, args, "")?;
        ran.ended(0, "");
        Some(ran)
    };
    for data in [&data, &copy] {
        let Some(ran) = read(&["read", "--data", data, "--filter", "tag=n:7"]) else { return };
        assert_eq!(ran.positions(), [7]);
        let ran = read(&["tail", "--data", data, "--after", "0", "--until-head"]).unwrap();
        assert_eq!(ran.positions().len(), 40);
        let ran = read(&["stats", "--data", data, "--json"]).unwrap();
        assert_eq!(ran.lines()[0]["events"], 40);
        let ran = read(&["verify", "--data", data, "--json"]).unwrap();
        assert_eq!(ran.lines()[0]["events"], 40);
    }
    read(&["backup", "--data", &data, "--to", &copy_of_backup]).unwrap();
    for (from, to) in [(&copy, path("restored")), (&copy_of_backup, path("restored-again"))] {
        read(&["restore", "--from", from, "--data", &to]).unwrap();
        let more = run(&["append", "--data", &to], &events("b", 1));
        assert_eq!((more.code, more.stderr.as_str()), (0, ""));
    }

    for args in [
        &["append", "--data", &data][..],
        &["serve", "--listen", "127.0.0.1:0", "--data", &data],
        &["backup", "--data", &data, "--to", &path("place/other")],
    ] {
        let ran = run_over_read_only(&place, args, &events("b", 1)).unwrap();
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(ran.stderr.contains("ead-only"), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("place"), "{args:?}: {}", ran.stderr);
    }
}
