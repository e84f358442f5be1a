//! Repeated imports follow a table whose rows go, come back, lose values, and exchange unique ones.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, fs};

use diptych::{App, Memory};
use diptych_records::{
    CsvFile, ImportReport, NdjsonFile, PlainRecord, Record, Records, WithRecords,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("member")]
struct Member {
    #[key]
    id: String,
    #[unique]
    email: Option<String>,
    #[unique]
    #[serde(default)]
    phone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(default)]
    photo: String,
}

/// A table, imported by the type and without it.
struct Old {
    folder: TempDir,
    app: App,
    is_plain: bool,
}

impl Old {
    async fn both() -> [Old; 2] {
        [Old::new(false).await, Old::new(true).await]
    }

    async fn new(is_plain: bool) -> Old {
        let app = App::over(Memory::new()).records::<Member>().start().await.unwrap();
        Old { folder: tempfile::tempdir().unwrap(), app, is_plain }
    }

    fn members(&self) -> Records<Member> {
        self.app.records()
    }

    /// Imports these rows, and deletes those that are gone.
    async fn follow(&self, rows: &[Value]) -> ImportReport {
        let path = self.folder.path().join("member.ndjson");
        let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let table = NdjsonFile::open(&path).unwrap();
        match self.is_plain {
            false => self.members().import(table).delete_missing().run().await.unwrap(),
            true => {
                let plain = PlainRecord::new("member", "id").unique("email").unique("phone");
                let plain = plain.delete_missing();
                plain.import(self.app.store(), table, |_| ()).await.unwrap()
            }
        }
    }

    async fn rows(&self) -> BTreeMap<String, Member> {
        let page = self.members().list(diptych_records::List::new()).unwrap();
        let rows = page.strong().await.unwrap().value.items;
        rows.iter().map(|entry| (entry.row.id.clone(), entry.row.clone())).collect()
    }
}

fn counts(report: &ImportReport) -> [u64; 5] {
    let ImportReport { created, changed, unchanged, deleted, refused, .. } = report;
    [*created, *changed, *unchanged, *deleted, *refused]
}

/// A table that was cut short deleted the rest, and the whole table did not bring it back.
#[tokio::test]
async fn a_row_that_was_gone_and_comes_back_is_imported_again() {
    for old in Old::both().await {
        let rows = [
            json!({ "id": "a", "email": "a@x", "phone": "1" }),
            json!({ "id": "b", "email": "b@x", "phone": "2" }),
        ];
        assert_eq!(counts(&old.follow(&rows).await), [2, 0, 0, 0, 0]);
        assert_eq!(counts(&old.follow(&rows[..1]).await), [0, 0, 1, 1, 0]);
        assert_eq!(counts(&old.follow(&rows).await), [1, 0, 1, 0, 0]);
        assert_eq!(old.rows().await.len(), 2);
        // A person deletes a row: it stays deleted while it does not change there.
        old.members().delete("b".to_owned()).await.unwrap();
        assert_eq!(counts(&old.follow(&rows).await), [0, 0, 2, 0, 0]);
        let changed = [rows[0].clone(), json!({ "id": "b", "email": "c@x", "phone": "2" })];
        let report = old.follow(&changed).await;
        assert_eq!(counts(&report), [0, 0, 1, 0, 1]);
        assert!(report.refusals[0].reason.starts_with("was deleted here"), "{report:?}");
    }
}

/// The row kept the old value, and all later runs called it unchanged.
#[tokio::test]
async fn a_value_that_is_gone_there_is_gone_here() {
    for old in Old::both().await {
        let row = |note| json!({ "id": "a", "email": "a@x", "phone": "1", "note": note });
        old.follow(&[row(json!("call first"))]).await;
        assert_eq!(counts(&old.follow(&[row(Value::Null)]).await), [0, 1, 0, 0, 0]);
        assert_eq!(old.rows().await["a"].note, None);
        assert_eq!(counts(&old.follow(&[row(Value::Null)]).await), [0, 0, 1, 0, 0]);
    }
}

/// The first row of each batch took the default of a unique field without a column.
#[tokio::test]
async fn the_default_of_a_unique_field_belongs_to_one_row_over_all_batches() {
    let old = Old::new(false).await;
    let rows: Vec<_> = (0..300).map(|id| json!({ "id": format!("{id}") })).collect();
    let report = old.follow(&rows).await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 299]);
    assert_eq!(report.refusals[0].reason, "another row has this phone: change either");
}

/// A stale holder of a value without a column refused changes of other values.
#[tokio::test]
async fn a_change_is_not_refused_for_a_former_value_of_a_field_without_a_column() {
    let old = Old::new(false).await;
    let members = old.members();
    let member = |id: &str, email: &str, phone: &str| Member {
        id: id.to_owned(),
        email: Some(email.to_owned()),
        phone: phone.to_owned(),
        note: None,
        photo: String::new(),
    };
    members.create(member("b", "E", "P")).await.unwrap();
    members.patch("b".to_owned(), json!({ "email": "F" })).await.unwrap();
    members.patch("b".to_owned(), json!({ "phone": "Q" })).await.unwrap();
    let table = |phone: &str| {
        let path = old.folder.path().join("phones.csv");
        fs::write(&path, format!("id,phone\na,{phone}\n")).unwrap();
        CsvFile::open(&path).unwrap()
    };
    members.import(table("R")).run().await.unwrap();
    members.patch("a".to_owned(), json!({ "email": "E" })).await.unwrap();
    let report = members.import(table("P")).run().await.unwrap();
    assert_eq!(counts(&report), [0, 1, 0, 0, 0], "{report:?}");
}

/// A batch was bounded by the number of rows alone, and no commit holds 240 photos.
#[tokio::test]
async fn rows_with_large_values_are_imported() {
    let old = Old::new(false).await;
    let photo = "x".repeat(200 << 10);
    let row =
        |id: usize| json!({ "id": format!("{id}"), "phone": format!("{id}"), "photo": photo });
    let rows: Vec<_> = (0..100).map(row).collect();
    assert_eq!(counts(&old.follow(&rows).await), [100, 0, 0, 0, 0]);
}

/// Prices lost their zeros, and large numbers their last digits.
#[tokio::test]
async fn a_column_without_its_type_has_numbers_only_if_they_print_as_its_cells() {
    let old = Old::new(true).await;
    let path = old.folder.path().join("price.csv");
    let header = "id,whole,float,price,digits,large";
    let rows = "1,-7,0.5,1.50,007,9007199254740993\n2,8,-2,2.25,7,1\n";
    fs::write(&path, format!("{header}\n{rows}")).unwrap();
    let prices = PlainRecord::new("price", "id");
    let table = CsvFile::open(&path).unwrap();
    prices.import(old.app.store(), table.clone(), |_| ()).await.unwrap();
    let export = prices.export(old.app.store(), |_, _| ()).await.unwrap();
    let back = old.folder.path().join("back.csv");
    export.to_csv(&back).unwrap();
    let text = fs::read_to_string(&back).unwrap();
    for column in ["\"whole\" INTEGER", "\"float\" REAL", "\"price\" TEXT", "\"digits\" TEXT"] {
        assert!(export.ddl().contains(column), "{}", export.ddl());
    }
    assert!(export.ddl().contains("\"large\" TEXT"), "{}", export.ddl());
    for cell in ["1.50", "2.25", "007", "9007199254740993", "-7", "0.5"] {
        assert!(text.contains(cell), "{cell}: {text}");
    }
}
