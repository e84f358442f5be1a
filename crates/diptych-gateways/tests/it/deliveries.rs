//! The list of webhooks that a process sends, from the log.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use diptych::{
    App, Command, DecisionContext, Event, Memory, Store,
    process::{
        CallQuestion, CallsFrom, GatewayCallState, Process, ProcessOperations, ProcessStart,
        ReactionContext, Reactions, Trigger,
    },
};
use diptych_gateways::{Reach, Webhook, WebhookEndpoint, WebhookRefusal, WebhookReport, Webhooks};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::server::{Reply, Server};

#[derive(Event, Serialize, Deserialize)]
#[event("order-paid")]
struct Paid {
    #[tag]
    order: u64,
    shop: String,
}

#[derive(Serialize, Deserialize)]
struct Pay {
    order: u64,
    shop: String,
}

impl Command for Pay {
    type State = ();
    type Event = Paid;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Paid>, Infallible> {
        Ok(vec![Paid { order: self.order, shop: self.shop.clone() }])
    }
}

/// Tells each shop about its orders.
#[derive(Default)]
struct Notices;

impl Process for Notices {
    type Event = Paid;
    const NAME: &'static str = "notices";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Paid>) {}

    fn react(&self, trigger: &Trigger<Paid>, cx: &ReactionContext<'_>) -> Reactions {
        let Some(Paid { order, shop }) = trigger.event() else { return Reactions::none() };
        let webhook = Webhook {
            endpoint: shop.clone(),
            event_type: "order.paid".to_owned(),
            timestamp: cx.now(),
            data: json!({ "order": order }),
        };
        Reactions::none().call::<Webhooks>("webhooks", &webhook)
    }
}

#[test]
fn the_policy_tries_for_days_and_waits_no_longer_than_a_day() {
    let policy = Webhooks::policy();
    let waits = (0..policy.attempts - 1)
        .map(|failures| policy.first_wait.saturating_mul(1 << failures).min(policy.longest_wait));
    let (day, all) = (Duration::from_secs(24 * 60 * 60), waits.clone().sum::<Duration>());
    assert!(waits.max() <= Some(day));
    // Each wait is up to a fifth shorter by chance.
    assert!(all.mul_f64(1.0 - policy.jitter) >= 3 * day && all <= 5 * day, "{all:?}");
}

async fn running(store: &Store, urls: BTreeMap<String, String>, disabled: Vec<String>) -> App {
    let mut options = Webhooks::options();
    options.reach = Reach::Anywhere;
    let endpoints = move |name: &str| {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        Some(WebhookEndpoint { url: urls.get(name)?.clone(), secrets: vec![secret] })
    };
    let webhooks = Webhooks::new(endpoints, options).unwrap().without(disabled);
    App::over_store(store.clone())
        .gateway("webhooks", webhooks, CallsFrom::Beginning, Webhooks::policy())
        .process::<Notices>(ProcessStart::Beginning)
        .start()
        .await
        .unwrap()
}

