//! A shop: orders are paid at a provider outside and shipped, or cancelled.
//!
//! The number of an order, modulo 5, says how it goes:
//!
//! | | |
//! |---|---|
//! | 0 | it is paid and shipped |
//! | 1 | the provider refuses the payment: it is cancelled |
//! | 2 | it is paid, and out of stock: it is cancelled |
//! | 3 | it is not to be paid by card, and no money comes: its timer cancels it |
//! | 4 | a note parks it, an operator lets it go on, and it is paid and shipped |

use std::{collections::BTreeMap, ops::Range, time::Duration};

use diptych::{
    App, AppBuilder, Command, DecisionContext, Event, Filter, Fold, Position, Recorded, Store, Tag,
    catalogue::Catalogue,
    process::{
        ActionOutcome, CallsFrom, GatewayOptions, LetterAnswer, Process, ProcessControl,
        ProcessOptions, ProcessStart, ProcessState, ReactionContext, Reactions, Trigger,
    },
    store::{RawEvent, Read},
};
use serde::{Deserialize, Serialize};

use super::{
    fuse::{Fuse, Step},
    provider::{Charge, Provider},
};

#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub(crate) enum Order {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
    },
    #[event("order-noted")]
    Noted {
        #[tag]
        order: u64,
        text: String,
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
    noted: bool,
    cancelled: bool,
}

impl Fold for Lifecycle {
    type Event = Order;

    fn apply(&mut self, event: &Recorded<Order>) {
        match &event.event {
            Order::Placed { .. } => self.placed = true,
            Order::Noted { .. } => self.noted = true,
            Order::Cancelled { .. } => self.cancelled = true,
            Order::Paid { .. } | Order::Shipped { .. } => {}
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

// A client whose program was killed sends these two again.
command!(Place {}, |own, state| Ok(match state.placed {
    true => Vec::new(),
    false => vec![Order::Placed { order: own.order }],
}));
command!(Note { text: String }, |own, state| Ok(match state.noted {
    true => Vec::new(),
    false => vec![Order::Noted { order: own.order, text: own.text.clone() }],
}));
// The others would do it again each time that they are carried out: only their keys prevent that.
command!(Pay {}, |own, _state| Ok(vec![Order::Paid { order: own.order }]));
command!(Ship {}, |own, _state| match own.order % 5 {
    2 => Err(OrderRefusal { order: own.order }),
    _ => Ok(vec![Order::Shipped { order: own.order }]),
});
command!(Cancel { reason: String }, |own, state| match state.cancelled {
    true => Err(OrderRefusal { order: own.order }),
    false => Ok(vec![Order::Cancelled { order: own.order, reason: own.reason.clone() }]),
});

/// An order with this note cannot be handled.
pub(crate) const POISON: &str = "poison";
/// How long an order that is not paid by card waits.
const PAY_WITHIN: Duration = Duration::from_millis(20);

/// Sees that each order is paid and shipped.
#[derive(Default)]
pub(crate) struct Till {
    order: u64,
}

impl Process for Till {
    type Event = Order;
    const NAME: &'static str = "till";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Some(Order::Placed { order }) = trigger.event() {
            self.order = *order;
        }
    }

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        let order = self.order;
        match trigger {
            Trigger::Event(event) => match &event.event {
                Order::Placed { .. } if order % 5 == 3 => {
                    Reactions::none().set_timer("pay-by", cx.now().saturating_add(PAY_WITHIN))
                }
                Order::Placed { .. } => {
                    // It is cancelled by the payment, long before it is due.
                    let due = cx.now().saturating_add(Duration::from_secs(86_400));
                    let timer = Reactions::none().set_timer("pay-by", due);
                    timer.call::<Provider>("payments", &Charge { order })
                }
                Order::Noted { text, .. } if text == POISON => panic!("a note of order {order}"),
                Order::Noted { .. } => Reactions::none(),
                Order::Paid { .. } => {
                    let paid = Reactions::none().cancel_timer("pay-by");
                    paid.send("ship-order", &Ship { order })
                }
                Order::Shipped { .. } | Order::Cancelled { .. } => Reactions::none().end(),
            },
            Trigger::Timer(_) => cancel(order, "not paid in time"),
            Trigger::Settled(settled) => match &settled.outcome {
                ActionOutcome::Answered(_) => Reactions::none().send("pay-order", &Pay { order }),
                ActionOutcome::Rejected(why) => cancel(order, &why.text),
                other => cancel(order, &format!("{other:?}")),
            },
            _ => Reactions::none(),
        }
    }
}

fn cancel(order: u64, reason: &str) -> Reactions {
    Reactions::none().send("cancel-order", &Cancel { order, reason: reason.to_owned() })
}

pub(crate) fn catalogue() -> Catalogue {
    Catalogue::new()
        .command::<Pay>("pay-order")
        .command::<Ship>("ship-order")
        .command::<Cancel>("cancel-order")
}

