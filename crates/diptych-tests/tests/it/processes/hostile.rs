//! Logs with events that no program of today wrote, and processes that misbehave.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use diptych::{
    App, Command, DecisionContext, Event, Filter, Fold, Memory, Recorded, Store, Tag,
    catalogue::Catalogue,
    process::{
        ActionOutcome, ActionRejection, CallAnswer, CallFailure, CallsFrom, Gateway, LetterAnswer,
        Process, ProcessStart, ProcessState, ReactionContext, Reactions, Trigger,
    },
    store::{Append, RawEvent},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fuse::Fuse,
    provider::{Keys, Provider},
    shop::{Cancel, Order, Place, catalogue, counts, events, idle, policy, quick, shop, until},
};

async fn shop_over(store: &Store) -> (App, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::new(folder.path().join("effects"), Keys::Ignored, Fuse::none());
    (shop(store.clone(), provider, policy(), quick()).start().await.unwrap(), folder)
}

/// A stopped process of the app tells this reason.
async fn stopped(app: &App, names: &str) {
    until("it stopped", || async {
        match app.processes().remove(0).state {
            ProcessState::Stopped { reason } => {
                assert!(reason.contains(names), "{reason}");
                true
            }
            _ => false,
        }
    })
    .await;
}

/// Events of processes that this program cannot read come from a newer program, or are forged. A
/// process that went on without them could do things twice.
#[tokio::test]
async fn an_unreadable_event_of_its_own_stops_a_process_with_its_place() {
    type Change = fn(RawEvent) -> RawEvent;
    let changes: [(&str, Change); 4] = [
        ("truncated", |event| {
            let half = event.payload[..event.payload.len() / 2].to_vec();
            RawEvent { payload: half, ..event }
        }),
        ("forged", |event| RawEvent { payload: br#"{"process":7}"#.to_vec(), ..event }),
        ("an action of a newer program", |event| {
            let text = String::from_utf8(event.payload.to_vec()).unwrap();
            let text = text.replace("\"call\":", "\"summon\":");
            RawEvent { payload: text.into_bytes(), ..event }
        }),
        ("a later version", |event| event.version(9)),
    ];
    for (name, change) in changes {
        let store = Store::new(Memory::new());
        let (app, _folder) = shop_over(&store).await;
        app.execute(Place { order: 0 }).await.unwrap();
        idle(&app).await;
        let written = events(&store, &["diptych:process-reacted"]).await.remove(0).1;
        app.stop().await.unwrap();
        // The same event once more, with another id, as a forger writes it.
        let mut forged = change(written);
        forged.id = None;
        let at = store.append(Append::event(forged)).await.unwrap().last;
        let before = events(&store, &["order-paid"]).await.len();
        let (app, _folder) = shop_over(&store).await;
        stopped(&app, &format!("the event at position {at} cannot be read")).await;
        assert_eq!(events(&store, &["order-paid"]).await.len(), before, "{name}");
        app.stop().await.unwrap();
    }
}

/// The key of an action is made from its place, so a copy of a reaction has no other action.
#[tokio::test]
async fn a_copied_reaction_is_not_carried_out_again() {
    let store = Store::new(Memory::new());
    let (app, folder) = shop_over(&store).await;
    app.execute(Place { order: 0 }).await.unwrap();
    idle(&app).await;
    for (_, mut copied) in events(&store, &["diptych:process-reacted"]).await {
        copied.id = None;
        drop(store.append(Append::event(copied)).await.unwrap());
    }
    idle(&app).await;
    app.stop().await.unwrap();
    let provider = Provider::new(folder.path().join("effects"), Keys::Ignored, Fuse::none());
    assert_eq!(provider.effects().into_values().collect::<Vec<_>>(), [1]);
    assert_eq!(
        (counts(&store, "order-shipped").await[&0], counts(&store, "order-paid").await[&0]),
        (1, 1)
    );
}

/// Another process under the name of the till.
#[derive(Default)]
struct Namesake(u64);

impl Process for Namesake {
    type Event = Order;
    const NAME: &'static str = "till";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {
        self.0 += 1;
    }

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Order::Placed { order }) => {
                let cancel = Cancel { order: *order, reason: format!("event {}", self.0) };
                Reactions::none().send("cancel-order", &cancel)
            }
            _ => Reactions::none(),
        }
    }
}

