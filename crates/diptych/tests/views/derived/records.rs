//! A virtual record: one row built from the events of three services, in any order of arrival.

use std::collections::BTreeMap;

use diptych::{Event, Fold, Recorded};
use fastrand::Rng;
use serde::Serialize;

use super::folded;

#[derive(Clone, Debug, Event)]
enum Customers {
    #[event("customer-registered")]
    Registered { customer: u32, name: String },
    #[event("customer-renamed")]
    Renamed { customer: u32, name: String },
}

#[derive(Clone, Debug, Event)]
enum Billing {
    #[event("invoice-sent")]
    Sent { invoice: u32, customer: u32, cents: u64 },
    #[event("invoice-paid")]
    Paid { invoice: u32 },
}

#[derive(Clone, Debug, Event)]
enum Shipping {
    #[event("parcel-loaded")]
    Loaded { parcel: u32, customer: u32, ship: String },
    #[event("ship-arrived")]
    Arrived { ship: String, port: String },
}

#[derive(Clone, Debug, Event)]
enum Anywhere {
    Customers(Customers),
    Billing(Billing),
    Shipping(Shipping),
}

/// The fold stores each part under its lookup key, even before the whole is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Portfolios {
    by_customer: BTreeMap<u32, Portfolio>,
    invoices: BTreeMap<u32, Invoice>,
    ports: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Portfolio {
    name: Option<String>,
    invoices: Vec<u32>,
    parcels: BTreeMap<u32, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Invoice {
    cents: u64,
    is_paid: bool,
}

impl Fold for Portfolios {
    type Event = Anywhere;

    fn apply(&mut self, event: &Recorded<Anywhere>) {
        match event.event.clone() {
            Anywhere::Customers(
                Customers::Registered { customer, name } | Customers::Renamed { customer, name },
            ) => self.of(customer).name = Some(name),
            Anywhere::Billing(Billing::Sent { invoice, customer, cents }) => {
                self.of(customer).invoices.push(invoice);
                self.invoices.entry(invoice).or_default().cents = cents;
            }
            Anywhere::Billing(Billing::Paid { invoice }) => {
                self.invoices.entry(invoice).or_default().is_paid = true;
            }
            Anywhere::Shipping(Shipping::Loaded { parcel, customer, ship }) => {
                self.of(customer).parcels.insert(parcel, ship);
            }
            Anywhere::Shipping(Shipping::Arrived { ship, port }) => {
                self.ports.insert(ship, port);
            }
        }
    }
}

impl Portfolios {
    fn of(&mut self, customer: u32) -> &mut Portfolio {
        self.by_customer.entry(customer).or_default()
    }

    fn record(&self, customer: u32) -> Option<Record> {
        let portfolio = self.by_customer.get(&customer)?;
        let invoices = portfolio.invoices.iter().filter_map(|number| self.invoices.get(number));
        let due = invoices.filter(|invoice| !invoice.is_paid).map(|invoice| invoice.cents).sum();
        let port = |ship: &String| self.ports.get(ship).cloned();
        let ports = portfolio.parcels.values().map(port).collect();
        Some(Record { name: portfolio.name.clone(), due_cents: due, ports })
    }
}

/// One record as callers see it. `ports` holds, for each parcel, the port where its ship is.
#[derive(Debug, PartialEq)]
struct Record {
    name: Option<String>,
    due_cents: u64,
    ports: Vec<Option<String>>,
}

fn record(name: Option<&str>, due_cents: u64, ports: &[Option<&str>]) -> Option<Record> {
    let ports = ports.iter().map(|port| port.map(str::to_owned)).collect();
    Some(Record { name: name.map(str::to_owned), due_cents, ports })
}

/// The events of each service, in the order of that service.
fn services() -> [Vec<Anywhere>; 3] {
    let customers = [
        Customers::Registered { customer: 1, name: "Ann".to_owned() },
        Customers::Registered { customer: 2, name: "Ben".to_owned() },
        Customers::Renamed { customer: 1, name: "Anna".to_owned() },
    ];
    let billing = [
        Billing::Sent { invoice: 10, customer: 1, cents: 500 },
        Billing::Sent { invoice: 11, customer: 1, cents: 70 },
        Billing::Paid { invoice: 10 },
        Billing::Sent { invoice: 12, customer: 2, cents: 9 },
    ];
    let load =
        |parcel, customer, ship: &str| Shipping::Loaded { parcel, customer, ship: ship.to_owned() };
    let arrive =
        |ship: &str, port: &str| Shipping::Arrived { ship: ship.to_owned(), port: port.to_owned() };
    let shipping = [
        arrive("King Roy", "SFO"),
        load(20, 1, "King Roy"),
        load(21, 2, "Prince Trevor"),
        arrive("King Roy", "LAX"),
    ];
    [
        customers.map(Anywhere::Customers).into(),
        billing.map(Anywhere::Billing).into(),
        shipping.map(Anywhere::Shipping).into(),
    ]
}

/// Returns one random arrival order that keeps the order within each service.
fn merged(random: &mut Rng) -> Vec<Anywhere> {
    let mut services = services().map(Vec::into_iter);
    let mut turns: Vec<usize> =
        services.iter().enumerate().flat_map(|(at, service)| vec![at; service.len()]).collect();
    random.shuffle(&mut turns);
    turns.into_iter().map(|service| services[service].next().unwrap()).collect()
}

#[test]
fn the_record_is_the_same_for_every_arrival_order() {
    let expected: Portfolios = folded(services().into_iter().flatten());
    assert_eq!(expected.record(1), record(Some("Anna"), 70, &[Some("LAX")]));
    assert_eq!(expected.record(2), record(Some("Ben"), 9, &[None]));
    let bytes = serde_json::to_string(&expected).unwrap();
    let mut parts_first = 0;
    for seed in 0..1_000 {
        let events = merged(&mut Rng::with_seed(seed));
        parts_first += u32::from(!matches!(events[0], Anywhere::Customers(_)));
        let portfolios: Portfolios = folded(events);
        assert_eq!(portfolios, expected, "seed {seed}");
        assert_eq!(serde_json::to_string(&portfolios).unwrap(), bytes, "seed {seed}");
    }
    assert!(parts_first > 500, "a customer event came first {} times", 1_000 - parts_first);
}

#[test]
fn a_part_waits_for_its_whole() {
    let [_, billing, shipping] = services();
    let portfolios: Portfolios = folded(shipping.into_iter().chain(billing));
    assert_eq!(portfolios.record(1), record(None, 70, &[Some("LAX")]));
    assert_eq!(portfolios.record(3), None);
}

/// Within one service a payment follows its invoice. A log that receives copies of the events may
/// hold the payment first.
#[test]
fn a_payment_may_come_before_its_invoice() {
    let [_, billing, _] = services();
    let portfolios: Portfolios = folded(billing.into_iter().rev());
    assert_eq!(portfolios.record(1), record(None, 70, &[]));
}
