use std::{collections::BTreeMap, env};

use diptych::{App, Query};
use diptych_records::{Record, RowChanges, RowFold, ServeRecords, WithRecords};
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Record)]
#[record("member")]
struct Member {
    #[key]
    id: String,
    #[index]
    street: String,
}

type Streets = BTreeMap<String, i64>;

impl RowChanges<Member> for Streets {
    fn apply(&mut self, old: Option<&Member>, new: Option<&Member>) {
        let rows = old.map(|row| (row, -1)).into_iter().chain(new.map(|row| (row, 1)));
        rows.for_each(|(row, by)| *self.entry(row.street.clone()).or_default() += by);
    }
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct PerStreet {}

impl Query for PerStreet {
    type View = RowFold<Member, Streets>;
    type Answer = Streets;
    fn answer(&self, streets: &Self::View) -> Streets {
        Streets::clone(streets)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::open("data")?.records::<Member>().view::<RowFold<Member, Streets>>();
    let app = app.start().await?;
    let server = diptych_server::Server::new(app.clone()).records::<Member>("/members");
    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("the members are at http://{}", listener.local_addr()?);
    let until_ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    server.query::<PerStreet>("per-street").serve(listener, until_ctrl_c).await?;
    Ok(app.stop().await?)
}