/// Two declarations of one name are one process for the log: each event gets one reaction, from
/// one of them.
#[tokio::test]
async fn two_declarations_of_one_name_react_once_to_each_event() {
    let store = Store::new(Memory::new());
    let (one, _folder) = shop_over(&store).await;
    let other = App::over_store(store.clone())
        .catalogue(catalogue())
        .process_with::<Namesake>(ProcessStart::Beginning, quick());
    let other = other.start().await.unwrap();
    for order in 0..60 {
        one.execute(Place { order }).await.unwrap();
    }
    until("each event has a reaction", || async {
        let mut triggers = Vec::new();
        for (_, event) in events(&store, &["diptych:process-reacted"]).await {
            let record: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
            triggers.push(record["trigger"].to_string());
        }
        let all = triggers.len();
        triggers.sort_unstable();
        triggers.dedup();
        assert_eq!(triggers.len(), all, "a second reaction");
        all >= 60
    })
    .await;
    other.stop().await.unwrap();
    one.stop().await.unwrap();
}

/// The acts of the process and its gateway for an order.
const CALM: u64 = 0;
const PANICS: u64 = 1;
const PANICS_AT_LENGTH: u64 = 2;
const ACTS_AT_LENGTH: u64 = 3;
const ANSWERS_AT_LENGTH: u64 = 4;
const REFUSES_AT_LENGTH: u64 = 5;
const GATEWAY_PANICS: u64 = 6;
const GROWS: u64 = 7;
const KINDS: u64 = 8;

/// More bytes than an event may have.
fn much() -> String {
    "m".repeat(5 << 20)
}

/// A process that misbehaves.
#[derive(Default)]
struct Wild {
    order: u64,
    state: Vec<u8>,
}

impl Process for Wild {
    type Event = Order;
    const NAME: &'static str = "wild";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        if let Some(Order::Placed { order }) = trigger.event() {
            self.order = *order;
            if order % KINDS == GROWS {
                self.state = vec![7; 64 << 20];
            }
        }
    }

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        let order = self.order;
        let cancel =
            |reason: String| Reactions::none().send("cancel-order", &Cancel { order, reason });
        match (trigger, order % KINDS) {
            (Trigger::Event(event), kind) if matches!(event.event, Order::Placed { .. }) => {
                match kind {
                    PANICS => panic!("no order {order}"),
                    PANICS_AT_LENGTH => panic!("{}", much()),
                    ACTS_AT_LENGTH => cancel(much()),
                    CALM | GROWS => cancel(format!("{} bytes", self.state.len())),
                    _ => Reactions::none().call::<WildGateway>("wild", &Ask { order }),
                }
            }
            (Trigger::Settled(settled), _) => cancel(match &settled.outcome {
                ActionOutcome::Rejected(refused) => refused.text.clone(),
                other => format!("{other:?}"),
            }),
            _ => Reactions::none(),
        }
    }
}

#[derive(Clone, Default)]
struct WildGateway(Arc<AtomicU64>);

#[derive(Serialize, Deserialize)]
struct Ask {
    order: u64,
}

impl Gateway for WildGateway {
    type Call = Ask;
    type Answer = String;

    async fn send(&self, call: &Ask, _: &str) -> Result<String, CallFailure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match call.order % KINDS {
            ANSWERS_AT_LENGTH => Ok(much()),
            REFUSES_AT_LENGTH => {
                Err(CallFailure::Refused(ActionRejection::new(much(), Value::Null)))
            }
            GATEWAY_PANICS => panic!("no call for order {}", call.order),
            _ => Ok("well".to_owned()),
        }
    }
}

