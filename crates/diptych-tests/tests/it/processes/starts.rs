//! Starts that must have no effects: a process that catches up, an app that is rebuilt, a poster.
//! And a key that is poison, over a folder.

use std::fs;

use diptych::{
    App, Memory, Store,
    poster::Poster,
    process::{
        ActionOutcome, CallsFrom, LetterAnswer, Phase, Process, ProcessStart, ReactionContext,
        Reactions, Trigger,
    },
    store::{Append, RawEvent},
    testing::StubGateway,
};
use diptych_log::{Log, LogOptions};
use diptych_store::{Tag, Timestamp};

use super::{
    fuse::Fuse,
    kills::check,
    provider::{Charge, ChargeReceipt, Keys, Provider},
    shop::{
        Note, Order, OrderRefusal, POISON, Place, catalogue, counts, events, idle, live, policy,
        quick, shop,
    },
};

type Payments = StubGateway<Charge, ChargeReceipt>;

/// Calls for each order. Orders that are a multiple of ten are called for while it is live only.
#[derive(Default)]
struct Caller(u64);

impl Process for Caller {
    type Event = Order;
    const NAME: &'static str = "caller";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Some(Order::Placed { order }) = trigger.event() {
            self.0 = *order;
        }
    }

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        let call = Reactions::none().call::<Payments>("payments", &Charge { order: self.0 });
        match (trigger, cx.phase()) {
            (Trigger::Event(_), Phase::CatchingUp { .. }) if self.0.is_multiple_of(10) => {
                Reactions::none()
            }
            (Trigger::Event(_), _) => call,
            (Trigger::Settled(settled), _) => {
                assert_eq!(settled.rejection::<OrderRefusal>(), None);
                let is_old = self.0 < OLD;
                assert_eq!(settled.outcome == ActionOutcome::Withheld, is_old);
                Reactions::none().end()
            }
            _ => Reactions::none(),
        }
    }
}

/// Number of events before the process exists.
const OLD: u64 = 18_000;

#[tokio::test]
async fn catching_up_over_18_000_events_makes_no_call_that_is_for_new_events() {
    let store = Store::new(Memory::new());
    for from in (0..OLD).step_by(1_000) {
        let placed = |order: u64| {
            let event = RawEvent::new("order-placed", format!(r#"{{"order":{order}}}"#));
            event.tag(Tag::new("order", order))
        };
        drop(store.append(Append::events((from..from + 1_000).map(placed))).await.unwrap());
    }
    let payments: Payments = StubGateway::answering(|charge: &Charge| ChargeReceipt {
        receipt: charge.order.to_string(),
    });
    let now = Timestamp::now();
    let app = App::over_store(store.clone())
        .catalogue(catalogue())
        .gateway("payments", payments.clone(), CallsFrom::Instant(now), policy())
        .process_with::<Caller>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    idle(&app).await;
    assert_eq!(payments.calls(), 0);
    let withheld = events(&store, &["diptych:process-action-settled"]).await.len() as u64;
    assert_eq!(withheld, OLD - OLD / 10, "each withheld call is told to its instance");
    for order in [OLD, OLD + 1] {
        app.execute(Place { order }).await.unwrap();
    }
    idle(&app).await;
    assert_eq!(payments.calls(), 2);
    assert!(app.process("caller").unwrap().letters().await.unwrap().is_empty());
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_rebuild_of_everything_and_a_poster_make_no_call() {
    const ORDERS: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let log_folder = folder.path().join("log");
    let provider = Provider::new(folder.path().join("effects"), Keys::Ignored, Fuse::none());
    let open = || Log::open(&log_folder, LogOptions::default()).unwrap();
    let start = |log: &Log| {
        let store = Store::new(log.clone());
        let mut options = quick();
        // The place of the actions is never stored, so a start looks at all of them again.
        options.reactions_without_mark = u64::MAX;
        shop(store, provider.clone(), policy(), options).start()
    };
    let log = open();
    let app = start(&log).await.unwrap();
    live(&app, &Store::new(log.clone()), 0..ORDERS, &Fuse::none()).await;
    idle(&app).await;
    app.stop().await.unwrap();
    log.close().unwrap();

    // Everything that is derived goes: the index of the log, and snapshots if there are any.
    let mut removed = 0;
    for entry in fs::read_dir(&log_folder).unwrap() {
        let entry = entry.unwrap();
        if ["index", "snapshots"].contains(&&*entry.file_name().to_string_lossy()) {
            fs::remove_dir_all(entry.path()).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 0, "the index was removed");
    let (effects, log) = (provider.effects(), open());
    let store = Store::new(log.clone());
    let before = store.head().position();
    let app = start(&log).await.unwrap();
    idle(&app).await;
    assert_eq!(provider.effects(), effects);
    assert_eq!(app.head(), before, "a call would be claimed, and its answer stored");
    app.stop().await.unwrap();

    let (by, to) = (provider.clone(), "payments");
    let poster = Poster::over_store(store.clone())
        .catalogue(catalogue().process::<super::shop::Till>(ProcessStart::Beginning))
        .with(move |app| app.gateway(to, by, CallsFrom::Beginning, policy()));
    let poster = poster.open().await.unwrap();
    let client = App::over_store(store.clone()).start().await.unwrap();
    client.execute(Place { order: ORDERS }).await.unwrap();
    super::shop::until("the poster sees the order", || async { poster.head() > before }).await;
    assert_eq!(provider.effects(), effects);
    assert_eq!(store.head().position().get(), before.get() + 1, "no process wrote anything");
    poster.stop().await.unwrap();
    client.stop().await.unwrap();
    check(&store, &provider, ORDERS, "after the rebuild").await;
    log.close().unwrap();
}

/// Notes are handled in order, and a poisoned one cannot be.
#[derive(Default)]
struct Notes(Vec<String>);

impl Process for Notes {
    type Event = Order;
    const NAME: &'static str = "notes";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Some(Order::Noted { text, .. }) = trigger.event() {
            self.0.push(text.clone());
        }
    }

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Order::Noted { text, .. }) if text == POISON => panic!("no such note"),
            Some(Order::Noted { order, .. }) => {
                let reason = self.0.join(" ");
                let cancel = super::shop::Cancel { order: *order, reason };
                Reactions::none().send("cancel-order", &cancel)
            }
            _ => Reactions::none(),
        }
    }
}

