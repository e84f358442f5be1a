//! `diptych trace`: prints the flow that an event belongs to.

use std::io::{self, Write};

use diptych::process::{ProcessOperations, TraceError, TraceOptions};

use crate::{args::TraceArgs, exit::Failure, ndjson::write_json, remote};

pub(crate) fn run(args: &TraceArgs) -> Result<(), Failure> {
    let operations = ProcessOperations::over(remote::open_to_read(&args.place)?);
    let mut options = TraceOptions::default();
    options.steps = args.limit;
    options.whole_log = args.whole_log;
    options.searched_events = args.search;
    let trace = pollster::block_on(operations.trace(args.target, options))?;
    let mut out = io::stdout().lock();
    match args.json {
        true => Ok(write_json(&trace, &mut out)?),
        false => Ok(write!(out, "{trace}")?),
    }
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Failure {
        match error {
            TraceError::Read(error) => error.into(),
            error => Failure::input(error.to_string()),
        }
    }
}
