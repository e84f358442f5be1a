//! A client of the customers over HTTP. It was written for stage 1, and knows one thing about later
//! ones: a refusal of the kind `retired` names the command to send instead.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, ETAG, HOST, IF_MATCH},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::Failure;

struct Answer {
    status: u16,
    tag: String,
    body: Value,
}

/// Works with two customers, and tells what the server answered.
pub(crate) async fn run(server: SocketAddr, round: &str) -> Result<Vec<String>, Failure> {
    let mut told = Vec::new();
    let (ann, ben) = (format!("ann-{round}"), format!("ben-{round}"));
    let row = |id: &str, email: &str| {
        let email = format!("{email}@example.org");
        json!({ "id": id, "email": email, "city": "Rome", "name": "Ann" })
    };
    let send = async |method, path: &str, tag: &str, body: Value| {
        send(server, method, path, tag, body).await
    };
    let ann_path = format!("/customers/{ann}");
    let ann_now = format!("{ann_path}?_consistency=strong");

    let created = send(Method::POST, "/customers", "", row(&ann, &ann)).await?;
    told.push(format!("a customer is created: {}", created.status));
    let again = send(Method::POST, "/customers", "", row(&ann, &ann)).await?;
    told.push(format!("it is created again: {} {}", again.status, kind(&again)));
    let taken = send(Method::POST, "/customers", "", row(&ben, &ann)).await?;
    told.push(format!("another has the same address: {} {}", taken.status, kind(&taken)));
    send(Method::POST, "/customers", "", row(&ben, &ben)).await?;

    let name = json!({ "name": "Anna" });
    let renamed = send(Method::PATCH, &ann_path, &created.tag, name.clone()).await?;
    told.push(format!("its name is changed: {} {}", renamed.status, text(&renamed, "/name")));
    let stale = send(Method::PATCH, &ann_path, &created.tag, name).await?;
    told.push(format!("an older revision is changed: {} {}", stale.status, kind(&stale)));

    let moved = send(Method::PATCH, &ann_path, "", json!({ "city": "Oslo" })).await?;
    let way = match moved.body.pointer("/rejection/command").and_then(Value::as_str) {
        None => "by a plain change".to_owned(),
        Some(command) => {
            let body = json!({ "customer": ann, "city": "Oslo" });
            let path = format!("/commands/{command}");
            let sent = send(Method::POST, &path, "", body).await?;
            format!("by {command}, after {} {}: {}", moved.status, kind(&moved), sent.status)
        }
    };
    told.push(format!("it moves {way}"));

    let shown = send(Method::GET, &ann_now, "", Value::Null).await?;
    told.push(format!("it is shown: {} in {}", text(&shown, "/name"), text(&shown, "/city")));
    let list = format!("/customers?_consistency=strong&city=Oslo&id={ann}&id={ben}");
    let listed = send(Method::GET, &list, "", Value::Null).await?;
    let listed = listed.body.pointer("/items").and_then(Value::as_array).map_or(0, Vec::len);
    told.push(format!("customers of this round in Oslo: {listed}"));
    for path in [&ann_path, &format!("/customers/{ben}")] {
        let deleted = send(Method::DELETE, path, "", Value::Null).await?;
        told.push(format!("it is deleted: {}", deleted.status));
    }
    let gone = send(Method::GET, &ann_now, "", Value::Null).await?;
    told.push(format!("it is gone: {} {}", gone.status, kind(&gone)));
    let history = send(Method::GET, &format!("{ann_path}/history"), "", Value::Null).await?;
    let events = history.body.as_array().map_or(0, Vec::len);
    told.push(format!("its history has {events} events"));
    Ok(told)
}

fn kind(answer: &Answer) -> &str {
    text(answer, "/rejection/kind")
}

fn text<'a>(answer: &'a Answer, place: &str) -> &'a str {
    answer.body.pointer(place).and_then(Value::as_str).unwrap_or("nothing")
}

async fn send(
    server: SocketAddr,
    method: Method,
    path: &str,
    tag: &str,
    body: Value,
) -> Result<Answer, Failure> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    request = request.header(HOST, "localhost").header(CONTENT_TYPE, "application/json");
    if !tag.is_empty() {
        request = request.header(IF_MATCH, tag);
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    let (tag, status) = (tag.to_owned(), response.status().as_u16());
    let bytes = response.into_body().collect().await?.to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Answer { status, tag, body })
}
