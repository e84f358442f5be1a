//! A theatre: seats are taken and left, and people remark on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Mutex,
};

use diptych::{App, Command, DecisionContext, Event, Filter, Fold, Invalid, Query, Recorded, Tag};
use diptych_server::{CommandRoute, QueryRoute, Server};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// A change of a seat.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
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

/// A visitor remarked something.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[event("remarked")]
pub(crate) struct Remarked {
    pub(crate) text: String,
}

/// A seat was not given.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[event("seat-refused")]
pub(crate) struct SeatRefused {
    pub(crate) seat: String,
    pub(crate) rule: String,
}

/// An event that a view cannot apply until it is cured.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[event("poisoned")]
pub(crate) struct Poisoned {
    pub(crate) poison: String,
}

static CURED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Makes this poison harmless.
pub(crate) fn cure(poison: &str) {
    CURED.lock().unwrap().insert(poison.to_owned());
}

#[derive(Clone, Default)]
pub(crate) struct Sitting(Option<String>);

impl Fold for Sitting {
    type Event = Seat;

    fn apply(&mut self, event: &Recorded<Seat>) {
        self.0 = match &event.event {
            Seat::Taken { by, .. } => Some(by.clone()),
            Seat::Left { .. } => None,
        };
    }
}

/// Why a seat is not given.
#[derive(Clone, Debug, thiserror::Error, Serialize, JsonSchema)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub(crate) enum NotGiven {
    #[error("the seat {seat} is taken by {by}")]
    SeatIsTaken { seat: String, by: String },
    #[error("nobody sits on {seat}")]
    NobodySits { seat: String },
}

/// Takes a seat.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Take {
    /// Such as `a1`.
    pub(crate) seat: String,
    pub(crate) by: String,
    #[serde(default)]
    pub(crate) companions: u8,
}

impl Command for Take {
    type State = Sitting;
    type Event = Seat;
    type Rejection = NotGiven;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("seat", &self.seat))
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.seat.is_empty() {
            true => Err(Invalid::new("seat", "it has no name")),
            false => Ok(()),
        }
    }

    fn decide(&self, sitting: &Sitting, _: &DecisionContext) -> Result<Vec<Seat>, NotGiven> {
        let (seat, by) = (self.seat.clone(), self.by.clone());
        match &sitting.0 {
            None => Ok(vec![Seat::Taken { seat, by }]),
            Some(by) => Err(NotGiven::SeatIsTaken { seat, by: by.clone() }),
        }
    }
}

/// Leaves a seat.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Leave {
    pub(crate) seat: String,
}

impl Command for Leave {
    type State = Sitting;
    type Event = Seat;
    type Rejection = NotGiven;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("seat", &self.seat))
    }

    fn decide(&self, sitting: &Sitting, _: &DecisionContext) -> Result<Vec<Seat>, NotGiven> {
        let seat = self.seat.clone();
        match sitting.0 {
            Some(_) => Ok(vec![Seat::Left { seat }]),
            None => Err(NotGiven::NobodySits { seat }),
        }
    }
}

/// A command without a rule: it writes one event.
macro_rules! plain {
    ($command:ident { $($field:ident),+ } => $event:ident) => {
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        pub(crate) struct $command {
            $(pub(crate) $field: String,)+
        }

        impl Command for $command {
            type State = ();
            type Event = $event;
            type Rejection = Infallible;

            fn boundary(&self) {}

            fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<$event>, Infallible> {
                Ok(vec![$event { $($field: self.$field.clone()),+ }])
            }
        }
    };
}

/// A party takes its seats.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SeatParty {
    party: Party,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Party {
    seats: Vec<String>,
    host: Host,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Host {
    name: String,
}

impl Command for SeatParty {
    type State = ();
    type Event = Seat;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Seat>, Infallible> {
        let Party { seats, host } = &self.party;
        let take = |seat: &String| Seat::Taken { seat: seat.clone(), by: host.name.clone() };
        Ok(seats.iter().map(take).collect())
    }
}

/// Remarks the tenant that the rule sees in the metadata.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RemarkTenant {
    pub(crate) tenant: String,
}

impl Command for RemarkTenant {
    type State = ();
    type Event = Remarked;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), by: &DecisionContext) -> Result<Vec<Remarked>, Infallible> {
        let tenant = by.metadata().extra.get("tenant");
        Ok(vec![Remarked { text: format!("from {tenant:?} to {}", self.tenant) }])
    }
}

plain!(Remark { text } => Remarked);
plain!(Poison { poison } => Poisoned);
plain!(NoteRefusal { seat, rule } => SeatRefused);

/// A command whose decision panics.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Stumble {}

impl Command for Stumble {
    type State = ();
    type Event = Remarked;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Remarked>, Infallible> {
        panic!("stumbled")
    }
}

/// The visitor on each seat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan(BTreeMap<String, String>);

impl Plan {
    /// The number of taken seats.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Fold for Plan {
    type Event = Seat;

    fn apply(&mut self, event: &Recorded<Seat>) {
        match &event.event {
            Seat::Taken { seat, by } => drop(self.0.insert(seat.clone(), by.clone())),
            Seat::Left { seat } => drop(self.0.remove(seat)),
        }
    }
}

