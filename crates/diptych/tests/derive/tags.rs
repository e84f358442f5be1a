//! Tags: two fields under one key, tags of nested structs, and a `diptych` under another path.

use diptych::{EventType, Tag, event::Tags};
use serde::{Deserialize, Serialize};

use crate::{read, written};

/// A library that exports `diptych` under its own name.
mod library {
    pub(crate) mod events {
        pub(crate) use diptych::*;
    }
}

#[derive(Clone, Debug, PartialEq, diptych::Event)]
enum Transfers {
    #[event("money-moved")]
    Moved {
        #[tag("account")]
        from: String,
        #[tag("account")]
        to: String,
        #[tag]
        account: Option<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, diptych::Event, Serialize, Deserialize)]
#[event("account-renamed")]
struct Renamed {
    #[tag("account")]
    before: String,
    #[tag("account")]
    after: String,
}

#[test]
fn two_fields_of_one_event_may_have_one_key() {
    let (from, to) = ("a".to_owned(), "b".to_owned());
    let moved = Transfers::Moved { from, to, account: Some(3) };
    assert_eq!(crate::tags(&written(moved)), ["account:a", "account:b", "account:3"]);
    // Each key is declared once.
    assert_eq!(<Transfers as diptych::Event>::types()[0].tags, ["account"]);
    let renamed = Renamed { before: "a".to_owned(), after: "b".to_owned() };
    assert_eq!(crate::tags(&written(renamed)), ["account:a", "account:b"]);
}

#[derive(Clone, Debug, PartialEq, Tags, Serialize, Deserialize)]
struct Route {
    #[tag("airport")]
    from: String,
    #[tag("airport")]
    to: Option<String>,
    #[tag(nested)]
    carrier: Carrier,
    miles: u32,
}

#[derive(Clone, Debug, PartialEq, Tags, Serialize, Deserialize)]
struct Carrier(#[tag("carrier")] String);

#[derive(Clone, Debug, PartialEq, diptych::Event)]
enum Flights {
    #[event("flight-planned")]
    Planned {
        #[tag]
        flight: u32,
        #[tag(nested)]
        routes: Vec<Route>,
        #[tag(nested)]
        by: Option<Carrier>,
    },
}

fn route(from: &str, to: Option<&str>) -> Route {
    let carrier = Carrier("UA".to_owned());
    Route { from: from.to_owned(), to: to.map(str::to_owned), carrier, miles: 7 }
}

#[test]
fn a_nested_struct_gives_its_tags() {
    assert_eq!(<Route as Tags>::KEYS, ["airport", "carrier"]);
    assert_eq!(<Carrier as Tags>::KEYS, ["carrier"]);
    let known = <Flights as diptych::Event>::types();
    assert_eq!(known, [EventType::new("flight-planned").tags(&["flight", "airport", "carrier"])]);
    let routes = vec![route("EWR", Some("IAH")), route("JFK", None)];
    let planned = Flights::Planned { flight: 1, routes, by: Some(Carrier("B6".to_owned())) };
    let raw = written(planned);
    let expected = ["flight:1", "airport:EWR", "airport:IAH", "carrier:UA", "airport:JFK"];
    assert_eq!(crate::tags(&raw)[..5], expected);
    assert_eq!(crate::tags(&raw)[5..], ["carrier:UA", "carrier:B6"]);
    let nothing = Flights::Planned { flight: 1, routes: Vec::new(), by: None };
    assert_eq!(crate::tags(&written(nothing)), ["flight:1"]);
    let mut all = Vec::new();
    route("EWR", None).tags(&mut all);
    assert_eq!(all, [Tag::new("airport", "EWR"), Tag::new("carrier", "UA")]);
}

#[derive(Clone, Debug, PartialEq, library::events::Event, Serialize, Deserialize)]
#[event("seat-taken", version = 2, crate = library::events)]
struct Taken {
    #[tag]
    seat: String,
    #[tag(nested)]
    route: Line,
}

#[derive(Clone, Debug, PartialEq, library::events::event::Tags, Serialize, Deserialize)]
#[tags(crate = library::events)]
struct Line {
    #[tag]
    line: u8,
}

#[derive(Clone, Debug, PartialEq, library::events::Event)]
#[event(crate = crate::tags::library::events)]
enum Seats {
    #[event("seat-left")]
    Left {
        #[tag]
        seat: String,
        #[serde(with = "upper")]
        by: String,
    },
    Taken(Taken),
}

mod upper {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text.to_uppercase())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        String::deserialize(from).map(|text| text.to_lowercase())
    }
}

#[test]
fn the_crate_may_have_another_path() {
    let taken = Taken { seat: "1A".to_owned(), route: Line { line: 4 } };
    assert_eq!(crate::tags(&written(taken.clone())), ["seat:1A", "line:4"]);
    let left = Seats::Left { seat: "1A".to_owned(), by: "ann".to_owned() };
    let raw = written(left.clone());
    assert_eq!(crate::text(&raw), r#"{"seat":"1A","by":"ANN"}"#);
    assert_eq!(read::<Seats>(&raw), Ok(left));
    written(Seats::from(taken));
}
