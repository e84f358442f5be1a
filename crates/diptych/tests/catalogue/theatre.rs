//! A theatre with seats.

use std::{collections::BTreeMap, convert::Infallible};

use diptych::{
    App, Command, DecisionContext, Event, Filter, Fold, Invalid, Memory, Query, Recorded, Tag,
    catalogue::Catalogue,
};
use serde::{Deserialize, Serialize};

/// A seat changed its owner.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub(crate) enum Seat {
    #[event("seat-taken")]
    Taken {
        #[tag]
        seat: String,
        by: String,
    },
    #[event("seat-left")]
    Left {
        #[tag]
        seat: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seats(BTreeMap<String, String>);

impl Fold for Seats {
    type Event = Seat;
    const NAME: Option<&'static str> = Some("seats");

    fn apply(&mut self, event: &Recorded<Seat>) {
        match &event.event {
            Seat::Taken { seat, by } => drop(self.0.insert(seat.clone(), by.clone())),
            Seat::Left { seat } => drop(self.0.remove(seat)),
        }
    }
}

/// The reason to refuse a seat.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[error("the seat is taken by {by}")]
pub(crate) struct IsTaken {
    pub(crate) by: String,
}

/// Takes a seat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub(crate) struct Take {
    pub(crate) seat: String,
    pub(crate) by: String,
}

impl Command for Take {
    type State = Seats;
    type Event = Seat;
    type Rejection = IsTaken;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("seat", &self.seat))
    }

    fn decide(&self, seats: &Seats, _: &DecisionContext) -> Result<Vec<Seat>, IsTaken> {
        match seats.0.get(&self.seat) {
            Some(by) => Err(IsTaken { by: by.clone() }),
            None => Ok(vec![Seat::Taken { seat: self.seat.clone(), by: self.by.clone() }]),
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.by.is_empty() {
            true => Err(Invalid::new("by", "is empty: name the person")),
            false => Ok(()),
        }
    }
}

/// Leaves a seat.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub(crate) struct Leave {
    pub(crate) seat: String,
}

impl Command for Leave {
    type State = Seats;
    type Event = Seat;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("seat", &self.seat))
    }

    fn decide(&self, seats: &Seats, _: &DecisionContext) -> Result<Vec<Seat>, Infallible> {
        let left = seats.0.get(&self.seat).map(|_| Seat::Left { seat: self.seat.clone() });
        Ok(left.into_iter().collect())
    }
}

/// The owner of a seat.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub(crate) struct WhoSits {
    pub(crate) seat: String,
}

impl Query for WhoSits {
    type View = Seats;
    type Answer = Option<String>;

    fn answer(&self, seats: &Seats) -> Option<String> {
        seats.0.get(&self.seat).cloned()
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("seat", &self.seat))
    }
}

/// All seats by pairs, which are no keys of a JSON object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pairs {}

impl Query for Pairs {
    type View = Seats;
    type Answer = BTreeMap<(String, String), u64>;

    fn answer(&self, seats: &Seats) -> BTreeMap<(String, String), u64> {
        seats.0.iter().map(|(seat, by)| ((seat.clone(), by.clone()), 1)).collect()
    }
}

pub(crate) fn catalogue() -> Catalogue {
    Catalogue::new()
        .command::<Take>("take-seat")
        .infallible_command::<Leave>("leave-seat")
        .live_query::<WhoSits>("who-sits")
        .query::<Pairs>("pairs")
        .event::<Seat>()
        .view::<Seats>()
}

pub(crate) async fn app() -> App {
    App::over(Memory::new()).catalogue(catalogue()).start().await.unwrap()
}

pub(crate) fn take(seat: &str, by: &str) -> Take {
    Take { seat: seat.to_owned(), by: by.to_owned() }
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}
