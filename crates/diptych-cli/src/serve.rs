//! `diptych serve`: serves the log of a folder to other processes.

mod file;
mod messages;
mod settings;

use std::{
    io::{self, ErrorKind, Write},
    net::SocketAddr,
};

use diptych_log::{Access, FutureTime, Log, LogOptions, OpenError, PlacePolicy, ReadOnlyLog};
use diptych_server::{LogServer, Metrics};
use diptych_store::{Store, TimeSource};
use tokio::{net::TcpListener, runtime::Runtime};

use self::{messages::Messages, settings::Settings};
use crate::{
    args::{SERVE_LISTEN, ServeArgs},
    exit::{Exit, Failure},
    folder,
    signal::{on_signal, stopped},
};

/// The name of the log in its address.
const LOG_NAME: &str = "log";

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    let is_only_printed = args.print_config;
    let settings = Settings::read(args)?;
    if is_only_printed {
        let mut out = io::stdout().lock();
        return Ok(write!(out, "{}", settings.report()).and_then(|()| out.flush())?);
    }
    let messages = Messages::start(settings.log_format, settings.log_level);
    let runtime = Runtime::new()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start threads: {error}")));
    let served = check(&settings)
        .and(runtime)
        .and_then(|runtime| runtime.block_on(serve(&settings, &messages)));
    served.map_err(|failure| messages.failed(failure))
}

/// Finds wrong settings before any file is read or written.
fn check(settings: &Settings) -> Result<(), Failure> {
    let Settings { listen, certificate, tokens, open_to_all, .. } = settings;
    let is_protected = certificate.is_some() && tokens.is_some();
    match listen.ip().is_loopback() || *open_to_all || is_protected {
        true => Ok(()),
        false => Err(Failure::input(format!(
            "other machines can reach the log at {listen}, and this server lacks encryption \
             (--certificate and --private-key) or a way to ask who they are (--tokens): give all \
             three, listen at an address of this machine alone, such as --listen {SERVE_LISTEN}, \
             or give --open-to-all if each machine that reaches the address may read and append \
             everything"
        ))),
    }
}

async fn serve(settings: &Settings, messages: &Messages) -> Result<(), Failure> {
    // Listens first: if the port is taken, the error comes before anything is written.
    let listener = listen(settings.listen).await?;
    let address = listener.local_addr().unwrap_or(settings.listen);
    let stop = on_signal()?;
    // Metrics register with the recorder that they find at their first use.
    let metrics = Metrics::install()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start metrics: {error}")))?;
    let options = log_options(settings);
    let (dir, wait) = (&settings.data, settings.wait);
    let log = match folder::when_free(wait, || Log::open(dir, options.clone())) {
        // Its readers may not know yet that it moved. Appends are refused with the new place.
        Err(moved @ OpenError::Left { .. }) => {
            messages.only_reads(&moved);
            Store::new(ReadOnlyLog::open(dir, LogOptions::default())?)
        }
        log => Store::new(log?),
    };
    tell(settings, address, &log, messages)?;
    let server = LogServer::new(log.clone()).metrics(metrics);
    let server = if settings.receive_copy { server.receive_copy() } else { server };
    let shutdown = async {
        stopped(stop).await;
        messages.stopping();
    };
    let served = match protected(server, settings) {
        Ok(server) => server.serve(listener, shutdown).await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    // Accepted commits become durable, even if the server failed.
    let closed = log.close().await;
    served?;
    closed?;
    messages.stopped();
    Ok(())
}

fn log_options(settings: &Settings) -> LogOptions {
    let future_time = match settings.accept_future_time {
        true => FutureTime::Accept,
        false => FutureTime::Refuse,
    };
    let place = match settings.accept_new_place {
        true => PlacePolicy::Follow,
        false => PlacePolicy::Refuse,
    };
    let time = match settings.receive_copy {
        true => TimeSource::Caller,
        false => TimeSource::Clock,
    };
    LogOptions { access: Access::Append, place, time, future_time, ..LogOptions::default() }
}

/// The server with its certificates and tokens.
fn protected(server: LogServer, settings: &Settings) -> Result<LogServer, Failure> {
    let Settings { certificate, private_key, tokens, host, open_to_all, .. } = settings;
    let mut server = host.iter().fold(server.name(LOG_NAME), |server, name| server.host(name));
    if let (Some(certificate), Some(key)) = (certificate, private_key) {
        let encrypted = server.tls(certificate, key);
        server = encrypted.map_err(|error| Failure::input(error.to_string()))?;
    }
    if let Some(tokens) = tokens {
        let asking = server.token_file(tokens);
        server = asking.map_err(|error| Failure::input(error.to_string()))?;
    }
    Ok(if *open_to_all { server.open_to_all() } else { server })
}

/// Listens at this address.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::new(
            Exit::Held,
            format!(
                "another program listens at {address}: give another address with --listen, such \
                 as --listen 127.0.0.1:0 for any that is free"
            ),
        ),
        _ => Failure::new(Exit::Failed, format!("cannot listen at {address}: {error}")),
    })
}

/// Prints the address of the log on standard output, and how to use it on standard error.
fn tell(
    settings: &Settings,
    address: SocketAddr,
    log: &Store,
    messages: &Messages,
) -> Result<(), Failure> {
    let scheme = if settings.certificate.is_some() { "diptychs" } else { "diptych" };
    let url = format!("{scheme}://{address}/{LOG_NAME}");
    messages.serving(&settings.data, log.head().position(), &url);
    let mut out = io::stdout().lock();
    match writeln!(out, "{url}").and_then(|()| out.flush()).map_err(Failure::from) {
        // The server serves also if the reader of its address is gone.
        Ok(()) | Err(Failure::ReaderGone) => {}
        Err(other) => return Err(other),
    }
    match settings.receive_copy {
        true => messages.receiving(&url),
        false => messages.usage(&url, address.ip().is_unspecified()),
    }
    Ok(())
}
