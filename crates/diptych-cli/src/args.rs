//! The command line: commands, options, and their help.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
};

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use diptych_log::{Adoption, ArchiveLimit};
use diptych_store::{Filter, Position, Timestamp};

use crate::{
    address::{self, LogAddress},
    exit::EXIT_CODES,
    ndjson::RecordedTime,
    token::TokenArgs,
};

mod intake;
mod place;
mod postgres;
mod process;
mod records;
mod sharing;

pub(crate) use intake::{IntakeArgs, IntakeCommand, ParkedArgs, PayloadArgs};
use place::position;
pub(crate) use place::{Folder, LogPlace, Wait};
pub(crate) use postgres::{DatabaseArgs, InitArgs, PostgresArgs, PostgresCommand};
pub(crate) use process::{
    AnswerArgs, CallAnswerArgs, ItemsArgs, ListArgs, ProcessArgs, ProcessCommand, RefuseArgs,
    ReplaceArgs, RowsArgs, TraceArgs,
};
pub(crate) use records::{CompareTableArgs, ExportTableArgs, ImportTableArgs, RecordArgs};
pub(crate) use sharing::{CopyArgs, LogFormat, LogLevel, SERVE_LISTEN, ServeArgs, ServeOptions};

/// Load, read, follow and check a Diptych event log.
///
/// A log is a folder, or the log of a server. Events go in and out as NDJSON, with one JSON object
/// per line. Messages go to standard error. One process at a time holds a folder.
#[derive(Debug, Parser)]
#[command(name = "diptych", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(about = "Append events from standard input", after_help = EXIT_CODES)]
    Append(AppendArgs),
    #[command(about = "Print events as NDJSON", after_help = EXIT_CODES)]
    Read(ReadArgs),
    #[command(about = "Print the last events, then new ones", after_help = EXIT_CODES)]
    Tail(TailArgs),
    #[command(after_help = EXIT_CODES)]
    Stats(StatsArgs),
    #[command(after_help = EXIT_CODES)]
    Verify(VerifyArgs),
    #[command(
        about = "Serve the log of a folder to other processes, until interrupted",
        after_help = EXIT_CODES
    )]
    Serve(ServeArgs),
    #[command(about = "Copy a log to another place, and compare digests", after_help = EXIT_CODES)]
    Copy(CopyArgs),
    #[command(about = "Back up a log, also while it is written to", after_help = EXIT_CODES)]
    Backup(BackupArgs),
    #[command(about = "Make a log from a backup, in a new epoch", after_help = EXIT_CODES)]
    Restore(RestoreArgs),
    #[command(about = "Take a folder as a log where it is now", after_help = EXIT_CODES)]
    Adopt(AdoptArgs),
    #[command(about = "Move complete segments to another folder", after_help = EXIT_CODES)]
    Archive(ArchiveArgs),
    #[command(after_help = EXIT_CODES)]
    Sample(SampleArgs),
    #[command(
        about = "Load real flights, keep views of them, and serve a page to look at",
        after_help = EXIT_CODES
    )]
    Demo(DemoArgs),
    #[command(about = "Import a table as rows of a record", after_help = EXIT_CODES)]
    Import(ImportTableArgs),
    #[command(about = "Compare a table with the rows of a record", after_help = EXIT_CODES)]
    Compare(CompareTableArgs),
    #[command(about = "Export the rows of a record as a plain table", after_help = EXIT_CODES)]
    Export(ExportTableArgs),
    Process(ProcessArgs),
    Intake(IntakeArgs),
    Postgres(PostgresArgs),
    #[command(after_help = EXIT_CODES)]
    Trace(TraceArgs),
    #[command(after_help = EXIT_CODES)]
    Token(TokenArgs),
    /// Print a completion script for a shell.
    ///
    /// For bash: diptych completions bash > ~/.local/share/bash-completion/completions/diptych
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only events that match: 'type=a,b tag=k:v tag=k2:v2' means any of the types and all of the
    /// tags. If given several times, an event has to match at least one of the filters.
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<Filter>,
}

impl Which {
    pub(crate) fn filter(&self) -> Filter {
        let any = self.filters.iter().cloned().reduce(Filter::or);
        any.unwrap_or_else(Filter::everything)
    }
}

