//! The grain of authorization: operations of their own, rules about decoded requests, claims, and
//! explanations that are allowed and masked for each query.

use std::sync::Mutex;

use diptych::{App, Memory};
use diptych_server::{Caller, CommandRoute, Denial, Operation, QueryRoute, Server, Visit};
use serde_json::{Value, json};

use crate::{
    client::{Events, Request},
    domain::{HowMany, RemarkTenant, Seats, WhoSits},
    served::{TheatreServer, with_views},
};

async fn serving(set: impl FnOnce(Server) -> Server) -> TheatreServer {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    TheatreServer::of(app, set).await
}

fn user(visit: &Visit) -> String {
    let name = visit.headers.get("x-user").and_then(|name| name.to_str().ok());
    name.unwrap_or_default().to_owned()
}

fn by(user: &str, request: Request) -> Request {
    request.header("x-user", user)
}

#[tokio::test]
async fn asking_now_asking_the_past_watching_and_explaining_are_admitted_separately() {
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        let has = match &visit.operation {
            Operation::Query(_) => return Ok(Caller::anonymous()),
            Operation::Past(_) => "past",
            Operation::Watch(_) => "watch",
            Operation::Explain(_) => "explain",
            Operation::Receipt(_) => "receipt",
            _ => "other",
        };
        match user(&visit).split(' ').any(|right| right == has) {
            true => Ok(Caller::anonymous()),
            false => Err(Denial::forbidden(has)),
        }
    }
    let served = serving(|server| {
        server.query(QueryRoute::<HowMany>::new("count").explained()).admit(admit)
    })
    .await;
    let cases = [
        ("past", "/queries/count?_as_of=0"),
        ("past", "/queries/count?_recorded_before=2013-01-01T00:00:00Z"),
        ("past", "/queries/count?_occurred_before=2013-01-01T00:00:00Z"),
        ("explain", "/queries/count/explanation"),
    ];
    for (right, target) in cases {
        let denied = served.get(target).await.problem(403, "denied");
        assert_eq!(denied["detail"], right, "{target}");
        served.ask(&by(right, Request::get(target))).await.ok();
    }
    served.get("/queries/count").await.ok();
    let header = Request::get("/queries/count").header("diptych-as-of", 0);
    served.ask(&header).await.problem(403, "denied");
    let live = Request::get("/queries/how-many/live");
    assert_eq!(served.ask(&live).await.problem(403, "denied")["detail"], "watch");
    Events::open(served.address, &by("watch", live)).await.next().await.unwrap();
    // The explanation of an answer in the past needs both rights.
    let both = Request::get("/queries/count/explanation?_as_of=0");
    served.ask(&by("explain", both.clone())).await.problem(403, "denied");
    served.ask(&by("explain past", both)).await.ok();
    assert_eq!(served.get("/receipts/k").await.problem(403, "denied")["detail"], "receipt");
}

#[tokio::test]
async fn the_hook_sees_method_path_and_arguments() {
    type SeenCall = (String, String, Vec<(String, String)>);
    static SEEN: Mutex<Vec<SeenCall>> = Mutex::new(Vec::new());
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        let Visit { method, path, arguments, .. } = visit;
        SEEN.lock().unwrap().push((method.to_string(), path, arguments));
        Ok(Caller::anonymous())
    }
    let served = serving(|server| server.admit(admit)).await;
    served.get("/queries/who-sits?seat=a%201&_within=5").await.ok();
    served.remark("x").await;
    served.get("/queries/who-sits?seat=%FF").await.problem(400, "malformed");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let arguments = vec![pair("seat", "a 1"), pair("_within", "5")];
    let seen = SEEN.lock().unwrap().clone();
    assert_eq!(
        seen,
        [
            ("GET".to_owned(), "/queries/who-sits".to_owned(), arguments),
            ("POST".to_owned(), "/commands/remark".to_owned(), vec![]),
        ]
    );
}

async fn tenants(visit: Visit) -> Result<Caller, Denial> {
    let tenant = user(&visit);
    Ok(Caller::named("ada").claim("tenant", tenant))
}

#[tokio::test]
async fn a_rule_about_the_decoded_command_denies_other_tenants() {
    let served = serving(|server| {
        let own = CommandRoute::<RemarkTenant>::infallible("remark-tenant").admit(
            |caller: &Caller, command: &RemarkTenant| match caller.claims.get("tenant") {
                Some(tenant) if *tenant == command.tenant => Ok(()),
                _ => Err(Denial::forbidden("that is another tenant")),
            },
        );
        server.command(own).admit(tenants)
    })
    .await;
    let remark = || Request::send("remark-tenant", json!({ "tenant": "north" }));
    let denied = served.ask(&by("south", remark())).await.problem(403, "denied");
    assert_eq!(denied["detail"], "that is another tenant");
    assert_eq!(served.head(), 0);
    served.ask(&by("north", remark())).await.ok();
    // The rule of the command sees the claim too.
    let remarks = served.get("/queries/last-remarks?_consistency=strong").await.ok();
    assert_eq!(remarks, json!(["from Some(\"north\") to north"]));
}

