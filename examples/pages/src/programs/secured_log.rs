use std::env;

use diptych::{LogOptions, log::Log, store::Store};
use diptych_server::LogServer;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = Log::open("data", LogOptions::default())?;
    let address = env::var("ADDRESS").unwrap_or("0.0.0.0:4500".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("the log is open at {}", listener.local_addr()?);
    let until_ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    LogServer::new(Store::new(log.clone()))
        .tls("certificate.pem", "key.pem")?
        .token_file("tokens.toml")?
        .host("log.example.org")
        .serve(listener, until_ctrl_c)
        .await?;
    log.close()?;
    Ok(())
}
