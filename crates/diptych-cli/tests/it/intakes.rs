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
use diptych_server::{Caller, Denial, Server, Visit};
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

/// A shop that serves its flows to callers with this token.
fn serve_shop(runtime: &Runtime, shop: &App) -> String {
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(shop.clone()).process_operations().admit(|visit: Visit| {
            let token = visit.headers.get("authorization").cloned();
            async move {
                match token.is_some_and(|token| token == "Bearer secret") {
                    true => Ok(Caller::anonymous()),
                    false => Err(Denial::unknown("a token is needed", "Bearer")),
                }
            }
        });
        tokio::spawn(server.serve(listener, std::future::pending()));
        format!("http://{address}")
    })
}

fn trace(args: &[&str], token: Option<&str>) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_diptych"));
    command.arg("trace").args(args).env_remove("DIPTYCH_TRACE_TOKEN");
    if let Some(token) = token {
        command.env("DIPTYCH_TRACE_TOKEN", token);
    }
    command.output().unwrap()
}

#[test]
fn a_trace_joins_the_flow_of_a_log_with_that_of_other_services() {
    let program = Program::new();
    let data = program.dir.path().join("parcels");
    let shop = make_parcels(&data);
    let runtime = Runtime::new().unwrap();
    let url = serve_shop(&runtime, &shop);
    let also = format!("ordering={url}");
    let data = data.to_str().unwrap();
    let args = ["2", "--data", data, "--also", &also, "--also", "gone=http://127.0.0.1:1"];
    let ran = trace(&args, Some("secret"));
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].starts_with("ordering: 1  order-placed order:7"), "{text}");
    assert!(lines[1].contains("published to feed orders as order-accepted.v1"), "{text}");
    assert!(lines[2].starts_with(&format!("└─ {data}: 2  parcel-due order:7")), "{text}");
    assert!(lines[2].contains("from feed orders of log"), "{text}");
    assert!(lines[3].starts_with("gone could not be asked: "), "{text}");
    assert_eq!(lines.len(), 4, "{text}");
    // A parked event stands below its cause, too.
    let parked = ["3", "--data", data, "--also", &also, "--json"];
    let ran = trace(&parked, Some("secret"));
    let parked: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(parked["services"][1]["name"], "ordering");
    let step = &parked["steps"][1];
    assert_eq!((&step["step"], &step["depth"]), (&"foreign-parked".into(), &1.into()));
    assert_eq!(step["reason"], "no address for order 13");
    // Without the token the others are shown, and a wrong address is named.
    let ran = trace(&args[..5], None);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains("ordering could not be asked: the answer is 401"), "{text}");
    assert!(text.contains("a token is needed") && text.contains("parcel-due"), "{text}");
    let missing = program.dir.path().join("missing");
    let missing = ["2", "--data", data, "--also", missing.to_str().unwrap()];
    let text = String::from_utf8(trace(&missing, None).stdout).unwrap();
    assert!(text.contains("could not be asked: there is no log"), "{text}");
    let wrong = trace(&["2", "--data", data, "--also", "memory:"], None);
    assert_eq!(wrong.status.code(), Some(1));
    let unknown = ["4000", "--data", data, "--also", &also];
    let unknown = String::from_utf8(trace(&unknown, None).stderr).unwrap();
    assert!(unknown.contains("no service has the flow"), "{unknown}");
}