/// Options with short waits, for a test.
pub(crate) fn quick() -> ProcessOptions {
    let mut options = ProcessOptions::default();
    options.timer_check = Duration::from_millis(2);
    options.first_wait = Duration::from_millis(1);
    options.longest_wait = Duration::from_millis(20);
    options
}

/// Options that let a program die in many different places.
pub(crate) fn varied(random: &mut fastrand::Rng) -> ProcessOptions {
    let mut options = quick();
    options.reactions_per_commit = random.usize(1..6);
    options.instances_in_memory = random.usize(1..40);
    options.reactions_without_mark = random.u64(1..8);
    options.commands_at_once = random.usize(1..9);
    options
}

/// A policy whose calls count as unknown soon after a restart.
pub(crate) fn policy() -> GatewayOptions {
    let mut options = GatewayOptions::default();
    options.first_wait = Duration::from_millis(1);
    options.longest_wait = Duration::from_millis(10);
    options.unknown_after = Duration::from_millis(10);
    options
}

/// The app over this store, with its payments by this gateway.
pub(crate) fn shop(
    store: Store,
    payments: Provider,
    gateway: GatewayOptions,
    options: ProcessOptions,
) -> AppBuilder {
    App::over_store(store)
        .catalogue(catalogue())
        .gateway("payments", payments, CallsFrom::Beginning, gateway)
        .process_with::<Till>(ProcessStart::Beginning, options)
}

/// Places these orders, if they are not placed, and waits until each has ended or waits for an
/// operator. The operator of the letters is in this program.
pub(crate) async fn live(app: &App, store: &Store, orders: Range<u64>, fuse: &Fuse) {
    for order in orders.clone() {
        app.execute(Place { order }).await.unwrap();
        if order % 5 == 4 {
            app.execute(Note { order, text: POISON.to_owned() }).await.unwrap();
        }
    }
    let control = app.process("till").unwrap();
    let wait = async {
        loop {
            healthy(&control);
            answer_letters(&control, fuse).await;
            let ended = ended(store).await;
            let waiting = control.waiting_calls().await.unwrap();
            let waits = |order: &u64| {
                let of = format!("order:{order}");
                waiting.iter().any(|call| call.instance == of)
            };
            if orders.clone().all(|order| ended.contains_key(&order) || waits(&order)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let result = tokio::time::timeout(Duration::from_secs(240), wait).await;
    result.unwrap_or_else(|_| panic!("orders wait: {:?}", control.status()));
}

/// A process stops for mistakes of the program or the log, and there is none here.
pub(crate) fn healthy(control: &ProcessControl) {
    let status = control.status();
    assert!(!matches!(status.state, ProcessState::Stopped { .. }), "{status:?}");
}

/// Lets each parked order go on: half of them without the note, the others with another reaction.
pub(crate) async fn answer_letters(control: &ProcessControl, fuse: &Fuse) {
    for letter in control.letters().await.unwrap() {
        let order: u64 = letter.instance.trim_start_matches("order:").parse().unwrap();
        let answer = match order % 2 {
            0 => LetterAnswer::Skip,
            _ => LetterAnswer::Replace(Reactions::none()),
        };
        fuse.reach(Step::Release, false).await;
        // Another program may have answered it.
        let _ = control.answer(&letter, answer, "ann", "a bad note").await;
        fuse.reach(Step::Release, true).await;
    }
}

/// The orders that were shipped or cancelled, each with how often.
pub(crate) async fn ended(store: &Store) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for (_, event) in events(store, &["order-shipped", "order-cancelled"]).await {
        *counts.entry(order_of(&event)).or_insert(0) += 1;
    }
    counts
}

fn order_of(event: &RawEvent) -> u64 {
    let tag = event.tags.iter().find(|tag| tag.key() == "order").unwrap();
    tag.value().parse().unwrap()
}

/// The events of these types.
pub(crate) async fn events(store: &Store, types: &[&'static str]) -> Vec<(Position, RawEvent)> {
    let head = store.fresh_head().await.unwrap();
    let (filter, mut found, mut after) =
        (Filter::types(types.iter().copied()), Vec::new(), Position::START);
    while after < head {
        let batch = store.read(&filter, Read::after(after).upto(head)).await.unwrap();
        found.extend(batch.iter().map(|event| (event.position(), event.to_raw())));
        after = batch.upto();
    }
    found
}

/// The number of events of this type for each order.
pub(crate) async fn counts(store: &Store, name: &'static str) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for (_, event) in events(store, &[name]).await {
        *counts.entry(order_of(&event)).or_insert(0) += 1;
    }
    counts
}

/// Waits until the condition holds. The limit is far above the time that it takes.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(240), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits until the processes have reacted to everything and carried out everything.
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
