use std::env;

use diptych::App;
use diptych_postgres::{PostgresOptions, PostgresStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usual = "postgres://ann@localhost/shop?log=orders".to_owned();
    let address = env::var("DATABASE_URL").unwrap_or(usual);
    let store = PostgresStore::open(&address, PostgresOptions::default()).await?;
    let app = App::over(store).start().await?;
    println!("the log ends at {}", app.head());
    Ok(app.stop().await?)
}
