//! A client that sends what a test wants, byte by byte, and reads HTTP/1.1 as it comes.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Nothing here takes as long as this.
pub(crate) const LONG: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    #[track_caller]
    pub(crate) fn need(&self, name: &str) -> String {
        self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A good answer.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// A problem of this status and kind, as all of them have to look.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.need("content-type"), "application/problem+json");
        assert_eq!(self.need("x-content-type-options"), "nosniff");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:diptych:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        problem
    }
}

/// A request that is put together.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Request {
        let (method, target) = (method.to_owned(), target.to_owned());
        Request { method, target, headers: Vec::new(), body: None }
    }

    pub(crate) fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    pub(crate) fn post(target: &str, body: impl ToString) -> Request {
        let json = ("content-type".to_owned(), "application/json".to_owned());
        let mut request = Request::new("POST", target).body(body.to_string());
        request.headers.push(json);
        request
    }

    /// A command.
    pub(crate) fn send(name: &str, body: impl ToString) -> Request {
        Request::post(&format!("/commands/{name}"), body)
    }

    pub(crate) fn is_post(&self) -> bool {
        self.method == "POST"
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Request {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Request { method, target, headers, body } = self;
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend(body.iter().flatten());
        bytes
    }
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Connection {
        Connection::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Connection {
        Connection { stream, read: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, request: &Request) -> Response {
        self.write(request.bytes()).await;
        let has_body = request.method != "HEAD";
        self.response(has_body).await.unwrap_or_else(|| panic!("closed: {request:?}"))
    }

    /// The next answer; nothing if the connection ends first.
    pub(crate) async fn response(&mut self, has_body: bool) -> Option<Response> {
        let mut response = self.head().await?;
        if !has_body || response.status == 304 {
            return Some(response);
        }
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                response.body.extend(chunk);
            }
        } else if let Some(bytes) = response.header("content-length") {
            let bytes = bytes.parse().unwrap();
            response.body = self.exactly(bytes).await?;
        }
        Some(response)
    }

    /// The head of the next answer.
    pub(crate) async fn head(&mut self) -> Option<Response> {
        let head = self.line_until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        Some(Response { status, headers: headers.collect(), body: Vec::new() })
    }

    /// A chunk of a body; nothing at its end, or if the connection ends.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line_until(b"\r\n").await?;
        let bytes = usize::from_str_radix(str::from_utf8(&line).unwrap(), 16).unwrap();
        let chunk = self.exactly(bytes + 2).await?;
        (bytes > 0).then(|| chunk[..bytes].to_vec())
    }

    /// Whether the server has closed the connection, without a further word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    async fn line_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            let at = self.read.windows(end.len()).position(|window| window == end);
            if let Some(at) = at {
                let line = self.read[..at].to_vec();
                self.read.drain(..at + end.len());
                return Some(line);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.read.len() < bytes {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..bytes).collect())
    }

    async fn more(&mut self) -> bool {
        let read = timeout(LONG, self.stream.read_buf(&mut self.read)).await;
        read.expect("the server neither answers nor closes").is_ok_and(|bytes| bytes > 0)
    }
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SentEvent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl SentEvent {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    pub(crate) connection: Connection,
    pub(crate) head: Response,
    text: String,
}

impl Events {
    pub(crate) async fn open(address: SocketAddr, request: &Request) -> Events {
        let mut connection = Connection::open(address).await;
        connection.write(request.bytes()).await;
        let head = connection.head().await.unwrap();
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.need("content-type"), "text/event-stream");
        Events { connection, head, text: String::new() }
    }

    /// The next event; nothing at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<SentEvent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let mut sent = SentEvent::default();
                for line in block.lines() {
                    match line.split_once(": ").or_else(|| line.split_once(':')) {
                        Some(("id", value)) => sent.id = value.to_owned(),
                        Some(("event", value)) => sent.event = value.to_owned(),
                        Some(("data", value)) => sent.data += value,
                        _ => {}
                    }
                }
                if !(sent.event.is_empty() && sent.data.is_empty()) {
                    return Some(sent);
                }
                continue;
            }
            let chunk = self.connection.chunk().await?;
            self.text += str::from_utf8(&chunk).unwrap();
        }
    }

    /// The next event, which is an answer: its position and the answer.
    #[track_caller]
    pub(crate) fn answer(sent: &SentEvent) -> (u64, Value) {
        assert_eq!(sent.event, "answer", "{sent:?}");
        let data = sent.json();
        (data["position"].as_u64().unwrap(), data["answer"].clone())
    }
}
