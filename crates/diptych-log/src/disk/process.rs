//! Other processes of this machine.

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

/// Whether no process has this number. A process of another container counts as ended, because its
/// number means nothing here.
pub(crate) fn has_ended(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH))
}
