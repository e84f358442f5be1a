//! The options of `diptych serve` and `diptych copy`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, ValueEnum, ValueHint};

use crate::{
    address::{self, LogAddress},
    args::place::Wait,
};

/// Default address of `diptych serve`.
pub(crate) const SERVE_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4_500);

/// Serve the log of a folder to other processes, until interrupted.
///
/// It holds the folder, creates the log if there is none, and prints the address of the log on
/// standard output. Programs take that address with App::connect, and the commands append, read,
/// tail, stats and copy with --data or as an argument. Ctrl-C or a termination signal ends it in
/// order: streams end, the commits that were accepted become durable, and the log is closed.
///
/// Each option can also be a key of the file --config, or an environment variable: data in the
/// file, DIPTYCH_DATA in the environment. A flag wins over the environment, the environment over
/// the file, and the file over the default. --print-config shows the result.
///
/// Commands that work on files, such as verify and backup, run beside it, on its machine and with
/// its folder.
///
/// Examples:
///   diptych serve --data bank
///   diptych tail --data diptych://127.0.0.1:4500/log
///   diptych serve --data bank --listen 0.0.0.0:4500 --tokens tokens.toml
///       --certificate server.pem --private-key server.key
///   diptych serve --data copy --receive-copy
///   diptych serve --config diptych.toml --print-config
#[derive(Debug, Args)]
#[command(
    about = "Serve the log of a folder to other processes, until interrupted",
    verbatim_doc_comment
)]
pub(crate) struct ServeArgs {
    /// Take options from this file (TOML). Its keys are the names of the options. Paths in it are
    /// relative to its folder.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Print each option with its value and the source of the value, as TOML, and end.
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) options: ServeOptions,
}

// No doc comment: clap would show it instead of the command's doc comment.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeOptions {
    /// The address of the log: a folder, as PATH or file:PATH. It is required.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_hint = ValueHint::DirPath,
        value_parser = address::folder()
    )]
    pub(crate) data: Option<PathBuf>,
    /// Wait this long for a folder that another process holds; 2 by default.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait_seconds: Option<u32>,
    /// Address to listen at; 127.0.0.1:4500 by default. Port 0 takes any free port.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Encrypt connections with the certificates in this file, the server's own first (PEM).
    /// Clients then take diptychs:// addresses. The files are read again when they change.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) certificate: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) private_key: Option<PathBuf>,
    /// Serve only callers with a token of this file, which `diptych token` writes. Tokens that are
    /// added or revoked later count within a second.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tokens: Option<PathBuf>,
    /// A name under which browsers and HTTP clients reach the server. Can be given several times,
    /// as a list in the file, and with commas in the environment.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// Serve other machines without encryption, and without asking who they are. Each machine that
    /// reaches the address can then read and append everything.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) open_to_all: Option<bool>,
    /// Take commits also if the last commit has a time more than a day after the clock. New events
    /// get that time until the clock gets there.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) accept_future_time: Option<bool>,
    /// Take commits also if the folder is no longer where it was, as on a volume that moves. Never
    /// serve two copies of a log with it: both would give out the same positions.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) accept_new_place: Option<bool>,
    /// Let `diptych copy` write to this log: take only commits that bring their times, and refuse
    /// all others. Tokens for it have the scopes read, append and admin.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) receive_copy: Option<bool>,
    /// The form of messages on standard error: text, the default, or json for one JSON object a
    /// line.
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) log_format: Option<LogFormat>,
    /// The least important messages to show: error, warn, info, debug or trace; info by default.
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    pub(crate) log_level: Option<LogLevel>,
}

/// The form of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The importance of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Copy a log to another place: between folders, databases and servers.
///
/// The copy has the positions, times, ids, keys and tracking of its source, and an identity of its
/// own. The target is empty, or the beginning of a copy of this source: then the command continues
/// it. So an interrupted copy is continued by the same command, and a copy is brought up to date as
/// long as no other program appends to it. The source may be written to meanwhile: the copy ends at
/// a commit that was the last one when the command began, or later.
///
/// At the end both logs are read, and their digests compared. They cover each commit with
/// everything that is in it. If they differ, the exit code is 2.
///
/// A server takes the times of events from its clock, so it refuses a copy unless it is started
/// with `diptych serve --receive-copy`. It refuses all other appends then. Start it without that
/// option once the copy is complete. A log in PostgreSQL takes a copy as a folder does.
///
/// With --move the log itself moves between folders and databases, and keeps its identity: tokens,
/// projections and tracking stay good. The command copies the log while its programs go on. Then it
/// fences the source, so that it takes no commits any more, copies the rest, compares digests, and
/// opens the target for commits. To fence a folder, it waits for the program there to end. A
/// database is fenced at once. If the command is killed, run it again. Servers are refused: stop
/// the server, and move its folder.
///
/// Examples:
///   diptych copy diptych://server:4500/log bank
///   diptych copy bank /mnt/other-disk/bank
///   diptych copy bank diptych://server:4500/log
///   diptych copy --move bank /mnt/larger-disk/bank
///   diptych copy --move bank 'postgres://ann@localhost/shop?log=bank'
#[derive(Debug, Args)]
#[command(about = "Copy a log to another place, and compare digests", verbatim_doc_comment)]
pub(crate) struct CopyArgs {
    /// The address of the log to copy: a folder, diptych://HOST:PORT/log, or
    /// postgres://USER@HOST/DATABASE?log=NAME.
    #[arg(value_name = "FROM", value_hint = ValueHint::DirPath, value_parser = address::log())]
    pub(crate) from: LogAddress,
    /// The address of the copy.
    #[arg(value_name = "TO", value_hint = ValueHint::DirPath, value_parser = address::log())]
    pub(crate) to: LogAddress,
    /// Move the log itself, with its identity, between folders and PostgreSQL. The source takes no
    /// commits any more.
    #[arg(long = "move")]
    pub(crate) moves: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
