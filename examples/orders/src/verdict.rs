//! Whether the money is right: the log beside the accounts of the provider.

use std::collections::{BTreeMap, BTreeSet};

use diptych::App;
use example_orders::provider::Count;

use crate::{
    Failure,
    shop::{AllOrders, OrderBook, Step},
};

/// The orders that wait for a person, by their numbers.
///
/// # Errors
/// The reason why the log cannot be read.
pub(crate) async fn work_list(app: &App) -> Result<BTreeSet<u64>, Failure> {
    let operations = app.process_operations();
    let calls = operations.waiting_calls(None).await?.into_iter().map(|call| call.instance);
    let letters = operations.letters(None).await?.into_iter().map(|letter| letter.instance);
    let numbers = calls.chain(letters).filter_map(|instance| {
        let (_, number) = instance.split_once(':')?;
        number.parse().ok()
    });
    Ok(numbers.collect())
}

/// Each order whose step and money do not agree, in words.
pub(crate) fn faults(
    book: &OrderBook,
    counts: &BTreeMap<u64, Count>,
    listed: &BTreeSet<u64>,
) -> Vec<String> {
    let unknown = counts.keys().filter(|order| !book.orders.contains_key(order));
    let mut faults: Vec<_> = unknown
        .map(|order| format!("order {order} has an account, and is not in the log"))
        .collect();
    for order in book.orders.values() {
        let count = counts.get(&order.order).copied().unwrap_or_default();
        let Count { charged, refunded, .. } = count;
        let is_right = match order.step {
            _ if charged > 1 || refunded > charged => false,
            _ if listed.contains(&order.order) => true,
            Step::Shipped => (charged, refunded) == (1, 0),
            Step::Returned => (charged, refunded) == (1, 1),
            Step::Cancelled => charged == 0 && count.refused > 0,
            Step::Placed | Step::Paid | Step::Reserved | Step::Missing => false,
        };
        if !is_right {
            faults.push(format!("order {} is {:?}, with {count:?}", order.order, order.step));
        }
    }
    faults
}

/// Whether the answer of the view is that of a fold of the whole log.
///
/// # Errors
/// The reason why the log cannot be read.
pub(crate) async fn view_is_fold(app: &App) -> Result<bool, Failure> {
    let of_view = app.query(AllOrders).await?;
    let of_log = app.query(AllOrders).as_of(of_view.position).await?;
    Ok(of_view.value == of_log.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::Order;

    fn fault(step: Step, count: (u32, u32, u32), is_listed: bool) -> bool {
        let order = Order {
            order: 7,
            position: 1,
            customer: String::new(),
            product: String::new(),
            cents: 1,
            step,
        };
        let mut book = OrderBook::default();
        book.orders.insert(7, order);
        let (charged, refused, refunded) = count;
        let counts = BTreeMap::from([(7, Count { charged, refused, refunded })]);
        let listed = is_listed.then_some(7).into_iter().collect();
        !faults(&book, &counts, &listed).is_empty()
    }

    #[test]
    fn an_order_is_charged_once_or_waits_for_a_person() {
        assert!(!fault(Step::Shipped, (1, 0, 0), false));
        assert!(!fault(Step::Returned, (1, 0, 1), false));
        assert!(!fault(Step::Cancelled, (0, 1, 0), false));
        assert!(!fault(Step::Placed, (0, 0, 0), true));
        assert!(!fault(Step::Placed, (1, 0, 0), true));
    }

    #[test]
    fn money_without_goods_and_goods_without_money_are_faults() {
        assert!(fault(Step::Shipped, (0, 0, 0), false));
        assert!(fault(Step::Shipped, (1, 0, 1), false));
        assert!(fault(Step::Returned, (1, 0, 0), false));
        assert!(fault(Step::Cancelled, (1, 0, 0), false));
        assert!(fault(Step::Paid, (1, 0, 0), false));
    }

    #[test]
    fn a_second_charge_is_a_fault_also_in_the_work_list() {
        assert!(fault(Step::Shipped, (2, 0, 0), true));
        assert!(fault(Step::Placed, (2, 0, 0), true));
    }

    #[test]
    fn an_account_without_an_order_is_a_fault() {
        let counts = BTreeMap::from([(9, Count::default())]);
        assert_eq!(faults(&OrderBook::default(), &counts, &BTreeSet::new()).len(), 1);
    }
}
