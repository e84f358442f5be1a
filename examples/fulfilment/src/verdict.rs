//! Whether money, goods and words agree: the states of the three services, beside the accounts of
//! the provider.

use std::collections::{BTreeMap, BTreeSet};

use example_orders::provider::Count;

use crate::{
    member::{ServiceState, WorkItem},
    ordering::{Order, OrderBook, Step},
    payment::{PaymentBook, PaymentStep},
    shipping::{ParcelBook, ParcelStep},
};

/// The words of one service about itself.
pub(crate) struct ServiceEvidence<V> {
    pub(crate) state: ServiceState<V>,
    pub(crate) work: Vec<WorkItem>,
}

/// The words of all members.
pub(crate) struct Evidence {
    pub(crate) ordering: ServiceEvidence<OrderBook>,
    pub(crate) payment: ServiceEvidence<PaymentBook>,
    pub(crate) shipping: ServiceEvidence<ParcelBook>,
    /// The accounts of the provider, by order.
    pub(crate) counts: BTreeMap<u64, Count>,
}

impl<V> ServiceEvidence<V> {
    /// The view has to be the fold of the log.
    fn fault(&self, name: &str) -> Option<String> {
        let ServiceState { position, view_digest, fold_digest, .. } = &self.state;
        (view_digest != fold_digest).then(|| {
            format!(
                "{name}: at position {position} the view has the digest {view_digest}, and a fold \
                 of the log {fold_digest}"
            )
        })
    }

    fn line(&self, name: &str) -> String {
        let ServiceState { position, view_digest, .. } = &self.state;
        let digest: String = view_digest.chars().take(16).collect();
        format!(
            "{name}: its view is the fold of its log up to position {position} (digest {digest}…), \
             also alone"
        )
    }
}

