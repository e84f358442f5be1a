use std::{env, time::Duration};

use diptych::{App, Event, Recorded};
use diptych_postgres_tables::{Postgres, Projection, Transaction};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event("sold")]
struct Sold {
    #[tag]
    shop: String,
    amount: i64,
}

struct Sales;

impl Projection for Sales {
    type Event = Sold;

    fn name(&self) -> &str {
        "sales"
    }

    fn create(&self) -> Vec<String> {
        vec![
            "create table sale (shop text not null, amount bigint not null)".to_owned(),
            "create table total (shop text primary key, amount bigint not null)".to_owned(),
        ]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        sold: &Recorded<Sold>,
    ) -> diptych_postgres_tables::Result {
        tx.insert("sale", &["shop", "amount"], &[&sold.shop, &sold.amount])?;
        tx.execute(
            "insert into total values ($1, $2)
             on conflict (shop) do update set amount = total.amount + excluded.amount",
            &[&sold.shop, &sold.amount],
        )?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usual = "postgres://ann@localhost/reports".to_owned();
    let address = env::var("DATABASE_URL").unwrap_or(usual);
    let reports = Postgres::at(address).schema("shop");
    let app = App::open("shop")?.projection(reports.projection(Sales)).start().await?;
    app.projection("sales")?.caught_up(Duration::from_secs(60)).await?;
    Ok(app.stop().await?)
}
