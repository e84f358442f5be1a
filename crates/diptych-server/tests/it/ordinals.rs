//! Numbered commands of one client over HTTP: decided in their order and once, over any number of
//! connections, and across a kill of the server.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use diptych::App;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Builder};

use crate::{
    client::{Connection, Request},
    domain::theatre,
    served::{TheatreServer, with_views},
};

const FOLDER: &str = "DIPTYCH_THEATRE_FOLDER";
const READY: &str = "the theatre is open at ";
const COMMANDS: u64 = 100;
const CONNECTIONS: u64 = 10;

/// A server of the theatre in a process of its own, which can be killed.
struct TheatreProcess {
    child: Child,
    address: SocketAddr,
}

impl TheatreProcess {
    fn start(folder: &Path) -> TheatreProcess {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "ordinals::a_process_serves_the_theatre", "--nocapture"]);
        let command = command.env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once(READY)?;
            Some(address.parse().unwrap())
        });
        TheatreProcess { child, address: address.expect("the process does not serve") }
    }
}

impl Drop for TheatreProcess {
    /// Kills the process with SIGKILL.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Does nothing, unless this process is the child of another test.
#[test]
fn a_process_serves_the_theatre() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async move {
        let app = with_views(App::open(folder).unwrap()).start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{READY}{}", listener.local_addr().unwrap());
        theatre(app).serve(listener, std::future::pending()).await.unwrap();
    });
}

/// The command with this number, which writes its number into the guestbook.
fn numbered(number: u64, settled: u64) -> Request {
    Request::send("remark", json!({ "text": number.to_string() }))
        .header("diptych-client", "ann")
        .header("diptych-ordinal", number)
        .header("diptych-settled", settled)
}

/// The numbers in the guestbook, in the order of the log.
async fn guestbook(address: SocketAddr) -> Vec<u64> {
    let ask = Request::get("/queries/last-remarks?_consistency=strong");
    let answer = Connection::open(address).await.ask(&ask).await.ok();
    let texts = answer.as_array().unwrap().iter();
    texts.map(|text| text.as_str().unwrap().parse().unwrap()).collect()
}

/// The numbers of the window after `settled`, each twice, in an order of chance.
fn shuffled_window(settled: u64, random: &mut fastrand::Rng) -> Vec<u64> {
    let once = settled + 1..=settled + CONNECTIONS;
    let mut numbers: Vec<u64> = once.clone().chain(once).collect();
    random.shuffle(&mut numbers);
    numbers
}

