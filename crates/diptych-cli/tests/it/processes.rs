//! The letters and calls that wait in a log, and their guide: its commands run here, and print
//! what it shows.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use diptych::{
    App, DecisionContext, Event, Filter,
    catalogue::Catalogue,
    process::{
        CallFailure, CallsFrom, Gateway, GatewayOptions, Process, ProcessStart, ReactionContext,
        Reactions, Trigger,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    intakes::{corrected_parcels, make_parcels},
    program::{Program, run},
    served::ServeProcess,
};

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[serde(untagged)]
enum Order {
    #[event("order-placed")]
    Placed {
        #[tag]
        order: u64,
    },
    #[event("order-cancelled")]
    Cancelled {
        #[tag]
        order: u64,
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Place {
    order: u64,
}

impl diptych::Command for Place {
    type State = ();
    type Event = Order;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Order>, Self::Rejection> {
        Ok(vec![Order::Placed { order: self.order }])
    }
}

#[derive(Serialize, Deserialize)]
struct Cancel {
    order: u64,
    reason: String,
}

impl diptych::Command for Cancel {
    type State = ();
    type Event = Order;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Order>, Self::Rejection> {
        let (order, reason) = (self.order, self.reason.clone());
        Ok(vec![Order::Cancelled { order, reason }])
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Charge {
    order: u64,
}

/// A bank behind a line that breaks during each call.
struct Bank;

impl Gateway for Bank {
    type Call = Charge;
    type Answer = Value;

    async fn send(&self, _: &Charge, _: &str) -> Result<Value, CallFailure> {
        Err(CallFailure::Unknown { reason: "the connection broke".to_owned() })
    }
}

/// Charges orders, and has a fault: orders from 13 on.
#[derive(Default)]
struct Billing<const CORRECTED: bool>;

impl<const CORRECTED: bool> Process for Billing<CORRECTED> {
    type Event = Order;
    const NAME: &'static str = "billing";
    const TAG: &'static str = "order";

    fn apply(&mut self, _: &Trigger<Order>) {}

    fn react(&self, trigger: &Trigger<Order>, cx: &ReactionContext<'_>) -> Reactions {
        let Some(Order::Placed { order }) = trigger.event() else { return Reactions::none() };
        assert!(*order < 13 || CORRECTED, "no price for order {order}");
        let in_an_hour = cx.now().saturating_add(Duration::from_secs(3_600));
        let charge = Charge { order: *order };
        Reactions::none().call::<Bank>("bank", &charge).set_timer("remind", in_an_hour)
    }
}

async fn shop<const CORRECTED: bool>(data: &Path) -> App {
    let catalogue = Catalogue::new().infallible_command::<Cancel>("cancel-order");
    App::open(data)
        .unwrap()
        .catalogue(catalogue)
        .gateway("bank", Bank, CallsFrom::Beginning, GatewayOptions::default())
        .process::<Billing<CORRECTED>>(ProcessStart::Beginning)
        .start()
        .await
        .unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(120), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The log of the guide: a call that may have been made, and the orders 13 to 15 parked.
fn make_shop(data: &Path) {
    Runtime::new().unwrap().block_on(async {
        let app = shop::<false>(data).await;
        let billing = app.process("billing").unwrap();
        app.execute(Place { order: 7 }).await.unwrap();
        until("the call waits", || async { billing.waiting_calls().await.unwrap().len() == 1 })
            .await;
        for (order, letters) in (13..=15).zip(1..) {
            app.execute(Place { order }).await.unwrap();
            until("the letter waits", || async {
                billing.letters().await.unwrap().len() == letters
            })
            .await;
        }
        app.stop().await.unwrap();
    });
}

/// The commands of the guide, each with the output that it shows.
fn examples() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/parked-letters.md");
    let page = fs::read_to_string(path).unwrap();
    let mut examples: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => examples.push((command.to_owned(), String::new())),
                None => {
                    let (command, output) = examples.last_mut().unwrap();
                    // A command that ends with a backslash goes on in the next line.
                    match command.strip_suffix('\\') {
                        Some(first) => *command = format!("{first}{}", line.trim_start()),
                        None => *output += &format!("{line}\n"),
                    }
                }
            }
        }
    }
    examples
}

/// Whether a line is as expected, where `…` stands for any text.
fn is_like(line: &str, expected: &str) -> bool {
    let mut rest = line;
    for (number, part) in expected.split('…').enumerate() {
        match rest.find(part) {
            Some(0) => rest = &rest[part.len()..],
            Some(at) if number > 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || expected.ends_with('…')
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_commands_of_the_guide_print_what_it_shows() {
    let program = Program::new();
    make_shop(&program.dir.path().join("shop"));
    let parcels = program.dir.path().join("parcels");
    let orders = make_parcels(&parcels);
    let binary = Path::new(env!("CARGO_BIN_EXE_diptych")).parent().unwrap();
    let path = env::join_paths(
        std::iter::once(binary.to_owned())
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.unwrap();
    let examples = examples();
    assert!(examples.len() >= 8, "{examples:?}");
    for (command, expected) in &examples {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(program.dir.path()).env("PATH", &path);
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
        let (lines, shown) = (text.lines(), expected.lines());
        assert_eq!(lines.clone().count(), shown.clone().count(), "{command}:\n{text}");
        for (line, shown) in lines.zip(shown) {
            assert!(is_like(&words(line), &words(shown)), "{command}:\n{text}\nis not {shown}");
        }
    }
    // The corrected programs take the answers.
    let addresses = corrected_parcels(&parcels, &orders);
    assert_eq!(addresses, ["7 Elm Street 1", "13 Elm Street 13", "13 ", "14 "]);
    let data = program.dir.path().join("shop");
    Runtime::new().unwrap().block_on(async {
        let app = shop::<true>(&data).await;
        let operations = app.process_operations();
        until("the orders go on", || async {
            let calls = operations.waiting_calls(None).await.unwrap();
            let letters = operations.letters(None).await.unwrap();
            let waiting: Vec<_> = calls.iter().map(|call| &*call.instance).collect();
            letters.is_empty() && waiting == ["order:13"]
        })
        .await;
        let cancelled = Filter::types(["order-cancelled"]);
        until("order 14 is cancelled", || async {
            app.store().last(&cancelled, app.head()).await.unwrap().is_some()
        })
        .await;
        app.stop().await.unwrap();
    });
}

#[test]
fn lists_are_json_too_and_a_held_folder_takes_no_answer_but_is_listed() {
    let program = Program::new();
    let data = program.data();
    make_shop(&data);
    let data = data.to_str().unwrap();
    let json = |args: &[&str]| -> Value {
        let ran = run(&[args, &["--data", data, "--json"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let runtime = Runtime::new().unwrap();
    let app = runtime.block_on(shop::<false>(Path::new(data)));
    assert_eq!(json(&["process", "list"])["processes"][0]["name"], "billing");
    let letters = json(&["process", "letters", "--limit", "2"]);
    assert_eq!((letters["letters"].as_array().unwrap().len(), &letters["count"]), (2, &3.into()));
    let first = letters["letters"][0]["parked_at"].to_string();
    let shown = json(&["process", "letters", &first]);
    assert_eq!(shown["event"]["data"]["order"], 13);
    let calls = json(&["process", "calls"]);
    assert_eq!(calls["calls"][0]["call"], r#"{"order":7}"#);
    assert_eq!(json(&["process", "timers"])["timers"][0]["timer"], "remind");
    let instances = json(&["process", "instances"]);
    assert_eq!(instances["instances"].as_array().unwrap().len(), 4);
    assert_eq!(json(&["trace", &first])["steps"][1]["step"], "parked");
    let by = ["--who", "ann", "--why", "a test"];
    let held = ["--wait-seconds", "0", "--data", data];
    let skip = [&["process", "skip", &first], &by[..], &held[..]].concat();
    run(&skip).ended(4, "use its HTTP routes");
    runtime.block_on(app.stop()).unwrap();
    // Mistakes are named.
    run(&["process", "skip", &first, "--data", data]).ended(1, "--who");
    let none = [&["process", "skip", "1"], &by[..], &held[..]].concat();
    run(&none).ended(1, "no letter waits at position 1");
    run(&["process", "letters", "--process", "bill", "--data", data]).ended(1, "billing");
    run(&["trace", "order:7", "--data", data]).ended(1, "neither the position");
    run(&["trace", "4000", "--data", data]).ended(1, "the log ends at");
    let missing = program.dir.path().join("missing");
    let missing = ["--data", missing.to_str().unwrap()];
    let skip = [&["process", "skip", "9"], &by[..], &missing[..]].concat();
    run(&skip).ended(1, "there is no log");
}

#[test]
fn a_server_of_the_log_takes_answers_and_refuses_the_second() {
    let program = Program::new();
    make_shop(&program.data());
    let server = ServeProcess::start(&program);
    let at = ["--data", server.url.as_str()];
    let by = ["--who", "ann", "--why", "a test"];
    let run = |args: &[&str]| run(&[args, &at[..]].concat());
    let list = |name: &str| -> Value {
        let ran = run(&["process", name, "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str::<Value>(&ran.stdout).unwrap()[name].clone()
    };
    let call = list("calls")[0]["listed_at"].to_string();
    let wrong = ["process", "answer", &call, "--answer", "{"];
    run(&[&wrong[..], &by[..]].concat()).ended(1, "--answer is no JSON");
    let refuse = ["process", "refuse", &call, "--text", "the bank has nothing"];
    assert_eq!(run(&[&refuse[..], &by[..]].concat()).code, 0);
    assert_eq!(list("calls").as_array().unwrap().len(), 0);
    let trace = run(&["trace", &call]);
    let told = "the bank has nothing by ann, \"a test\"";
    assert!(trace.stdout.contains(told), "{}", trace.stdout);
    let letter = list("letters")[0]["parked_at"].to_string();
    let skip = [&["process", "skip", &letter], &by[..]].concat();
    assert_eq!(run(&skip).code, 0);
    run(&skip).ended(1, "no letter waits");
}