#[tokio::test]
async fn a_rule_about_the_decoded_query_holds_for_each_way_to_ask() {
    let own = |caller: &Caller, query: &WhoSits| match caller.claims.get("tenant") {
        Some(tenant) if query.seat.starts_with(tenant.as_str()) => Ok(()),
        _ => Err(Denial::forbidden("that is another row")),
    };
    let served = serving(|server| {
        let route = QueryRoute::<WhoSits>::new("my-seat").explained().admit(own);
        server.live_query(route).admit(tenants)
    })
    .await;
    for target in [
        "/queries/my-seat?seat=b1",
        "/queries/my-seat?seat=b1&_as_of=0",
        "/queries/my-seat/explanation?seat=b1",
        "/queries/my-seat/live?seat=b1",
    ] {
        served.ask(&by("a", Request::get(target))).await.problem(403, "denied");
    }
    let post = Request::post("/queries/my-seat", json!({ "seat": "b1" }));
    served.ask(&by("a", post.clone())).await.problem(403, "denied");
    served.ask(&by("b", post)).await.ok();
    served.ask(&by("b", Request::get("/queries/my-seat?seat=b1"))).await.ok();
}

#[tokio::test]
async fn explanations_are_given_only_for_queries_that_allow_them_and_can_be_masked() {
    fn mask(caller: &Caller, event: &mut Value) {
        if event["data"]["seat"] == "a2" {
            *event = Value::Null;
        } else if caller.actor.as_deref() != Some("boss") {
            event["data"]["by"] = "somebody".into();
        }
    }
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        Ok(Caller::named(user(&visit)))
    }
    let served = serving(|server| {
        server.query(QueryRoute::<Seats>::new("masked").explained_by(mask)).admit(admit)
    })
    .await;
    let unknown = served.get("/queries/how-many/explanation").await.problem(404, "unknown");
    assert!(unknown["detail"].as_str().unwrap().contains("no explanations"), "{unknown}");
    served.take("a1", "ada").await;
    served.take("a2", "eve").await;
    for (user, by_whom) in [("guest", "somebody"), ("boss", "ada")] {
        let explained = by(user, Request::get("/queries/masked/explanation"));
        let events = served.ask(&explained).await.ok()["events"].clone();
        assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
        assert_eq!(events[0]["data"]["by"], by_whom);
    }
    let document = served.get("/openapi.json").await.ok();
    assert!(document["paths"].get("/queries/how-many/explanation").is_none());
    assert!(document["paths"].get("/queries/masked/explanation").is_some());
}