/// Each fault stays with its instance: the others go on, and a restart changes nothing.
#[tokio::test]
async fn a_process_and_a_gateway_that_misbehave_hold_up_no_other_instance() {
    let store = Store::new(Memory::new());
    let gateway = WildGateway::default();
    let start = || {
        App::over_store(store.clone())
            .catalogue(catalogue())
            .gateway("wild", gateway.clone(), CallsFrom::Beginning, policy())
            .process_with::<Wild>(ProcessStart::Beginning, quick())
            .start()
    };
    let app = start().await.unwrap();
    for order in 0..KINDS * 2 {
        app.execute(Place { order }).await.unwrap();
        // Each fault meets a process that works.
        app.execute(Place { order: 1_000 * KINDS + order * KINDS }).await.unwrap();
    }
    let parked = [PANICS, PANICS_AT_LENGTH, ACTS_AT_LENGTH];
    let listed = [ANSWERS_AT_LENGTH, GATEWAY_PANICS];
    let ended = KINDS * 4 - 2 * (parked.len() + listed.len()) as u64;
    let control = app.process("wild").unwrap();
    until("all that can end has ended", || async {
        let stopped = matches!(control.status().state, ProcessState::Stopped { .. });
        assert!(!stopped, "{:?}", control.status());
        counts(&store, "order-cancelled").await.len() as u64 == ended
            && control.waiting_calls().await.unwrap().len() == listed.len() * 2
            && control.letters().await.unwrap().len() == parked.len() * 2
    })
    .await;
    idle(&app).await;
    for letter in control.letters().await.unwrap() {
        assert!(letter.reason.len() < 10_000, "{} bytes", letter.reason.len());
    }
    let (calls, head) = (gateway.0.load(Ordering::SeqCst), app.head());
    assert_eq!(calls, 2 * (1 + listed.len() as u64), "each call was made once");
    app.stop().await.unwrap();
    let app = start().await.unwrap();
    idle(&app).await;
    assert_eq!((gateway.0.load(Ordering::SeqCst), app.head()), (calls, head));
    // A call whose answer does not fit is answered by hand.
    let control = app.process("wild").unwrap();
    for call in control.waiting_calls().await.unwrap() {
        assert!(call.reason.contains("may have been sent"), "{}", call.reason);
        let answer = CallAnswer::Answered("by hand".into());
        control.answer_call(&call, answer, "ann", "the system says so").await.unwrap();
    }
    for letter in control.letters().await.unwrap() {
        control.answer(&letter, LetterAnswer::Skip, "ann", "not to be handled").await.unwrap();
    }
    idle(&app).await;
    assert!(control.letters().await.unwrap().is_empty());
    assert!(control.waiting_calls().await.unwrap().is_empty());
    let cancelled = counts(&store, "order-cancelled").await;
    assert_eq!(cancelled.len() as u64, ended + 2 * listed.len() as u64);
    app.stop().await.unwrap();
}

/// The longest tag that a store takes is a tag of an instance.
#[tokio::test]
async fn an_instance_may_have_the_longest_tag() {
    let store = Store::new(Memory::new());
    let longest = store.limits().tag_bytes - "topic:".len();
    let app = App::over_store(store.clone())
        .catalogue(Catalogue::new().infallible_command::<Close>("close"))
        .process_with::<Closing>(ProcessStart::Beginning, quick());
    let app = app.start().await.unwrap();
    let topics = ["a", "b"].map(|end| "t".repeat(longest - 1) + end);
    for topic in &topics {
        app.execute(Open { topic: topic.clone() }).await.unwrap();
    }
    idle(&app).await;
    let closed = events(&store, &["topic-closed"]).await;
    let closed: Vec<_> = closed.iter().map(|(_, event)| event.tags[0].value().to_owned()).collect();
    assert_eq!(closed, topics);
    let fired = events(&store, &["diptych:process-timer-fired"]).await;
    assert_eq!(fired.len(), 2);
    app.stop().await.unwrap();
}

#[derive(Clone, Debug, Event)]
enum Topic {
    #[event("topic-opened")]
    Opened {
        #[tag]
        topic: String,
    },
    #[event("topic-closed")]
    Closed {
        #[tag]
        topic: String,
    },
}

#[derive(Default)]
struct NoTopic;

impl Fold for NoTopic {
    type Event = Topic;

    fn apply(&mut self, _: &Recorded<Topic>) {}
}

#[derive(Serialize, Deserialize)]
struct Open {
    topic: String,
}

#[derive(Serialize, Deserialize)]
struct Close {
    topic: String,
}

macro_rules! of_topic {
    ($name:ident, $event:ident) => {
        impl Command for $name {
            type State = NoTopic;
            type Event = Topic;
            type Rejection = Infallible;

            fn boundary(&self) -> Filter {
                Filter::tag(Tag::new("topic", &self.topic))
            }

            fn decide(&self, _: &NoTopic, _: &DecisionContext) -> Result<Vec<Topic>, Infallible> {
                Ok(vec![Topic::$event { topic: self.topic.clone() }])
            }
        }
    };
}

of_topic!(Open, Opened);
of_topic!(Close, Closed);

#[derive(Default)]
struct Closing;

impl Process for Closing {
    type Event = Topic;
    const NAME: &'static str = "closing";
    const TAG: &'static str = "topic";

    fn apply(&mut self, _: &Trigger<Topic>) {}

    fn react(&self, trigger: &Trigger<Topic>, cx: &ReactionContext<'_>) -> Reactions {
        match trigger {
            Trigger::Timer(_) => {
                Reactions::none().send("close", &Close { topic: cx.instance().to_owned() })
            }
            Trigger::Event(event) if matches!(event.event, Topic::Opened { .. }) => {
                Reactions::none().set_timer("close-by", cx.now())
            }
            _ => Reactions::none().end(),
        }
    }
}
