//! The page, and what it asks for: it looks at the services from outside, by their addresses.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{
    Router,
    extract::{Path, State},
    http::header::CONTENT_TYPE,
    middleware::from_fn,
    response::Response,
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    Failure,
    ask::{AskError, Asker},
    children::MemberInfo,
    member::{WorkItem, json, loopback_only},
    ordering::{Order, OrderList},
    tree::{Node, Part, join},
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Number of orders on the page.
const ORDERS: usize = 24;

struct Window {
    asker: Asker,
    members: Vec<MemberInfo>,
}

/// Serves the page, until it is aborted.
///
/// # Errors
/// The error of the connection.
pub(crate) async fn serve(
    listener: TcpListener,
    asker: Asker,
    members: Vec<MemberInfo>,
) -> std::io::Result<()> {
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
        .route("/api/order/{number}", get(order))
        .route("/api/flow/{target}", get(flow))
        .layer(from_fn(loopback_only))
        .with_state(Arc::new(Window { asker, members }));
    axum::serve(listener, routes).await
}

/// Everything on the page beside the flow.
#[derive(Serialize)]
struct Overview {
    members: Vec<MemberLine>,
    /// The orders, unless ordering is away.
    orders: Option<OrderList>,
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

async fn overview(State(window): State<Arc<Window>>) -> Response {
    let mut shown = Overview { members: Vec::new(), orders: None, work: Vec::new() };
    for member in &window.members {
        let (name, kills) = (member.name, member.kills.load(Relaxed));
        let is_up = window.asker.is_up(&format!("{}/health", member.url)).await;
        shown.members.push(MemberLine { name, is_up, kills });
    }
    for MemberInfo { name, url, .. } in window.services() {
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
    let Some(MemberInfo { url, .. }) = window.services().next() else {
        return json::<()>(Err("there is no service".into()));
    };
    let url = format!("{url}/queries/order?order={number}");
    json(window.asker.get::<Option<Order>>(&url).await.map_err(Failure::from))
}

/// The flow of one order.
#[derive(Serialize)]
struct Flow {
    /// The correlation, under which it can be asked for while ordering is away.
    correlation: String,
    /// The services that do not answer now, so that their part is missing.
    away: Vec<&'static str>,
    roots: Vec<Node>,
    remarks: Vec<String>,
}

/// `GET /api/flow/{target}`: the target is the position of an order in the log of ordering, or a
/// correlation.
async fn flow(State(window): State<Arc<Window>>, Path(target): Path<String>) -> Response {
    json(window.flow(&target).await)
}

impl Window {
    fn services(&self) -> impl Iterator<Item = &MemberInfo> {
        self.members.iter().filter(|member| member.name != "provider")
    }

    /// # Errors
    /// The correlation is not known, because ordering is away.
    async fn flow(&self, target: &str) -> Result<Flow, Failure> {
        let mut correlation = target.to_owned();
        let (mut parts, mut away, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
        let is_position = target.parse::<u64>().is_ok();
        // Ordering is the first one, so it tells the correlation for the others.
        for MemberInfo { name, url, .. } in self.services() {
            match self.asker.get::<Part>(&format!("{url}/flow/{correlation}")).await {
                Ok(mut part) => {
                    correlation.clone_from(&part.correlation);
                    remarks.append(&mut part.remarks);
                    parts.push((*name, part));
                }
                Err(error) if *name == "ordering" && is_position => return Err(error.into()),
                // It has not heard of the flow yet.
                Err(AskError::Refused { status, .. }) if status == 404 => {}
                Err(_) => away.push(*name),
            }
        }
        Ok(Flow { correlation, away, roots: join(parts), remarks })
    }
}