/// Append events from standard input.
///
/// Each line is {"type": "…", "data": …}, optionally with "tags": ["key:value", …], "version": n,
/// "id": "UUID", "occurred_at": "2013-01-01T10:15:00Z" and "metadata": {"correlation": "UUID",
/// "causation": "UUID", "actor": "…", and other names with texts}. "data" is any JSON and is kept
/// byte by byte. "data_base64" is for bytes that are not JSON. "position" is accepted and ignored,
/// and "recorded_at" becomes "occurred_at" of an event that has none, so that the output of
/// `diptych read` can be appended to another log. A time that an older log holds outside of the
/// years -9999 to 9999 becomes the nearest one inside, and stays in the metadata. Any other field
/// is an error, and blank lines are skipped.
///
/// A commit is written whole or not at all. When it is durable, one line acknowledges it:
/// {"first": 1, "last": 1000, "events": 1000}. A broken line ends the loading. The error names this
/// line, and the first line that was not written.
///
/// On a server, a commit whose answer is lost because the server ended is looked up once the server
/// is back: by its key, or by the id of its first event. Without both, its outcome is unknown, and
/// the command ends with an error that says so.
///
/// Example:
///   echo '{"type":"opened","tags":["account:ann"],"data":{"by":"ann"}}' |
///     diptych append --data bank --fail-if 'type=opened tag=account:ann'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    /// Events in one commit. A commit ends earlier only if it would become too large in bytes.
    /// Without this option a commit has up to 1000 events, and also ends where the input pauses.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) batch: Option<NonZeroUsize>,
    /// The input pauses if no more of it is there and this time has passed since the last pause.
    /// Then everything that was committed is acknowledged.
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 50,
        conflicts_with_all = ["key", "fail_if"]
    )]
    pub(crate) flush_ms: u64,
    /// An idempotency key: equal events under one key are written once. A repeated run prints their
    /// positions and "repeated": true. All input becomes one commit.
    #[arg(long, conflicts_with = "batch")]
    pub(crate) key: Option<String>,
    /// Refuse the commit if the log has an event that matches (with --after: one after that
    /// position). All input becomes one commit. If given several times, a match of any filter
    /// refuses the commit.
    #[arg(long, value_name = "FILTER", conflicts_with = "batch")]
    pub(crate) fail_if: Vec<Filter>,
    /// Keep "recorded_at" of each line also in the metadata of its event, under that name. An event
    /// that has it there already keeps the older one.
    #[arg(long)]
    pub(crate) keep_recorded_at: bool,
    /// Append also if the last commit has a time more than a day after the clock. New events get
    /// that time until the clock gets there. For a folder only.
    #[arg(long)]
    pub(crate) accept_future_time: bool,
    /// Position up to which --fail-if ignores events.
    #[arg(long, value_name = "POSITION", requires = "fail_if", value_parser = position)]
    pub(crate) after: Option<Position>,
}

impl AppendArgs {
    pub(crate) fn recorded(&self) -> RecordedTime {
        match self.keep_recorded_at {
            true => RecordedTime::InMetadata,
            false => RecordedTime::AsOccurred,
        }
    }
}

/// Print events as NDJSON.
///
/// The output can be appended to another log, which records times of its own: see `diptych append`
/// on how the times of this log are kept. A payload that is not JSON on one line is
/// printed as "data_base64".
///
/// Examples:
///   diptych read --data bank --filter 'tag=account:ann'
///   diptych read --data bank --backwards --limit 10
///   diptych read --data bank | diptych append --data copy
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Only events above this position.
    #[arg(long, value_name = "POSITION", default_value = "0", value_parser = position)]
    pub(crate) after: Position,
    /// At most this many events.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) limit: Option<usize>,
    /// Print from the end of the log to its beginning.
    #[arg(long)]
    pub(crate) backwards: bool,
}

