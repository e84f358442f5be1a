//! The flow of an order: payment, a deadline, stock, shipping, and the money back if goods are
//! missing.

use std::time::Duration;

use diptych::process::{ActionOutcome, Process, ReactionContext, Reactions, Trigger};
use diptych_gateways::HttpGateway;
use example_orders::provider::{Charge, Receipt, Refund};

use crate::shop::{Shop, ShopCommand};

/// An order that is not paid after this time is cancelled.
pub(crate) const PAY_WITHIN: Duration = Duration::from_secs(10);

pub(crate) type PaymentGateway = HttpGateway<Charge, Receipt>;
pub(crate) type RefundGateway = HttpGateway<Refund, Receipt>;

/// The name of the commands of the shop in the catalogue.
pub(crate) const COMMAND: &str = "shop";

/// The process. Its instances are the orders.
#[derive(Default)]
pub(crate) struct Fulfilment {
    order: u64,
    product: String,
    pieces: u64,
    cents: u64,
    is_cancelled: bool,
    is_refused: bool,
}

impl Process for Fulfilment {
    type Event = Shop;
    const NAME: &'static str = "fulfilment";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Shop>) {
        match trigger {
            Trigger::Event(event) => match &event.event {
                Shop::Placed { order, product, pieces, cents, .. } => {
                    (self.order, self.product) = (*order, product.clone());
                    (self.pieces, self.cents) = (*pieces, *cents);
                }
                Shop::Cancelled { .. } => self.is_cancelled = true,
                _ => {}
            },
            Trigger::Settled(settled) if settled.name == "payment" => {
                self.is_refused = matches!(settled.outcome, ActionOutcome::Rejected(_));
            }
            _ => {}
        }
    }

    fn react(&self, trigger: &Trigger<Shop>, cx: &ReactionContext<'_>) -> Reactions {
        let order = self.order;
        let none = Reactions::none();
        match trigger {
            Trigger::Event(event) => match &event.event {
                Shop::Placed { .. } => self.charge(cx),
                Shop::Paid { .. } => {
                    let product = self.product.clone();
                    let reserve = ShopCommand::Reserve { order, product };
                    none.cancel_timer("pay-by").send(COMMAND, &reserve)
                }
                Shop::Reserved { .. } => none.send(COMMAND, &ShopCommand::Ship { order }),
                Shop::Missing { .. } => self.refund(),
                // The charge may still be on its way. Its answer decides on the money.
                Shop::Cancelled { .. } if !self.is_refused => none,
                Shop::Cancelled { .. } | Shop::Shipped { .. } | Shop::Returned { .. } => none.end(),
                Shop::Delivered { .. } => none,
            },
            Trigger::Timer(_) => self.cancel("it was not paid in time"),
            Trigger::Settled(settled) => match (settled.name.as_str(), &settled.outcome) {
                ("payment", ActionOutcome::Answered(_)) => match settled.answer::<Receipt>() {
                    Some(Receipt { receipt }) => {
                        none.send(COMMAND, &ShopCommand::NotePayment { order, receipt })
                    }
                    None => none,
                },
                ("payment", ActionOutcome::Rejected(_)) if self.is_cancelled => none.end(),
                ("payment", ActionOutcome::Rejected(_)) => self.cancel("the card was refused"),
                ("refund", ActionOutcome::Answered(_)) => match settled.answer::<Receipt>() {
                    Some(Receipt { receipt }) => {
                        none.send(COMMAND, &ShopCommand::NoteReturn { order, receipt })
                    }
                    None => none,
                },
                // The money came after the deadline.
                (COMMAND, ActionOutcome::Rejected(_)) if self.is_cancelled => self.refund(),
                _ => none,
            },
            _ => none,
        }
    }
}

impl Fulfilment {
    /// An order without a piece makes this panic, as a fault in real code would: the division has
    /// no answer. Its instance is parked, and the other orders go on.
    fn charge(&self, cx: &ReactionContext<'_>) -> Reactions {
        let cents_a_piece = self.cents / self.pieces;
        let charge = Charge { order: self.order, cents: self.cents, cents_a_piece };
        Reactions::none()
            .call::<PaymentGateway>("payment", &charge)
            .set_timer("pay-by", cx.now().saturating_add(PAY_WITHIN))
    }

    fn refund(&self) -> Reactions {
        let refund = Refund { order: self.order, cents: self.cents };
        Reactions::none().call::<RefundGateway>("refund", &refund)
    }

    fn cancel(&self, reason: &str) -> Reactions {
        let cancel = ShopCommand::Cancel { order: self.order, reason: reason.to_owned() };
        Reactions::none().cancel_timer("pay-by").send(COMMAND, &cancel)
    }
}