#[tokio::test]
async fn a_poisoned_key_among_a_hundred_stands_alone_over_a_folder_and_goes_on_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let log = Log::open(folder.path(), LogOptions::default()).unwrap();
        let app = App::over_store(Store::new(log.clone())).catalogue(catalogue());
        (log, app.process_with::<Notes>(ProcessStart::Beginning, quick()).start())
    };
    let (log, app) = start();
    let app = app.await.unwrap();
    for order in 0..100 {
        app.execute(Place { order }).await.unwrap();
        let text = if order == 13 { POISON } else { "first" };
        app.execute(Note { order, text: text.to_owned() }).await.unwrap();
    }
    // More notes of the poisoned order, from elsewhere.
    let store = Store::new(log.clone());
    for text in ["second", "third"] {
        let event = RawEvent::new("order-noted", format!(r#"{{"order":13,"text":"{text}"}}"#));
        drop(store.append(Append::event(event.tag(Tag::new("order", 13)))).await.unwrap());
    }
    idle(&app).await;
    let cancelled = counts(&store, "order-cancelled").await;
    assert_eq!((cancelled.len(), cancelled.get(&13)), (99, None), "the others go on");
    app.stop().await.unwrap();
    drop(store);
    log.close().unwrap();

    // It stands after a restart, too.
    let (log, app) = start();
    let (app, store) = (app.await.unwrap(), Store::new(log.clone()));
    idle(&app).await;
    let control = app.process("notes").unwrap();
    let letters = control.letters().await.unwrap();
    assert_eq!((letters.len(), &*letters[0].instance), (1, "order:13"));
    assert!(letters[0].reason.contains("no such note"), "{}", letters[0].reason);
    control.answer(&letters[0], LetterAnswer::Skip, "ann", "a bad note").await.unwrap();
    idle(&app).await;
    assert!(control.letters().await.unwrap().is_empty());
    // The second note cancels the order, and the command of the third finds it cancelled.
    let cancelled = events(&store, &["order-cancelled"]).await;
    let text = String::from_utf8(cancelled.last().unwrap().1.payload.to_vec()).unwrap();
    assert_eq!((cancelled.len(), &*text), (100, r#"{"order":13,"reason":"second"}"#));
    let sent = events(&store, &["diptych:process-reacted"]).await;
    let last: serde_json::Value = serde_json::from_slice(&sent.last().unwrap().1.payload).unwrap();
    let body = &last["actions"][0]["send"]["body"]["reason"];
    assert_eq!(body, "second third", "in order: {last}");
    app.stop().await.unwrap();
    log.close().unwrap();
}
