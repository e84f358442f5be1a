//! The flow of several services, whose parts are read over HTTP.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use diptych::{
    App, Memory, Position, Store, Uuid,
    process::{JoinedTrace, NoSuchFlow, StepKind, TraceOptions, TraceSources, TraceTarget},
};
use diptych_gateways::HttpTraces;

use super::feeds::{Ordering, shipping, until};

fn traces(url: &str) -> HttpTraces {
    let traces = HttpTraces::new(url, HttpTraces::options()).unwrap();
    traces.header("authorization", "Bearer secret").unwrap()
}

fn sources(app: &App, url: &str) -> TraceSources {
    TraceSources::new().with("shipping", app.clone()).with("ordering", traces(url))
}

async fn traced(
    sources: &TraceSources,
    target: impl Into<TraceTarget>,
) -> Result<JoinedTrace, NoSuchFlow> {
    sources.trace(target, TraceOptions::default()).await
}

/// The position of the first event that the intake made.
async fn first_due(app: &App) -> Position {
    let due = diptych::Filter::types(["shipment-due"]);
    let read = diptych::store::Read::all().limit(1);
    let batch = app.store().read(&due, read).await.unwrap();
    batch.get(0).unwrap().position()
}

#[tokio::test]
async fn the_flow_of_a_service_elsewhere_is_asked_over_http_and_joined() {
    let may_read = Arc::new(AtomicBool::new(true));
    let (source, own) = (Store::new(Memory::new()), Store::new(Memory::new()));
    let ordering = Ordering::start(&source, "127.0.0.1:0", &may_read).await;
    ordering.place(0..3).await;
    let base = format!("http://{}", ordering.address);
    let app = shipping(&own, &format!("{base}/feeds/orders")).await;
    until(&app, |status| status.position.get() == 3).await;
    let at = first_due(&app).await;

    let whole = traced(&sources(&app, &base), at).await.unwrap();
    assert_eq!(whole.steps.len(), 2, "{whole}");
    let text = whole.to_string();
    assert!(text.contains("ordering: 1  order-placed"), "{text}");
    assert!(text.contains("published to feed orders"), "{text}");
    assert!(text.contains("└─ shipping: "), "{text}");
    // A slash at the end of the address makes no difference.
    let slash = traced(&sources(&app, &format!("{base}/")), at).await.unwrap();
    assert_eq!(slash.steps, whole.steps);
    // The id of the foreign event is known to its own service alone.
    let StepKind::Event { id, .. } = &whole.steps[0].kind else { panic!("{whole}") };
    assert_eq!(traced(&sources(&app, &base), *id).await.unwrap(), whole);
    let unknown = traced(&sources(&app, &base), Uuid::from_u128(7)).await.unwrap_err();
    assert!(unknown.to_string().contains("ordering: the answer is 404"), "{unknown}");
    // A position is one of the first service.
    let turned = TraceSources::new().with("ordering", traces(&base)).with("shipping", app.clone());
    let turned = traced(&turned, Position::new(1)).await.unwrap();
    assert_eq!(turned.steps, whole.steps);

    // The token is revoked: its part is missing, and the words of the server say why.
    may_read.store(false, SeqCst);
    let part = traced(&sources(&app, &base), at).await.unwrap();
    let away = part.services[1].away.as_deref().unwrap();
    assert!(away.contains("401") && away.contains("the token was revoked"), "{away}");
    assert_eq!((part.steps.len(), part.steps[0].service.as_str()), (1, "shipping"));
    assert!(part.to_string().contains("ordering could not be asked: "), "{part}");

    // The server is down.
    ordering.stop().await;
    let part = traced(&sources(&app, &base), at).await.unwrap();
    let away = part.services[1].away.as_deref().unwrap();
    assert!(away.contains("onnect"), "{away}");
}

#[tokio::test]
async fn an_address_that_is_no_server_of_traces_has_its_words() {
    let store = Store::new(Memory::new());
    let app = App::over_store(store).start().await.unwrap();
    let placed = diptych::store::RawEvent::new("noted", b"1".to_vec());
    let accepted = app.store().append(diptych::store::Append::event(placed)).await.unwrap();
    accepted.synced().await.unwrap();
    // This server has no routes for operators.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let server = diptych_server::Server::new(app.clone());
    let serving = tokio::spawn(server.serve(listener, std::future::pending()));
    let part = traced(&sources(&app, &base), Position::new(1)).await.unwrap();
    let away = part.services[1].away.as_deref().unwrap();
    assert!(away.contains("Server::process_operations"), "{away}");
    serving.abort();
    let wrong = HttpTraces::new("ordering.example", HttpTraces::options()).unwrap_err();
    assert!(wrong.to_string().contains("no URL of http"), "{wrong}");
}
