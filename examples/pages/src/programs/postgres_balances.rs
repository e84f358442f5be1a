use std::env;

use diptych::{App, Event, Recorded};
use diptych_postgres::{PostgresOptions, StoreBuilder};
use diptych_postgres_tables::{InlineProjection, Projection, Transaction};
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event("paid")]
struct Paid {
    #[tag]
    account: String,
    cents: i64,
}

struct Balances;

impl Projection for Balances {
    type Event = Paid;

    fn name(&self) -> &str {
        "balances"
    }

    fn create(&self) -> Vec<String> {
        vec!["create table balance (account text primary key, cents bigint not null)".to_owned()]
    }

    fn apply(
        &self,
        tx: &mut Transaction<'_>,
        paid: &Recorded<Paid>,
    ) -> diptych_postgres_tables::Result {
        tx.execute(
            "insert into balance values ($1, $2)
             on conflict (account) do update set cents = balance.cents + excluded.cents",
            &[&paid.account, &paid.cents],
        )?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usual = "postgres://ann@localhost/shop?log=payments".to_owned();
    let address = env::var("DATABASE_URL").unwrap_or(usual);
    let balances = InlineProjection::new(Balances).schema("shop");
    let store = StoreBuilder::new(address, PostgresOptions::default()).inline(balances);
    let app = App::over(store.open().await?).start().await?;
    Ok(app.stop().await?)
}
