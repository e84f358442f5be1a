//! A proxy between a store and its server that knows the statements. It cuts all connections at a
//! chosen one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use diptych_postgres_testing::ProxyPort;

/// When the connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// Before the statement comes to the server.
    Request,
    /// After the server has executed it, and before its answer comes to the store.
    Answer,
}

pub(super) const CUTS: [Cut; 2] = [Cut::Request, Cut::Answer];

pub(super) struct StatementProxy {
    port: ProxyPort,
    shared: Arc<ProxyCore>,
}

#[derive(Default)]
struct ProxyCore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// All statements that passed, by their text, with `prepare` before it where it was prepared.
    seen: BTreeSet<String>,
    armed: Option<(String, Cut)>,
    cuts: BTreeMap<(String, Cut), u64>,
    open: Vec<TcpStream>,
}

/// The facts about one end of a connection that the other end needs.
#[derive(Default)]
struct Exchange {
    /// The rounds that the store began. A server ends a round by saying that it is ready, and the
    /// beginning of the connection is a round, too.
    sent: u64,
    ended: u64,
    /// The round whose answer is lost, and the statement in it.
    lost: Option<(u64, String)>,
}

impl StatementProxy {
    /// Forwards to the server on this port.
    pub(super) fn start(to: u16) -> StatementProxy {
        let shared = Arc::new(ProxyCore::default());
        let own = shared.clone();
        let port = ProxyPort::start(to, move |client, server| {
            // Small messages would wait for each other.
            let both = [&client, &server].map(|end| {
                end.set_nodelay(true).unwrap();
                end.try_clone().unwrap()
            });
            own.state.lock().unwrap().open.extend(both);
            let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let exchange = Arc::new(Mutex::new(Exchange::default()));
            let (shared, other) = (own.clone(), exchange.clone());
            thread::spawn(move || shared.requests(from, into, &other));
            let shared = own.clone();
            thread::spawn(move || shared.answers(server, client, &exchange));
        });
        StatementProxy { port, shared }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.port()
    }

    /// Cuts all connections when this statement passes the next time.
    pub(super) fn arm(&self, statement: &str, cut: Cut) {
        self.shared.state.lock().unwrap().armed = Some((statement.to_owned(), cut));
    }

    /// Forgets the statements that passed so far.
    pub(super) fn forget(&self) {
        self.shared.state.lock().unwrap().seen.clear();
    }

    pub(super) fn cut(&self) {
        self.shared.state.lock().unwrap().cut();
    }

    /// The statements that passed so far.
    pub(super) fn seen(&self) -> BTreeSet<String> {
        self.shared.state.lock().unwrap().seen.clone()
    }

    /// How often the connections were cut at each statement.
    pub(super) fn cuts(&self) -> BTreeMap<(String, Cut), u64> {
        self.shared.state.lock().unwrap().cuts.clone()
    }
}

impl Drop for StatementProxy {
    fn drop(&mut self) {
        self.port.close();
        self.cut();
    }
}

impl State {
    fn cut(&mut self) {
        for end in self.open.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Notes a statement. The answer says whether its request or its answer is to be lost.
    fn pass(&mut self, statement: &str) -> Option<Cut> {
        self.seen.insert(statement.to_owned());
        let (_, cut) = self.armed.take_if(|(armed, _)| armed == statement)?;
        if cut == Cut::Request {
            self.count(statement, cut);
        }
        Some(cut)
    }

    fn count(&mut self, statement: &str, cut: Cut) {
        *self.cuts.entry((statement.to_owned(), cut)).or_default() += 1;
        self.cut();
    }
}

impl ProxyCore {
    fn requests(&self, mut from: TcpStream, mut into: TcpStream, exchange: &Mutex<Exchange>) {
        let _ = self.forward_requests(&mut from, &mut into, exchange);
        for end in [from, into] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn forward_requests(
        &self,
        from: &mut TcpStream,
        into: &mut TcpStream,
        exchange: &Mutex<Exchange>,
    ) -> std::io::Result<()> {
        // The first message has no kind.
        into.write_all(&body(from, Vec::new())?)?;
        let mut prepared: HashMap<String, String> = HashMap::new();
        loop {
            let message = message(from)?;
            let mut texts = message[5..].split(|byte| *byte == 0);
            let mut text = || {
                let text = String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned();
                // Each store has a name of its own.
                let words = text.split_whitespace().filter(|word| !is_name(word));
                words.collect::<Vec<_>>().join(" ")
            };
            let statement = match message[0] {
                b'Q' => Some(text()),
                // The name of the statement, and its text.
                b'P' => {
                    let (name, sql) = (text(), text());
                    prepared.insert(name, sql.clone());
                    Some(format!("prepare {sql}"))
                }
                // The name of the portal, and that of the statement.
                b'B' => {
                    let (_, name) = (text(), text());
                    prepared.get(&name).cloned()
                }
                _ => None,
            };
            if let Some(statement) = statement {
                let cut = self.state.lock().unwrap().pass(&statement);
                let mut exchange = exchange.lock().unwrap();
                match cut {
                    Some(Cut::Request) => return Ok(()),
                    Some(Cut::Answer) => exchange.lost = Some((exchange.sent + 1, statement)),
                    None => {}
                }
            }
            // A query, or the end of the messages of a prepared statement.
            if matches!(message[0], b'Q' | b'S') {
                exchange.lock().unwrap().sent += 1;
            }
            into.write_all(&message)?;
        }
    }

    fn answers(&self, mut from: TcpStream, mut into: TcpStream, exchange: &Mutex<Exchange>) {
        while let Ok(message) = message(&mut from) {
            let mut exchange = exchange.lock().unwrap();
            let is_lost = exchange.lost.as_ref().is_some_and(|(round, _)| *round == exchange.ended);
            if message[0] == b'Z' {
                if let Some((_, statement)) = exchange.lost.take_if(|_| is_lost) {
                    self.state.lock().unwrap().count(&statement, Cut::Answer);
                    break;
                }
                exchange.ended += 1;
            }
            drop(exchange);
            if !is_lost && into.write_all(&message).is_err() {
                break;
            }
        }
        for end in [from, into] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// Whether it is the name of a store in its settings.
fn is_name(word: &str) -> bool {
    word.len() >= 36 && word.bytes().all(|byte| b"0123456789abcdef-';".contains(&byte))
}

/// A message with its kind and its length.
fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    body(from, kind.to_vec())
}

/// The length and the rest of a message.
fn body(from: &mut TcpStream, mut message: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let at = message.len() + 4;
    message.extend(length);
    message.resize(at + u32::from_be_bytes(length) as usize - 4, 0);
    from.read_exact(&mut message[at..])?;
    Ok(message)
}
