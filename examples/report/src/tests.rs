use diptych::{
    Memory,
    testing::{given, nothing_given},
};

use super::*;
use crate::commands::TooFew;

fn delivered(pieces: u32) -> Trade {
    Trade::Delivered { article: "apples".to_owned(), pieces }
}

fn sold(pieces: u32) -> Trade {
    Trade::Sold { article: "apples".to_owned(), month: 1, pieces, cents: 5 }
}

fn sell(pieces: u32) -> Sell {
    Sell { article: "apples".to_owned(), month: 1, pieces, cents: 5 }
}

#[test]
fn only_articles_in_stock_are_sold() {
    given([delivered(7)]).when(sell(7)).then([sold(7)]);
    given([delivered(7), sold(5)]).when(sell(3)).then_rejected(TooFew { left: 2 });
    nothing_given().when(sell(1)).then_rejected(TooFew { left: 0 });
}

#[tokio::test]
async fn the_report_contains_every_sale() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reports.db");
    let sales = Sqlite::at(&file).projection(Sales);
    let app = App::over(Memory::new()).projection(sales).start().await.unwrap();
    app.execute(Deliver { article: "apples".to_owned(), pieces: 10 }).await.unwrap();
    app.execute(sell(4)).await.unwrap();
    let receipt = app.execute(sell(5)).await.unwrap();
    app.projection("sales").unwrap().after(&receipt, SOON).await.unwrap();
    let sum = "SELECT count(*), sum(pieces) FROM sale";
    let report = Connection::open(&file).unwrap();
    let sold: (u32, u32) = report.query_row(sum, (), |row| row.try_into()).unwrap();
    assert_eq!(sold, (2, 9));
}
