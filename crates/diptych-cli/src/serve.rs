//! `diptych serve`: serves the log of a folder to other processes.

use std::{
    io::{self, ErrorKind, Write},
    net::SocketAddr,
};

use diptych_log::{Access, FutureTime, Log, LogOptions};
use diptych_server::LogServer;
use diptych_store::{EventStore, Store};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{
    args::{Protection, SERVE_LISTEN, ServeArgs},
    exit::{Exit, Failure},
    folder,
    signal::{on_signal, stopped},
    table::count,
};

/// The name of the log in its address.
const LOG_NAME: &str = "log";

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    check(args)?;
    let runtime = Runtime::new()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start threads: {error}")))?;
    runtime.block_on(serve(args))
}

/// Finds wrong arguments before any file is read or written.
fn check(args: &ServeArgs) -> Result<(), Failure> {
    let address = args.listen;
    let Protection { certificate, tokens, open_to_all, .. } = &args.protection;
    let is_protected = certificate.is_some() && tokens.is_some();
    match address.ip().is_loopback() || *open_to_all || is_protected {
        true => Ok(()),
        false => Err(Failure::input(format!(
            "other machines can reach the log at {address}, and this server lacks encryption \
             (--certificate and --private-key) or a way to ask who they are (--tokens): give all \
             three, listen at an address of this machine alone, such as --listen {SERVE_LISTEN}, \
             or give --open-to-all if each machine that reaches the address may read and append \
             everything"
        ))),
    }
}

async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    // Listens first: if the port is taken, the error comes before anything is written.
    let listener = listen(args.listen).await?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let stop = on_signal()?;
    let future_time = match args.accept_future_time {
        true => FutureTime::Accept,
        false => FutureTime::Refuse,
    };
    let options = LogOptions { access: Access::Append, future_time, ..LogOptions::default() };
    let (dir, wait) = (&args.folder.dir, args.folder.wait.duration());
    let log = folder::when_free(wait, || Log::open(dir, options.clone()))?;
    tell(args, address, &log)?;
    let served = match protected(LogServer::new(Store::new(log.clone())), &args.protection) {
        Ok(server) => server.serve(listener, stopped(stop)).await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    // Accepted commits become durable, even if the server failed.
    let closed = log.close();
    served?;
    closed?;
    say("stopped: every acknowledged commit is durable, and the log is closed");
    Ok(())
}

/// The server with its certificates and tokens.
fn protected(server: LogServer, protection: &Protection) -> Result<LogServer, Failure> {
    let Protection { certificate, private_key, tokens, host, open_to_all } = protection;
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
fn tell(args: &ServeArgs, address: SocketAddr, log: &Log) -> Result<(), Failure> {
    let dir = args.folder.dir.display();
    let events = count(log.head().position().get());
    say(&format!("serving the log of {dir}, which has {events} events"));
    let scheme = if args.protection.certificate.is_some() { "diptychs" } else { "diptych" };
    let url = format!("{scheme}://{address}/{LOG_NAME}");
    let mut out = io::stdout().lock();
    match writeln!(out, "{url}").and_then(|()| out.flush()).map_err(Failure::from) {
        // The server serves also if the reader of its address is gone.
        Ok(()) | Err(Failure::ReaderGone) => {}
        Err(other) => return Err(other),
    }
    if address.ip().is_unspecified() {
        say("other machines write the name of this machine in place of the number");
    }
    say(&format!(
        "programs and commands take this address in place of the folder:\n  \
         diptych tail --data {url}\n  \
         echo '{{\"type\":\"noted\",\"data\":\"hello\"}}' | diptych append --data {url}\n\
         Ctrl-C ends the server in order"
    ));
    Ok(())
}

/// Prints a message to standard error. Standard output has only the address.
fn say(text: &str) {
    // Ignored: there is no other place to report that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}
