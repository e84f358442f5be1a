//! Members that a test starts and kills, and questions to them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// A wait for other programs on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A running member.
pub(crate) struct Member {
    process: Child,
    pub(crate) address: String,
}

impl Member {
    /// Starts a member with its folder below `data`, and waits until it listens.
    pub(crate) fn start(part: &str, data: &Path, port: u16, options: &[(&str, String)]) -> Member {
        let mut command = Command::new(env!("CARGO_BIN_EXE_example-fulfilment"));
        command.arg(part).arg("--data").arg(data.join(part));
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        for (option, value) in options {
            command.args([option, value.as_str()]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at http://");
        let address = address.unwrap_or_else(|| panic!("{part} said {line:?}")).to_owned();
        Member { process, address }
    }

    /// The state of a service.
    pub(crate) fn state(&self) -> Value {
        get(&self.address, "/state")
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ports that are free now and differ, for members whose addresses others need before they start.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The answer of a member that listens.
pub(crate) fn get(address: &str, path: &str) -> Value {
    let (status, body) = ask(address, &format!("GET {path} HTTP/1.1"), "", &Value::Null);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Carries out a command.
pub(crate) fn command(address: &str, name: &str, key: &str, command: &Value) {
    let line = format!("POST /commands/{name} HTTP/1.1");
    let headers = format!("content-type: application/json\r\nidempotency-key: {key}\r\n");
    let (status, body) = ask(address, &line, &headers, command);
    assert_eq!(status, 200, "{command}: {body}");
}

/// An order that the provider charges, unless it is unlucky.
pub(crate) fn place(ordering: &str, order: u64) {
    let place = json!({ "place": {
        "order": order, "customer": "ann", "product": "map of BOS", "pieces": 2, "cents": 500,
    }});
    command(ordering, "order", &format!("order-{order}"), &place);
}

/// Goods for this number of orders.
pub(crate) fn deliver(shipping: &str, count: u64) {
    let goods = json!({ "deliver": { "product": "map of BOS", "count": count } });
    command(shipping, "parcel", "goods", &goods);
}

fn ask(address: &str, line: &str, headers: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    write!(
        stream,
        "{line}\r\nhost: 127.0.0.1\r\nconnection: close\r\n{headers}content-length: {length}\r\n\
         \r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
}

/// Asks again and again until the answer is so.
pub(crate) fn until(what: &str, ask: impl Fn() -> Value, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + LONG;
    loop {
        let answer = ask();
        if is_so(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain until {what}: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
