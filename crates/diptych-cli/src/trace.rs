//! `diptych trace`: prints the flow that an event belongs to.

use std::{
    env,
    io::{self, Write},
};

use diptych::process::{
    JoinedTrace, NoSuchFlow, ProcessOperations, Trace, TraceError, TraceOptions, TraceSource,
    TraceSourceError, TraceSources, TraceTarget,
};
use diptych_gateways::{GatewaySetupError, HttpTraces};
use tokio::runtime;

use crate::{
    address::{ServiceAddress, ServicePlace},
    args::{LogPlace, TraceArgs},
    exit::{Exit, Failure},
    ndjson::write_json,
    remote,
};

/// The environment variable with the bearer token for applications over HTTP.
const TOKEN: &str = "DIPTYCH_TRACE_TOKEN";

pub(crate) fn run(args: &TraceArgs) -> Result<(), Failure> {
    let operations = ProcessOperations::over(remote::open_to_read(&args.place)?);
    let mut options = TraceOptions::default();
    options.steps = args.limit;
    options.whole_log = args.whole_log;
    options.searched_events = args.search;
    options.feeds = args.feeds;
    if !args.also.is_empty() {
        let trace = joined(args, operations, options)?;
        let mut out = io::stdout().lock();
        return match args.json {
            true => Ok(write_json(&trace, &mut out)?),
            false => Ok(write!(out, "{trace}")?),
        };
    }
    let trace = pollster::block_on(operations.trace(args.target, options))?;
    let mut out = io::stdout().lock();
    match args.json {
        true => Ok(write_json(&trace, &mut out)?),
        false => Ok(write!(out, "{trace}")?),
    }
}

/// The flow of this log and of other services.
fn joined(
    args: &TraceArgs,
    own: ProcessOperations,
    options: TraceOptions,
) -> Result<JoinedTrace, Failure> {
    let mut sources = TraceSources::new().with(args.place.address.to_string(), own);
    for ServiceAddress { name, at } in &args.also {
        sources = match at {
            ServicePlace::Http(url) => sources.with(name, over_http(url)?),
            ServicePlace::Log(address) => {
                let place = LogPlace { address: address.clone(), wait: args.place.wait };
                match remote::open_to_read(&place) {
                    Ok(store) => sources.with(name, ProcessOperations::over(store)),
                    Err(Failure::Stopped { message, .. }) => sources.with(name, AwayLog(message)),
                    Err(failure) => return Err(failure),
                }
            }
        };
    }
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    Ok(runtime.block_on(sources.trace(args.target, options))?)
}

fn over_http(url: &str) -> Result<HttpTraces, Failure> {
    let traces = HttpTraces::new(url, HttpTraces::options())?;
    match env::var(TOKEN) {
        Ok(token) => Ok(traces.header("authorization", &format!("Bearer {token}"))?),
        Err(_) => Ok(traces),
    }
}

/// A log that cannot be opened. The flow of the others is shown.
struct AwayLog(String);

impl TraceSource for AwayLog {
    async fn trace(&self, _: TraceTarget, _: TraceOptions) -> Result<Trace, TraceSourceError> {
        Err(TraceSourceError::Away { reason: self.0.clone() })
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

impl From<NoSuchFlow> for Failure {
    fn from(error: NoSuchFlow) -> Failure {
        Failure::input(error.to_string())
    }
}

impl From<GatewaySetupError> for Failure {
    fn from(error: GatewaySetupError) -> Failure {
        match error {
            GatewaySetupError::Client(_) => Failure::new(Exit::Failed, error.to_string()),
            error => Failure::input(error.to_string()),
        }
    }
}
