//! The events that wait in the intakes of a log, and the answers to them.

use std::{
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use diptych::{
    App, Event, Memory, Recorded,
    collaboration::{Feed, ForeignEvent, Intake, IntakeStart, PublicEvent},
    store::{Append, Read},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    program::{Program, run},
    served::ServeProcess,
};

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("order-placed")]
struct Placed {
    #[tag]
    order: u64,
    address: String,
}

#[derive(PublicEvent, Serialize, Deserialize)]
#[event("order-accepted")]
struct Accepted {
    #[tag]
    order: u64,
    address: String,
}

struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = Placed;
    type Public = Accepted;

    fn publish(event: &Recorded<Placed>) -> impl IntoIterator<Item = Accepted> {
        let Placed { order, address } = event.event.clone();
        Some(Accepted { order, address })
    }
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("parcel-due")]
struct ParcelDue {
    #[tag]
    order: u64,
    address: String,
}

/// Cannot take in an order without an address, unless it is corrected.
struct Parcels<const CORRECTED: bool>;

impl<const CORRECTED: bool> Intake for Parcels<CORRECTED> {
    const NAME: &'static str = "parcels";
    type Public = Accepted;
    type Event = ParcelDue;

    fn translate(
        event: &ForeignEvent<Accepted>,
    ) -> Result<Vec<ParcelDue>, Box<dyn Error + Send + Sync>> {
        let Accepted { order, address } = &event.event;
        match address.is_empty() && !CORRECTED {
            true => Err(format!("no address for order {order}").into()),
            false => Ok(vec![ParcelDue { order: *order, address: address.clone() }]),
        }
    }
}

/// A shop with these orders, whose addresses are given.
async fn shop(orders: &[(u64, &str)]) -> App {
    let app = App::over(Memory::new()).feed::<Orders>().start().await.unwrap();
    for (order, address) in orders {
        let placed = Placed { order: *order, address: (*address).to_owned() };
        let append = Append::event(placed.encode().unwrap());
        app.store().append(append).await.unwrap().synced().await.unwrap();
    }
    app
}

