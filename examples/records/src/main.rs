//! Customers as records, in three stages on one log: plain changes (`plain.rs`), a second view
//! (`second_view.rs`), and a command in place of plain changes of one field (`intent.rs`). One
//! client (`client.rs`) works unchanged at each stage. The way back (`way_back.rs`) is a plain
//! table.
//!
//! `cargo run -p example-records` runs the client at each stage, and then goes back. With a stage
//! and a folder it serves that stage on port 8080, until Ctrl-C:
//! `cargo run -p example-records -- 2 shop`. With `back` and a folder it writes the table beside
//! it: `cargo run -p example-records -- back shop`
#![allow(clippy::print_stdout)] // The example prints its results.

mod client;
mod intent;
mod plain;
mod second_view;
#[cfg(test)]
mod tests;
mod way_back;

use std::{env, net::SocketAddr, path::Path};

use diptych::App;
use diptych_records::WithRecords;
use diptych_server::Server;
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The application of a stage, on the log in this folder.
async fn start(stage: u32, log: &Path) -> Result<(App, Server), Failure> {
    match stage {
        1 => plain::start(log).await,
        2 => second_view::start(log).await,
        3 => intent::start(log).await,
        other => Err(format!("there is no stage {other}: the stages are 1, 2 and 3").into()),
    }
}

/// The lines that the client tells at a stage. `round` keeps its customers apart from those of
/// earlier stages on the same log.
async fn told(stage: u32, log: &Path, round: &str) -> Result<Vec<String>, Failure> {
    let (app, server) = start(stage, log).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(server.serve(listener, async {
        let _ = stopped.await;
    }));
    let told = client::run(address, round).await;
    drop(stop);
    served.await??;
    app.stop().await?;
    told
}

/// Adds customers who stay, because the client deletes its own. One of them moves by the command.
async fn settle(log: &Path) -> Result<(), Failure> {
    let (app, _server) = intent::start(log).await?;
    for (id, city) in [("ann", "Rome"), ("ben", "Oslo"), ("cem", "Rome")] {
        let row =
            json!({ "id": id, "email": format!("{id}@example.org"), "city": city, "name": id });
        app.records::<intent::Customer>().create(serde_json::from_value(row)?).await?;
    }
    app.execute(intent::MoveHouse { customer: "ann".to_owned(), city: "Bern".to_owned() }).await?;
    Ok(app.stop().await?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    if let Some(stage) = arguments.next() {
        let log = arguments.next().unwrap_or_else(|| "customers".to_owned());
        if stage == "back" {
            for line in way_back::run(Path::new(&log), Path::new(".")).await? {
                println!("{line}");
            }
            return Ok(());
        }
        let (app, server) = start(stage.parse()?, Path::new(&log)).await?;
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 8080))).await?;
        println!("stage {stage} is at http://localhost:8080/customers");
        let shutdown = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        server.serve(listener, shutdown).await?;
        app.stop().await?;
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    for stage in 1..=3 {
        println!("stage {stage}:");
        for line in told(stage, folder.path(), &format!("s{stage}")).await? {
            println!("  {line}");
        }
    }
    settle(folder.path()).await?;
    println!("the way back:");
    let table = tempfile::tempdir()?;
    for line in way_back::run(folder.path(), table.path()).await? {
        println!("  {line}");
    }
    Ok(())
}
