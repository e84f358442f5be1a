//! The left panel: the commands of payment and its rules.

use diptych::{Command, DecisionContext, Filter, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    book::{PaymentBook, PaymentStep},
    events::PaymentEvent,
};

/// The commands of payment. Its process sends them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PaymentCommand {
    NoteReceipt { order: u64, receipt: String },
    NoteRefusal { order: u64, reason: String },
    GiveUp { order: u64 },
    NoteReturn { order: u64, receipt: String },
}

/// A rule does not allow the step.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("the payment is {found:?}, so this step comes too late or too early")]
pub(crate) struct OutOfTurn {
    found: Option<PaymentStep>,
}

impl Command for PaymentCommand {
    type State = PaymentBook;
    type Event = PaymentEvent;
    type Rejection = OutOfTurn;

    fn boundary(&self) -> Filter {
        let (PaymentCommand::NoteReceipt { order, .. }
        | PaymentCommand::NoteRefusal { order, .. }
        | PaymentCommand::GiveUp { order }
        | PaymentCommand::NoteReturn { order, .. }) = self;
        Filter::tag(Tag::new("order", order))
    }

    fn decide(
        &self,
        book: &PaymentBook,
        _: &DecisionContext,
    ) -> Result<Vec<PaymentEvent>, OutOfTurn> {
        use PaymentStep::{Due, Overdue, Received, RefundDue, Refused, Returned, Unwanted};
        let found = |order: &u64| book.payments.get(order).map(|payment| payment.step);
        let wrong = |found| Err(OutOfTurn { found });
        match self.clone() {
            PaymentCommand::NoteReceipt { order, receipt } => match found(&order) {
                Some(Due) => Ok(vec![PaymentEvent::Received { order, receipt }]),
                Some(Overdue | RefundDue) => Ok(vec![PaymentEvent::Unwanted { order, receipt }]),
                other => wrong(other),
            },
            PaymentCommand::NoteRefusal { order, reason } => match found(&order) {
                Some(Due) => Ok(vec![PaymentEvent::Refused { order, reason }]),
                Some(Overdue | RefundDue) => Ok(Vec::new()),
                other => wrong(other),
            },
            PaymentCommand::GiveUp { order } => match found(&order) {
                Some(Due) => Ok(vec![PaymentEvent::Overdue { order }]),
                // The answer of the provider was faster than the deadline.
                Some(Received | Refused | RefundDue | Unwanted | Returned | Overdue) => {
                    Ok(Vec::new())
                }
                None => wrong(None),
            },
            PaymentCommand::NoteReturn { order, receipt } => match found(&order) {
                Some(RefundDue | Unwanted) => Ok(vec![PaymentEvent::Returned { order, receipt }]),
                other => wrong(other),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use diptych::testing::given;

    use super::*;

    const DUE: PaymentEvent = PaymentEvent::Due { order: 7, cents: 500, cents_a_piece: 250 };
    const OVERDUE: PaymentEvent = PaymentEvent::Overdue { order: 7 };

    fn text() -> String {
        "r1".to_owned()
    }

    #[test]
    fn money_counts_until_the_deadline_and_goes_back_after_it() {
        let note = || PaymentCommand::NoteReceipt { order: 7, receipt: text() };
        let received = PaymentEvent::Received { order: 7, receipt: text() };
        let unwanted = PaymentEvent::Unwanted { order: 7, receipt: text() };
        given([DUE]).when(note()).then([received.clone()]);
        given([DUE, OVERDUE]).when(note()).then([unwanted]);
        let found = Some(PaymentStep::Received);
        given([DUE, received]).when(note()).then_rejected(OutOfTurn { found });
    }

    #[test]
    fn a_deadline_changes_nothing_after_the_answer_of_the_provider() {
        let give_up = || PaymentCommand::GiveUp { order: 7 };
        let refused = PaymentEvent::Refused { order: 7, reason: text() };
        given([DUE]).when(give_up()).then([OVERDUE]);
        given([DUE, refused]).when(give_up()).then_nothing();
    }

    #[test]
    fn money_is_returned_once() {
        let note = || PaymentCommand::NoteReturn { order: 7, receipt: text() };
        let received = PaymentEvent::Received { order: 7, receipt: text() };
        let wanted = PaymentEvent::RefundDue { order: 7 };
        let returned = PaymentEvent::Returned { order: 7, receipt: text() };
        let found = Some(PaymentStep::Returned);
        given([DUE, received, wanted])
            .when(note())
            .then([returned])
            .when(note())
            .then_rejected(OutOfTurn { found });
    }
}
