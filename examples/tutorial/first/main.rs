mod commands;
mod events;
mod queries;

use std::env;

use diptych::App;
use diptych_server::Server;
use tokio::net::TcpListener;

use crate::{
    commands::{AddTool, LendTool, ReturnTool},
    queries::{Board, Tools},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::open("data")?.view::<Board>().start().await?;
    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("the shed is open at http://{}", listener.local_addr()?);

    let until_ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    Server::new(app.clone())
        .command::<AddTool>("add-tool")
        .command::<LendTool>("lend-tool")
        .command::<ReturnTool>("return-tool")
        .live_query::<Tools>("tools")
        .serve(listener, until_ctrl_c)
        .await?;
    Ok(app.stop().await?)
}