/// All remarks, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guestbook(Vec<String>);

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
pub(crate) enum Entry {
    Remarked(Remarked),
    Poisoned(Poisoned),
}

impl Fold for Guestbook {
    type Event = Entry;

    fn apply(&mut self, event: &Recorded<Entry>) {
        match &event.event {
            Entry::Remarked(remarked) => self.0.push(remarked.text.clone()),
            Entry::Poisoned(Poisoned { poison }) => {
                assert!(CURED.lock().unwrap().contains(poison), "poison: {poison}");
            }
        }
    }
}

/// Asks for the visitor on a seat.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct WhoSits {
    pub(crate) seat: String,
}

impl Query for WhoSits {
    type View = Plan;
    type Answer = Option<String>;

    fn answer(&self, plan: &Plan) -> Option<String> {
        plan.0.get(&self.seat).cloned()
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("seat", &self.seat))
    }
}

/// Which seats are taken.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Seats {
    /// The beginning of the names of the seats.
    row: Option<String>,
    /// The maximum number of seats.
    top: Option<u32>,
    #[serde(default)]
    names: bool,
}

/// A seat with its visitor.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Place {
    seat: String,
    by: Option<String>,
}

impl Query for Seats {
    type View = Plan;
    type Answer = Vec<Place>;

    fn answer(&self, plan: &Plan) -> Vec<Place> {
        let row = self.row.as_deref().unwrap_or_default();
        let places = plan.0.iter().filter(|(seat, _)| seat.starts_with(row)).map(|(seat, by)| {
            let by = self.names.then(|| by.clone());
            Place { seat: seat.clone(), by }
        });
        places.take(self.top.map_or(usize::MAX, |top| top as usize)).collect()
    }
}

/// How many seats are taken.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct HowMany;

impl Query for HowMany {
    type View = Plan;
    type Answer = usize;

    fn answer(&self, plan: &Plan) -> usize {
        plan.0.len()
    }
}

/// The last remarks.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct LastRemarks {
    #[serde(default = "LastRemarks::all")]
    last: usize,
}

impl LastRemarks {
    fn all() -> usize {
        usize::MAX
    }
}

impl Query for LastRemarks {
    type View = Guestbook;
    type Answer = Vec<String>;

    fn answer(&self, guestbook: &Guestbook) -> Vec<String> {
        let skipped = guestbook.0.len().saturating_sub(self.last);
        guestbook.0.iter().skip(skipped).cloned().collect()
    }
}

/// A query whose answer panics.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Riddle {}

impl Query for Riddle {
    type View = Plan;
    type Answer = u64;

    fn answer(&self, _: &Plan) -> u64 {
        panic!("nobody knows")
    }
}

/// A query whose decoding panics.
#[derive(JsonSchema)]
pub(crate) struct Curse {}

impl<'de> Deserialize<'de> for Curse {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Curse, D::Error> {
        panic!("cursed")
    }
}

impl Query for Curse {
    type View = Plan;
    type Answer = u64;

    fn answer(&self, _: &Plan) -> u64 {
        0
    }
}

/// An answer that cannot be JSON.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Oddity {}

impl Query for Oddity {
    type View = Plan;
    type Answer = BTreeMap<Vec<u8>, u8>;

    fn answer(&self, _: &Plan) -> BTreeMap<Vec<u8>, u8> {
        BTreeMap::from([(vec![1, 2], 3)])
    }
}

/// The server of the theatre, with all commands and queries.
pub(crate) fn theatre(app: App) -> Server {
    Server::new(app)
        .title("Theatre", "7")
        .command::<Take>("take-seat")
        .command(CommandRoute::new("take-seat-noting").record_rejections(
            |take: &Take, rejection| {
                let rule = match rejection {
                    NotGiven::SeatIsTaken { .. } => "seat-is-taken",
                    NotGiven::NobodySits { .. } => "nobody-sits",
                };
                NoteRefusal { seat: take.seat.clone(), rule: rule.to_owned() }
            },
        ))
        .command::<Leave>("leave-seat")
        .command(CommandRoute::<SeatParty>::infallible("seat-party"))
        .command(CommandRoute::<Remark>::infallible("remark"))
        .command(CommandRoute::<Poison>::infallible("poison"))
        .command(CommandRoute::<Stumble>::infallible("stumble"))
        .query(QueryRoute::<WhoSits>::new("who-sits").explained())
        .query(QueryRoute::<Seats>::new("seats").explained().paged(50))
        .live_query::<HowMany>("how-many")
        .live_query::<LastRemarks>("last-remarks")
        .query::<Riddle>("riddle")
        .query::<Curse>("curse")
        .query::<Oddity>("oddity")
        .event::<Seat>()
        .event::<Remarked>()
        .event::<SeatRefused>()
        .event::<Poisoned>()
        .file("/", "text/html; charset=utf-8", b"<!doctype html><title>Theatre</title>")
        .file("/large.txt", "text/plain", LARGE.as_bytes())
}

/// Large enough to be compressed.
pub(crate) const LARGE: &str = {
    const BYTES: [u8; 5_000] = [b'a'; 5_000];
    match str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};
