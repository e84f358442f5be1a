//! Letters, calls and traces of processes over HTTP.

use std::time::{Duration, Instant};

use diptych::{
    App, Memory,
    process::{
        CallFailure, CallsFrom, Gateway, GatewayOptions, Process, ProcessStart, ReactionContext,
        Reactions, Trigger,
    },
};
use diptych_server::{Caller, Denial, Operation, Server, Visit};
use serde_json::{Value, json};

use crate::{
    client::Request,
    domain::Seat,
    served::{TheatreServer, with_views},
};

/// Sends a bill for each seat, and cannot take the seats of `mallory`.
#[derive(Default)]
pub(crate) struct Billing;

impl Process for Billing {
    type Event = Seat;
    const NAME: &'static str = "billing";
    const TAG: &'static str = "seat";

    fn apply(&mut self, _: &Trigger<Seat>) {}

    fn react(&self, trigger: &Trigger<Seat>, cx: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Seat::Taken { by, .. }) if by == "mallory" => panic!("no bill for mallory"),
            Some(Seat::Taken { by, .. }) => {
                let remind = cx.now().saturating_add(Duration::from_secs(3_600));
                Reactions::none().call::<Bills>("bills", by).set_timer("remind", remind)
            }
            _ => Reactions::none(),
        }
    }
}

/// Cannot tell whether a bill was sent.
struct Bills;

impl Gateway for Bills {
    type Call = String;
    type Answer = String;

    async fn send(&self, _: &String, _: &str) -> Result<String, CallFailure> {
        Err(CallFailure::Unknown { reason: "the line is bad".to_owned() })
    }
}

async fn billing(set: impl FnOnce(Server) -> Server) -> TheatreServer {
    let options = GatewayOptions::default();
    let app = with_views(App::over(Memory::new()))
        .gateway("bills", Bills, CallsFrom::Beginning, options)
        .process::<Billing>(ProcessStart::Beginning);
    TheatreServer::of(app.start().await.unwrap(), set).await
}

