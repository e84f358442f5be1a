//! Silences the standard output while a peer prints.

use std::{
    fs::File,
    io::{Write, stdout},
    os::fd::OwnedFd,
};

/// Sends the standard output to `/dev/null` until this value is dropped.
pub struct LedAway {
    terminal: OwnedFd,
}

impl LedAway {
    #[expect(clippy::new_without_default, reason = "it acts, a default would hide that")]
    pub fn new() -> LedAway {
        stdout().flush().unwrap();
        let terminal = rustix::io::dup(stdout()).unwrap();
        let nowhere = File::options().write(true).open("/dev/null").unwrap();
        rustix::stdio::dup2_stdout(nowhere).unwrap();
        LedAway { terminal }
    }
}

impl Drop for LedAway {
    fn drop(&mut self) {
        stdout().flush().unwrap();
        rustix::stdio::dup2_stdout(&self.terminal).unwrap();
    }
}
