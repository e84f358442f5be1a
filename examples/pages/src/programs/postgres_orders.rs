use std::env;

use diptych::{App, Event, Recorded};
use diptych_postgres::{PostgresOptions, StoreBuilder};
use diptych_postgres_tables::{InlineProjection, Projection, Transaction};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
enum Orders {
    #[event("item_added")]
    ItemAdded { #[tag] order: String, item: String },
    #[event("item_packed")]
    ItemPacked { #[tag] order: String, item: String },
}

struct OrderTable;

impl Projection for OrderTable {
    type Event = Orders;

    fn name(&self) -> &str {
        "orders"
    }

    fn create(&self) -> Vec<String> {
        vec!["create table orders (id text primary key, unpacked bigint not null)".to_owned()]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        event: &Recorded<Orders>,
    ) -> diptych_postgres_tables::Result {
        let (order, change) = match &event.event {
            Orders::ItemAdded { order, .. } => (order, 1_i64),
            Orders::ItemPacked { order, .. } => (order, -1_i64),
        };
        tx.execute(
            "insert into orders values ($1, $2)
             on conflict (id) do update set unpacked = orders.unpacked + excluded.unpacked",
            &[order, &change],
        )?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usual = "postgres://ann@localhost/shop?log=orders".to_owned();
    let address = env::var("DATABASE_URL").unwrap_or(usual);
    let table = InlineProjection::new(OrderTable).schema("shop");
    let store = StoreBuilder::new(address, PostgresOptions::default()).inline(table);
    let app = App::over(store.open().await?).start().await?;
    Ok(app.stop().await?)
}
