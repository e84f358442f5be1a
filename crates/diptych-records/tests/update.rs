//! Changes of nested values, and of one of several unique fields.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use diptych::{App, ExecuteError, Memory};
use diptych_records::{Record, Records, Refusal, UpdateError, WithRecords};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    Shelf { row: u8, note: Option<String> },
    Truck { plate: String },
    Lost,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Record)]
#[record("parcel")]
struct Parcel {
    #[key]
    id: u64,
    #[unique]
    code: String,
    #[unique]
    seal: Option<String>,
    labels: BTreeMap<String, Option<u8>>,
    place: Place,
}

fn parcel(id: u64, code: &str, seal: &str) -> Parcel {
    let labels = [("a", Some(1)), ("b", Some(2)), ("c", None)];
    Parcel {
        id,
        code: code.to_owned(),
        seal: Some(seal.to_owned()),
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        place: Place::Shelf { row: 1, note: Some("upright".to_owned()) },
    }
}

async fn started() -> (App, Records<Parcel>) {
    let app = App::over(Memory::new()).records::<Parcel>().start().await.unwrap();
    let parcels = app.records::<Parcel>();
    (app, parcels)
}

#[tokio::test]
async fn an_update_keeps_each_change_inside_a_nested_value() {
    let (_app, parcels) = started().await;
    parcels.create(parcel(1, "p", "s")).await.unwrap();
    let changes: [fn(&mut Parcel); 7] = [
        |row| row.labels.retain(|name, _| name != "b"),
        |row| row.labels.extend([("a".to_owned(), None)]),
        |row| row.labels.clear(),
        |row| row.place = Place::Shelf { row: 1, note: None },
        |row| row.place = Place::Truck { plate: "x".to_owned() },
        |row| row.place = Place::Lost,
        |row| row.place = Place::Shelf { row: 2, note: None },
    ];
    let mut wanted = parcel(1, "p", "s");
    for (at, change) in changes.into_iter().enumerate() {
        change(&mut wanted);
        let receipt = parcels.update(1, change).await.unwrap();
        assert_eq!(receipt.events(), 1, "change {at}");
        let row = parcels.get(1).after(&receipt).await.unwrap().value.unwrap().row;
        assert_eq!(row, wanted, "change {at}");
    }
    // An update that changes nothing writes nothing.
    assert_eq!(parcels.update(1, |_| {}).await.unwrap().events(), 0);
}

#[tokio::test]
async fn an_update_never_changes_the_key_and_so_no_other_row() {
    let (app, parcels) = started().await;
    parcels.create(parcel(1, "p", "s")).await.unwrap();
    parcels.create(parcel(2, "q", "t")).await.unwrap();
    let head = app.head();
    let moved = parcels.update(1, |row| row.id = 2).await;
    let Err(UpdateError::Refused(Refusal::Unfit { field, .. })) = moved else {
        panic!("{moved:?}")
    };
    assert_eq!((field.as_str(), app.head()), ("id", head));
}

#[tokio::test]
async fn a_change_of_one_unique_field_is_not_refused_for_an_older_value_of_another() {
    let (_app, parcels) = started().await;
    parcels.create(parcel(1, "p", "s")).await.unwrap();
    // The event of the code says that row 1 has the seal, and that is no longer so.
    parcels.patch(1, json!({ "seal": null })).await.unwrap();
    parcels.patch(1, json!({ "code": "r" })).await.unwrap();
    parcels.create(parcel(2, "q", "s")).await.unwrap();
    parcels.patch(2, json!({ "code": "p" })).await.unwrap();
    parcels.update(2, |row| row.labels.clear()).await.unwrap();

    for (patch, taken) in [(json!({ "code": "p" }), "code"), (json!({ "seal": "s" }), "seal")] {
        match parcels.patch(1, patch).await {
            Err(ExecuteError::Rejected(Refusal::Taken { field, .. })) => assert_eq!(field, taken),
            other => panic!("{other:?}"),
        }
    }
}
