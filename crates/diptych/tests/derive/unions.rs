//! Enums of enums: a union of events that several modules declare, and a subset for a rule that
//! needs less.

use diptych::{Event, event::SchemaError};
use serde::{Deserialize, Serialize};

use super::{json, read, tags, written};

#[derive(Clone, Debug, PartialEq, Event)]
enum Shop {
    Orders(Orders),
    Stock(Stock),
    #[event("shop-closed")]
    Closed,
}

#[derive(Clone, Debug, PartialEq, Event)]
enum Orders {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u32,
    },
    Payment(Payment),
}

#[derive(Clone, Debug, PartialEq, Event)]
enum Payment {
    #[event("payment-made")]
    Made {
        #[tag]
        order: u32,
        cents: u64,
    },
    #[event("payment-refused")]
    Refused {
        #[tag]
        order: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("stock-counted")]
struct Stock {
    #[tag]
    article: String,
    pieces: u32,
}

/// Only the events that a rule over paid orders needs.
#[derive(Debug, PartialEq, Event)]
enum Paying {
    Payment(Payment),
}

const MADE: Payment = Payment::Made { order: 7, cents: 90 };

#[test]
fn a_union_has_the_events_of_its_members_at_any_depth() {
    let names: Vec<_> = Shop::types().iter().map(|known| known.name).collect();
    let expected =
        ["shop-closed", "order-placed", "payment-made", "payment-refused", "stock-counted"];
    assert_eq!(names, expected);
    assert!(names.iter().all(|name| Shop::has_type(name)));
    assert!(!Shop::has_type("shop-opened"));

    let made = Shop::Orders(Orders::Payment(MADE));
    let raw = written(made);
    assert_eq!(raw, MADE.encode().unwrap());
    assert_eq!(tags(&raw), ["order:7"]);
    written(Shop::Stock(Stock { article: "pen".into(), pieces: 3 }));
    written(Shop::Closed);
}

#[test]
fn a_subset_reads_its_events_and_refuses_others() {
    let raw = written(Shop::Orders(Orders::Payment(MADE)));
    assert_eq!(read(&raw), Ok(Paying::Payment(MADE)));

    let raw = written(Orders::Placed { order: 7 });
    assert!(!Paying::has_type(&raw.event_type));
    let Err(SchemaError::UnknownType { event_type, version, wanted }) = read::<Paying>(&raw) else {
        panic!("the subset should refuse this type");
    };
    assert_eq!((event_type.as_str(), version), ("order-placed", 1));
    assert!(wanted.ends_with("Paying"), "{wanted}");
    // A struct has one type, and refuses other types too.
    let error = read::<Stock>(&json("order-placed", "{}")).unwrap_err();
    assert!(matches!(error, SchemaError::UnknownType { .. }), "{error}");
}

#[test]
fn an_event_becomes_one_of_each_union_that_holds_it() {
    let stock = Stock { article: "pen".into(), pieces: 3 };
    assert_eq!(Shop::from(stock.clone()), Shop::Stock(stock));
    let orders: Orders = MADE.into();
    assert_eq!(Shop::from(orders), Shop::Orders(Orders::Payment(MADE)));
}
