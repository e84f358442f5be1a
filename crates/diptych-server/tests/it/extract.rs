//! Handlers of a program that use the extractors: the routes of a server and these handlers give
//! the same answer to the same request.

use std::net::SocketAddr;

use axum::{
    Extension, Router,
    extract::{FromRef, State},
    middleware::{Next, from_fn},
    response::Response as HttpResponse,
    routing::{get, post},
};
use diptych::{App, Filter, Memory};
use diptych_server::{
    Caller, CommandRoute, Denial, Operation, Problem, ServerLimits, Visit,
    extract::{
        AnswerResponse, CommandBody, CommandHeaders, QueryArguments, QueryParameters,
        ReceiptResponse,
    },
};
use diptych_store::Read;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    client::{Connection, Request, Response},
    domain::{Plan, Remark, Take, WhoSits, theatre},
    served::with_views,
};

/// The state of the program: an app, and something else.
#[derive(Clone)]
struct OwnState {
    app: App,
}

impl FromRef<OwnState> for App {
    fn from_ref(state: &OwnState) -> App {
        state.app.clone()
    }
}

async fn take(
    State(app): State<App>,
    headers: CommandHeaders,
    CommandBody(take): CommandBody<Take>,
) -> Result<ReceiptResponse, Problem> {
    headers.execute(&app, take).await
}

/// For callers who may read the events of a conflict.
async fn take_with_events(
    State(app): State<App>,
    headers: CommandHeaders,
    CommandBody(take): CommandBody<Take>,
) -> Result<ReceiptResponse, Problem> {
    headers.execute(&app, take).await.map_err(Problem::with_events)
}

/// The parts of [`CommandHeaders::execute`].
async fn take_in_steps(
    State(app): State<App>,
    headers: CommandHeaders,
    CommandBody(take): CommandBody<Take>,
) -> Result<ReceiptResponse, Problem> {
    let receipt = headers.apply(app.execute(take)).await?;
    Ok(headers.respond(receipt).await)
}

async fn remark(
    State(app): State<App>,
    headers: CommandHeaders,
    CommandBody(remark): CommandBody<Remark>,
) -> Result<ReceiptResponse, Problem> {
    headers.execute_infallible(&app, remark).await
}

async fn who_sits(
    State(app): State<App>,
    parameters: QueryParameters,
    QueryArguments(query): QueryArguments<WhoSits>,
) -> Result<AnswerResponse, Problem> {
    parameters.ask(&app, query).await
}

/// The parts of [`QueryParameters::ask`].
async fn who_sits_in_steps(
    State(app): State<App>,
    parameters: QueryParameters,
    QueryArguments(query): QueryArguments<WhoSits>,
) -> Result<AnswerResponse, Problem> {
    let answer = parameters.answer(app.query(query)).await?;
    parameters.respond(&app, answer).await
}

