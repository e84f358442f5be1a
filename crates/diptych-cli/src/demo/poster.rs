//! `diptych demo --poster`: the boards of a demo in another process.

use diptych::poster::{Poster, PosterError, PosterOptions};
use diptych_demo::site;
use diptych_server::{Metrics, Owner, OwnerError};

use super::{serve_page, served};
use crate::{
    address::LogAddress,
    args::DemoArgs,
    exit::{Exit, Failure},
    remote,
    serve::listen,
    signal::on_signal,
};

/// Follows the log, and serves the page until the program is told to end.
pub(super) async fn show(args: &DemoArgs, owner: &str) -> Result<(), Failure> {
    let remote = remote::options();
    let owner = match &remote.authorities {
        Some(authorities) => Owner::at_with(owner, authorities),
        None => Owner::at(owner),
    }?;
    let listener = listen(args.listen).await?;
    let metrics = Metrics::install()?;
    let address = match &args.address {
        LogAddress::Folder(dir) => format!("file:{}", dir.display()),
        LogAddress::Remote(log) => log.address().to_owned(),
    };
    let mut options = PosterOptions::default();
    options.source_time = args.wait.duration();
    options.remote = remote;
    let poster = Poster::follow(address).catalogue(site::catalogue()).options(options);
    let poster = poster.open().await?;
    let stop = on_signal()?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let server = site::poster(poster.clone()).owner(owner).metrics(metrics);
    let serving = serve_page(args, server, listener, address, &stop)?;
    let ended = served(serving.task.await);
    let stopped = poster.stop().await;
    ended?;
    Ok(stopped?)
}

impl From<OwnerError> for Failure {
    fn from(error: OwnerError) -> Failure {
        Failure::input(error.to_string())
    }
}

impl From<PosterError> for Failure {
    fn from(error: PosterError) -> Failure {
        Failure::new(Exit::Failed, error.to_string())
    }
}
