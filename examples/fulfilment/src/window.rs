//! The page, and what it asks for: it looks at the services from outside, by their addresses.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::get,
};
use diptych::process::{TraceOptions, TraceSources, TraceTarget};
use diptych_gateways::GatewaySetupError;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    Failure,
    ask::Asker,
    children::MemberInfo,
    member::{self, WorkItem, json, loopback_only},
    ordering::{Order, OrderList},
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Number of orders on the page.
const ORDERS: usize = 24;

/// A service that does not tell its part of a flow within this time counts as away.
const WITHIN: Duration = Duration::from_secs(5);

/// The services, as the page sees them.
pub(crate) struct Window {
    asker: Asker,
    members: Vec<MemberInfo>,
    flows: TraceSources,
}

/// Serves the page, until it is aborted.
///
/// # Errors
/// The error of the connection.
pub(crate) async fn serve(listener: TcpListener, window: Window) -> std::io::Result<()> {
    let file = |content_type: &'static str, text: &'static str| {
        get(async move || ([(CONTENT_TYPE, content_type)], text))
    };
    let routes = Router::new()
        .route("/", file(HTML, include_str!("../page/index.html")))
        .route("/page.css", file(CSS, include_str!("../page/page.css")))
        .route("/page.js", file(SCRIPT, include_str!("../page/page.js")))
        .route("/words.js", file(SCRIPT, include_str!("../page/words.js")))
        .route("/favicon.svg", file("image/svg+xml", include_str!("../page/favicon.svg")))
        .route("/api/overview", get(overview))
        .route("/api/overview/{number}", get(overview))
        .route("/api/order/{number}", get(order))
        .route("/api/flow/{target}", get(flow))
        .layer(from_fn(loopback_only))
        .with_state(Arc::new(window));
    axum::serve(listener, routes).await
}

/// Everything on the page beside the flow.
#[derive(Serialize)]
struct Overview {
    members: Vec<MemberLine>,
    /// The orders, unless ordering is away.
    orders: Option<OrderList>,
    /// The order that the page has chosen, unless ordering is away. It may be an old one.
    chosen: Option<Order>,
    work: Vec<WorkList>,
}

#[derive(Serialize)]
struct MemberLine {
    name: &'static str,
    is_up: bool,
    kills: u32,
}

#[derive(Serialize)]
struct WorkList {
    service: &'static str,
    /// The items that wait, unless the service is away.
    items: Option<Vec<WorkItem>>,
}

/// `GET /api/overview`, or `GET /api/overview/{number}` with the order that the page has chosen.
async fn overview(State(window): State<Arc<Window>>, chosen: Option<Path<u64>>) -> Response {
    let (members, work) = (Vec::new(), Vec::new());
    let mut shown = Overview { members, orders: None, chosen: None, work };
    for member in &window.members {
        let (name, kills) = (member.name, member.kills.load(Relaxed));
        let is_up = window.asker.is_up(&format!("{}/health", member.url)).await;
        shown.members.push(MemberLine { name, is_up, kills });
    }
    if let Some(Path(number)) = chosen {
        shown.chosen = window.order(number).await.ok().flatten();
    }
    for MemberInfo { name, url, .. } in services(&window.members) {
        if *name == "ordering" {
            let orders = format!("{url}/queries/orders?limit={ORDERS}");
            shown.orders = window.asker.get(&orders).await.ok();
        }
        let items = window.asker.get(&format!("{url}/work")).await.ok();
        shown.work.push(WorkList { service: name, items });
    }
    json(Ok(shown))
}

/// `GET /api/order/{number}`
async fn order(State(window): State<Arc<Window>>, Path(number): Path<u64>) -> Response {
    json(window.order(number).await)
}

/// `GET /api/flow/{target}`: the target is the position of an order in the log of ordering, or a
/// correlation.
async fn flow(State(window): State<Arc<Window>>, Path(target): Path<String>) -> Response {
    let Ok(target) = target.parse::<TraceTarget>() else {
        return (StatusCode::BAD_REQUEST, "give a position or a correlation").into_response();
    };
    let flow = window.flows.trace(target, TraceOptions::default()).await;
    json(flow.map_err(Failure::from))
}

impl Window {
    /// # Errors
    /// [`GatewaySetupError`] if an address is none.
    pub(crate) fn new(asker: Asker, members: Vec<MemberInfo>) -> Result<Window, GatewaySetupError> {
        // Ordering is the first one, so a position is one of its log.
        let mut flows = TraceSources::new().answer_within(WITHIN);
        for MemberInfo { name, url, .. } in services(&members) {
            flows = flows.with(*name, member::traces(url)?);
        }
        Ok(Window { asker, members, flows })
    }

    /// # Errors
    /// Ordering is away.
    async fn order(&self, number: u64) -> Result<Option<Order>, Failure> {
        let Some(MemberInfo { url, .. }) = services(&self.members).next() else {
            return Err("there is no service".into());
        };
        Ok(self.asker.get(&format!("{url}/queries/order?order={number}")).await?)
    }
}

fn services(members: &[MemberInfo]) -> impl Iterator<Item = &MemberInfo> {
    members.iter().filter(|member| member.name != "provider")
}