#[tokio::test]
async fn requests_that_other_sites_make_without_a_link_are_refused() {
    let served = TheatreServer::new().await;
    let from = |site: &str, mode: &str, dest: &str| {
        let request = Request::get("/queries/seats").header("sec-fetch-site", site);
        request.header("sec-fetch-mode", mode).header("sec-fetch-dest", dest)
    };
    for (site, mode, dest) in [
        ("cross-site", "no-cors", "image"),
        ("cross-site", "no-cors", "script"),
        ("same-site", "cors", "empty"),
        ("cross-site", "navigate", "iframe"),
    ] {
        served.ask(&from(site, mode, dest)).await.problem(403, "host");
    }
    for (site, mode, dest) in [
        ("same-origin", "cors", "empty"),
        ("none", "navigate", "document"),
        ("cross-site", "navigate", "document"),
    ] {
        served.ask(&from(site, mode, dest)).await.ok();
    }
    let form = Request::send("remark", r#"{"text":"x"}"#).header("sec-fetch-site", "cross-site");
    let form = form.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    served.ask(&form).await.problem(403, "host");
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn an_allowed_site_may_ask_before_it_sends_and_read_the_answer() {
    let served = serving(|server| server.origin("https://friend.example")).await;
    let ask = |origin: &str| {
        let request = Request::new("OPTIONS", "/commands/remark").header("origin", origin);
        request.header("access-control-request-method", "POST")
    };
    let allowed = served.ask(&ask("https://friend.example")).await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.need("access-control-allow-origin"), "https://friend.example");
    assert!(allowed.need("access-control-allow-methods").contains("POST"));
    let sent_headers = allowed.need("access-control-allow-headers");
    served.ask(&ask("https://evil.example")).await.problem(403, "host");
    let remark = Request::send("remark", r#"{"text":"x"}"#);
    let sent = served.ask(&remark.header("origin", "https://friend.example")).await;
    assert_eq!(sent.need("access-control-allow-origin"), "https://friend.example");
    let read_headers = sent.need("access-control-expose-headers");
    assert_eq!(sent.need("cross-origin-resource-policy"), "cross-origin");
    sent.ok();
    let own = served.get("/queries/seats").await;
    assert_eq!(own.header("access-control-allow-origin"), None);
    // A page may send each header of the document, and read each.
    let components = served.get("/openapi.json").await.ok()["components"].clone();
    for parameter in components["parameters"].as_object().unwrap().values() {
        let name = parameter["name"].as_str().unwrap().to_ascii_lowercase();
        let name = match name.strip_prefix('_') {
            Some(option) => format!("diptych-{}", option.replace('_', "-")),
            None => name,
        };
        assert!(sent_headers.split(", ").any(|sent| sent == name), "{name}");
    }
    for name in components["headers"].as_object().unwrap().keys() {
        let is_it = |read: &str| read.eq_ignore_ascii_case(name);
        assert!(read_headers.split(", ").any(is_it), "{name}");
    }
}

#[tokio::test]
async fn no_answer_stands_in_a_frame_and_no_proxy_holds_back_a_stream() {
    let served = TheatreServer::new().await;
    for target in ["/", "/queries/seats", "/queries/nothing", "/status", "/health", "/nothing"] {
        let policy = served.get(target).await.need("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'"), "{target}: {policy}");
    }
    for target in ["/queries/how-many/live", "/status/live"] {
        let stream = served.events(target).await;
        assert_eq!(stream.head.need("x-accel-buffering"), "no");
        assert!(stream.head.need("content-security-policy").contains("frame-ancestors"));
    }
}

/// The second rule replaced the first one without a word.
#[tokio::test]
async fn two_rules_of_a_route_both_hold() {
    fn not(name: &'static str) -> impl Fn(&Caller) -> Result<(), Denial> {
        move |caller| match caller.actor.as_deref() == Some(name) {
            true => Err(Denial::forbidden(name)),
            false => Ok(()),
        }
    }
    async fn admit(visit: Visit) -> Result<Caller, Denial> {
        Ok(Caller::named(user(&visit)))
    }
    let served = serving(|server| {
        let command = CommandRoute::<RemarkTenant>::infallible("tenant");
        let command = command.admit(move |caller, _| not("ada")(caller));
        let query = QueryRoute::<HowMany>::new("count").admit(move |caller, _| not("ada")(caller));
        server
            .command(command.admit(move |caller, _| not("eve")(caller)))
            .query(query.admit(move |caller, _| not("eve")(caller)))
            .admit(admit)
    })
    .await;
    for name in ["ada", "eve"] {
        let command = Request::send("tenant", json!({ "tenant": "t" }));
        let denied = served.ask(&by(name, command)).await.problem(403, "denied");
        assert_eq!(denied["detail"], name);
        let denied = served.ask(&by(name, Request::get("/queries/count"))).await;
        assert_eq!(denied.problem(403, "denied")["detail"], name);
    }
    served.ask(&by("bob", Request::get("/queries/count"))).await.ok();
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let twice = Server::new(app).host("localhost").admit(admit).admit(admit).into_router();
    let error = twice.err().unwrap().to_string();
    assert!(error.contains("two hooks"), "{error}");
}

/// The caller cannot do anything about the names that a hook gives.
#[tokio::test]
async fn a_claim_with_a_reserved_name_is_a_mistake_of_the_program() {
    async fn admit(_: Visit) -> Result<Caller, Denial> {
        Ok(Caller::anonymous().claim("diptych:tenant", "t1"))
    }
    let served = serving(|server| server.admit(admit)).await;
    served.ask(&Request::send("remark", r#"{"text":"x"}"#)).await.problem(500, "mistake");
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn pages_of_allowed_sites_may_send_the_headers_that_the_hook_reads() {
    let site = "https://friend.example";
    let served = serving(|server| server.origin(site).origin_header("X-User")).await;
    let ask = Request::new("OPTIONS", "/queries/seats").header("origin", site);
    let answer = served.ask(&ask.header("access-control-request-method", "GET")).await;
    assert_eq!((answer.status, answer.need("vary")), (204, "origin".to_owned()));
    let allowed = answer.headers.iter();
    let allowed = allowed.filter(|(name, _)| name == "access-control-allow-headers");
    let allowed: Vec<_> = allowed.flat_map(|(_, names)| names.split(", ")).collect();
    assert!(allowed.contains(&"x-user") && allowed.contains(&"idempotency-key"), "{allowed:?}");
    // A cache must not give an answer for one site to another.
    assert!(served.get("/queries/seats").await.need("vary").contains("origin"));
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let wrong = Server::new(app).host("localhost").origin_header("x user").into_router();
    assert!(wrong.err().unwrap().to_string().contains("no name of a header"));
}

/// A token of a lost history was taken, and the list did not say so.
#[tokio::test]
async fn an_explanation_compares_the_tokens_of_the_request() {
    let (served, other) = (serving(|server| server).await, serving(|server| server).await);
    other.take("a1", "ada").await;
    served.take("a1", "ada").await;
    let target = "/queries/seats/explanation";
    served.get(target).await.ok();
    let foreign = other.get("/queries/seats?_as_of=1").await.need("diptych-token");
    let own = served.get("/queries/seats?_as_of=1").await.need("diptych-token");
    for option in ["_after", "_session"] {
        served.get(&format!("{target}?{option}={foreign}")).await.problem(409, "token");
        served.get(&format!("{target}?{option}={own}")).await.ok();
    }
}