/// Print the last events, then new ones, until interrupted.
///
/// While it follows, it does not hold the folder, so another process can write to the log. It
/// prints an event once the event is durable. Ctrl-C ends it. If it follows the log of a server and
/// the server goes away, it waits for the server, and goes on after the last event that it printed.
///
/// Examples:
///   diptych tail --data bank
///   diptych tail --data diptych://127.0.0.1:4500/log
///   diptych tail --data bank --after 5000 --filter 'type=withdrawn' --until-head
#[derive(Debug, Args)]
#[command(about = "Print the last events, then new ones, until interrupted", verbatim_doc_comment)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Begin after this position; 0 is the beginning of the log.
    #[arg(long, value_name = "POSITION", conflicts_with = "last", value_parser = position)]
    pub(crate) after: Option<Position>,
    /// Begin with this many of the last matching events.
    #[arg(long, value_name = "EVENTS", default_value_t = 10)]
    pub(crate) last: usize,
    /// End when the last event of the log is printed.
    #[arg(long)]
    pub(crate) until_head: bool,
}

/// Show the contents of a log: events, bytes, segments, types, tag keys.
///
/// A server tells the number of events, the names of types, and the time of the last event.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) place: LogPlace,
    /// Show this many types and tag keys, the most used first.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    pub(crate) top: usize,
    /// Print one JSON object, with all types and tag keys.
    #[arg(long, conflicts_with = "top")]
    pub(crate) json: bool,
}

/// Check every checksum, the order of the events, and the index against the log.
///
/// It changes nothing. Exit code 0 means that everything is in order. Exit code 2 means damage: the
/// output names every damaged place, with what to do.
///
/// While another process has the log open, it is verified up to the commit that is published when
/// this command begins, at a bounded rate. Only a log that is not open shows whether commits are
/// missing at its end.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) folder: Folder,
    /// Read at most this many bytes in a second while another process has the log open.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub(crate) rate: u64,
    /// Leave archived segments out. So the archive need not be there.
    #[arg(long)]
    pub(crate) without_archive: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Back up a log, also while another process holds it and writes to it.
///
/// The target folder becomes a backup. If it is an earlier backup, it is brought up to date, and
/// its contents are not copied again. A backup ends at the end of a commit, and everything new in
/// it is verified. It can be read, verified and followed directly. To append to it, restore it. If
/// the program is killed half-way, the backup stays as it was: run the command again.
///
/// If both folders are on one file system, complete segments get a second name and take no more
/// space. That does not protect from a disk that fails.
///
/// Example:
///   diptych backup --data bank --to /mnt/other-disk/bank
#[derive(Debug, Args)]
#[command(about = "Back up a log, also while it is written to", verbatim_doc_comment)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) folder: Folder,
    /// The folder of the backup: missing, empty, or an earlier backup of the same log.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_hint = ValueHint::DirPath,
        value_parser = address::folder()
    )]
    pub(crate) to: PathBuf,
    /// Copy every segment, even where a second name for its file would be enough.
    #[arg(long)]
    pub(crate) copy: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make a log from a backup, in a new epoch.
///
/// The log has the positions of the backup and continues after them. Holders of positions of the
/// earlier log (tokens, projections, snapshots, tracking) notice the new epoch and report it.
/// Everything is verified. If the program is killed half-way, the folder is not a log: run the
/// command again.
///
/// Example:
///   diptych restore --from /mnt/other-disk/bank --data bank
#[derive(Debug, Args)]
#[command(about = "Make a log from a backup, in a new epoch", verbatim_doc_comment)]
pub(crate) struct RestoreArgs {
    /// The folder of the backup, which is not changed.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_hint = ValueHint::DirPath,
        value_parser = address::folder()
    )]
    pub(crate) from: PathBuf,
    #[command(flatten)]
    pub(crate) folder: Folder,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take a folder as a log where it is now.
