//! Libraries of npm read the feeds, verify and sign the webhooks, and parse the AsyncAPI document.
//!
//! The libraries are no part of the machine: the suite "formats of other systems" of `cargo xtask
//! test` installs them and names their folder. Without that folder these tests say so, and test
//! nothing.

use std::{
    convert::Infallible,
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
};

use diptych::{
    App, Command, DecisionContext, Event, Memory, Recorded, Timestamp,
    catalogue::Catalogue,
    collaboration::{Feed, PublicEvent},
    process::Gateway,
};
use diptych_gateways::{Reach, Webhook, WebhookEndpoint, WebhookSecret, WebhookVerifier, Webhooks};
use diptych_server::{ReceivedWebhook, Server, WebhookReaction, WebhookRoute};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats");
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const FORMER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[derive(Event, Serialize, Deserialize)]
#[event("order-placed")]
struct Placed {
    #[tag]
    order: u64,
    cents: u64,
}

/// Places an order.
#[derive(Serialize, Deserialize)]
struct Place {
    order: u64,
    cents: u64,
}

impl Command for Place {
    type State = ();
    type Event = Placed;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Placed>, Infallible> {
        Ok(vec![Placed { order: self.order, cents: self.cents }])
    }
}

/// An order that other services may know of.
#[derive(PublicEvent, Serialize, Deserialize, JsonSchema)]
#[event("order-accepted")]
struct Accepted {
    #[tag]
    order: u64,
    cents: u64,
}

struct Orders;

impl Feed for Orders {
    const NAME: &'static str = "orders";
    type Private = Placed;
    type Public = Accepted;

    fn publish(event: &Recorded<Placed>) -> impl IntoIterator<Item = Accepted> {
        let Placed { order, cents } = event.event;
        Some(Accepted { order, cents })
    }
}

/// The folder with the libraries.
fn libraries() -> Option<PathBuf> {
    let folder = env::var_os("DIPTYCH_FORMATS").map(PathBuf::from);
    if folder.is_none() {
        println!("DID NOT RUN: `cargo xtask test` installs the libraries of formats");
    }
    folder
}

/// A shop with a feed and an endpoint for webhooks, and its address.
async fn shop() -> (App, String) {
    let catalogue = Catalogue::with_schemas().feed::<Orders>();
    let app = App::over(Memory::new()).catalogue(catalogue).start().await.unwrap();
    let paid = |paid: ReceivedWebhook<Value>| match paid.body["data"]["order"].as_u64() {
        Some(order) => Ok(WebhookReaction::execute(Place { order, cents: 0 })),
        None => Err("it has no order"),
    };
    let verifier = WebhookVerifier::new([SECRET.parse().unwrap()]);
    let server = Server::new(app.clone())
        .title("Shop", "1")
        .webhook("/hooks/shop", WebhookRoute::new("shop", verifier, paid));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server.serve(listener, std::future::pending()));
    (app, address)
}

/// Starts this program with these arguments, beside the libraries.
fn start(libraries: &Path, program: &str, arguments: &[&str]) -> (tempfile::TempDir, Child) {
    let npm = libraries.join("npm");
    // Node looks for packages in the folder of the program and above.
    let folder = tempfile::tempdir_in(&npm).unwrap();
    let copy = folder.path().join(program);
    fs::copy(format!("{PROGRAMS}/{program}"), &copy).unwrap();
    let mut node = Program::new(libraries.join("python/bin/node"));
    node.arg(copy).args(arguments);
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (folder, node.spawn().unwrap())
}

/// Waits for the end of a program, which has to say that all is well.
fn end(child: Child) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("ok"), "{}\n{text}", output.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloudevents_reads_a_feed_as_a_batch_and_each_event_in_the_structured_form() {
    let Some(libraries) = libraries() else { return };
    let (app, address) = shop().await;
    app.execute(Place { order: 7, cents: 1_000 }).await.unwrap();
    app.execute(Place { order: 8, cents: 5 }).await.unwrap();
    let (_folder, child) = start(&libraries, "feed.mjs", &[&address]);
    end(child);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standardwebhooks_verifies_what_is_sent_and_signs_what_is_taken() {
    let Some(libraries) = libraries() else { return };
    let (app, address) = shop().await;
    let (_folder, mut child) = start(&libraries, "webhooks.mjs", &[&address, SECRET, FORMER]);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut url = String::new();
    lines.read_line(&mut url).unwrap();
    let secrets: Vec<WebhookSecret> = [SECRET, FORMER].map(|secret| secret.parse().unwrap()).into();
    let endpoint = WebhookEndpoint { url: url.trim_end().to_owned(), secrets };
    let mut options = Webhooks::options();
    options.reach = Reach::Anywhere;
    let webhooks = Webhooks::new(move |_| Some(endpoint.clone()), options).unwrap();
    for (key, order) in [("key-1", json!(7)), ("key-2", json!("größer als 8 €"))] {
        let webhook = Webhook {
            endpoint: "shop".to_owned(),
            event_type: "order.paid".to_owned(),
            timestamp: Timestamp::now(),
            data: json!({ "order": order }),
        };
        webhooks.send(&webhook, key).await.unwrap();
    }
    drop(child.stdin.take());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && rest.contains("ok"), "{rest}{errors}");
    assert_eq!(app.head().get(), 1, "the repetition and the forged ones have no effect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asyncapi_parser_finds_no_fault_in_the_document() {
    let Some(libraries) = libraries() else { return };
    let (_app, address) = shop().await;
    let (_folder, child) = start(&libraries, "asyncapi.mjs", &[&address]);
    end(child);
}