impl Evidence {
    /// All that is wrong, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let folds = [
            self.ordering.fault("ordering"),
            self.payment.fault("payment"),
            self.shipping.fault("shipping"),
        ];
        let mut faults: Vec<_> = folds.into_iter().flatten().collect();
        let orders = &self.ordering.state.view.orders;
        let elsewhere = [
            ("the provider", self.counts.keys().collect::<Vec<_>>()),
            ("payment", self.payment.state.view.payments.keys().collect()),
            ("shipping", self.shipping.state.view.parcels.keys().collect()),
        ];
        for (name, numbers) in elsewhere {
            let unknown = numbers.into_iter().filter(|order| !orders.contains_key(order));
            faults.extend(
                unknown
                    .map(|order| format!("order {order} is known to {name}, and not to ordering")),
            );
        }
        let listed = self.listed();
        faults.extend(orders.values().filter_map(|order| self.fault_of(order, &listed)));
        faults
    }

    /// The orders that wait for a person.
    fn listed(&self) -> BTreeSet<u64> {
        let work = self.ordering.work.iter().chain(&self.payment.work).chain(&self.shipping.work);
        work.map(|item| item.order).collect()
    }

    /// An order is charged once, and its goods are on their way or its money is back. Or its card
    /// was refused, and it is not charged. Or it waits for a person.
    fn fault_of(&self, order: &Order, listed: &BTreeSet<u64>) -> Option<String> {
        let number = order.order;
        let count = self.counts.get(&number).copied().unwrap_or_default();
        let Count { charged, refunded, refused } = count;
        let payment = self.payment.state.view.payments.get(&number).map(|payment| payment.step);
        let parcel = self.shipping.state.view.parcels.get(&number).copied();
        let is_right = match order.step {
            _ if charged > 1 || refunded > charged => false,
            _ if listed.contains(&number) => true,
            Step::Sent => {
                (charged, refunded) == (1, 0)
                    && payment == Some(PaymentStep::Received)
                    && parcel == Some(ParcelStep::Sent)
            }
            Step::Refunded => {
                (charged, refunded) == (1, 1)
                    && payment == Some(PaymentStep::Returned)
                    && parcel != Some(ParcelStep::Sent)
            }
            Step::Unpaid => charged == 0 && refused > 0 && parcel == Some(ParcelStep::Wanted),
            Step::Placed | Step::Paid | Step::OutOfStock | Step::Cancelled => false,
        };
        let step = order.step;
        (!is_right).then(|| {
            format!(
                "order {number} is {step:?} in ordering, its payment {payment:?}, its parcel \
                 {parcel:?}, and the provider has {count:?}"
            )
        })
    }

    /// The sums, for a run without a fault.
    pub(crate) fn summary(&self) -> Vec<String> {
        let orders = &self.ordering.state.view.orders;
        let (listed, mut once, mut refused, mut refunds) = (self.listed(), 0, 0, 0);
        for order in orders.keys() {
            let count = self.counts.get(order).copied().unwrap_or_default();
            once += u64::from(count.charged == 1);
            refused += u64::from(count.charged == 0 && !listed.contains(order));
            refunds += count.refunded;
        }
        let sent = orders.values().filter(|order| order.step == Step::Sent).count();
        vec![
            format!(
                "{} orders: {once} charged exactly once, none twice; {refused} with a refused \
                 card, not charged; {} in the work list",
                orders.len(),
                listed.len(),
            ),
            format!("{sent} sent; {refunds} with the money back, none twice"),
            self.ordering.line("ordering"),
            self.payment.line("payment"),
            self.shipping.line("shipping"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{member::WorkKind, payment::Payment};

    fn service<V>(view: V) -> ServiceEvidence<V> {
        let digest = || "d".to_owned();
        let state =
            ServiceState { position: 1, view_digest: digest(), fold_digest: digest(), view };
        ServiceEvidence { state, work: Vec::new() }
    }

    /// One order, with what each member says about it.
    fn evidence(
        step: Step,
        payment: PaymentStep,
        parcel: ParcelStep,
        (charged, refused, refunded): (u32, u32, u32),
    ) -> Evidence {
        let order = Order {
            order: 7,
            position: 1,
            customer: String::new(),
            product: String::new(),
            cents: 1,
            step,
        };
        let (mut book, mut payments) = (OrderBook::default(), PaymentBook::default());
        let mut parcels = ParcelBook::default();
        book.orders.insert(7, order);
        payments.payments.insert(7, Payment { cents: 1, step: payment });
        parcels.parcels.insert(7, parcel);
        let counts = BTreeMap::from([(7, Count { charged, refused, refunded })]);
        let (ordering, payment, shipping) = (service(book), service(payments), service(parcels));
        Evidence { ordering, payment, shipping, counts }
    }

    fn is_right(evidence: &Evidence) -> bool {
        evidence.faults().is_empty()
    }

    #[test]
    fn a_charge_with_its_parcel_a_refund_and_a_refused_card_are_right() {
        use ParcelStep as Parcel;
        use PaymentStep as Payment;
        let sent = evidence(Step::Sent, Payment::Received, Parcel::Sent, (1, 0, 0));
        let back = evidence(Step::Refunded, Payment::Returned, Parcel::Missing, (1, 0, 1));
        let refused = evidence(Step::Unpaid, Payment::Refused, Parcel::Wanted, (0, 1, 0));
        assert!(is_right(&sent) && is_right(&back) && is_right(&refused));
    }

    #[test]
    fn goods_without_money_and_money_without_goods_are_faults() {
        use ParcelStep as Parcel;
        use PaymentStep as Payment;
        let free = evidence(Step::Sent, Payment::Received, Parcel::Sent, (0, 0, 0));
        let given_back = evidence(Step::Sent, Payment::Received, Parcel::Sent, (1, 0, 1));
        let kept = evidence(Step::Cancelled, Payment::RefundDue, Parcel::Missing, (1, 0, 0));
        let sent_and_back = evidence(Step::Refunded, Payment::Returned, Parcel::Sent, (1, 0, 1));
        for evidence in [free, given_back, kept, sent_and_back] {
            assert_eq!(evidence.faults().len(), 1);
        }
    }

    #[test]
    fn a_second_charge_and_a_second_refund_are_faults_also_in_the_work_list() {
        for counts in [(2, 0, 0), (1, 0, 2)] {
            let mut twice = evidence(Step::Placed, PaymentStep::Due, ParcelStep::Wanted, counts);
            let reason = "no answer".to_owned();
            twice.payment.work.push(WorkItem { order: 7, kind: WorkKind::Call, reason });
            assert!(!is_right(&twice), "{counts:?}");
        }
    }

    #[test]
    fn an_order_may_wait_for_a_person() {
        let mut waits = evidence(Step::Placed, PaymentStep::Due, ParcelStep::Wanted, (1, 0, 0));
        assert!(!is_right(&waits));
        let reason = "no answer".to_owned();
        waits.payment.work.push(WorkItem { order: 7, kind: WorkKind::Call, reason });
        assert!(is_right(&waits));
    }

    #[test]
    fn a_view_that_is_not_the_fold_of_its_log_is_a_fault() {
        let mut strange = evidence(Step::Sent, PaymentStep::Received, ParcelStep::Sent, (1, 0, 0));
        strange.shipping.state.fold_digest = "e".to_owned();
        assert_eq!(strange.faults().len(), 1);
    }

    #[test]
    fn an_account_without_an_order_is_a_fault() {
        let mut unknown = evidence(Step::Sent, PaymentStep::Received, ParcelStep::Sent, (1, 0, 0));
        unknown.counts.insert(9, Count::default());
        assert_eq!(unknown.faults().len(), 1);
    }
}
