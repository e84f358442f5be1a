//! The place of a log, which most commands take.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use diptych_store::Position;

use crate::address::{self, LogAddress};

// No doc comments on these types: clap would show them instead of the commands' doc comments.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The address of the log: a folder, as PATH or file:PATH.
    #[arg(
        long = "data",
        value_name = "ADDRESS",
        value_hint = ValueHint::DirPath,
        value_parser = address::folder()
    )]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct LogPlace {
    /// The address of the log: a folder, as PATH or file:PATH, the log of a server, as
    /// diptych://HOST:PORT/log, or one in PostgreSQL, as postgres://USER@HOST/DATABASE?log=NAME.
    #[arg(
        long = "data",
        value_name = "ADDRESS",
        value_hint = ValueHint::DirPath,
        value_parser = address::log()
    )]
    pub(crate) address: LogAddress,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Wait {
    /// Wait this long for a folder that another process holds, or for a server that does not
    /// answer. Commands that only read events do not wait for a folder.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    wait_seconds: u32,
}

impl Wait {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(self.wait_seconds.into())
    }
}

/// Parses a position.
pub(crate) fn position(text: &str) -> Result<Position, std::num::ParseIntError> {
    text.parse::<u64>().map(Position::new)
}
