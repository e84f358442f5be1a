//! Services without some of the others.

use std::path::Path;

use diptych::{
    Position,
    process::{JoinedStep, StepKind, TraceOptions, TraceSources},
};
use diptych_gateways::HttpTraces;
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
    let paid = paid(&until("some orders are paid", || payment.state(), is_paid));

    // Shipping has never run, and no other service knows that it does now. It packs the paid orders
    // of the history at once, so it has no goods for those that it packs before this delivery.
    let shipping = plan.shipping();
    deliver(&shipping.address, 100);
    let is_packed = |state: &Value| {
        let parcels = &state["view"]["parcels"];
        let is_end = |order: &String| parcels[order] == "sent" || parcels[order] == "missing";
        parcels.as_object().unwrap().len() == 12 && paid.iter().all(is_end)
    };
    let state = until("shipping has all orders and payments", || shipping.state(), is_packed);
    assert_is_fold(&state);
    // The news of shipping comes back to ordering, which has listened all the time.
    let parcels = &state["view"]["parcels"];
    let is_known = |state: &Value| {
        paid.iter().all(|order| {
            let step = &state["view"]["orders"][order]["step"];
            match parcels[order] == "sent" {
                true => step == "sent",
                false => step == "cancelled" || step == "refunded",
            }
        })
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

    let placed = ordering.state()["view"]["orders"]["1"]["position"].as_u64().unwrap();
    let steps = flow_of(placed, [("ordering", &ordering), ("payment", &payment)]);
    let [placed, parked] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((placed.depth, placed.service.as_str()), (0, "ordering"));
    assert_eq!((parked.depth, parked.service.as_str()), (1, "payment"));
    let StepKind::ForeignParked { reason: Some(reason), origin: Some(_), .. } = &parked.kind else {
        panic!("{parked:?}");
    };
    assert!(reason.contains("order 1 has no piece"), "{reason}");
}

/// The steps that follow from the event at a position of the first service.
fn flow_of<const N: usize>(position: u64, services: [(&str, &Member); N]) -> Vec<JoinedStep> {
    let mut sources = TraceSources::new();
    for (name, member) in services {
        let url = format!("http://{}", member.address);
        sources = sources.with(name, HttpTraces::new(&url, HttpTraces::options()).unwrap());
    }
    let asked = sources.trace(Position::new(position), TraceOptions::default());
    let flow = tokio::runtime::Runtime::new().unwrap().block_on(asked).unwrap();
    assert!(flow.services.iter().all(|service| service.away.is_none()), "{flow}");
    flow.steps
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
