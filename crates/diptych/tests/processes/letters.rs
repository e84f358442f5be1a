use std::sync::atomic::{AtomicBool, Ordering};

use diptych::{
    App, Memory, Store,
    process::{
        LetterAnswer, LetterError, Process, ProcessStart, ReactionContext, Reactions, Trigger,
    },
    testing::Clock,
};

use super::orders::{Cancel, Order, Pay, Place, Ship, counts, events, idle, quick, shop};

/// Panics at the payment of order 13, until it is corrected.
#[derive(Default)]
struct Fragile<const TEST: usize> {
    order: u64,
    payments: u64,
}

static CORRECTED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

impl<const TEST: usize> Process for Fragile<TEST> {
    type Event = Order;
    const NAME: &'static str = "fragile";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        match trigger.event() {
            Some(Order::Placed { order }) => self.order = *order,
            Some(Order::Paid { .. }) => self.payments += 1,
            _ => {}
        }
    }

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        let order = self.order;
        match trigger.event() {
            Some(Order::Paid { .. }) => {
                let is_poison = order == 13 && self.payments == 1;
                if is_poison && !CORRECTED[TEST].load(Ordering::SeqCst) {
                    panic!("no order 13");
                }
                let reason = format!("payment {}", self.payments);
                Reactions::none()
                    .send("ship-order", &Ship { order })
                    .send("cancel-order", &Cancel { order, reason })
            }
            _ => Reactions::none(),
        }
    }
}

async fn start<const TEST: usize>(store: &Store, clock: &Clock) -> App {
    let app = shop(store, clock).process_with::<Fragile<TEST>>(ProcessStart::Beginning, quick());
    app.start().await.unwrap()
}

/// A hundred orders, of which number 13 is parked at its first of two payments.
async fn poisoned<const TEST: usize>(store: &Store, clock: &Clock) -> App {
    let app = start::<TEST>(store, clock).await;
    for order in 1..=100 {
        app.execute(Place { order }).await.unwrap();
        app.execute(Pay { order }).await.unwrap();
        if order == 13 {
            app.execute(Pay { order }).await.unwrap();
        }
    }
    idle(&app).await;
    let shipped = counts(store, "order-shipped").await;
    assert_eq!(shipped.len(), 99, "the others go on");
    assert!(!shipped.contains_key("13"));
    app
}

#[tokio::test]
async fn a_poisoned_instance_is_parked_alone_and_goes_on_in_order_after_a_retry() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = poisoned::<0>(&store, &clock).await;
    let letters = app.process("fragile").unwrap().letters().await.unwrap();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.instance, "order:13");
    assert!(letter.reason.contains("no order 13"), "{}", letter.reason);
    // A retry without a correction parks it again.
    let retry = LetterAnswer::Retry;
    let control = app.process("fragile").unwrap();
    control.answer(letter, retry.clone(), "ann", "to see").await.unwrap();
    idle(&app).await;
    let again = control.letters().await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(again[0].parked_at > letter.parked_at);
    let twice = control.answer(letter, retry.clone(), "bob", "late").await.unwrap_err();
    assert!(matches!(twice, LetterError::Answered { .. }), "{twice}");
    // The program is corrected and started again.
    app.stop().await.unwrap();
    CORRECTED[0].store(true, Ordering::SeqCst);
    let app = start::<0>(&store, &clock).await;
    let control = app.process("fragile").unwrap();
    control.answer(&again[0], retry, "ann", "corrected").await.unwrap();
    idle(&app).await;
    assert!(control.letters().await.unwrap().is_empty());
    assert_eq!(counts(&store, "order-shipped").await["13"], 2);
    let reasons = reasons_of_13(&store).await;
    assert_eq!(reasons, ["payment 1"], "the second payment finds it cancelled");
    let released = events(&store, &["diptych:process-released"]).await;
    assert_eq!(released[1].1.metadata.actor.as_deref(), Some("ann"));
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_skipped_trigger_is_left_out_also_when_the_state_is_folded_again() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = poisoned::<1>(&store, &clock).await;
    let control = app.process("fragile").unwrap();
    let letters = control.letters().await.unwrap();
    control.answer(&letters[0], LetterAnswer::Skip, "ann", "a test order").await.unwrap();
    idle(&app).await;
    // The next payment is the first one that counts, so it is poison, too.
    let letters = control.letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    app.stop().await.unwrap();
    let app = start::<1>(&store, &clock).await;
    let control = app.process("fragile").unwrap();
    assert_eq!(control.letters().await.unwrap(), letters, "a restart changes nothing");
    control.answer(&letters[0], LetterAnswer::Skip, "ann", "a test order").await.unwrap();
    idle(&app).await;
    assert!(control.letters().await.unwrap().is_empty());
    assert!(!counts(&store, "order-shipped").await.contains_key("13"));
    app.stop().await.unwrap();
}

#[tokio::test]
async fn an_operator_can_replace_a_reaction() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = poisoned::<2>(&store, &clock).await;
    let control = app.process("fragile").unwrap();
    let letters = control.letters().await.unwrap();
    let reason = "by hand".to_owned();
    let instead = Reactions::none().send("cancel-order", &Cancel { order: 13, reason });
    let answer = LetterAnswer::Replace(instead);
    control.answer(&letters[0], answer, "ann", "the customer called").await.unwrap();
    idle(&app).await;
    assert!(control.letters().await.unwrap().is_empty());
    assert_eq!(reasons_of_13(&store).await, ["by hand"]);
    assert_eq!(counts(&store, "order-shipped").await["13"], 1, "by its second payment");
    app.stop().await.unwrap();
}

async fn reasons_of_13(store: &Store) -> Vec<String> {
    let cancelled = events(store, &["order-cancelled"]).await;
    let of_13 = cancelled
        .iter()
        .filter(|(_, event)| event.tags.iter().any(|tag| tag.as_str() == "order:13"));
    let reason = |payload: &[u8]| {
        let event: serde_json::Value = serde_json::from_slice(payload).unwrap();
        event["reason"].as_str().unwrap().to_owned()
    };
    of_13.map(|(_, event)| reason(&event.payload)).collect()
}
