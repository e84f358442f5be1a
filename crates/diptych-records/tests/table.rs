//! The rows of a record in SQLite.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{path::Path, time::Duration};

use diptych::{App, Command, DecisionContext, Event, Filter, Receipt};
use diptych_records::{Record, RecordIntents, RecordTable, Records, Row, WithRecords};
use diptych_sqlite::{
    Sqlite,
    rusqlite::{Connection, OpenFlags, types::Value as SqlValue},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("order-line", intents = Discount)]
struct Line {
    #[key]
    id: String,
    #[index]
    article: Option<String>,
    cents: u64,
    weight: f64,
    gift: bool,
    #[serde(rename = "Select \"x\"")]
    words: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Event)]
enum Discount {
    #[event("line-discounted")]
    Given {
        #[tag("order-line")]
        line: String,
        cents: u64,
    },
}

impl RecordIntents<Line> for Discount {
    fn key(&self) -> String {
        let Discount::Given { line, .. } = self;
        line.clone()
    }

    fn apply(&self, row: &mut Line) {
        let Discount::Given { cents, .. } = self;
        // A discount above the price is a mistake of the log.
        row.cents = row.cents.checked_sub(*cents).unwrap();
    }
}

struct Give(&'static str, u64);

impl Command for Give {
    type State = Row<Line>;
    type Event = Discount;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> Filter {
        Row::<Line>::filter(&self.0.to_owned())
    }

    fn decide(
        &self,
        row: &Row<Line>,
        _: &DecisionContext,
    ) -> Result<Vec<Discount>, std::convert::Infallible> {
        let given = Discount::Given { line: self.0.to_owned(), cents: self.1 };
        Ok(row.get().map(|_| given).into_iter().collect())
    }
}

fn line(id: &str, cents: u64) -> Line {
    let words = vec!["a".to_owned(), "\"b\"".to_owned()];
    let article = Some("tea".to_owned());
    Line { id: id.to_owned(), article, cents, weight: 0.1, gift: true, words }
}

fn read(file: &Path) -> Vec<Vec<SqlValue>> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT id, article, cents, weight, gift, \"Select \"\"x\"\"\", _revision \
               FROM order_line ORDER BY id";
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = |row: &diptych_sqlite::rusqlite::Row<'_>| {
        (0..columns).map(|at| row.get(at)).collect::<Result<Vec<SqlValue>, _>>()
    };
    statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

async fn shown(app: &App, receipt: &Receipt) {
    let table = app.projection("order_line").unwrap();
    table.after(receipt, Duration::from_secs(20)).await.unwrap();
}

/// The rows of the view, in the form of [`read`].
async fn expected(lines: &Records<Line>) -> Vec<Vec<SqlValue>> {
    let page = lines.list(diptych_records::List::new()).unwrap().strong().await.unwrap();
    let row = |entry: &diptych_records::Entry<Line>| {
        let Line { id, article, cents, weight, gift, words } = entry.row.clone();
        let text = |text: Option<String>| text.map_or(SqlValue::Null, SqlValue::Text);
        let whole = |whole: u64| match i64::try_from(whole) {
            Ok(whole) => SqlValue::Integer(whole),
            Err(_) => SqlValue::Text(whole.to_string()),
        };
        let words = serde_json::to_string(&words).unwrap();
        vec![
            SqlValue::Text(id),
            text(article),
            whole(cents),
            SqlValue::Real(weight),
            SqlValue::Integer(gift.into()),
            SqlValue::Text(words),
            whole(entry.revision),
        ]
    };
    page.items.iter().map(row).collect()
}

#[tokio::test]
async fn the_table_has_the_rows_of_the_view_column_by_column_also_after_an_intent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let open = |version| {
        let table = Sqlite::at(&file).projection(RecordTable::<Line>::new().version(version));
        let builder = App::open(folder.path().join("log")).unwrap();
        builder.records::<Line>().projection(table)
    };
    let app = open(1).start().await.unwrap();
    let lines = app.records::<Line>();
    for (id, cents) in [("a", 500), ("b", u64::MAX), ("ü'\"", 7)] {
        lines.create(line(id, cents)).await.unwrap();
    }
    lines.patch("b".to_owned(), json!({ "article": null, "gift": false })).await.unwrap();
    app.execute(Give("a", 100)).await.unwrap();
    let last = lines.delete("ü'\"".to_owned()).await.unwrap();
    shown(&app, &last).await;
    let rows = read(&file);
    assert_eq!(rows, expected(&lines).await);
    assert_eq!((rows.len(), &rows[0][2]), (2, &SqlValue::Integer(400)));
    assert_eq!(rows[1][2], SqlValue::Text(u64::MAX.to_string()));
    assert_eq!(rows[1][1], SqlValue::Null);
    app.stop().await.unwrap();

    // A new version of the table is made from the log again.
    let app = open(2).start().await.unwrap();
    shown(&app, &last).await;
    assert_eq!(read(&file), rows);
    let connection = Connection::open(&file).unwrap();
    let index = "SELECT count(*) FROM sqlite_master WHERE name = 'order_line_by_article'";
    assert_eq!(connection.query_row(index, [], |row| row.get(0)), Ok(1));
    drop(connection);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_row_whose_event_cannot_be_applied_is_held_back_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let table = Sqlite::at(&file).projection(RecordTable::<Line>::new());
    let app = App::open(folder.path().join("log")).unwrap().records::<Line>().projection(table);
    let app = app.start().await.unwrap();
    let lines = app.records::<Line>();
    for id in ["a", "b"] {
        lines.create(line(id, 500)).await.unwrap();
    }
    app.execute(Give("a", 501)).await.unwrap();
    let last = lines.patch("b".to_owned(), json!({ "cents": 7 })).await.unwrap();
    shown(&app, &last).await;
    let cents: Vec<_> = read(&file).into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(cents, [SqlValue::Integer(500), SqlValue::Integer(7)]);
    let connection = Connection::open(&file).unwrap();
    let poisoned = "SELECT key, position FROM diptych_poisoned WHERE projection = 'order_line'";
    let poisoned: (String, u64) =
        connection.query_row(poisoned, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(poisoned, ("order-line:a".to_owned(), 3));
    drop(connection);
    app.stop().await.unwrap();
}
