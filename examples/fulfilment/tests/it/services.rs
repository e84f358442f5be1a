//! Services without some of the others.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::members::{Member, deliver, free_ports, get, place, until};

/// The addresses of all members, before they run.
struct Plan {
    data: TempDir,
    ordering: u16,
    payment: u16,
    shipping: u16,
    provider: u16,
}

impl Plan {
    fn new() -> Plan {
        let [ordering, payment, shipping, provider] = free_ports();
        let data = TempDir::new().unwrap();
        Plan { data, ordering, payment, shipping, provider }
    }

    fn data(&self) -> &Path {
        self.data.path()
    }

    fn orders(&self) -> (&'static str, String) {
        ("--orders", format!("http://127.0.0.1:{}/feeds/orders", self.ordering))
    }

    fn payments(&self) -> (&'static str, String) {
        ("--payments", format!("http://127.0.0.1:{}/feeds/payments", self.payment))
    }

    fn ordering(&self) -> Member {
        let parcels = format!("http://127.0.0.1:{}/feeds/parcels", self.shipping);
        let options = [self.payments(), ("--parcels", parcels)];
        Member::start("ordering", self.data(), self.ordering, &options)
    }

    fn payment(&self) -> Member {
        let provider = format!("http://127.0.0.1:{}", self.provider);
        let options = [self.orders(), ("--provider", provider)];
        Member::start("payment", self.data(), self.payment, &options)
    }

    fn shipping(&self) -> Member {
        let options = [self.orders(), self.payments()];
        Member::start("shipping", self.data(), self.shipping, &options)
    }

    fn provider(&self) -> Member {
        Member::start("provider", self.data(), self.provider, &[])
    }
}

/// The numbers of the orders whose payment was received.
fn paid(payment: &Value) -> Vec<String> {
    let payments = payment["view"]["payments"].as_object().unwrap().iter();
    let received = payments.filter(|(_, payment)| payment["step"] == "received");
    received.map(|(order, _)| order.clone()).collect()
}

fn assert_is_fold(state: &Value) {
    assert_eq!(state["view_digest"], state["fold_digest"]);
}

#[test]
fn a_service_that_is_added_later_gets_the_history_from_its_begin() {
    let plan = Plan::new();
    let (ordering, payment, _provider) = (plan.ordering(), plan.payment(), plan.provider());
    for order in 1..=12 {
        place(&ordering.address, order);
    }
    let is_paid = |state: &Value| paid(state).len() >= 5;
    until("some orders are paid", || payment.state(), is_paid);

    // Shipping has never run, and no other service knows that it does now.
    let shipping = plan.shipping();
    deliver(&shipping.address, 100);
    let is_sent = |state: &Value| {
        let parcels = state["view"]["parcels"].as_object().unwrap();
        let sent = parcels.values().filter(|step| *step == "sent").count();
        parcels.len() == 12 && sent >= 5
    };
    let state = until("the paid orders are sent", || shipping.state(), is_sent);
    assert_is_fold(&state);
    // The news of shipping comes back to ordering, which has listened all the time.
    let is_known = |state: &Value| {
        let orders = state["view"]["orders"].as_object().unwrap();
        orders.values().filter(|order| order["step"] == "sent").count() >= 5
    };
    until("ordering knows of the parcels", || ordering.state(), is_known);
}

#[test]
fn a_service_answers_and_is_rebuilt_while_its_sources_are_down() {
    let plan = Plan::new();
    let (ordering, payment, provider) = (plan.ordering(), plan.payment(), plan.provider());
    let shipping = plan.shipping();
    deliver(&shipping.address, 100);
    for order in 1..=6 {
        place(&ordering.address, order);
    }
    let is_sent = |state: &Value| {
        let parcels = state["view"]["parcels"].as_object().unwrap();
        parcels.len() == 6 && parcels.values().any(|step| step == "sent")
    };
    until("shipping has heard of all", || shipping.state(), is_sent);
    ordering.kill();
    payment.kill();
    provider.kill();

    let before = shipping.state();
    assert_is_fold(&before);
    shipping.kill();
    let rebuilt = plan.shipping();
    let past = get(&rebuilt.address, &format!("/state/{}", before["position"]));
    assert_eq!(past, before["view_digest"]);
    assert_is_fold(&rebuilt.state());
}

#[test]
fn each_service_works_alone() {
    let plan = Plan::new();
    let ordering = plan.ordering();
    place(&ordering.address, 1);
    let list = get(&ordering.address, "/queries/orders?limit=1&_consistency=strong");
    assert_eq!(list["newest"][0]["step"], "placed");
    let feed = get(&ordering.address, "/feeds/orders");
    assert_eq!(feed[0]["type"], "order-accepted.v1");
    ordering.kill();

    let payment = plan.payment();
    assert_eq!(payment.state()["view"], json!({ "payments": {} }));
    assert_eq!(get(&payment.address, "/feeds/payments"), json!([]));
    payment.kill();

    let shipping = plan.shipping();
    deliver(&shipping.address, 3);
    let state = shipping.state();
    assert_eq!(state["view"], json!({ "parcels": {}, "stock": { "map of BOS": 3 } }));
    assert_is_fold(&state);
}

#[test]
fn an_order_that_a_service_cannot_take_in_waits_for_a_person_there() {
    let plan = Plan::new();
    let (ordering, payment) = (plan.ordering(), plan.payment());
    let empty = json!({ "place": {
        "order": 1, "customer": "ann", "product": "map of BOS", "pieces": 0, "cents": 500,
    }});
    crate::members::command(&ordering.address, "order", "order-1", &empty);
    place(&ordering.address, 2);
    let is_through = |state: &Value| state["view"]["payments"]["2"].is_object();
    until("the next order is taken in", || payment.state(), is_through);
    let work = get(&payment.address, "/work");
    assert_eq!(work[0]["order"], 1);
    assert_eq!(work[0]["kind"], "intake");
    let reason = work[0]["reason"].as_str().unwrap();
    assert!(reason.contains("order 1 has no piece"), "{reason}");
}

/// The names of modules of a service that stand in a text, after this way to it.
fn modules<'t>(text: &'t str, way: &str) -> Vec<&'t str> {
    let uses = text.split(way).skip(1);
    uses.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap()).collect()
}

#[test]
fn services_know_nothing_of_each_other_but_what_is_published() {
    let services = ["ordering", "payment", "shipping"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (service, other) in services.iter().flat_map(|a| services.iter().map(move |b| (a, b))) {
        if service == other {
            continue;
        }
        let files = std::fs::read_dir(folder.join(service)).unwrap();
        let files = files.map(|file| file.unwrap().path());
        for file in files.chain([folder.join(format!("{service}.rs"))]) {
            let text = std::fs::read_to_string(&file).unwrap();
            for way in [format!("crate::{other}::"), format!(" {other}::")] {
                for module in modules(&text, &way) {
                    assert_eq!(module, "published", "{} uses {other}", file.display());
                }
            }
        }
    }
}
