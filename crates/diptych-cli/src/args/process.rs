//! The options of `diptych process` and `diptych trace`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use diptych::process::TraceTarget;
use diptych_store::Position;

use crate::{
    address::ServiceAddress,
    args::place::{LogPlace, position},
    exit::EXIT_CODES,
};

/// Show what waits in the processes of a log, and answer it.
///
/// A letter is an event that an instance of a process could not take. Later events of that instance
/// wait behind it, and other instances go on. A call waits if nothing tells whether it was sent, or
/// if each try failed. Both have a name: their position.
///
/// The log tells everything, so no types of the application are needed. The lists read a folder
/// also while an application holds it. An answer is an event in the log, with who gave it and why.
/// It needs the folder for itself, or a server of the log. If an application holds the folder, stop
/// it first, or use the HTTP routes of the application.
///
/// Examples:
///   diptych process letters --data shop
///   diptych process letters 4711 --data shop
///   diptych process retry 4711 --data shop --who ann --why 'corrected in release 12'
///   diptych process calls --data diptych://127.0.0.1:4500/log
///   diptych trace 4711 --data shop
#[derive(Debug, Args)]
#[command(about = "Show what waits in the processes of a log, and answer it", verbatim_doc_comment)]
pub(crate) struct ProcessArgs {
    #[command(subcommand)]
    pub(crate) command: ProcessCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProcessCommand {
    /// List the processes that the log knows.
    #[command(after_help = EXIT_CODES)]
    List(ListArgs),
    /// List the instances that were active last.
    #[command(after_help = EXIT_CODES)]
    Instances(RowsArgs),
    /// List the parked letters, or show one with its event.
    #[command(after_help = EXIT_CODES)]
    Letters(ItemsArgs),
    /// Let the instance of a letter take the event again.
    #[command(after_help = EXIT_CODES)]
    Retry(AnswerArgs),
    /// Leave out the event of a letter.
    #[command(after_help = EXIT_CODES)]
    Skip(AnswerArgs),
    /// Put actions in place of the reaction to the event of a letter.
    #[command(after_help = EXIT_CODES)]
    Replace(ReplaceArgs),
    /// List the calls that wait for an operator, or show one.
    #[command(after_help = EXIT_CODES)]
    Calls(ItemsArgs),
    /// Tell the answer of a call that was made.
    #[command(after_help = EXIT_CODES)]
    Answer(CallAnswerArgs),
    /// Tell that a call was not made, and is not to be made.
    #[command(after_help = EXIT_CODES)]
    Refuse(RefuseArgs),
    /// Let a call leave again. If it was made before, it is made twice.
    #[command(after_help = EXIT_CODES)]
    SendAgain(AnswerArgs),
    /// List the pending timers, the first due first. It reads all timer events of the processes.
    #[command(after_help = EXIT_CODES)]
    Timers(RowsArgs),
}

// No doc comments on these types: clap would show them instead of the commands' doc comments.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RowsArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Only those of this process.
    #[arg(long, value_name = "NAME")]
    pub(crate) process: Option<String>,
    /// Show at most this many rows.
    #[arg(long, value_name = "ROWS", default_value_t = 100)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ItemsArgs {
    /// Show the one of this position, with everything that is known.
    #[arg(value_name = "POSITION", value_parser = position)]
    pub(crate) position: Option<Position>,
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// The position that the list shows.
    #[arg(value_name = "POSITION", value_parser = position)]
    pub(crate) position: Position,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// The operator who answers. It stands in the log with the answer.
    #[arg(long, value_name = "NAME")]
    pub(crate) who: String,
    /// The reason of the answer. It stands in the log with the answer.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
    /// A file with the actions: a JSON list such as
    /// [{"send": {"command": "cancel-order", "body": {"order": 7}}}]. - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) actions: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CallAnswerArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
    /// The answer of the gateway as JSON.
    #[arg(long = "answer", value_name = "JSON")]
    pub(crate) json_answer: String,
}

#[derive(Debug, Args)]
pub(crate) struct RefuseArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
    /// The refusal that the process gets, as a text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: String,
    /// The refusal that the process gets, as JSON.
    #[arg(long, value_name = "JSON", default_value = "null")]
    pub(crate) detail: String,
}

/// Print the flow that an event belongs to, as a tree.
///
/// The tree has the events, the reactions of processes, their commands with rejections, their calls
/// with answers, and their timers, each below its cause. ID is the position of an event, the id of
/// an event, or a correlation. Any event of a flow leads to the whole flow.
///
/// The steps are found by keys and tags, so the time depends on the flow, and not on the length of
/// the log. An id that a program chose has no index: it is searched from the end of the log.
///
/// A flow goes on in other services through feeds. With --also, each service is asked for its part,
/// and all parts are one tree. A service that is away, or that refuses, is named below the tree. An
/// application needs its routes for operators. If the environment variable DIPTYCH_TRACE_TOKEN is
/// set, each application gets it as a bearer token. So name only services that may have it. A user
/// and a password in an address are sent in place of it if the variable is not set.
///
/// Examples:
///   diptych trace 4711 --data shop
///   diptych trace 0197f0e2-7a54-7c11-9d43-0e7f3c5e2f10 --data shop --json
///   diptych trace 4711 --data shop --also shipping=https://shipping.example
#[derive(Debug, Args)]
#[command(about = "Print the flow that an event belongs to, as a tree", verbatim_doc_comment)]
pub(crate) struct TraceArgs {
    /// The position of an event, the id of an event, or a correlation.
    #[arg(value_name = "ID")]
    pub(crate) target: TraceTarget,
    #[command(flatten)]
    pub(crate) place: LogPlace,
    /// Show at most this many steps.
    #[arg(long, value_name = "STEPS", default_value_t = 1_000)]
    pub(crate) limit: usize,
    /// Also read the log for events whose commands named their cause themselves.
    #[arg(long)]
    pub(crate) whole_log: bool,
    /// Also ask this service: an application over HTTP, such as https://shipping.example, or a log.
    /// The tree shows NAME, or the address. If given several times, each service is asked.
    #[arg(long, value_name = "[NAME=]ADDRESS")]
    pub(crate) also: Vec<ServiceAddress>,
    /// With --also, cut a branch that comes through more than this many feeds.
    #[arg(long, value_name = "FEEDS", default_value_t = 16)]
    pub(crate) feeds: u32,
    /// Read at most this many events for --whole-log, or for an id that a program chose.
    #[arg(long, value_name = "EVENTS", default_value_t = 1_000_000)]
    pub(crate) search: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
