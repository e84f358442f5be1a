//! The messages of a server on standard error, as text or as JSON.

use std::{
    io::{self, Write},
    path::Path,
};

use diptych_log::OpenError;
use diptych_store::Position;
use tracing::level_filters::LevelFilter;

use crate::{
    args::{LogFormat, LogLevel},
    exit::Failure,
    table::count,
};

/// Where the messages of a server go. Standard output has only the address.
pub(super) struct Messages {
    format: LogFormat,
}

impl Messages {
    /// Shows the messages of the log and the server from now on.
    pub(super) fn start(format: LogFormat, level: LogLevel) -> Messages {
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let shown = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
        match format {
            LogFormat::Text => shown.with_ansi(false).with_target(false).without_time().init(),
            LogFormat::Json => shown.json().flatten_event(true).with_current_span(false).init(),
        }
        Messages { format }
    }

    pub(super) fn serving(&self, dir: &Path, head: Position, url: &str) {
        let (events, folder) = (head.get(), dir.display());
        match self.format {
            LogFormat::Text => {
                say(&format!("serving the log of {folder}, which has {} events", count(events)));
            }
            LogFormat::Json => tracing::info!(%folder, events, url, "serving the log"),
        }
    }

    /// Says how to use the address. Programs need no such hint.
    pub(super) fn usage(&self, url: &str, is_unspecified: bool) {
        if self.format == LogFormat::Json {
            return;
        }
        if is_unspecified {
            say("other machines write the name of this machine in place of the number");
        }
        say(&format!(
            "programs and commands take this address in place of the folder:\n  \
             diptych tail --data {url}\n  \
             echo '{{\"type\":\"noted\",\"data\":\"hello\"}}' | diptych append --data {url}\n\
             Ctrl-C ends the server in order"
        ));
    }

    /// Says what the server is for while it receives a copy.
    pub(super) fn receiving(&self, url: &str) {
        let message = "this server receives a copy, and refuses appends without times of their \
                       own: start it without --receive-copy once the copy is complete";
        match self.format {
            LogFormat::Text => say(&format!("{message}\n  diptych copy FROM {url}")),
            LogFormat::Json => tracing::info!("{message}"),
        }
    }

    pub(super) fn only_reads(&self, why: &OpenError) {
        let message = format!("this server answers reads, and refuses appends: {why}");
        match self.format {
            LogFormat::Text => say(&message),
            LogFormat::Json => tracing::warn!("{message}"),
        }
    }

    pub(super) fn stopping(&self) {
        let message = "stopping: streams end, and the appends that were read complete";
        match self.format {
            LogFormat::Text => say(message),
            LogFormat::Json => tracing::info!("{message}"),
        }
    }

    pub(super) fn stopped(&self) {
        let message = "stopped: every acknowledged commit is durable, and the log is closed";
        match self.format {
            LogFormat::Text => say(message),
            LogFormat::Json => tracing::info!("{message}"),
        }
    }

    /// Reports a failure as JSON. As text, the program prints it at its end.
    pub(super) fn failed(&self, failure: Failure) -> Failure {
        match (self.format, failure) {
            (LogFormat::Json, Failure::Stopped { exit, message }) => {
                tracing::error!(exit_code = exit as u8, "{message}");
                Failure::Reported { exit }
            }
            (_, failure) => failure,
        }
    }
}

/// Prints a message to standard error.
fn say(text: &str) {
    // Ignored: there is no other place to report that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}
