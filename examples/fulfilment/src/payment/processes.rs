//! Getting the money: the charge, its deadline, and the way back if the order is not wanted.

use std::time::Duration;

use diptych::process::{ActionOutcome, Process, ReactionContext, Reactions, Trigger};
use diptych_gateways::HttpGateway;
use example_orders::provider::{Charge, Receipt, Refund};

use super::{COMMAND, events::PaymentEvent, left::PaymentCommand};

/// An order that is not paid after this time is not wanted any more.
const PAY_WITHIN: Duration = Duration::from_secs(10);

pub(super) type ChargeGateway = HttpGateway<Charge, Receipt>;
pub(super) type RefundGateway = HttpGateway<Refund, Receipt>;

/// The process. Its instances are the orders.
#[derive(Default)]
pub(super) struct Collection {
    order: u64,
    cents: u64,
    has_money: bool,
}

impl Process for Collection {
    type Event = PaymentEvent;
    const NAME: &'static str = "collection";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<PaymentEvent>) {
        let Trigger::Event(event) = trigger else { return };
        match &event.event {
            PaymentEvent::Due { order, cents, .. } => {
                (self.order, self.cents) = (*order, *cents);
            }
            PaymentEvent::Received { .. } | PaymentEvent::Unwanted { .. } => self.has_money = true,
            _ => {}
        }
    }

    fn react(&self, trigger: &Trigger<PaymentEvent>, cx: &ReactionContext<'_>) -> Reactions {
        let (order, none) = (self.order, Reactions::none());
        match trigger {
            Trigger::Event(event) => match &event.event {
                PaymentEvent::Due { cents, cents_a_piece, .. } => {
                    let (cents, cents_a_piece) = (*cents, *cents_a_piece);
                    let charge = Charge { order, cents, cents_a_piece };
                    none.call::<ChargeGateway>("charge", &charge)
                        .set_timer("pay-by", cx.now().saturating_add(PAY_WITHIN))
                }
                PaymentEvent::Received { .. } => none.cancel_timer("pay-by"),
                PaymentEvent::Refused { .. } => none.cancel_timer("pay-by").end(),
                // The charge may still be on its way. Its answer decides on the money.
                PaymentEvent::Overdue { .. } => none,
                PaymentEvent::RefundDue { .. } if !self.has_money => none,
                PaymentEvent::RefundDue { .. } | PaymentEvent::Unwanted { .. } => {
                    let refund = Refund { order, cents: self.cents };
                    none.call::<RefundGateway>("refund", &refund)
                }
                PaymentEvent::Returned { .. } => none.end(),
            },
            Trigger::Timer(_) => none.send(COMMAND, &PaymentCommand::GiveUp { order }),
            Trigger::Settled(settled) => match (settled.name.as_str(), &settled.outcome) {
                (gateway @ ("charge" | "refund"), ActionOutcome::Answered(_)) => {
                    let Some(Receipt { receipt }) = settled.answer::<Receipt>() else {
                        return none;
                    };
                    let note = match gateway {
                        "charge" => PaymentCommand::NoteReceipt { order, receipt },
                        _ => PaymentCommand::NoteReturn { order, receipt },
                    };
                    none.send(COMMAND, &note)
                }
                ("charge", ActionOutcome::Rejected(_)) => {
                    let reason = "the card was refused".to_owned();
                    none.send(COMMAND, &PaymentCommand::NoteRefusal { order, reason })
                }
                _ => none,
            },
            _ => none,
        }
    }
}
