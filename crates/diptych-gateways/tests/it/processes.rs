//! Processes that call over HTTP, and are killed on the way.

use std::{collections::BTreeMap, time::Duration};

use diptych::{
    App, Command, DecisionContext, Event, Filter, Memory, Position, Store,
    process::{
        CallsFrom, GatewayOptions, Process, ProcessOptions, ProcessStart, ReactionContext,
        Reactions, Trigger,
    },
    store::Read,
};
use diptych_gateways::HttpGateway;
use serde::{Deserialize, Serialize};

use super::{
    http::{Charge, ChargeReceipt, payments},
    server::{Reply, Request, Server},
};

#[derive(Clone, Event, Serialize, Deserialize)]
#[event("order-placed")]
struct Placed {
    #[tag]
    order: u64,
}

#[derive(Serialize)]
struct Place(u64);

impl Command for Place {
    type State = ();
    type Event = Placed;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Placed>, Self::Rejection> {
        Ok(vec![Placed { order: self.0 }])
    }
}

#[derive(Default)]
struct Checkout;

impl Process for Checkout {
    type Event = Placed;
    const NAME: &'static str = "checkout";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Placed>) {}

    fn react(&self, trigger: &Trigger<Placed>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(placed) => {
                let charge = Charge { order: placed.order };
                Reactions::none().call::<HttpGateway<Charge, ChargeReceipt>>("payments", &charge)
            }
            None => Reactions::none(),
        }
    }
}

fn policy() -> GatewayOptions {
    let mut policy = GatewayOptions::default();
    policy.first_wait = Duration::from_millis(1);
    policy.unknown_after = Duration::from_millis(10);
    policy
}

async fn running(
    store: &Store,
    gateway: HttpGateway<Charge, ChargeReceipt>,
    policy: GatewayOptions,
) -> App {
    let mut options = ProcessOptions::default();
    options.first_wait = Duration::from_millis(1);
    App::over_store(store.clone())
        .gateway("payments", gateway, CallsFrom::Beginning, policy)
        .process_with::<Checkout>(ProcessStart::Beginning, options)
        .start()
        .await
        .unwrap()
}

/// Waits until the condition holds. The limit is far above the time that it takes.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits until the log has the answer to a call.
async fn answered(store: &Store) {
    let answers = Filter::types(["diptych:process-action-settled"]);
    let found = async {
        while store.read(&answers, Read::after(Position::START)).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), found).await.expect("no answer is recorded");
}

/// The keys of the charges, each with the number of requests.
fn keys(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for request in requests.iter().filter(|request| request.line.starts_with("POST")) {
        *keys.entry(request.header("idempotency-key").unwrap().to_owned()).or_default() += 1;
    }
    keys
}

#[tokio::test]
async fn a_kill_between_the_call_and_its_record_repeats_the_key_of_an_idempotent_system() {
    let receipt = || Reply::json(200, r#"{"receipt":"r"}"#);
    let server = Server::with([Reply::Silence, Reply::Reset, receipt()]).await;
    let store = Store::new(Memory::new());
    let app = running(&store, payments(&server.url), policy().idempotent()).await;
    app.execute(Place(7)).await.unwrap();
    until("the request arrived", || server.requests().len() == 1).await;
    drop(app);
    let app = running(&store, payments(&server.url), policy().idempotent()).await;
    until("it was sent again", || server.requests().len() == 3).await;
    answered(&store).await;
    assert_eq!(keys(&server.requests()).into_values().collect::<Vec<_>>(), [3], "one key");
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_kill_between_the_call_and_its_record_asks_a_system_that_can_tell() {
    let server = Server::with([Reply::Silence, Reply::json(200, r#"{"receipt":"r"}"#)]).await;
    let gateway = || {
        let found = format!("{}/charges/{{key}}", server.url);
        payments(&server.url).found_at(&found).unwrap()
    };
    let store = Store::new(Memory::new());
    let app = running(&store, gateway(), policy()).await;
    app.execute(Place(7)).await.unwrap();
    until("the request arrived", || server.requests().len() == 1).await;
    drop(app);
    let app = running(&store, gateway(), policy()).await;
    until("it was asked about", || server.requests().len() == 2).await;
    answered(&store).await;
    let requests = server.requests();
    let keys = keys(&requests);
    assert_eq!(keys.values().copied().collect::<Vec<_>>(), [1], "it was charged once");
    let key = keys.into_keys().next().unwrap();
    assert_eq!(requests[1].line, format!("GET /charges/{key}"));
    assert!(app.process("checkout").unwrap().waiting_calls().await.unwrap().is_empty());
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_kill_between_the_call_and_its_record_lists_a_call_that_may_have_been_sent() {
    let server = Server::with([Reply::Silence]).await;
    let store = Store::new(Memory::new());
    let app = running(&store, payments(&server.url), policy()).await;
    app.execute(Place(7)).await.unwrap();
    until("the request arrived", || server.requests().len() == 1).await;
    drop(app);
    let app = running(&store, payments(&server.url), policy()).await;
    let control = app.process("checkout").unwrap();
    let listed = async {
        loop {
            if let [call] = &*control.waiting_calls().await.unwrap() {
                return call.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let call = tokio::time::timeout(Duration::from_secs(120), listed).await.unwrap();
    assert!(call.reason.contains("may have been sent"), "{}", call.reason);
    let keys: Vec<_> = keys(&server.requests()).into_iter().collect();
    assert_eq!(keys, [(call.key, 1)], "the key is the one that the system outside knows");
    app.stop().await.unwrap();
}
