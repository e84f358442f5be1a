mod commands;
mod events;
mod feed;
mod process;
mod queries;
mod report;

use std::env;

use diptych::{
    App,
    process::{CallsFrom, GatewayOptions, ProcessStart},
};
use diptych_server::Server;
use diptych_sqlite::Sqlite;
use tokio::net::TcpListener;

use crate::{
    commands::{AddTool, LendTool, ReturnTool},
    events::upcasters,
    feed::Loans,
    process::{Letterbox, Reminder},
    queries::{Board, Tools},
    report::LoanReport,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::open("data")?
        .upcasters(upcasters())
        .view::<Board>()
        .feed::<Loans>()
        .projection(Sqlite::at("report.db").projection(LoanReport))
        .gateway(
            "letterbox",
            Letterbox,
            CallsFrom::Beginning,
            GatewayOptions::default().idempotent(),
        )
        .process::<Reminder>(ProcessStart::Beginning)
        .start()
        .await?;
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