/// Names the caller as the hook of the server does.
async fn name_caller(mut request: axum::extract::Request, next: Next) -> HttpResponse {
    let name = request.headers().get("x-user").and_then(|name| name.to_str().ok());
    if let Some(name) = name {
        let caller = Caller::named(name).claim("tenant", "t1");
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

async fn admit(visit: Visit) -> Result<Caller, Denial> {
    let name = visit.headers.get("x-user").and_then(|name| name.to_str().ok());
    if matches!(visit.operation, Operation::Explain(_)) && name.is_none() {
        return Err(Denial::forbidden("no events"));
    }
    Ok(name.map_or_else(Caller::anonymous, |name| Caller::named(name).claim("tenant", "t1")))
}

/// A program with both kinds of routes, over one app.
struct Program {
    app: App,
    address: SocketAddr,
}

/// The routes of the server, and the handlers in both forms.
const ROUTES: [&str; 3] = ["/api", "/own", "/steps"];

impl Program {
    async fn new() -> Program {
        let app = with_views(App::over(Memory::new())).start().await.unwrap();
        let limits = limits();
        let explained = CommandRoute::<Take>::new("take-explained").explained();
        let server = theatre(app.clone()).host("localhost").admit(admit).limits(limits);
        let server = server.command(explained);
        let (api, _handle) = server.into_router().unwrap();
        let own = Router::new()
            .route("/commands/take-seat", post(take))
            .route("/commands/take-seat-with-events", post(take_with_events))
            .route("/commands/remark", post(remark))
            .route("/queries/who-sits", get(who_sits));
        let steps = Router::new()
            .route("/commands/take-seat", post(take_in_steps))
            .route("/queries/who-sits", get(who_sits_in_steps));
        let service = Router::new()
            .nest("/own", own)
            .nest("/steps", steps)
            .layer(from_fn(name_caller))
            .layer(Extension(limits))
            .with_state(OwnState { app: app.clone() })
            .nest("/api", api);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Program { app, address }
    }

    async fn ask(&self, request: &Request) -> Response {
        Connection::open(self.address).await.ask(request).await
    }

    /// The one answer of all routes to this request.
    async fn same(&self, routes: &[&str], request: impl Fn(&str) -> Request) -> Response {
        let mut first: Option<Response> = None;
        for route in routes {
            let mut response = self.ask(&request(route)).await;
            response.headers.retain(|(name, _)| !OF_THE_SERVER.contains(&name.as_str()));
            // A handler that takes the steps of a command does not know which part had the option.
            let is_command = request(route).is_post();
            if routes.contains(&"/steps") && is_command && response.status >= 400 {
                let mut problem = response.json();
                if let Some(members) = problem.as_object_mut() {
                    members.retain(|name, _| name != "header" && name != "parameter");
                }
                response.body = problem.to_string().into();
                response.headers.retain(|(name, _)| name != "content-length");
            }
            // Clients may keep an answer about the past, if the server sends it.
            if response.headers.iter().any(|(name, _)| name == "etag") {
                response.headers.retain(|(name, _)| name != "etag" && name != "vary");
                let control = ("cache-control".to_owned(), "no-store".to_owned());
                response.headers.retain(|(name, _)| name != "cache-control");
                response.headers.push(control);
            }
            response.headers.sort();
            if let Some(first) = &first {
                let parts = |response: &Response| {
                    (response.status, response.headers.clone(), response.text())
                };
                assert_eq!(parts(&response), parts(first), "{route}: {:?}", request(route));
            }
            first.get_or_insert(response);
        }
        first.unwrap()
    }

    async fn same_command(&self, change: impl Fn(Request) -> Request) -> Response {
        let body = json!({ "seat": "a1", "by": "ada" });
        let request = |route: &str| Request::post(&format!("{route}/commands/take-seat"), &body);
        self.same(&ROUTES, |route| change(request(route))).await
    }

    async fn same_query(&self, target: &str) -> Response {
        self.same(&ROUTES, |route| Request::get(&format!("{route}/queries/who-sits{target}"))).await
    }
}

/// The members of a problem of this status and word.
#[track_caller]
fn problem(response: &Response, status: u16, word: &str) -> Value {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.need("content-type"), "application/problem+json");
    let problem = response.json();
    assert_eq!(problem["type"], format!("urn:diptych:{word}"), "{problem}");
    problem
}

/// Headers that the door of the server adds to every answer, and the date.
const OF_THE_SERVER: [&str; 5] = [
    "date",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-resource-policy",
    "content-security-policy",
];

fn limits() -> ServerLimits {
    let mut limits = ServerLimits::default();
    limits.body_bytes = 1_000;
    limits
}

/// A query answers within a time that is short where nothing comes, and without one otherwise.
const SOON: &str = "_within=20";

#[tokio::test]
async fn commands_get_the_same_answers_from_a_handler_and_from_the_server() {
    let program = Program::new().await;
    let keyed = |request: Request| request.header("idempotency-key", "k1");
    let accepted = program.same_command(keyed).await;
    accepted.need("diptych-receipt");
    assert_eq!(accepted.need("diptych-position"), "1");
    assert_eq!(program.app.head().get(), 1, "the others were retries");
    let receipt = accepted.ok()["receipt"].clone();
    let receipt = receipt.as_str().unwrap();

    problem(&program.same_command(|request| request).await, 422, "rejected");
    let reused = |request: Request| keyed(request.body(r#"{"seat":"a1","by":"bob"}"#));
    problem(&program.same_command(reused).await, 409, "key-reused");
    let invalid = |request: Request| request.body(r#"{"seat":"","by":"bob"}"#);
    problem(&program.same_command(invalid).await, 400, "invalid");
    let conflicts = [("diptych-unchanged-since", "0"), ("if-match", "\"0\"")];
    for (name, value) in conflicts {
        let conflict = program.same_command(|request| request.header(name, value)).await;
        let problem = problem(&conflict, 409, "conflict");
        assert_eq!(problem["missed"], json!([{ "position": 1, "type": "seat-taken" }]));
    }
    let other = Program::new().await;
    let foreign = other.same_command(keyed).await.need("diptych-receipt");
    for (name, value, status, word) in [
        ("diptych-after", foreign.as_str(), 409, "token"),
        ("diptych-after", receipt, 422, "rejected"),
        ("diptych-after", "no token", 400, "header"),
        ("diptych-session", "no token", 400, "header"),
        ("diptych-occurred-at", "2013-01-01", 400, "header"),
        ("diptych-correlation", "x", 400, "header"),
        ("diptych-unchanged-since", "x", 400, "header"),
        ("diptych-unchanged-since", "9", 400, "not-taken"),
        ("if-match", "x", 400, "header"),
        ("idempotency-key", "", 400, "header"),
        ("idempotency-key", "diptych:x", 400, "invalid"),
    ] {
        let answer = program.same_command(|request| request.header(name, value)).await;
        problem(&answer, status, word);
    }
    for body in ["{", r#"{"seat":7}"#, ""] {
        problem(&program.same_command(|request| request.body(body)).await, 400, "malformed");
    }
    let plain =
        |route: &str| Request::new("POST", &format!("{route}/commands/take-seat")).body("x");
    problem(&program.same(&ROUTES, plain).await, 415, "content-type");
    let large = |request: Request| request.body(vec![b' '; 1_001]);
    problem(&program.same_command(large).await, 413, "too-large");
    assert_eq!(program.app.head().get(), 1);
}

#[tokio::test]
async fn a_handler_lists_the_events_of_a_conflict_only_if_it_wants_to() {
    let program = Program::new().await;
    program.same_command(|request| request.header("idempotency-key", "k")).await.ok();
    let conflict = async |target: &str| {
        let request = Request::post(target, json!({ "seat": "a1", "by": "bob" }));
        let request = request.header("x-user", "eve").header("diptych-unchanged-since", 0);
        problem(&program.ask(&request).await, 409, "conflict")
    };
    // The hook of the server admits this caller to the events, and the route allows it.
    let with_events = conflict("/api/commands/take-explained").await;
    assert_eq!(with_events["missed"][0]["data"]["by"], "ada");
    assert_eq!(conflict("/own/commands/take-seat-with-events").await, with_events);
    assert!(conflict("/own/commands/take-seat").await["missed"][0].get("data").is_none());
}

#[tokio::test]
async fn the_session_of_a_command_comes_back_with_its_next_token() {
    let program = Program::new().await;
    let token = program.app.token_at(diptych::Position::START).await.unwrap();
    let answer = program.same_command(|request| {
        request.header("idempotency-key", "k").header("diptych-session", token.to_string())
    });
    let next = answer.await.need("diptych-session");
    assert_ne!(next, token.to_string());
    let who = program.same_query(&format!("?seat=a1&_session={next}")).await;
    who.need("diptych-session");
    assert_eq!(who.ok(), "ada");
}

#[tokio::test]
async fn events_get_the_same_metadata_from_a_handler_and_from_the_server() {
    let program = Program::new().await;
    let id = "0195c0de-0000-7000-8000-000000000001";
    for (at, route) in ROUTES.into_iter().enumerate() {
        let body = json!({ "seat": format!("b{at}"), "by": "bob" });
        let request = Request::post(&format!("{route}/commands/take-seat"), body)
            .header("x-user", "eve")
            .header("diptych-occurred-at", "2013-01-01T10:15:00Z")
            .header("diptych-correlation", id)
            .header("diptych-causation", id);
        program.ask(&request).await.ok();
    }
    let everything = Filter::everything();
    let batch = program.app.store().read(&everything, Read::all()).await.unwrap();
    assert_eq!(batch.len(), ROUTES.len());
    for at in 0..batch.len() {
        let event = batch.get(at).unwrap();
        let metadata = event.metadata();
        assert_eq!(event.occurred_at().to_string(), "2013-01-01T10:15:00Z");
        assert_eq!(metadata.actor.as_deref(), Some("eve"));
        assert_eq!(metadata.extra.get("tenant").map(|tenant| tenant.as_str()), Some("t1"));
        let ids = [metadata.correlation, metadata.causation];
        assert_eq!(ids.map(|id| id.unwrap().to_string()), [id, id]);
    }
}

#[tokio::test]
async fn a_command_that_no_rule_rejects_gets_the_same_answer() {
    let program = Program::new().await;
    let request = |route: &str| {
        let request = Request::post(&format!("{route}/commands/remark"), json!({ "text": "well" }));
        request.header("idempotency-key", "k")
    };
    program.same(&["/api", "/own"], request).await.ok();
    assert_eq!(program.app.head().get(), 1);
}

#[tokio::test]
async fn queries_get_the_same_answers_from_a_handler_and_from_the_server() {
    let program = Program::new().await;
    let receipt = program.same_command(|request| request.header("idempotency-key", "k1")).await;
    let receipt = receipt.need("diptych-receipt");
    let fresh = program.same_query(&format!("?seat=a1&_after={receipt}")).await;
    fresh.need("diptych-token");
    assert_eq!((fresh.need("diptych-position"), fresh.ok()), ("1".to_owned(), json!("ada")));
    for (target, answer) in [
        ("?seat=a1&_consistency=strong", json!("ada")),
        ("?seat=a1&_at_most=0", json!("ada")),
        ("?_consistency=eventual&seat=z9", json!(null)),
        ("?seat=a1&_as_of=0", json!(null)),
        ("?seat=a1&_as_of=1", json!("ada")),
        ("?seat=a1&_recorded_before=2013-01-01T10:15:00Z", json!(null)),
        ("?seat=a1&_occurred_before=2999-01-01T10:15:00Z", json!("ada")),
    ] {
        assert_eq!(program.same_query(target).await.ok(), answer, "{target}");
    }
    for (target, status, word) in [
        ("?seat=a1&_as_of=7", 400, "above-head"),
        ("?seat=a1&_as_of=x", 400, "parameter"),
        ("?seat=a1&_consistency=perhaps", 400, "parameter"),
        ("?seat=a1&_occurred_before=2013-01-01", 400, "parameter"),
        ("?seat=a1&_or_stale=perhaps", 400, "parameter"),
        ("?seat=a1&_within=1&_within=2", 400, "parameter"),
        ("?seat=a1&_withn=1", 400, "parameter"),
        ("?seat=a1&_after=x", 400, "parameter"),
        ("?seat=a1&seat=a2", 400, "arguments"),
        ("", 400, "arguments"),
        ("?seat=%ff", 400, "malformed"),
    ] {
        problem(&program.same_query(target).await, status, word);
    }
    let other = Program::new().await;
    let foreign = other.same_command(|request| request.header("idempotency-key", "k")).await;
    let foreign = foreign.need("diptych-receipt");
    problem(&program.same_query(&format!("?seat=a1&_after={foreign}")).await, 409, "token");
}

#[tokio::test]
async fn a_view_that_stands_still_gives_the_same_answers() {
    let program = Program::new().await;
    let view = program.app.view::<Plan>().unwrap();
    view.pause().await.unwrap();
    program.same_command(|request| request.header("idempotency-key", "k")).await.ok();
    let strong = format!("?seat=a1&_consistency=strong&{SOON}");
    let not_yet = problem(&program.same_query(&strong).await, 503, "not-yet");
    assert_eq!((&not_yet["need"], &not_yet["have"]), (&json!(1), &json!(0)));
    let stale = program.same_query(&format!("{strong}&_or_stale")).await;
    assert_eq!(stale.need("diptych-stale"), "1");
    assert_eq!(stale.need("diptych-view-state"), "paused");
    assert_eq!(stale.ok(), json!(null));
}
