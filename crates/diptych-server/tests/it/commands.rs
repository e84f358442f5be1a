//! `POST /commands/{name}`: the receipt, or a clear no.

use std::{collections::BTreeSet, sync::Arc};

use diptych::{App, Filter, LogOptions, Memory};
use diptych_log::{
    Background,
    disk::simulated::{Fault, Operation as DiskOperation, SimulatedDisk},
};
use diptych_server::{Caller, CommandRoute, Denial, Operation as RequestOperation, Server, Visit};
use diptych_store::Read;
use serde_json::json;

use crate::{
    client::Request,
    domain::Leave,
    served::{TheatreServer, with_views},
    store::{Mood, MoodyStore},
};

const TAKE: &str = r#"{"seat":"a1","by":"ada"}"#;

fn keyed(key: &str) -> Request {
    Request::send("take-seat", TAKE).header("idempotency-key", key)
}

#[tokio::test]
async fn a_command_is_answered_with_its_receipt() {
    let served = TheatreServer::new().await;
    let response = served.take("a1", "ada").await;
    let receipt = response.json();
    assert_eq!(
        (&receipt["first"], &receipt["last"], &receipt["events"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(receipt["receipt"], response.need("diptych-receipt"));
    assert_eq!(response.need("diptych-position"), "1");
    assert_eq!(response.need("content-type"), "application/json");
    assert_eq!(response.need("cache-control"), "no-store");
    let read: diptych::Receipt = response.need("diptych-receipt").parse().unwrap();
    assert_eq!((read.log(), read.last().get()), (served.app.identity(), 1));
}

#[tokio::test]
async fn commands_with_a_receipt_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || async { with_views(App::open(folder.path()).unwrap()).start().await.unwrap() };
    let served = TheatreServer::of(open().await, |server| server).await;
    let first = served.ask(&keyed("k")).await;
    assert_eq!(first.status, 200);
    served.stop().await.stop().await.unwrap();
    let served = TheatreServer::of(open().await, |server| server).await;
    assert_eq!(served.get("/queries/who-sits?seat=a1").await.ok(), "ada");
    assert_eq!(served.ask(&keyed("k")).await.json(), first.json());
    assert_eq!(served.head(), 1);
    served.stop().await.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_under_one_key_are_one_command() {
    let served = Arc::new(TheatreServer::new().await);
    let send = |_| {
        let served = served.clone();
        tokio::spawn(async move { served.ask(&keyed("k")).await })
    };
    let mut receipts = BTreeSet::new();
    for sent in (0..100).map(send).collect::<Vec<_>>() {
        let response = sent.await.unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        receipts.insert(response.need("diptych-receipt"));
    }
    assert_eq!((receipts.len(), served.head()), (1, 1));
}

#[tokio::test]
async fn a_key_in_quotes_is_the_same_key() {
    let served = TheatreServer::new().await;
    let bare = served.ask(&keyed("k 1")).await.ok();
    assert_eq!(served.ask(&keyed("\"k 1\"")).await.ok(), bare);
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn a_key_of_another_command_is_refused() {
    let served = TheatreServer::new().await;
    served.ask(&keyed("k")).await.ok();
    let other = Request::send("take-seat", json!({ "seat": "a2", "by": "ada" }));
    let reused = served.ask(&other.header("idempotency-key", "k")).await;
    let problem = reused.problem(409, "key-reused");
    assert_eq!((&problem["first"], &problem["last"]), (&1.into(), &1.into()));
    for key in ["", "\"\""] {
        served.ask(&keyed(key)).await.problem(400, "header");
    }
    let free = Request::send("take-seat", json!({ "seat": "a3", "by": "ada" }));
    let long = free.header("idempotency-key", "k".repeat(2_000));
    served.ask(&long).await.problem(400, "not-taken");
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn a_rejection_has_its_typed_reason() {
    let served = TheatreServer::new().await;
    served.take("a1", "ada").await;
    let rejected = served.ask(&Request::send("take-seat", TAKE)).await;
    let problem = rejected.problem(422, "rejected");
    let rejection = json!({ "rule": "seat-is-taken", "seat": "a1", "by": "ada" });
    assert_eq!(problem["rejection"], rejection);
    assert_eq!(problem["detail"], "the seat a1 is taken by ada");
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn an_invalid_command_names_the_field() {
    let served = TheatreServer::new().await;
    let response = served.ask(&Request::send("take-seat", r#"{"seat":"","by":"ada"}"#)).await;
    let problem = response.problem(400, "invalid");
    assert_eq!(
        (&problem["field"], &problem["problem"]),
        (&"seat".into(), &"it has no name".into())
    );
}

#[tokio::test]
async fn malformed_json_names_line_and_column() {
    let served = TheatreServer::new().await;
    let bodies = [
        ("{\"seat\":\"a1\",\n \"by\":}", 2, 7),
        ("", 1, 0),
        ("null", 1, 4),
        ("{\"seat\":\"a1\",\"by\":\"x\"} {}", 1, 24),
        ("{\"seat\":7,\"by\":\"x\"}", 1, 9),
        ("{\"seat\":\"a1\"}", 1, 13),
        ("{\"seat\":\"a1\",\"by\":\"x\",\"companions\":256}", 1, 38),
        ("{\"seat\":\"a1\",\"by\":\"x\",\"companions\":-1}", 1, 37),
        ("{\"seat\":\"a1\",\"by\":\"x\",\"companions\":1.5}", 1, 38),
        ("{\"seat\":\"a1\",\"by\":\"x\",\"by\":\"y\"}", 1, 26),
        ("{\"seat\":\"\\ud800\",\"by\":\"x\"}", 1, 16),
    ];
    for (body, line, column) in bodies {
        let problem = served.ask(&Request::send("take-seat", body)).await.problem(400, "malformed");
        assert_eq!(
            (&problem["line"], &problem["column"]),
            (&line.into(), &column.into()),
            "{body}"
        );
    }
    let deep = "[".repeat(100_000);
    served.ask(&Request::send("take-seat", deep)).await.problem(400, "malformed");
    let no_text = Request::send("take-seat", "").body(b"{\"seat\":\"\xff\",\"by\":\"x\"}".to_vec());
    served.ask(&no_text).await.problem(400, "malformed");
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn hostile_text_is_stored_unchanged() {
    let served = TheatreServer::new().await;
    let texts =
        ["<script>alert(1)</script>", "'; drop table", "\u{0}\u{1b}[31m", "\u{202e}abc", "%00../"];
    for text in texts {
        served.remark(text).await;
    }
    assert_eq!(served.get("/queries/last-remarks?_consistency=strong").await.ok(), json!(texts));
}

#[tokio::test]
async fn a_body_needs_the_content_type_of_json() {
    let served = TheatreServer::new().await;
    let plain = |kind: &str| {
        let request = Request::new("POST", "/commands/take-seat").body(TAKE);
        if kind.is_empty() { request } else { request.header("content-type", kind) }
    };
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", ";"] {
        served.ask(&plain(kind)).await.problem(415, "content-type");
    }
    assert_eq!(served.head(), 0);
    served.ask(&plain("Application/JSON; charset=utf-8")).await.ok();
}

#[tokio::test]
async fn unknown_names_and_wrong_methods_list_the_known_ones() {
    let served = TheatreServer::new().await;
    let unknown = served.ask(&Request::send("take-seta", TAKE)).await.problem(404, "unknown");
    assert!(unknown["detail"].as_str().unwrap().contains("\"take-seat\""), "{unknown}");
    for (method, target, allow) in [
        ("GET", "/commands/take-seat", "POST"),
        ("DELETE", "/commands/take-seat", "POST"),
        ("BREW", "/commands/take-seat", "POST"),
        ("DELETE", "/queries/seats", "GET,HEAD,POST"),
        ("POST", "/queries/how-many/live", "GET,HEAD"),
        ("PUT", "/status", "GET,HEAD"),
        ("POST", "/", "GET,HEAD"),
    ] {
        let response = served.ask(&Request::new(method, target)).await;
        response.problem(405, "method");
        assert_eq!(response.need("allow"), allow, "{method} {target}");
    }
    served.get("/commands").await.problem(404, "unknown");
    served.ask(&Request::send("", TAKE)).await.problem(404, "unknown");
    served.ask(&Request::send("%FF", TAKE)).await.problem(400, "malformed");
    served.ask(&Request::send("a%2Fb", TAKE)).await.problem(404, "unknown");
}

#[tokio::test]
async fn options_of_a_command_are_headers_only() {
    let served = TheatreServer::new().await;
    let request = Request::post("/commands/take-seat?_unchanged_since=0", TAKE);
    let problem = served.ask(&request).await.problem(400, "parameter");
    assert_eq!(problem["parameter"], "_unchanged_since");
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn options_of_a_command_become_metadata_of_its_events() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let admit = |_| async { Ok(Caller::named("ada")) };
    let served = TheatreServer::of(app, |server| server.admit(admit)).await;
    let (correlation, causation) = (diptych::Uuid::new_v4(), diptych::Uuid::new_v4());
    let request = keyed("k")
        .header("Diptych-Occurred-At", "2013-01-15T12:30:00Z")
        .header("Diptych-Correlation", correlation)
        .header("Diptych-Causation", causation);
    served.ask(&request).await.ok();
    let batch = served.app.store().read(&Filter::everything(), Read::all()).await.unwrap();
    assert_eq!(batch.len(), 1);
    let event = batch.get(0).unwrap();
    assert_eq!(event.occurred_at().to_string(), "2013-01-15T12:30:00Z");
    let metadata = event.metadata();
    assert_eq!(metadata.actor.as_ref().unwrap().as_str(), "ada");
    assert_eq!((metadata.correlation, metadata.causation), (Some(correlation), Some(causation)));
}

#[tokio::test]
async fn malformed_headers_are_refused() {
    let served = TheatreServer::new().await;
    let send = || Request::send("take-seat", TAKE);
    for (name, value) in [
        ("diptych-occurred-at", "yesterday"),
        ("diptych-occurred-at", "2013-02-30T00:00:00Z"),
        ("diptych-occurred-at", "99999-01-01T00:00:00Z"),
        ("diptych-occurred-at", ""),
        ("diptych-correlation", "1"),
        ("diptych-causation", "zz"),
        ("diptych-unchanged-since", "-1"),
        ("diptych-unchanged-since", "18446744073709551616"),
        ("diptych-session", "abc"),
        ("diptych-after", "abc"),
    ] {
        let problem = served.ask(&send().header(name, value)).await.problem(400, "header");
        assert_eq!(problem["header"], name, "{value}");
    }
    for name in ["idempotency-key", "diptych-occurred-at", "diptych-session"] {
        let not_ascii = served.ask(&send().header(name, "kö")).await.problem(400, "header");
        assert_eq!(not_ascii["header"], name);
        let twice = send().header(name, "a").header(name, "a");
        served.ask(&twice).await.problem(400, "header");
    }
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn a_conflict_lists_the_missed_events() {
    let served = TheatreServer::new().await;
    served.take("a1", "ada").await;
    let send = |since: u64| {
        let leave = Request::send("leave-seat", json!({ "seat": "a1" }));
        leave.header("diptych-unchanged-since", since)
    };
    let problem = served.ask(&send(0)).await.problem(409, "conflict");
    assert_eq!((&problem["at"], &problem["after"]), (&1.into(), &0.into()), "{problem}");
    assert_eq!(problem["missed"], json!([{ "position": 1, "type": "seat-taken" }]));
    served.ask(&send(1)).await.ok();
}

/// With `Diptych-Unchanged-Since: 0` a caller who might send a command, and ask no query, was
/// given the payloads of all events in its boundary.
#[tokio::test]
async fn a_conflict_gives_payloads_to_callers_who_may_explain() {
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        let user = visit.headers.get("x-user").and_then(|user| user.to_str().ok());
        match (&visit.operation, user) {
            (RequestOperation::ExplainConflict(command), Some("clerk" | "trainee"))
                if command == "leave-open" =>
            {
                Ok(Caller::named(user.unwrap()))
            }
            (RequestOperation::ExplainConflict(_), Some("stumbler")) => panic!("the hook"),
            (RequestOperation::Command(_), Some(user)) => Ok(Caller::named(user)),
            _ => Err(Denial::forbidden("that is private")),
        }
    }
    fn mask(caller: &Caller, event: &mut serde_json::Value) {
        if caller.actor.as_deref() == Some("trainee") {
            match event["position"] == 1 {
                true => event["data"]["by"] = "somebody".into(),
                false => *event = serde_json::Value::Null,
            }
        }
    }
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let served = TheatreServer::of(app, |server| {
        let route = CommandRoute::<Leave>::new("leave-open").explained_by(mask);
        server.command(route).admit(admit)
    })
    .await;
    let send = |name: &str, body: serde_json::Value, user: &str| {
        Request::send(name, body).header("x-user", user)
    };
    let take = send("take-seat", json!({ "seat": "a1", "by": "ada" }), "guest");
    served.ask(&take).await.ok();
    served.ask(&send("leave-seat", json!({ "seat": "a1" }), "guest")).await.ok();
    let leave = |name: &str, user: &str| {
        send(name, json!({ "seat": "a1" }), user).header("diptych-unchanged-since", 0)
    };
    let bare = json!([
        { "position": 1, "type": "seat-taken" },
        { "position": 2, "type": "seat-left" },
    ]);
    // A panic of the hook does not hide the conflict.
    for user in ["guest", "stumbler"] {
        let guest = served.ask(&leave("leave-open", user)).await.problem(409, "conflict");
        assert_eq!(guest["missed"], bare, "{user}");
    }
    let clerk = served.ask(&leave("leave-open", "clerk")).await.problem(409, "conflict");
    let missed = &clerk["missed"][0];
    assert_eq!((&missed["position"], &missed["data"]["by"]), (&1.into(), &"ada".into()));
    let trainee = served.ask(&leave("leave-open", "trainee")).await.problem(409, "conflict");
    assert_eq!(trainee["missed"][0]["data"]["by"], "somebody");
    assert_eq!(trainee["missed"][1], bare[1]);
    // It is asked about each command by its name.
    let again = take.header("diptych-unchanged-since", 0);
    let guest = served.ask(&again).await.problem(409, "conflict");
    assert!(!guest.to_string().contains("ada"), "{guest}");
}

/// A hook that only names its callers, as most do, admitted everybody to these payloads.
#[tokio::test]
async fn a_conflict_has_no_payloads_if_its_route_does_not_allow_them() {
    async fn admit(_: Visit) -> Result<Caller, Denial> {
        Ok(Caller::named("anybody"))
    }
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let served = TheatreServer::of(app, |server| {
        server.command(CommandRoute::<Leave>::new("leave-open").explained()).admit(admit)
    })
    .await;
    served.take("a1", "ada").await;
    for (name, is_explained) in [("leave-seat", false), ("leave-open", true)] {
        let leave = Request::send(name, json!({ "seat": "a1" }));
        let conflict = served.ask(&leave.header("diptych-unchanged-since", 0)).await;
        let conflict = conflict.problem(409, "conflict");
        assert_eq!(conflict["missed"][0].get("data").is_some(), is_explained, "{name}");
    }
    // Without a hook, nobody is admitted.
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let open =
        |server: Server| server.command(CommandRoute::<Leave>::new("leave-open").explained());
    let served = TheatreServer::of(app, open).await;
    served.take("a1", "ada").await;
    let leave = Request::send("leave-open", json!({ "seat": "a1" }));
    let conflict = served.ask(&leave.header("diptych-unchanged-since", 0)).await;
    assert!(conflict.problem(409, "conflict")["missed"][0].get("data").is_none());
}

/// A remark depends on nothing, so the header was taken and compared with nothing.
#[tokio::test]
async fn an_expectation_of_a_command_that_depends_on_nothing_is_refused() {
    let served = TheatreServer::new().await;
    served.remark("first").await;
    for since in [0, 1] {
        let remark = Request::send("remark", r#"{"text":"second"}"#);
        let asked = served.ask(&remark.header("diptych-unchanged-since", since)).await;
        let problem = asked.problem(400, "header");
        assert_eq!(problem["header"], "diptych-unchanged-since", "{problem}");
    }
    assert_eq!(served.head(), 1);
}

/// The log accepts the command, and its disk fails before it is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_has_its_own_problem() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        background: Background::Threads,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let app = with_views(App::open_with("/data/log", options).unwrap()).start().await.unwrap();
    let served = TheatreServer::of(app, |server| server).await;
    served.take("a1", "ada").await;
    disk.fail_after(0, Fault::Io(DiskOperation::Sync));
    let take = Request::send("take-seat", json!({ "seat": "a2", "by": "bob" }));
    let response = served.ask(&take.header("idempotency-key", "k")).await;
    response.problem(503, "outcome-unknown");
    response.need("retry-after");
    let next = served.ask(&Request::send("remark", r#"{"text":"x"}"#)).await;
    next.problem(503, "unavailable");
}

#[tokio::test]
async fn a_store_that_accepts_nothing_is_unavailable() {
    let store = MoodyStore::new();
    let served = TheatreServer::over(store.store()).await;
    store.set(Mood::Full);
    let response = served.ask(&keyed("k")).await;
    let problem = response.problem(503, "unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("the disk is full"), "{problem}");
    assert_eq!(response.need("retry-after"), "1");
    store.set(Mood::Well);
    served.ask(&keyed("k")).await.ok();
}

#[tokio::test]
async fn a_panic_of_a_command_is_a_problem_and_the_next_command_works() {
    let served = TheatreServer::new().await;
    let mut connection = served.connect().await;
    let problem = connection.ask(&Request::send("stumble", "{}")).await.problem(500, "mistake");
    // A panic may quote data of other callers.
    assert!(!problem.to_string().contains("stumbled"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("panicked"), "{problem}");
    connection.ask(&keyed("k")).await.ok();
}

#[tokio::test]
async fn a_lost_task_has_an_unknown_outcome() {
    let store = MoodyStore::new();
    let served = TheatreServer::over(store.store()).await;
    store.set(Mood::Broken);
    let response = served.ask(&keyed("k")).await;
    assert!([500, 503].contains(&response.status), "{response:?}");
    store.set(Mood::Well);
    served.get("/health").await.ok();
}

/// Waits until the condition holds.
async fn comes(condition: impl Fn() -> bool) {
    let came = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::client::LONG, came).await.unwrap();
}

#[tokio::test]
async fn a_command_completes_without_its_client() {
    let store = MoodyStore::new();
    let served = TheatreServer::over(store.store()).await;
    store.set(Mood::Held);
    let mut connection = served.connect().await;
    connection.write(keyed("k").bytes()).await;
    store.held(1).await;
    drop(connection);
    store.set(Mood::Well);
    comes(|| served.head() == 1).await;
}

#[tokio::test]
async fn a_command_that_exceeds_its_time_has_an_unknown_outcome() {
    let store = MoodyStore::new();
    let soon = std::time::Duration::from_millis(20);
    let served =
        TheatreServer::over_within(store.store(), |limits| limits.answer_time = soon).await;
    store.set(Mood::Held);
    served.ask(&keyed("k")).await.problem(503, "outcome-unknown");
    store.set(Mood::Well);
    comes(|| served.head() == 1).await;
}

#[tokio::test]
async fn a_rejection_is_recorded_once_under_a_key() {
    let served = TheatreServer::new().await;
    served.take("a1", "ada").await;
    let send = Request::send("take-seat-noting", TAKE).header("idempotency-key", "k");
    for _ in 0..3 {
        served.ask(&send).await.problem(422, "rejected");
    }
    assert_eq!(served.head(), 2, "one refusal beside the seat");
    served.ask(&Request::send("take-seat-noting", TAKE)).await.problem(422, "rejected");
    assert_eq!(served.head(), 3, "without a key each is one");
    let free = Request::send("take-seat-noting", json!({ "seat": "a2", "by": "bob" }));
    served.ask(&free).await.ok();
    assert_eq!(served.head(), 4);
}

/// The note was written under the client's key with `/rejected` behind it, so a client chose
/// whether there was one: by a key so long that the longer one was beyond the store's limit, by
/// sending something else under `KEY/rejected` before, or by one key for all that it tried.
#[tokio::test]
async fn no_key_of_a_client_prevents_the_record_of_its_rejection() {
    let served = TheatreServer::new().await;
    let seats = ["a1", "a2", "a3"];
    for seat in seats {
        served.take(seat, "ada").await;
    }
    let refused = async |key: &str, seat: &str| {
        let take = Request::send("take-seat-noting", json!({ "seat": seat, "by": "eve" }));
        let refused = served.ask(&take.header("idempotency-key", key)).await;
        let problem = refused.problem(422, "rejected");
        assert_eq!((&problem["noted"], problem.get("note_problem")), (&true.into(), None));
        served.head()
    };
    let mut head = served.head();
    for bytes in 503..=512 {
        assert_eq!(refused(&"k".repeat(bytes), "a1").await, head + 1, "{bytes} bytes");
        assert_eq!(refused(&"k".repeat(bytes), "a1").await, head + 1, "sent again");
        head += 1;
    }
    let before = Request::send("take-seat", json!({ "seat": "b1", "by": "eve" }));
    served.ask(&before.header("idempotency-key", "mine/rejected")).await.ok();
    assert_eq!(refused("mine", "a1").await, head + 2);
    for (at, seat) in (3..).zip(seats) {
        assert_eq!(refused("one for all", seat).await, head + at);
    }
    // The same command that is rejected for another reason is noted for that, too.
    served.done("leave-seat", json!({ "seat": "a1" })).await;
    served.take("a1", "bob").await;
    let head = served.head();
    assert_eq!(refused("one for all", "a1").await, head + 1);
    assert_eq!(refused("one for all", "a1").await, head + 1);
}

#[tokio::test]
async fn clients_cannot_use_the_keys_of_notes() {
    let served = TheatreServer::new().await;
    for key in ["diptych:", "diptych:note:1", "\"diptych:x\""] {
        let problem = served.ask(&keyed(key)).await.problem(400, "invalid");
        assert_eq!(problem["field"], "key", "{problem}");
    }
    assert_eq!(served.head(), 0);
    served.ask(&keyed("diptych")).await.ok();
}

/// It was a warning in the log of the server, and the client was told as if it were on record.
#[tokio::test]
async fn a_rejection_that_cannot_be_recorded_is_answered_and_says_so() {
    let store = MoodyStore::new();
    let served = TheatreServer::over(store.store()).await;
    served.take("a1", "ada").await;
    // The state of the decision is in memory from now on.
    served.ask(&Request::send("take-seat", TAKE)).await.problem(422, "rejected");
    store.set(Mood::Full);
    let take = Request::send("take-seat-noting", TAKE).header("idempotency-key", "k");
    let problem = served.ask(&take).await.problem(422, "rejected");
    assert_eq!(problem["rejection"]["rule"], "seat-is-taken", "{problem}");
    assert_eq!((&problem["noted"], served.head()), (&false.into(), 1), "{problem}");
    assert_eq!(problem["note_problem"], "urn:diptych:unavailable");
    store.set(Mood::Well);
    let problem = served.ask(&take).await.problem(422, "rejected");
    assert_eq!((&problem["noted"], served.head()), (&true.into(), 2), "{problem}");
    // Without a record of rejections the answer has no such member.
    let problem = served.ask(&Request::send("take-seat", TAKE)).await.problem(422, "rejected");
    assert_eq!(problem.get("noted"), None);
}

#[tokio::test]
async fn a_command_can_rest_on_a_token() {
    let (served, other) = (TheatreServer::new().await, TheatreServer::new().await);
    let receipt = served.take("a1", "ada").await.need("diptych-receipt");
    let leave = || Request::send("leave-seat", json!({ "seat": "a1" }));
    other.take("a1", "ada").await;
    let foreign = other.ask(&leave().header("diptych-after", &receipt)).await;
    foreign.problem(409, "token");
    served.ask(&leave().header("diptych-after", &receipt)).await.ok();
    let token = served.get("/queries/how-many").await.need("diptych-token");
    other.ask(&leave().header("diptych-session", &token)).await.problem(409, "token");
    let after = other.ask(&leave().header("diptych-after", &token)).await;
    assert_eq!(after.problem(409, "token")["header"], "diptych-after");
    let again = Request::send("take-seat", TAKE).header("diptych-session", &token);
    let response = served.ask(&again).await;
    assert_ne!(response.need("diptych-session"), token, "it knows the write");
}

/// A derived type would read a list as its fields in the order of their declaration.
#[tokio::test]
async fn a_list_in_place_of_an_object_is_refused() {
    let served = TheatreServer::new().await;
    for body in ["[]", r#"["a1","ada",0]"#, r#" ["a1","ada",0]"#] {
        let problem = served.ask(&Request::send("take-seat", body)).await;
        let detail = problem.problem(400, "malformed")["detail"].clone();
        assert!(detail.as_str().unwrap().contains("send an object"), "{detail}");
    }
    let nested = Request::send("seat-party", r#"{"party":{"seats":["a1"],"host":["ada"]}}"#);
    let problem = served.ask(&nested).await.problem(400, "malformed");
    assert_eq!(problem["field"], "party.host");
    let ask = Request::post("/queries/who-sits", r#"["a1"]"#);
    served.ask(&ask).await.problem(400, "malformed");
    assert_eq!(served.head(), 0);
    let named = r#"{"party":{"seats":["a1"],"host":{"name":"ada"}}}"#;
    served.ask(&Request::send("seat-party", named)).await.ok();
}

#[tokio::test]
async fn a_malformed_field_is_named() {
    let served = TheatreServer::new().await;
    for (command, body, field) in [
        ("take-seat", r#"{"seat":7,"by":"x"}"#, "seat"),
        ("take-seat", r#"{"seat":"a1"}"#, "by"),
        ("take-seat", r#"{"seat":"a1","by":"x","companions":256}"#, "companions"),
        ("seat-party", r#"{"party":{"seats":["a1",2],"host":{"name":"x"}}}"#, "party.seats[1]"),
        ("seat-party", r#"{"party":{"seats":[],"host":{}}}"#, "party.host.name"),
    ] {
        let problem = served.ask(&Request::send(command, body)).await.problem(400, "malformed");
        assert_eq!(problem["field"], field, "{problem}");
    }
    let problem = served.ask(&Request::send("take-seat", "{}x")).await.problem(400, "malformed");
    assert_eq!(problem["field"], "seat");
    let problem = served.ask(&Request::send("take-seat", TAKE.to_owned() + "x")).await;
    assert!(problem.problem(400, "malformed").get("field").is_none());
}

#[tokio::test]
async fn if_match_is_another_name_of_unchanged_since() {
    let served = TheatreServer::new().await;
    served.take("a1", "ada").await;
    let leave = || Request::send("leave-seat", r#"{"seat":"a1"}"#);
    served.ask(&leave().header("if-match", "\"0\"")).await.problem(409, "conflict");
    for wrong in ["*", "W/\"1\"", "\"1\", \"2\"", ""] {
        served.ask(&leave().header("if-match", wrong)).await.problem(400, "header");
    }
    let both = leave().header("if-match", "\"1\"").header("diptych-unchanged-since", 0);
    served.ask(&both).await.problem(400, "header");
    served.ask(&leave().header("if-match", "\"1\"")).await.ok();
    assert_eq!(served.head(), 2);
}

#[tokio::test]
async fn a_receipt_is_found_by_its_key() {
    let served = TheatreServer::new().await;
    served.get("/receipts/k%2F1").await.problem(404, "unknown");
    let sent = served.ask(&keyed("k/1")).await;
    let found = served.get("/receipts/k%2F1").await;
    for name in ["diptych-receipt", "diptych-position", "content-type", "cache-control"] {
        assert_eq!(found.need(name), sent.need(name));
    }
    assert_eq!(found.json(), sent.json());
    let after = format!("/queries/who-sits?seat=a1&_after={}", found.need("diptych-receipt"));
    assert_eq!(served.get(&after).await.ok(), "ada");
}

/// The key of a note is made from the command, and no client may ask for it.
#[tokio::test]
async fn a_receipt_under_a_reserved_key_is_refused() {
    let served = TheatreServer::new().await;
    served.take("a1", "ada").await;
    let noting = Request::send("take-seat-noting", TAKE).header("idempotency-key", "k");
    served.ask(&noting).await.problem(422, "rejected");
    for key in ["diptych:", "diptych%3Anote:00"] {
        let refused = served.get(&format!("/receipts/{key}")).await.problem(400, "invalid");
        assert_eq!(refused["field"], "key");
    }
    served.get("/receipts/k").await.problem(404, "unknown");
}

/// Regression: a client could use the key of a webhook, which was then swallowed.
#[tokio::test]
async fn a_client_cannot_use_the_key_of_a_webhook() {
    let served = TheatreServer::new().await;
    for key in ["webhook:payments:evt-1", "\"webhook:payments:evt-1\""] {
        let take = Request::send("take-seat", TAKE).header("idempotency-key", key);
        let problem = served.ask(&take).await.problem(400, "header");
        assert_eq!(problem["header"], "idempotency-key");
    }
    assert_eq!(served.head(), 0);
    let take = Request::send("take-seat", TAKE).header("idempotency-key", "webhooks");
    assert_eq!(served.ask(&take).await.status, 200);
}