async fn until(app: &App, waiting: usize, position: u64) {
    let (start, intake) = (Instant::now(), app.intake("parcels").unwrap());
    loop {
        let status = intake.status();
        if (status.waiting, status.position.get()) == (waiting, position) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{status:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn parcels<const CORRECTED: bool>(data: &Path, shop: &App) -> App {
    App::open(data)
        .unwrap()
        .intake::<Parcels<CORRECTED>>(shop.feed("orders").unwrap(), IntakeStart::Beginning)
        .start()
        .await
        .unwrap()
}

const ORDERS: [(u64, &str); 5] = [(7, "Elm Street 1"), (13, ""), (14, ""), (13, ""), (15, "")];

/// The log of the guide: the orders 13 to 15 have no address. Returns the shop that they are from.
pub(crate) fn make_parcels(data: &Path) -> App {
    Runtime::new().unwrap().block_on(async {
        let shop = shop(&ORDERS).await;
        let app = parcels::<false>(data, &shop).await;
        until(&app, 4, 5).await;
        app.stop().await.unwrap();
        shop
    })
}

/// The addresses of the parcels after the corrected program took the answers.
pub(crate) fn corrected_parcels(data: &Path, shop: &App) -> Vec<String> {
    Runtime::new().unwrap().block_on(async {
        let app = parcels::<true>(data, shop).await;
        until(&app, 0, 5).await;
        let due = diptych::Filter::types(["parcel-due"]);
        let due = app.store().read(&due, Read::all()).await.unwrap();
        let address = |payload: &[u8]| {
            let due: Value = serde_json::from_slice(payload).unwrap();
            format!("{} {}", due["order"], due["address"].as_str().unwrap())
        };
        let addresses = due.iter().map(|event| address(event.payload())).collect();
        app.stop().await.unwrap();
        addresses
    })
}

#[test]
fn intakes_are_listed_as_json_too_and_a_held_folder_takes_no_answer() {
    let program = Program::new();
    let shop = make_parcels(&program.data());
    let data = program.data();
    let data = data.to_str().unwrap();
    let json = |args: &[&str]| -> Value {
        let ran = run(&[args, &["--data", data, "--json"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let runtime = Runtime::new().unwrap();
    let app = runtime.block_on(parcels::<false>(Path::new(data), &shop));
    let list = json(&["intake", "list"]);
    let known = &list["intakes"][0];
    assert_eq!((&known["name"], &known["position"]), (&"parcels".into(), &5.into()));
    assert_eq!(known["log"], shop.identity().to_string());
    let letters = json(&["intake", "letters", "--limit", "2"]);
    assert_eq!((letters["letters"].as_array().unwrap().len(), &letters["count"]), (2, &3.into()));
    assert_eq!(json(&["intake", "letters", "--intake", "parcels"])["count"], 3);
    let first = letters["letters"][0]["parked_at"].to_string();
    let shown = json(&["intake", "letters", &first])["letter"].clone();
    assert_eq!((&shown["event"]["data"]["order"], &shown["waiting"]), (&13.into(), &1.into()));
    let by = ["--who", "ann", "--why", "a test"];
    let held = ["--wait-seconds", "0", "--data", data];
    let skip = [&["intake", "skip", &first], &by[..], &held[..]].concat();
    run(&skip).ended(4, "use its HTTP routes");
    runtime.block_on(app.stop()).unwrap();
    // Mistakes are named.
    run(&["intake", "skip", &first, "--data", data]).ended(1, "--who");
    let none = [&["intake", "skip", "1"], &by[..], &held[..]].concat();
    run(&none).ended(1, "no event is parked at position 1");
    run(&["intake", "letters", "1", "--data", data]).ended(1, "no event is parked at position 1");
    run(&["intake", "letters", "--intake", "orders", "--data", data]).ended(1, "parcels");
    let nameless = ["intake", "skip", &first, "--who", " ", "--why", "x"];
    run(&[&nameless[..], &held[..]].concat()).ended(1, "tell who answers");
}

#[test]
fn a_server_of_the_log_takes_answers_to_parked_events_and_the_next_start_follows_them() {
    let program = Program::new();
    let shop = make_parcels(&program.data());
    let server = ServeProcess::start(&program);
    let at = ["--data", server.url.as_str(), "--who", "ann", "--why", "a test"];
    let list = ["intake", "letters", "--json", "--data", server.url.as_str()];
    let letters: Value = serde_json::from_str(&run(&list).stdout).unwrap();
    let named = |row: usize| letters["letters"][row]["parked_at"].to_string();
    let answer = |args: &[&str]| run(&[args, &at[..]].concat());
    let payload = program.dir.path().join("payload.json");
    fs::write(&payload, r#"{"order": 13, "address": "Oak Road 2"}"#).unwrap();
    let replace = ["intake", "replace", &named(0), "--payload", payload.to_str().unwrap()];
    let answered = answer(&replace);
    assert_eq!((answered.code, answered.stderr.as_str()), (0, ""));
    assert!(answered.stdout.starts_with("answered at position "), "{}", answered.stdout);
    // The intake is not there to follow the answer, so a second one is refused.
    answer(&["intake", "skip", &named(0)]).ended(3, "was answered before");
    fs::write(&payload, "{").unwrap();
    answer(&replace).ended(1, "is no JSON");
    assert_eq!(answer(&["intake", "skip", &named(1)]).code, 0);
    assert_eq!(answer(&["intake", "retry", &named(2)]).code, 0);
    drop(server);
    let addresses = corrected_parcels(&program.data(), &shop);
    assert_eq!(addresses.len(), 4);
    for expected in ["7 Elm Street 1", "13 Oak Road 2", "13 ", "15 "] {
        assert!(addresses.contains(&expected.to_owned()), "{addresses:?}");
    }
}
