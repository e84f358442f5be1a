//! A shop: orders are shipped once they are paid, and cancelled if they are not paid in time.

use std::{collections::BTreeMap, time::Duration};

use diptych::{
    App, AppBuilder, Command, DecisionContext, Event, Filter, Fold, Position, Recorded, Store, Tag,
    catalogue::Catalogue,
    process::{
        Phase, Process, ProcessOptions, ProcessStart, ProcessState, ReactionContext, Reactions,
        Trigger,
    },
    store::{RawEvent, Read},
    testing::Clock,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(crate) enum Order {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
    },
    #[event("order-paid")]
    Paid {
        #[tag]
        order: u64,
    },
    #[event("order-shipped")]
    Shipped {
        #[tag]
        order: u64,
    },
    #[event("order-cancelled")]
    Cancelled {
        #[tag]
        order: u64,
        reason: String,
    },
}

#[derive(Default)]
pub(crate) struct Lifecycle {
    placed: bool,
    paid: bool,
    shipped: u32,
    cancelled: bool,
}

impl Fold for Lifecycle {
    type Event = Order;

    fn apply(&mut self, event: &Recorded<Order>) {
        match &event.event {
            Order::Placed { .. } => self.placed = true,
            Order::Paid { .. } => self.paid = true,
            Order::Shipped { .. } => self.shipped += 1,
            Order::Cancelled { .. } => self.cancelled = true,
        }
    }
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, PartialEq)]
#[error("order {order} cannot be changed so")]
pub(crate) struct OrderRefusal {
    pub(crate) order: u64,
}

macro_rules! command {
    ($name:ident { $($field:ident: $of:ty),* }, |$own:ident, $state:ident| $decide:expr) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub(crate) struct $name { pub(crate) order: u64, $(pub(crate) $field: $of),* }

        impl Command for $name {
            type State = Lifecycle;
            type Event = Order;
            type Rejection = OrderRefusal;

            fn boundary(&self) -> Filter {
                Filter::tag(Tag::new("order", self.order))
            }

            fn decide(
                &self,
                $state: &Lifecycle,
                _: &DecisionContext,
            ) -> Result<Vec<Order>, OrderRefusal> {
                let $own = self;
                $decide
            }
        }
    };
}

command!(Place {}, |own, _state| Ok(vec![Order::Placed { order: own.order }]));
command!(Pay {}, |own, state| match state.cancelled {
    true => Err(OrderRefusal { order: own.order }),
    false => Ok(vec![Order::Paid { order: own.order }]),
});
// It would ship an order again each time that it is carried out: only its key prevents that.
command!(Ship {}, |own, state| match state {
    // Orders above a million are out of stock, and those above two millions need no shipping.
    _ if own.order > 2_000_000 => Ok(Vec::new()),
    _ if own.order > 1_000_000 => Err(OrderRefusal { order: own.order }),
    _ => Ok(vec![Order::Shipped { order: own.order }]),
});
command!(Cancel { reason: String }, |own, state| match state.cancelled {
    true => Ok(Vec::new()),
    false => {
        Ok(vec![Order::Cancelled { order: own.order, reason: own.reason.clone() }])
    }
});

/// How long an order waits for its payment.
pub(crate) const PAY_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Default)]
pub(crate) struct Fulfilment {
    order: u64,
    paid: bool,
}

impl Process for Fulfilment {
    type Event = Order;
    const NAME: &'static str = "fulfilment";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        match trigger.event() {
            Some(Order::Placed { order }) => self.order = *order,
            Some(Order::Paid { .. }) => self.paid = true,
            _ => {}
        }
    }

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        let order = self.order;
        match trigger {
            Trigger::Event(event) => match &event.event {
                Order::Placed { .. } => {
                    Reactions::none().set_timer("pay-by", cx.now().saturating_add(PAY_WITHIN))
                }
                Order::Paid { .. } => {
                    let paid = Reactions::none().cancel_timer("pay-by");
                    paid.send("ship-order", &Ship { order })
                }
                Order::Shipped { .. } | Order::Cancelled { .. } => Reactions::none().end(),
            },
            Trigger::Timer(_) => cancel(order, "not paid in time"),
            Trigger::Settled(settled) if settled.name == "ship-order" => {
                match settled.rejection::<OrderRefusal>() {
                    Some(refused) => cancel(refused.order, "out of stock"),
                    None => cancel(order, "nothing to ship"),
                }
            }
            _ => Reactions::none(),
        }
    }
}

fn cancel(order: u64, reason: &str) -> Reactions {
    Reactions::none().send("cancel-order", &Cancel { order, reason: reason.to_owned() })
}

/// Notes how it was called, for tests of the phase.
#[derive(Default)]
pub(crate) struct LiveOnly {
    order: u64,
}

impl Process for LiveOnly {
    type Event = Order;
    const NAME: &'static str = "live-only";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Some(Order::Placed { order }) = trigger.event() {
            self.order = *order;
        }
    }

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        match (trigger.event(), cx.phase()) {
            (Some(Order::Placed { .. }), Phase::Live) => cancel(self.order, "live"),
            _ => Reactions::none(),
        }
    }
}

pub(crate) fn catalogue() -> Catalogue {
    Catalogue::new()
        .command::<Ship>("ship-order")
        .command::<Cancel>("cancel-order")
        .command::<Pay>("pay-order")
}

/// Options with short waits, for a test.
pub(crate) fn quick() -> ProcessOptions {
    let mut options = ProcessOptions::default();
    options.timer_check = Duration::from_millis(1);
    options.first_wait = Duration::from_millis(1);
    options.longest_wait = Duration::from_millis(20);
    options
}

/// An app with the process over this store.
pub(crate) fn shop(store: &Store, clock: &Clock) -> AppBuilder {
    let clock = clock.clone();
    App::over_store(store.clone()).catalogue(catalogue()).clock(move || clock.now())
}

pub(crate) async fn running(store: &Store, clock: &Clock) -> App {
    let shop = shop(store, clock).process_with::<Fulfilment>(ProcessStart::Beginning, quick());
    shop.start().await.unwrap()
}

/// The events of these types.
pub(crate) async fn events(store: &Store, types: &[&'static str]) -> Vec<(Position, RawEvent)> {
    let (head, mut after) = (store.head().position(), Position::START);
    let (filter, mut found) = (Filter::types(types.iter().copied()), Vec::new());
    while after < head {
        let batch = store.read(&filter, Read::after(after).upto(head)).await.unwrap();
        found.extend(batch.iter().map(|event| (event.position(), event.to_raw())));
        after = batch.upto();
    }
    found
}

/// The number of events of this type for each order.
pub(crate) async fn counts(store: &Store, name: &'static str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for (_, event) in events(store, &[name]).await {
        let order = event.tags.iter().find(|tag| tag.key() == "order").unwrap();
        *counts.entry(order.value().to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Waits until the condition holds. The limit is far above the time that it takes.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits until the process has reacted to everything and carried out everything.
pub(crate) async fn idle(app: &App) {
    until("the processes are idle", || async {
        let before = app.head();
        let is_idle = app
            .processes()
            .iter()
            .all(|of| of.state == ProcessState::Live && of.position == before && of.carrying == 0);
        // A reaction that was just committed is seen by the other tasks a little later.
        tokio::time::sleep(Duration::from_millis(5)).await;
        is_idle && app.head() == before && app.processes().iter().all(|of| of.carrying == 0)
    })
    .await;
}