///
/// A log belongs to its folder and its file system. A folder that was copied, or put on another
/// file system, takes no commits until you say what it is, because its original may go on too. A
/// folder that was only renamed needs nothing.
///
/// A copy of a disk below the file system, such as an image or a snapshot of a volume, looks like
/// the original and is not noticed. Adopt one of the two with --copy.
///
/// Examples:
///   diptych adopt --data /mnt/new-disk/bank --moved
///   diptych adopt --data trial --copy
#[derive(Debug, Args)]
#[command(about = "Take a folder as a log where it is now", verbatim_doc_comment)]
pub(crate) struct AdoptArgs {
    #[command(flatten)]
    pub(crate) folder: Folder,
    #[command(flatten)]
    as_what: AsWhat,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AsWhat {
    /// It is the log itself, which was moved. The folder that it came from must not go on.
    #[arg(long)]
    moved: bool,
    /// It becomes a log of its own, in a new epoch. The original may go on.
    #[arg(long)]
    copy: bool,
    /// It is a replica of a log, and takes no commits.
    #[arg(long)]
    replica: bool,
}

impl AdoptArgs {
    pub(crate) fn adoption(&self) -> Adoption {
        match self.as_what {
            AsWhat { copy: true, .. } => Adoption::Copy,
            AsWhat { replica: true, .. } => Adoption::Replica,
            AsWhat { .. } => Adoption::Moved,
        }
    }
}

/// Move complete segments of a log to another folder, the archive, the oldest first.
///
/// Events are read from there as before. Index files stay, so a look-up of a tag or key that no
/// event has does not touch the archive. The log also opens, takes commits and answers from newer
/// segments while the archive is not mounted. The last complete segment always stays.
///
/// Each segment is verified, copied, synced and read again before its file is removed. If the
/// program is killed half-way, run the command again. Only this log may use the folder. No other
/// process may hold the log; a program that has it open calls Log::archive.
///
/// Examples:
///   diptych archive --data bank --to /mnt/large/bank --keep-segments 16
///   diptych archive --data bank --relocated /mnt/larger/bank
///   diptych archive --data bank --back
#[derive(Debug, Args)]
#[command(about = "Move complete segments to another folder", verbatim_doc_comment)]
pub(crate) struct ArchiveArgs {
    #[command(flatten)]
    pub(crate) folder: Folder,
    /// The folder of the archive: missing, empty, or the archive of this log.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_hint = ValueHint::DirPath,
        value_parser = address::folder(),
        required_unless_present_any = ["relocated", "back"]
    )]
    pub(crate) to: Option<PathBuf>,
    /// Only segments without an event after this position.
    #[arg(long, value_name = "POSITION", value_parser = position, requires = "to")]
    upto: Option<Position>,
    /// Keep this many of the last complete segments.
    #[arg(long, value_name = "SEGMENTS", requires = "to", conflicts_with = "upto")]
    keep_segments: Option<u32>,
    /// Move nothing: note that the archive was moved, and is in this folder now.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_hint = ValueHint::DirPath,
        value_parser = address::folder(),
        conflicts_with = "to"
    )]
    pub(crate) relocated: Option<PathBuf>,
    /// Bring all archived segments back into the folder of the log. Afterwards it has no archive.
    #[arg(long, conflicts_with_all = ["to", "relocated"])]
    pub(crate) back: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl ArchiveArgs {
    pub(crate) fn limit(&self) -> ArchiveLimit {
        match (self.upto, self.keep_segments) {
            (Some(position), _) => ArchiveLimit::Upto(position),
            (None, Some(keep)) => ArchiveLimit::KeepSegments(keep),
            (None, None) => ArchiveLimit::All,
        }
    }
}

/// Append sample events, then read and tail them: a first look at everything.
///
/// The events tell half a year of a small city library. They are appended under an idempotency key,
/// so that a second run does not append them again. Without a terminal the command ends at the last
/// event.
#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// The folder of the log, created if missing.
    #[arg(
        long = "data",
        value_name = "ADDRESS",
        default_value = "diptych-sample",
        value_hint = ValueHint::DirPath,
        value_parser = address::folder()
    )]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) wait: Wait,
    /// End at the last event even on a terminal.
    #[arg(long)]
    pub(crate) until_head: bool,
}

