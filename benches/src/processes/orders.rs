//! The orders of all parts: their events, the command, and two processes.

use std::{collections::VecDeque, convert::Infallible, ops::Range, path::Path, time::Duration};

use crate::durable::load;
use diptych::{
    App, AppBuilder, Command, DecisionContext, Event, Filter, Fold, Log, Recorded, Tag,
    catalogue::Catalogue,
    process::{Process, ProcessOptions, ProcessStart, ReactionContext, Reactions, Trigger},
    testing::Clock,
};
use diptych_store::{Append, EventStore, RawEvent, Store};
use serde::{Deserialize, Serialize};

/// Appends in flight of a contender without processes.
const IN_FLIGHT: usize = 64;

#[derive(Clone, Event, Serialize, Deserialize)]
pub(crate) enum Order {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
        note: String,
    },
    #[event("order-shipped")]
    Shipped {
        #[tag]
        order: u64,
    },
}

/// Whether an order was shipped.
#[derive(Default)]
pub(crate) struct IsShipped(bool);

impl Fold for IsShipped {
    type Event = Order;

    fn apply(&mut self, order: &Recorded<Order>) {
        self.0 |= matches!(order.event, Order::Shipped { .. });
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Ship {
    order: u64,
}

impl Command for Ship {
    type State = IsShipped;
    type Event = Order;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("order", self.order))
    }

    fn decide(&self, shipped: &IsShipped, _: &DecisionContext) -> Result<Vec<Order>, Infallible> {
        Ok(if shipped.0 { Vec::new() } else { vec![Order::Shipped { order: self.order }] })
    }
}

/// Ships each order.
#[derive(Default)]
pub(crate) struct Shipping;

impl Process for Shipping {
    type Event = Order;
    const NAME: &'static str = "shipping";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Order::Placed { order, .. }) => {
                Reactions::none().send("ship-order", &Ship { order: *order })
            }
            _ => Reactions::none(),
        }
    }
}

/// Sets a timer for each order, due a day after this program began.
#[derive(Default)]
pub(crate) struct Deadlines;

pub(crate) const WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

impl Process for Deadlines {
    type Event = Order;
    const NAME: &'static str = "deadlines";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        match trigger {
            Trigger::Event(_) => {
                Reactions::none().set_timer("pay-by", cx.now().saturating_add(WITHIN))
            }
            _ => Reactions::none(),
        }
    }
}

pub(crate) fn placed(order: u64) -> RawEvent {
    let note = "something to read, as long as notes are, so that there are bytes".repeat(3);
    Order::Placed { order, note }.encode().unwrap()
}

/// An app over this folder, whose clock stands still until a test moves it.
pub(crate) fn app<P: Process>(folder: &Path, clock: &Clock, options: ProcessOptions) -> AppBuilder {
    let clock = clock.clone();
    App::open(folder)
        .unwrap()
        .catalogue(Catalogue::new().infallible_command::<Ship>("ship-order"))
        .clock(move || clock.now())
        .process_with::<P>(ProcessStart::Beginning, options)
}

/// Appends orders with these numbers, and waits until they are durable.
pub(crate) async fn place(store: &Store, orders: Range<u64>) {
    load(store, orders, placed).await;
}

/// Appends this number of events one by one, with many in flight, and waits until all are durable.
pub(crate) async fn append_plainly(log: &Log, events: u64) {
    let mut waiting = VecDeque::new();
    for order in 0..events {
        waiting.push_back(EventStore::append(log, Append::event(placed(order))).await.unwrap());
        if waiting.len() >= IN_FLIGHT {
            waiting.pop_front().unwrap().synced().await.unwrap();
        }
    }
    for accepted in waiting {
        accepted.synced().await.unwrap();
    }
}
