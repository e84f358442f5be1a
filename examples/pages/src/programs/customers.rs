use std::env;

use diptych::App;
use diptych_records::{Record, ServeRecords, WithRecords};
use diptych_server::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Record)]
#[record("customer")]
struct Customer {
    #[key]
    id: u64,
    #[index]
    city: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::open("shop")?.records::<Customer>().start().await?;
    let server = Server::new(app.clone()).records::<Customer>("/customers");
    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("the customers are at http://{}/customers", listener.local_addr()?);
    server.serve(listener, async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(app.stop().await?)
}