/// Load real flights, keep views up to date, and serve a page that shows them.
///
/// The flights are those of New York's three airports in January 2013. --flights takes another
/// file, such as the whole year. Each row becomes commands (schedule, depart, land and so on) that
/// are sent in the order in which they happened. If a rule refuses a command, the refusal is
/// counted and recorded as an event. A second start continues where the first one ended, and loads
/// nothing twice.
///
/// Examples:
///   diptych demo
///   diptych demo --speed 600 --until 2013-01-08T00:00:00Z
///   diptych demo --once --json --flights flights.csv.gz --data year
///   diptych demo --store 'postgres://ann@localhost/flights?log=january'
///   diptych demo --poster http://localhost:2013 --data diptych-demo/log --listen 127.0.0.1:0
#[derive(Debug, Args)]
#[command(
    about = "Load real flights, keep views of them, and serve a page to look at",
    verbatim_doc_comment
)]
pub(crate) struct DemoArgs {
    /// The folder of the log and of the report, created if missing, or the log of a server, as
    /// diptych://HOST:PORT/log, or in PostgreSQL, as postgres://USER@HOST/DATABASE?log=NAME. There
    /// is a report only in a folder. --store is another name of this option.
    #[arg(
        long = "data",
        alias = "store",
        value_name = "ADDRESS",
        default_value = "diptych-demo",
        value_hint = ValueHint::DirPath,
        value_parser = address::log()
    )]
    pub(crate) address: LogAddress,
    /// Load nothing, and be a poster: follow the log, serve the page, and send commands to the demo
    /// whose page is at this address, such as http://localhost:2013.
    #[arg(
        long = "poster",
        value_name = "OWNER",
        conflicts_with_all = ["flights", "speed", "once", "json", "until"]
    )]
    pub(crate) owner: Option<String>,
    #[command(flatten)]
    pub(crate) wait: Wait,
    /// Another table of flights, as CSV, plain or compressed by gzip.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) flights: Option<PathBuf>,
    /// Address of the page. Port 0 takes any free port.
    #[arg(long, value_name = "ADDRESS", default_value_t = LISTEN, conflicts_with = "once")]
    pub(crate) listen: SocketAddr,
    /// A host name that requests for the page may use, besides the names of this machine.
    #[arg(
        long = "host",
        value_name = "NAME",
        value_parser = host_name,
        conflicts_with = "once"
    )]
    pub(crate) hosts: Vec<String>,
    /// Speed of the days: a multiple of the original speed, or max for as fast as possible.
    #[arg(long, value_name = "TIMES", default_value = "max")]
    pub(crate) speed: Speed,
    /// Load, print the results, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Send only commands from before this instant, such as 2013-01-08T00:00:00Z.
    #[arg(long, value_name = "INSTANT")]
    pub(crate) until: Option<Timestamp>,
}

/// Default address of the demo. The port is the year of the flights.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2013);

/// The speed of the demo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// As fast as possible.
    Max,
    /// A multiple of the original speed.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.parse::<f64>() {
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
            _ => Err("give a number above 0, such as 60 for a minute a second, or max".to_owned()),
        }
    }
}

/// A name or an address as in a `Host` header, without scheme, port and path, which are never
/// compared.
fn host_name(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_name = !text.is_empty() && text.chars().all(is_part);
    match is_name || bare.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("give a name or an address, without scheme, port and path, such as \
                      flights.example"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_event_matches_any_of_several_filters() {
        let line = ["diptych", "read", "--data", "d", "--filter", "type=a", "--filter", "tag=k:v"];
        let Command::Read(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command")
        };
        assert_eq!(args.which.filter().to_string(), "type=a or tag=k:v");
    }

    #[test]
    fn a_speed_is_a_number_above_zero_or_max() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        for wrong in ["", "0", "-1", "nan", "inf", "fast"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_a_name_without_scheme_and_port() {
        for right in ["localhost", "flights.example", "10.0.0.7", "::1", "[fe80::1]"] {
            assert_eq!(host_name(right).as_deref(), Ok(right));
        }
        for wrong in ["", "http://flights.example", "flights.example:80", "a/b", "me@home", "a b"] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_demo_without_a_page_takes_no_address() {
        let line = ["diptych", "demo", "--once", "--listen", "127.0.0.1:1"];
        assert!(Cli::try_parse_from(line).is_err());
    }

    #[test]
    fn a_batch_size_goes_with_neither_key_nor_condition() {
        for option in ["--key=k", "--fail-if=type=a"] {
            let line = ["diptych", "append", "--data", "d", "--batch", "5", option];
            assert!(Cli::try_parse_from(line).is_err(), "{option}");
        }
    }
}
