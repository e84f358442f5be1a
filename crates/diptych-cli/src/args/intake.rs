//! The options of `diptych intake`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use diptych_store::Position;

use crate::{
    args::{
        place::position,
        process::{AnswerArgs, ListArgs},
    },
    exit::EXIT_CODES,
};

/// Show the intakes of a log and the events that wait in them, and answer these.
///
/// An intake makes events of this log from the feed of another service. A published event that it
/// cannot take in is parked. Later events of its subject wait behind it, and others go on. A parked
/// event has a name: the position that keeps it.
///
/// The log tells everything, so no types of the application are needed, and the other service may
/// be away. The lists read a folder also while an application holds it. An answer is an event in
/// the log, with who gave it and why. It needs the folder for itself, or a server of the log. If an
/// application holds the folder, stop it first, or use the HTTP routes of the application. These
/// also tell whether an intake is live, and how late it is.
///
/// Examples:
///   diptych intake list --data parcels
///   diptych intake letters --data parcels
///   diptych intake retry 4711 --data parcels --who ann --why 'corrected in release 12'
#[derive(Debug, Args)]
#[command(
    about = "Show the intakes of a log and the events that wait in them, and answer these",
    verbatim_doc_comment
)]
pub(crate) struct IntakeArgs {
    #[command(subcommand)]
    pub(crate) command: IntakeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IntakeCommand {
    /// List the intakes that the log knows, and how far each is in the log of its source.
    #[command(after_help = EXIT_CODES)]
    List(ListArgs),
    /// List the parked events, or show one as it came.
    #[command(after_help = EXIT_CODES)]
    Letters(ParkedArgs),
    /// Let the intake translate a parked event again.
    #[command(after_help = EXIT_CODES)]
    Retry(AnswerArgs),
    /// Leave out a parked event.
    #[command(after_help = EXIT_CODES)]
    Skip(AnswerArgs),
    /// Let the intake translate a parked event with another payload.
    #[command(after_help = EXIT_CODES)]
    Replace(PayloadArgs),
}

// No doc comments on these types: clap would show them instead of the commands' doc comments.
#[derive(Debug, Args)]
pub(crate) struct ParkedArgs {
    /// Show the one of this position, with everything that is known.
    #[arg(value_name = "POSITION", value_parser = position)]
    pub(crate) position: Option<Position>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Only those of this intake.
    #[arg(long, value_name = "NAME")]
    pub(crate) intake: Option<String>,
    /// Show at most this many rows.
    #[arg(long, value_name = "ROWS", default_value_t = 100)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct PayloadArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
    /// A file with the payload as JSON. - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) payload: PathBuf,
}