/// The report, once this holds of it.
async fn until(app: &App, what: &str, holds: impl Fn(&WebhookReport) -> bool) -> WebhookReport {
    let (begin, question) = (Instant::now(), CallQuestion::of_gateway("webhooks"));
    loop {
        let report = Webhooks::report(&app.process_operations(), &question).await.unwrap();
        if holds(&report) {
            return report;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: {report:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_settled(report: &WebhookReport, at: usize) -> bool {
    let call = report.deliveries.get(at);
    call.is_some_and(|call| !matches!(call.state, GatewayCallState::Pending { .. }))
}

#[tokio::test]
async fn deliveries_are_listed_with_their_answers_their_tries_and_the_disabled_endpoints() {
    let good = Server::with([]).await;
    let gone_server = Server::with([Reply::json(410, "")]).await;
    let away = Server::with([Reply::json(500, "")]).await;
    let urls = [("good", &good), ("gone", &gone_server), ("away", &away)];
    let urls = urls.map(|(name, server)| (name.to_owned(), server.url.clone()));
    let (store, urls) = (Store::new(Memory::new()), BTreeMap::from(urls));
    let app = running(&store, urls.clone(), Vec::new()).await;
    let pay = |order, shop: &str| app.execute(Pay { order, shop: shop.to_owned() });
    for (order, shop) in [(1, "good"), (2, "gone"), (3, "nowhere")] {
        pay(order, shop).await.unwrap();
        until(&app, "it has an outcome", |report| {
            report.deliveries.len() as u64 == order && is_settled(report, 0)
        })
        .await;
    }
    // The endpoint is disabled, so the next is not sent.
    pay(4, "gone").await.unwrap();
    until(&app, "it is refused", |report| report.deliveries.len() == 4 && is_settled(report, 0))
        .await;
    assert_eq!(gone_server.requests().len(), 1);
    pay(5, "away").await.unwrap();
    let has_tried = |report: &WebhookReport| match report.deliveries.first() {
        Some(call) => matches!(call.state, GatewayCallState::Pending { tries: Some(_) }),
        None => false,
    };
    let report = until(&app, "a try has failed", has_tried).await;
    let orders: Vec<_> =
        report.deliveries.iter().map(|call| call.webhook.data["order"].clone()).collect();
    assert_eq!(orders, [5, 4, 3, 2, 1]);
    assert_eq!(report.disabled, ["gone"]);
    let refusals: Vec<_> = report.deliveries.iter().map(|call| call.refusal()).collect();
    let disabled = Some(WebhookRefusal::Disabled);
    let (unknown, gone) = (Some(WebhookRefusal::UnknownEndpoint), Some(WebhookRefusal::Gone));
    assert_eq!(refusals, [None, disabled, unknown, gone, None]);
    match &report.deliveries[0].state {
        GatewayCallState::Pending { tries: Some(tries) } => {
            assert_eq!(tries.failures, 1);
            assert!(tries.reason.contains("500"), "{}", tries.reason);
            assert!(tries.next_at > report.deliveries[0].since);
        }
        other => panic!("{other:?}"),
    }
    match &report.deliveries[4].state {
        GatewayCallState::Answered { answer, .. } => assert_eq!(answer["status"], 200),
        other => panic!("{other:?}"),
    }
    // The id is the one that the receiver got.
    assert_eq!(good.requests()[0].header("webhook-id"), Some(&*report.deliveries[4].id));
    drop(app);
    // The log alone has all but the tries.
    let question = CallQuestion::of_gateway("webhooks");
    let alone = Webhooks::report(&ProcessOperations::over(store.clone()), &question).await.unwrap();
    assert_eq!(alone.disabled, ["gone"]);
    assert_eq!(alone.deliveries[1..], report.deliveries[1..]);
    assert_eq!(alone.deliveries[0].state, GatewayCallState::Pending { tries: None });
    // The next run sends nothing to the endpoint that is disabled.
    let app = running(&store, urls, alone.disabled).await;
    app.execute(Pay { order: 6, shop: "gone".to_owned() }).await.unwrap();
    let report = until(&app, "it is refused", |report| {
        report.deliveries.len() == 6 && is_settled(report, 0)
    })
    .await;
    assert_eq!(report.deliveries[0].refusal(), Some(WebhookRefusal::Disabled));
    assert_eq!(gone_server.requests().len(), 1);
}

/// Regression: the newest hundred calls did not show the refusal, and the endpoint got webhooks
/// again after a restart.
#[tokio::test]
async fn a_disabled_endpoint_is_found_behind_any_number_of_later_calls() {
    let good = Server::with([]).await;
    let gone = Server::with([Reply::json(410, "")]).await;
    let urls = [("good", &good), ("gone", &gone)];
    let urls = urls.map(|(name, server)| (name.to_owned(), server.url.clone()));
    let store = Store::new(Memory::new());
    let app = running(&store, BTreeMap::from(urls), Vec::new()).await;
    app.execute(Pay { order: 0, shop: "gone".to_owned() }).await.unwrap();
    until(&app, "it has an outcome", |report| is_settled(report, 0)).await;
    for order in 1..=110 {
        app.execute(Pay { order, shop: "good".to_owned() }).await.unwrap();
    }
    let report = until(&app, "all have an outcome", |report| {
        let is_newest = |call: &diptych_gateways::WebhookCall| call.webhook.data["order"] == 110;
        report.deliveries.first().is_some_and(is_newest)
            && (0..report.deliveries.len()).all(|at| is_settled(report, at))
    });
    assert!(report.await.disabled.is_empty(), "the list ends before the refusal");
    app.stop().await.unwrap();
    let operations = ProcessOperations::over(store.clone());
    assert_eq!(Webhooks::disabled_in(&operations, "webhooks").await.unwrap(), ["gone"]);

    // A later delivery that is answered shows that the receiver wants them again.
    let back = Server::with([]).await;
    let app =
        running(&store, BTreeMap::from([("gone".to_owned(), back.url.clone())]), vec![]).await;
    app.execute(Pay { order: 111, shop: "gone".to_owned() }).await.unwrap();
    until(&app, "it is answered", |report| {
        report.deliveries[0].webhook.data["order"] == 111 && is_settled(report, 0)
    })
    .await;
    app.stop().await.unwrap();
    let operations = ProcessOperations::over(store);
    assert!(Webhooks::disabled_in(&operations, "webhooks").await.unwrap().is_empty());
}