/// Each window goes over connections of its own. In every third window the server is killed after
/// the first answer, and the client sends the whole window again to the next server.
#[tokio::test]
async fn shuffled_and_repeated_commands_are_in_order_in_the_log_across_kills() {
    let seed = env::var("DIPTYCH_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("DIPTYCH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut server = TheatreProcess::start(folder.path());
    let mut receipts: BTreeMap<u64, Value> = BTreeMap::new();
    let mut settled = 0;
    while settled < COMMANDS {
        let mut sent = Vec::new();
        for number in shuffled_window(settled, &mut random) {
            let mut connection = Connection::open(server.address).await;
            connection.write(numbered(number, settled).bytes()).await;
            sent.push((number, connection));
        }
        if settled % (3 * CONNECTIONS) == 0 {
            // The command that everything waits for is answered first.
            let first = sent.iter_mut().find(|(number, _)| *number == settled + 1).unwrap();
            let answer = first.1.response(true).await.unwrap().ok();
            assert_eq!(receipts.insert(first.0, answer), None);
            drop(server);
            server = TheatreProcess::start(folder.path());
            for (number, connection) in &mut sent {
                *connection = Connection::open(server.address).await;
                connection.write(numbered(*number, settled).bytes()).await;
            }
        }
        for (number, mut connection) in sent {
            let answer = connection.response(true).await.unwrap().ok();
            // A repeat gets the first receipt, also from the server after a kill.
            assert_eq!(*receipts.entry(number).or_insert_with(|| answer.clone()), answer);
        }
        settled += CONNECTIONS;
    }
    let all: Vec<u64> = (1..=COMMANDS).collect();
    assert_eq!(guestbook(server.address).await, all);
    assert_eq!(receipts.keys().copied().collect::<Vec<_>>(), all);
}

/// The negative control: without numbers, the order of arrival counts, and a repeat is executed
/// again.
#[tokio::test]
async fn commands_without_numbers_are_in_another_order_and_doubled() {
    let served = TheatreServer::new().await;
    let mut random = fastrand::Rng::with_seed(7);
    let numbers = shuffled_window(0, &mut random);
    for number in &numbers {
        served.remark(&number.to_string()).await;
    }
    assert!(!numbers.is_sorted());
    assert_eq!(guestbook(served.address).await, numbers);
}

#[tokio::test]
async fn a_number_that_has_another_command_is_refused_as_reused() {
    let served = TheatreServer::new().await;
    served.ask(&numbered(1, 0)).await.ok();
    let other = Request::send("remark", json!({ "text": "another" }));
    let other = other.header("diptych-client", "ann").header("diptych-ordinal", 1);
    let problem = served.ask(&other).await.problem(409, "key-reused");
    assert_eq!((&problem["ordinal"], &problem["header"]), (&json!(1), &json!("diptych-ordinal")));
    assert!(problem["detail"].as_str().unwrap().contains("number 1"), "{problem}");
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn a_rejection_is_decided_once_and_the_rule_is_not_asked_again() {
    let served = TheatreServer::new().await;
    let leave = |number: u64| {
        let leave = Request::send("leave-seat", json!({ "seat": "a1" }));
        leave.header("diptych-client", "ann").header("diptych-ordinal", number)
    };
    served.ask(&leave(1)).await.problem(422, "rejected");
    served.take("a1", "ada").await;
    let problem = served.ask(&leave(1)).await.problem(409, "ordinal-passed");
    assert_eq!(problem["ordinal"], 1);
    assert_eq!(served.head(), 1);
    served.ask(&leave(2)).await.ok();
}

#[tokio::test]
async fn a_number_too_far_ahead_is_refused_at_once() {
    let served = TheatreServer::new().await;
    let problem = served.ask(&numbered(65, 0)).await.problem(409, "ordinal-ahead");
    assert_eq!((&problem["ordinal"], &problem["window"]), (&json!(65), &json!(64)));
    // The client has outcomes, and says so.
    served.ask(&numbered(65, 64)).await.ok();
}

#[tokio::test]
async fn wrong_headers_about_the_order_are_named() {
    let served = TheatreServer::new().await;
    let long = "a".repeat(129);
    let wrong: [(&[(&str, &str)], &str); 7] = [
        (&[("diptych-client", "ann")], "diptych-ordinal"),
        (&[("diptych-ordinal", "1")], "diptych-client"),
        (&[("diptych-settled", "1")], "diptych-ordinal"),
        (&[("diptych-client", "ann"), ("diptych-ordinal", "one")], "diptych-ordinal"),
        (&[("diptych-client", "ann"), ("diptych-ordinal", "0")], "diptych-ordinal"),
        (&[("diptych-client", &long), ("diptych-ordinal", "1")], "diptych-ordinal"),
        (
            &[("diptych-client", "ann"), ("diptych-ordinal", "1"), ("diptych-settled", "-1")],
            "diptych-settled",
        ),
    ];
    for (headers, named) in wrong {
        let request = Request::send("remark", json!({ "text": "hello" }));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        assert_eq!(served.ask(&request).await.problem(400, "header")["header"], named);
    }
    let with_key = numbered(1, 0).header("idempotency-key", "k");
    assert_eq!(served.ask(&with_key).await.problem(400, "invalid")["field"], "key");
    assert_eq!(served.head(), 0);
}
