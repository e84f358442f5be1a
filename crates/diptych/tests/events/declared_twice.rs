//! Two Rust types that declare one event type are told, by the start of an app or by the first
//! command that brings the second one.

use std::convert::Infallible;

use diptych::{
    App, Command, CommandError, DecisionContext, Event, EventType, ExecuteError, Fold, Memory,
    Recorded, StartError,
    event::{Codec, DeclaredTwice, EncodedEvent, Json, SchemaError},
    store::RawEvent,
    testing::given,
};
use serde::{Deserialize, Serialize};

use crate::support::counted_store::everything;

/// Declares the same event in another place.
macro_rules! place {
    ($module:ident $(, $option:ident = $value:tt)?) => {
        mod $module {
            use super::*;

            #[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
            #[event("paid" $(, $option = $value)?)]
            pub(super) struct Paid {
                #[tag]
                pub(super) order: String,
            }
        }
    };
}

place!(shop);
place!(bank);

fn order() -> String {
    "7".to_owned()
}

/// Two unions of one declared type.
#[derive(Clone, Debug, PartialEq, Event)]
enum Sale {
    Paid(shop::Paid),
    #[event("sent")]
    Sent {},
}

#[derive(Clone, Debug, PartialEq, Event)]
enum Payments {
    Paid(shop::Paid),
}

/// The event by hand, of the version and with the tags in the name.
macro_rules! by_hand {
    ($name:ident, $of:expr) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct $name {
            order: String,
        }

        impl Event for $name {
            fn types() -> Vec<EventType> {
                vec![$of]
            }

            fn encode(&self) -> Result<RawEvent, SchemaError> {
                Ok(RawEvent::new("paid", Json::encode(self)?).version($of.version))
            }

            fn decode(encoded: &EncodedEvent<'_>) -> Result<$name, SchemaError> {
                encoded.read::<Json, _>()
            }
        }
    };
}

by_hand!(Same, EventType::new("paid").tags(&["order"]));
by_hand!(Newer, EventType::new("paid").tags(&["order"]).version(2));
by_hand!(Untagged, EventType::new("paid"));

#[derive(Clone, Debug, Default, PartialEq)]
struct Orders(u64);

impl Fold for Orders {
    type Event = shop::Paid;

    fn apply(&mut self, _: &Recorded<shop::Paid>) {
        self.0 += 1;
    }
}

/// Starts an app with a view of the shop's event, and with the events of `E`.
async fn start<E: Event>() -> Result<App, StartError> {
    App::over(Memory::new()).view::<Orders>().events::<E>().start().await
}

async fn refused<E: Event>() -> DeclaredTwice {
    match start::<E>().await {
        Err(StartError::Schema(SchemaError::DeclaredTwice(twice))) => twice,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_start_names_the_two_types_that_declare_one_event() {
    let twice = refused::<bank::Paid>().await;
    assert_eq!(twice.name, "paid");
    let mut places = [twice.first, twice.second];
    places.sort_unstable();
    assert_eq!(
        places,
        ["events::declared_twice::bank::Paid", "events::declared_twice::shop::Paid"]
    );
    let text = StartError::from(SchemaError::DeclaredTwice(twice)).to_string();
    assert!(text.contains("paid is declared twice, by events::declared_twice::"), "{text}");
    assert!(text.contains("give one of them another name"), "{text}");
}

#[tokio::test]
async fn types_that_hold_one_declared_type_share_its_name() {
    start::<shop::Paid>().await.unwrap();
    start::<Sale>().await.unwrap();
    let app = App::over(Memory::new()).view::<Orders>().events::<Sale>().events::<Payments>();
    app.start().await.unwrap();
}

#[tokio::test]
async fn an_event_by_hand_must_have_the_version_and_the_tags_of_the_other() {
    start::<Same>().await.unwrap();
    let text = refused::<Newer>().await.to_string();
    assert!(text.contains("version 1, json, tags order"), "{text}");
    assert!(text.contains("version 2, json, tags order"), "{text}");
    let text = refused::<Untagged>().await.to_string();
    assert!(text.contains("declared_twice::Untagged (version 1, json)"), "{text}");
}

/// Pays with the event of the bank, which no fold of the app knows.
struct Pay;

impl Command for Pay {
    type State = ();
    type Event = bank::Paid;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<bank::Paid>, Infallible> {
        Ok(vec![bank::Paid { order: order() }])
    }
}

#[tokio::test]
async fn a_command_that_brings_the_second_type_fails_and_writes_nothing() {
    let app = App::over(Memory::new()).view::<Orders>().start().await.unwrap();
    for _ in 0..2 {
        match app.execute(Pay).await.unwrap_err() {
            ExecuteError::Failed(CommandError::Schema(SchemaError::DeclaredTwice(twice))) => {
                assert_eq!(twice.second, "events::declared_twice::bank::Paid");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(everything(app.store()).is_empty());
}

#[test]
#[should_panic = "paid is declared twice"]
fn the_testing_kit_tells_it_too() {
    let _ = given([shop::Paid { order: order() }]).when(Pay);
}
