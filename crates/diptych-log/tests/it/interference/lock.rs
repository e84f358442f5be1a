//! One process at a time holds the folder of a log, also if its lock file is removed or replaced.

use std::{
    fs,
    process::{Command, Stdio},
};

use diptych_log::{Log, LogOptions, OpenError, verify};

use crate::crash::TestChild;

#[test]
fn a_second_process_cannot_open_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let child = TestChild::spawn("hold", folder.path(), 0, 0);
    let held = Log::open(folder.path().join("log"), LogOptions::default());
    let Err(OpenError::Held { folder: named, owner, .. }) = held else {
        panic!("opened twice: {held:?}")
    };
    assert!(owner.contains(&child.id().to_string()), "{owner}");
    assert!(named.contains(&*folder.path().to_string_lossy()), "{named}");
    child.kill();
    let log = Log::open(folder.path().join("log"), LogOptions::default()).unwrap();

    let again = Log::open(folder.path().join("log"), LogOptions::default());
    let Err(error @ OpenError::Held { .. }) = again else { panic!("opened twice: {again:?}") };
    let said = error.to_string();
    assert!(said.contains("held by this process"), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    assert!(said.contains("use that handle, or close it"), "{said}");
    log.close().unwrap();
}

/// Once, the message named a process that had ended, and advised to stop it. Here a shell locks the
/// folder as a log does. A process that the shell starts keeps the lock after the shell has ended.
#[test]
#[cfg(target_os = "linux")]
fn a_lock_that_a_child_process_keeps_names_the_ended_parent() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    Log::open(&log, LogOptions::default()).unwrap().close().unwrap();
    let script = "exec 9< .; flock -n 9 || exit 1; printf 'process %s (shell)' $$ > lock; \
                  sleep 600 < /dev/null > /dev/null 2>&1 & echo $!";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(&log).stdout(Stdio::piped());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "is flock of util-linux missing?");
    let sleeping = String::from_utf8(output.stdout).unwrap();
    let error = Log::open(&log, LogOptions::default());
    let stopped = Command::new("kill").arg(sleeping.trim()).status().unwrap();
    let said = error.unwrap_err().to_string();
    assert!(stopped.success());
    assert!(said.contains("(shell) started before it ended"), "{said}");
    assert!(said.contains("lsof"), "{said}");
}

/// Once, only the file `lock` was locked: without its name a second process made a new one, both
/// wrote the same positions, and what one of them had acknowledged was gone.
#[test]
fn a_log_is_held_also_when_its_lock_file_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let child = TestChild::spawn("hold", folder.path(), 0, 0);
    let (log, lock) = (folder.path().join("log"), folder.path().join("log/lock"));
    for replaced in [false, true] {
        fs::remove_file(&lock).unwrap();
        if replaced {
            fs::write(&lock, "another file").unwrap();
        }
        let opened = Log::open(&log, LogOptions::default());
        assert!(matches!(opened, Err(OpenError::Held { .. })), "opened twice: {opened:?}");
        let verified = verify(&log, &LogOptions::default(), |_, _| ());
        assert!(verified.unwrap_err().to_string().contains("is held by"));
        fs::write(&lock, "").unwrap();
    }
    child.kill();
    let log = Log::open(&log, LogOptions::default()).unwrap();
    fs::remove_file(&lock).unwrap();
    let again = Log::open(folder.path().join("log"), LogOptions::default());
    assert!(matches!(again, Err(OpenError::Held { .. })), "opened twice in a process: {again:?}");
    log.close().unwrap();
    Log::open(folder.path().join("log"), LogOptions::default()).unwrap();
}