/// Asks until the list has this number of rows.
async fn rows(served: &TheatreServer, list: &str, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let answer = served.get(&format!("/processes/{list}?process=billing")).await.ok();
        let rows = answer[list].as_array().unwrap().clone();
        if rows.len() == count {
            return rows;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{list}: {rows:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn letters_calls_timers_and_flows_are_listed_and_answered() {
    let served = billing(Server::process_operations).await;
    served.take("a1", "mallory").await;
    served.take("a2", "ada").await;
    let letter = rows(&served, "letters", 1).await.remove(0);
    assert_eq!(letter["instance"], "seat:a1");
    assert!(letter["reason"].as_str().unwrap().contains("no bill for mallory"), "{letter}");
    let path = format!("/processes/letters/{}", letter["parked_at"]);
    let shown = served.get(&path).await.ok();
    assert_eq!(shown["event"]["data"], json!({ "seat": "a1", "by": "mallory" }));
    let call = rows(&served, "calls", 1).await.remove(0);
    assert!(call["reason"].as_str().unwrap().contains("may have been sent"), "{call}");
    gateway_calls_are_listed(&served, &call).await;
    assert_eq!(rows(&served, "timers", 1).await[0]["timer"], "remind");
    assert_eq!(rows(&served, "instances", 2).await.len(), 2);
    let processes = served.get("/processes").await.ok();
    assert_eq!(processes["processes"][0]["name"], "billing");
    // A wrong answer changes nothing.
    let post = |path: &str, body: Value| {
        let request = Request::post(path, body);
        let served = &served;
        async move { served.ask(&request).await }
    };
    post(&path, json!({ "answer": "skip", "why": "x" })).await.problem(400, "malformed");
    post(&path, json!({ "answer": "forget", "who": "ann", "why": "x" }))
        .await
        .problem(400, "malformed");
    post("/processes/letters/1", json!({ "answer": "skip", "who": "ann", "why": "x" }))
        .await
        .problem(404, "unknown");
    served.get("/processes/letters?process=bill").await.problem(404, "unknown");
    rows(&served, "letters", 1).await;
    // The letter is skipped, and the call was seen.
    let skip = json!({ "answer": "skip", "who": "ann", "why": "mallory never pays" });
    let answered = post(&path, skip.clone()).await.ok();
    assert!(answered["answered_at"].as_u64() > letter["parked_at"].as_u64());
    rows(&served, "letters", 0).await;
    let call_path = format!("/processes/calls/{}", call["listed_at"]);
    assert_eq!(served.get(&call_path).await.ok()["call"], call);
    let seen = json!({ "answer": { "answered": "bill 7" }, "who": "ann", "why": "it came" });
    post(&call_path, seen.clone()).await.ok();
    rows(&served, "calls", 0).await;
    post(&call_path, seen).await.problem(404, "unknown");
    // The flows tell all of it.
    let trace = served.get(&format!("/trace/{}", letter["position"])).await.ok();
    let parked = &trace["steps"][1];
    assert_eq!((&parked["step"], &parked["answer"]), (&json!("parked"), &json!("skip")));
    assert_eq!(parked["by"], json!({ "who": "ann", "why": "mallory never pays" }));
    let trace = served.get(&format!("/trace/{}?limit=3", call["listed_at"])).await.ok();
    assert_eq!(trace["steps"][2]["outcome"]["answer"], "bill 7");
    assert!(trace["remarks"][0].as_str().unwrap().contains("more than these 3 steps"));
    assert_eq!(trace["log"], served.app.identity().id.to_string());
    let beyond = served.get("/trace/1000").await.problem(404, "unknown");
    assert_eq!(beyond["position"], 1000);
    let id = "00000000-0000-0000-0000-000000000007";
    let unknown = served.get(&format!("/trace/{id}")).await.problem(404, "unknown");
    assert_eq!(unknown["id"], id);
    served.get("/trace/seat").await.problem(404, "unknown");
    let status = served.get("/status").await.ok();
    assert_eq!(status["processes"][0]["name"], "billing");
    assert_eq!(status["processes"][0]["timers"], 1);
}

/// Checks the list of all calls, of which this one waits.
async fn gateway_calls_are_listed(served: &TheatreServer, call: &Value) {
    let all = "/processes/gateway-calls?gateway=bills&process=billing";
    let listed = served.get(&format!("{all}&state=waiting")).await.ok();
    let (row, state) = (&listed["calls"][0], &listed["calls"][0]["state"]);
    assert_eq!((&row["call"], &row["key"]), (&call["call"], &call["key"]));
    assert_eq!((&state["is"], &state["listed_at"]), (&json!("waiting"), &call["listed_at"]));
    for none in ["gateway=mail", "state=answered", "before=1"] {
        let listed = served.get(&format!("/processes/gateway-calls?{none}")).await.ok();
        assert_eq!(listed, json!({ "calls": [] }), "{none}");
    }
    served.get("/processes/gateway-calls?state=lost").await.problem(400, "arguments");
}

#[tokio::test]
async fn a_reaction_is_replaced_over_http() {
    let served = billing(Server::process_operations).await;
    served.take("a1", "mallory").await;
    let letter = rows(&served, "letters", 1).await.remove(0);
    let path = format!("/processes/letters/{}", letter["parked_at"]);
    let actions = json!([{ "call": { "gateway": "bills", "body": "ada" } }]);
    let body = json!({ "answer": { "replace": actions }, "who": "ann", "why": "ada pays" });
    served.ask(&Request::post(&path, body)).await.ok();
    let call = rows(&served, "calls", 1).await.remove(0);
    assert_eq!(call["call"], "\"ada\"");
    rows(&served, "letters", 0).await;
}

async fn guarded(visit: Visit) -> Result<Caller, Denial> {
    let name = visit.headers.get("x-user").and_then(|name| name.to_str().ok());
    match (visit.operation, name) {
        (Operation::Processes, _) | (Operation::Command(_), _) => Ok(Caller::anonymous()),
        (Operation::AnswerLetter | Operation::AnswerCall, Some("boss")) => {
            Ok(Caller::named("boss"))
        }
        _ => Err(Denial::forbidden("only the boss")),
    }
}

#[tokio::test]
async fn answers_need_an_operation_of_their_own_and_have_the_name_of_the_hook() {
    let served = billing(|server| server.process_operations().admit(guarded)).await;
    served.take("a1", "mallory").await;
    let letter = rows(&served, "letters", 1).await.remove(0);
    let path = format!("/processes/letters/{}", letter["parked_at"]);
    let body = json!({ "answer": "skip", "who": "ann", "why": "x" });
    served.ask(&Request::post(&path, &body)).await.problem(403, "denied");
    served.ask(&Request::post("/processes/calls/3", &body)).await.problem(403, "denied");
    rows(&served, "letters", 1).await;
    served.ask(&Request::post(&path, &body).header("x-user", "boss")).await.ok();
    let trace = served.get(&format!("/trace/{}", letter["position"])).await.ok();
    assert_eq!(trace["steps"][1]["by"]["who"], "boss");
}

#[tokio::test]
async fn a_server_without_routes_for_operators_shows_nothing() {
    let served = billing(|server| server).await;
    for path in ["/processes", "/processes/letters", "/trace/1"] {
        let problem = served.get(path).await.problem(404, "unknown");
        let detail = problem["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("Server::process_operations"), "{detail}");
    }
    let document = served.get("/openapi.json").await.ok();
    assert!(document["paths"].get("/processes").is_none());
    let served = billing(Server::process_operations).await;
    let document = served.get("/openapi.json").await.ok();
    let letter = &document["paths"]["/processes/letters/{position}"];
    assert!(letter["get"].is_object() && letter["post"].is_object(), "{letter}");
}
