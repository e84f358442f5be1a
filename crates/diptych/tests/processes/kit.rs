//! The testing kit of processes.

use std::time::Duration;

use diptych::{process::Reactions, testing::given_process};

use super::orders::{Cancel, Fulfilment, LiveOnly, Order, OrderRefusal, PAY_WITHIN, Ship};

const PLACED: Order = Order::Placed { order: 7 };
const PAID: Order = Order::Paid { order: 7 };

fn cancel(reason: &str) -> Reactions {
    let reason = reason.to_owned();
    Reactions::none().send("cancel-order", &Cancel { order: 7, reason })
}

#[test]
fn a_payment_cancels_the_timer_and_ships() {
    let paid = Reactions::none().cancel_timer("pay-by").send("ship-order", &Ship { order: 7 });
    let given = given_process::<Fulfilment>().and(PLACED).then_pending(["pay-by"]);
    given.when(PAID).then(paid).then_pending([]).when_time_passes(PAY_WITHIN).then_nothing();
}

#[test]
fn time_fires_timers_at_their_due_time_and_after_downtime() {
    let given = || given_process::<Fulfilment>().and(PLACED);
    let almost = PAY_WITHIN - Duration::from_secs(1);
    let given_almost = given().when_time_passes(almost).then_nothing();
    given_almost.when_time_passes(Duration::from_secs(1)).then(cancel("not paid in time"));
    let late = diptych::testing::Clock::new().now().saturating_add(PAY_WITHIN * 3);
    given().when_it_was_down_until(late).then(cancel("not paid in time"));
}

#[test]
fn answers_of_commands_are_triggers() {
    let given = || given_process::<Fulfilment>().and(PLACED).and(PAID);
    given().when_rejected("ship-order", &OrderRefusal { order: 7 }).then(cancel("out of stock"));
    given().when_nothing_to_do("ship-order").then(cancel("nothing to ship"));
}

#[test]
fn the_phase_is_told() {
    given_process::<LiveOnly>().catching_up(3).when(PLACED).then_nothing();
    given_process::<LiveOnly>().when(PLACED).then(cancel("live"));
}

#[test]
#[should_panic(expected = "reacted otherwise")]
fn another_reaction_fails_the_test() {
    given_process::<Fulfilment>().when(PLACED).then(Reactions::none().end());
}

#[test]
#[should_panic(expected = "another instance")]
fn an_event_of_another_instance_fails_the_test() {
    given_process::<Fulfilment>().and(PLACED).when(Order::Paid { order: 8 }).then_nothing();
}

#[test]
fn an_end_cancels_the_pending_timers_and_ends_all_reactions() {
    let given = given_process::<Fulfilment>().and(PLACED);
    let shipped = given.when(Order::Shipped { order: 7 });
    let ended = shipped.then(Reactions::none().cancel_timer("pay-by").end()).then_pending([]);
    ended.when(PAID).then_nothing();
}
